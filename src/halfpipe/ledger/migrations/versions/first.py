"""The first tables of the ledger, as they were then: later ones are made of these by later migrations."""

from datetime import datetime

import sqlalchemy as sa
from alembic import op

from halfpipe.ledger.tables import Unsigned64

revision = "0001"
down_revision = None


def _number(name: str, *, null: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=null, autoincrement=False)


def _short(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False, autoincrement=False)


def _text(name: str, length: int, *, null: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(length), nullable=null)


def _time(name: str, *, null: bool = False) -> sa.Column[datetime]:
    return sa.Column(name, sa.TIMESTAMP, nullable=null)


def _downlink_id() -> sa.Column[int]:
    reference = sa.ForeignKey("glastops_downlink.id", ondelete="CASCADE")
    return sa.Column("downlink_id", sa.BigInteger, reference, nullable=False)


def upgrade() -> None:
    """Make the tables, and the row that writers lock."""
    op.create_table(
        "glastops_downlink",
        _number("id"),
        _number("l0key", null=True),
        _text("indir", 1024),
        _text("outbase", 1024),
        _short("handoff"),
        sa.PrimaryKeyConstraint("id", name="glastops_downlink_pk"),
    )
    op.create_table(
        "glastops_acqsummary",
        _short("scid"),
        _number("startedat"),
        _text("type", 3),
        _text("analysis", 64, null=True),
        _text("status", 16),
        _number("ndgms"),
        _number("nevts"),
        _time("dgmutc0"),
        _time("dgmutc1"),
        _time("evtutc0", null=True),
        _time("evtutc1", null=True),
        _number("hwkey"),
        _number("swkey"),
        _number("moot_key"),
        _text("moot_alias", 64),
        sa.PrimaryKeyConstraint("scid", "startedat", name="glastops_acqsummary_pk"),
    )
    op.create_table(
        "glastops_downlink_seg",
        _downlink_id(),
        _short("scid"),
        _number("startedat"),
        _short("apid"),
        _number("dgmseq0"),
        _number("dgmseq1"),
        _number("nevts"),
        sa.PrimaryKeyConstraint(
            "downlink_id", "scid", "startedat", "apid", "dgmseq0", name="glastops_downlink_seg_pk"
        ),
    )
    op.create_table(
        "glastops_downlink_dgm",
        _downlink_id(),
        _short("scid"),
        _number("startedat"),
        _short("apid"),
        _number("datagrams"),
        _time("utc"),
        _number("groundid"),
        _number("modechanges"),
        *(
            _text(name, 16)
            for name in ("modename", "oaction", "oreason", "caction", "creason", "platform", "origin")
        ),
        _time("evtutc0", null=True),
        sa.Column("evtseq0", Unsigned64),
        _time("evtutc1", null=True),
        sa.Column("evtseq1", Unsigned64),
        _number("nevts"),
        _number("hwkey"),
        _number("swkey"),
        sa.PrimaryKeyConstraint(
            "downlink_id", "scid", "startedat", "apid", "datagrams", name="glastops_downlink_dgm_pk"
        ),
    )
    op.create_table(
        "glastops_downlink_acqsummary",
        _downlink_id(),
        _short("scid"),
        _number("startedat"),
        _text("digest", 64),
        sa.Column("held", sa.SmallInteger, nullable=False),
        sa.PrimaryKeyConstraint("downlink_id", "scid", "startedat", name="glastops_downlink_acq_pk"),
    )
    op.create_index("glastops_downlink_acq_run", "glastops_downlink_acqsummary", ["startedat"])
    # Others fill these two, and may have made them.
    there = sa.inspect(op.get_bind())
    if not there.has_table("glastops_acqdefaults"):
        op.create_table(
            "glastops_acqdefaults",
            _time("tcompleted"),
            _number("moot_key", null=True),
            _text("moot_alias", 64, null=True),
        )
        op.create_index("glastops_acqdefaults_time", "glastops_acqdefaults", ["tcompleted"])
    if not there.has_table("glastops_acquisition"):
        op.create_table(
            "glastops_acquisition",
            _number("id"),
            _time("trequested"),
            _number("startedat", null=True),
            _text("type", 16, null=True),
            _number("moot_key", null=True),
            _text("moot_alias", 64, null=True),
        )
        op.create_index("glastops_acquisition_id", "glastops_acquisition", ["id"])
    lock = op.create_table(
        "halfpipe_lock", _short("id"), sa.PrimaryKeyConstraint("id", name="halfpipe_lock_pk")
    )
    op.create_table(
        "halfpipe_moot_pending",
        _short("scid"),
        _number("startedat"),
        _text("token", 32),
        sa.PrimaryKeyConstraint("scid", "startedat", name="halfpipe_moot_pending_pk"),
    )
    op.bulk_insert(lock, [{"id": 1}])
