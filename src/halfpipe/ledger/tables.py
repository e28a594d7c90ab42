"""The tables of the ledger (ground-chain §10).

Five tables have the names and columns of an earlier system, so that their readers need no change. Two more are filled
by the ISOC and read here for the MOOT mapping. Tables with the prefix ``halfpipe_`` are HalfPipe's own.

Three kinds of database must accept all tables. So names have at most 30 characters, there are no booleans, unbounded
texts or values that the database generates, and times are UTC without a zone. Unsigned 32-bit numbers need
`BigInteger`. Columns can be NULL where the earlier ones could.

The tables differ from the earlier ones where otherwise loading a downlink again or removing it would harm others:

- ``downlink_id`` is part of the keys of `SEGMENTS` and `DATAGRAMS`. Two downlinks can contain one datagram; with
  the former keys the second load fails, or takes the row away from the first downlink.
- `LINKS` has the checksum of the downlink's datagrams (`digest`), and whether Level-1 would refuse the run (`refused`).
- `DOWNLINKS` has the seal of the receipt that was loaded (`receipt`) with the number of its record (`record`), and the
  seal of the receipt that Level-1 has (`submitted`). So one comparison of seals shows what is out of date.
- Only the first and last datagram of each segment are stored. All of them would be 1.8e9 rows (9,000
  for each of two EPUs of 100,000 runs), a copy of ``datagrams.idx``, which is never deleted. A run's row is computed
  from these files, because segments that overlap in part do not show which events they share.
"""

from datetime import UTC, datetime

from sqlalchemy import (
    TIMESTAMP,
    BigInteger,
    Column,
    ColumnElement,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
)

from halfpipe.ids import DownlinkId

REVISION = "0009"  # of these tables; every change of them needs a new number
WORD = 16  # letters of a word in an index line (ground-chain §3.4)
ALIAS = 64  # letters of a MOOT alias (ground-chain §10)
PATH = 1024
SEAL = 64  # letters of a SHA-256


METADATA = MetaData()


def _downlink_id() -> Column[int]:
    return Column(
        "downlink_id", BigInteger, ForeignKey("glastops_downlink.id", ondelete="CASCADE"), nullable=False
    )


def _of_run() -> tuple[Column[int], Column[int]]:
    return Column("scid", Integer, nullable=False), Column("startedat", BigInteger, nullable=False)


def _keys() -> tuple[Column[int], Column[int]]:
    return Column("hwkey", BigInteger), Column("swkey", BigInteger)


DOWNLINKS = Table(
    "glastops_downlink",
    METADATA,
    Column("id", BigInteger, autoincrement=False, nullable=False),
    Column("l0key", BigInteger),
    Column("indir", String(PATH)),
    Column("outbase", String(PATH)),
    Column("record", Integer, nullable=False),
    Column("receipt", String(SEAL), nullable=False),
    Column("submitted", String(SEAL)),
    PrimaryKeyConstraint("id", name="glastops_downlink_pk"),
)

RUNS = Table(
    "glastops_acqsummary",
    METADATA,
    *_of_run(),
    Column("type", String(WORD)),
    Column("analysis", String(ALIAS)),
    Column("status", String(WORD)),
    Column("ndgms", BigInteger),
    Column("nevts", BigInteger),
    Column("dgmutc0", TIMESTAMP),
    Column("dgmutc1", TIMESTAMP),
    Column("evtutc0", TIMESTAMP),
    Column("evtutc1", TIMESTAMP),
    *_keys(),
    Column("moot_key", BigInteger),
    Column("moot_alias", String(ALIAS)),
    PrimaryKeyConstraint("scid", "startedat", name="glastops_acqsummary_pk"),
)

SEGMENTS = Table(
    "glastops_downlink_seg",
    METADATA,
    _downlink_id(),
    *_of_run(),
    Column("apid", Integer, nullable=False),
    Column("dgmseq0", BigInteger, nullable=False),
    Column("dgmseq1", BigInteger),
    Column("nevts", BigInteger),
    PrimaryKeyConstraint(
        "downlink_id", "scid", "startedat", "apid", "dgmseq0", name="glastops_downlink_seg_pk"
    ),
)

DATAGRAMS = Table(
    "glastops_downlink_dgm",
    METADATA,
    _downlink_id(),
    *_of_run(),
    Column("apid", Integer, nullable=False),
    Column("datagrams", BigInteger, nullable=False),
    Column("utc", TIMESTAMP),
    Column("groundid", BigInteger),
    Column("modechanges", BigInteger),
    *(
        Column(name, String(WORD))
        for name in ("modename", "oaction", "oreason", "caction", "creason", "platform", "origin")
    ),
    Column("evtutc0", TIMESTAMP),
    Column("evtseq0", BigInteger),
    Column("evtutc1", TIMESTAMP),
    Column("evtseq1", BigInteger),
    Column("nevts", BigInteger),
    *_keys(),
    PrimaryKeyConstraint(
        "downlink_id", "scid", "startedat", "apid", "datagrams", name="glastops_downlink_dgm_pk"
    ),
)

LINKS = Table(
    "glastops_downlink_acqsummary",
    METADATA,
    _downlink_id(),
    *_of_run(),
    Column("digest", String(SEAL), nullable=False),
    Column("refused", SmallInteger, nullable=False),
    PrimaryKeyConstraint("downlink_id", "scid", "startedat", name="glastops_downlink_acq_pk"),
    Index("glastops_downlink_acq_run", "startedat"),
)

# The ISOC fills these two. Their schema is not public; these are the columns that HalfPipe reads.
DEFAULTS = Table(
    "glastops_acqdefaults",
    METADATA,
    Column("tcompleted", TIMESTAMP, nullable=False),
    Column("moot_key", BigInteger),
    Column("moot_alias", String(ALIAS)),
    Index("glastops_acqdefaults_time", "tcompleted"),
)

ACQUISITIONS = Table(
    "glastops_acquisition",
    METADATA,
    Column("id", BigInteger, nullable=False),  # the ground id of the datagrams
    Column("trequested", TIMESTAMP, nullable=False),
    Column("startedat", BigInteger),
    Column("type", String(WORD)),
    Column("moot_key", BigInteger),
    Column("moot_alias", String(ALIAS)),
    Index("glastops_acquisition_id", "id"),
)

# Every writer locks the one row of this table first. `owner` is the id of the working directory that uses the ledger.
LOCK = Table(
    "halfpipe_lock",
    METADATA,
    Column("id", Integer, autoincrement=False, nullable=False),
    Column("owner", String(32)),
    Column("revision", String(32), nullable=False),
    PrimaryKeyConstraint("id", name="halfpipe_lock_pk"),
)

# The token of a run's last change, written in the same transaction, and the token that MOOT received last.
PENDING = Table(
    "halfpipe_moot_pending",
    METADATA,
    *_of_run(),
    Column("token", String(32), nullable=False),
    Column("sent", String(32)),
    PrimaryKeyConstraint("scid", "startedat", name="halfpipe_moot_pending_pk"),
)

OF_A_DOWNLINK = (LINKS, SEGMENTS, DATAGRAMS)
SHARED = (DOWNLINKS, *OF_A_DOWNLINK, RUNS)  # their names and columns are older than HalfPipe
OURS = (*SHARED, LOCK, PENDING)

COPIED = "copied"  # instead of a seal or a digest, in a row that was copied from another system's table


def former_name(table: Table) -> str:
    """Return the name under which another system's table is kept, like ``former_acqsummary``."""
    return table.name.replace("glastops_", "former_")


# They exist only if another system filled the ledger before.
FORMER_RUNS = RUNS.to_metadata(MetaData(), name=former_name(RUNS))
FORMER_LINKS = LINKS.to_metadata(MetaData(), name=former_name(LINKS))


def time_of(unix: float) -> datetime:
    """Convert Unix seconds to a time in the tables: UTC without a zone, to the microsecond."""
    return datetime.fromtimestamp(float(unix), UTC).replace(tzinfo=None)


def of_downlink(table: Table, downlink: DownlinkId) -> ColumnElement[bool]:
    """Return the condition for the rows of a downlink, in `DOWNLINKS` or in one of `OF_A_DOWNLINK`."""
    return (table.c.id if table is DOWNLINKS else table.c.downlink_id) == downlink.number
