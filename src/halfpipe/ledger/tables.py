"""The tables of the ledger (ground-chain §10).

Five tables are those of the earlier system, with its names and columns: readers go on as they are. Two
more are filled by others and read here for the MOOT mapping; what begins with ``halfpipe_`` is our own.

What is generic stays generic, for three kinds of database: names of at most 30 characters, no booleans, no
unbounded text, nothing that a database generates, times as UTC without a zone. 32 bits unsigned need
`BigInteger`.

Deviations, each because a downlink must be loaded again or removed without harm to the others:

- ``downlink_id`` is part of the keys of `SEGMENTS` and `DATAGRAMS`. Two downlinks may bring one datagram;
  with the earlier keys the second is refused, or takes it away from the first.
- `LINKS` has the checksum of what the downlink brought (`digest`), and whether Level-1 would refuse the run
  (`held`); `DOWNLINKS` has the number of the hand-off, and of that which Level-1 was told of, which is a second
  witness of it besides the records. So `check` can tell what is behind.
- The datagrams themselves are not here: about 9,000 for each EPU of each of 100,000 runs would be 1.8e9
  rows of what ``datagrams.idx`` has, which is never deleted. As before, `DATAGRAMS` has the first and the
  last of each segment. What is said of a run is computed from the files of all downlinks in `LINKS`:
  from segments it cannot be, since two that overlap in part have counts that cannot be told apart.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    TIMESTAMP,
    BigInteger,
    Column,
    ColumnElement,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    TableClause,
    column,
)
from sqlalchemy import table as sql_table
from sqlalchemy.types import TypeDecorator, TypeEngine

from halfpipe.ids import DownlinkId

REVISION = "0006"  # of these tables: another number when they change
WORD = 16  # letters that a word of an index line has at most (ground-chain §3.4)
ALIAS = 64  # letters of a MOOT alias (ground-chain §10)
PATH = 1024


class Unsigned64(TypeDecorator[int]):
    """A whole number from 0 to 2**64 - 1: 20 digits, as text where the database has no such number."""

    impl = Numeric(20, 0)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """SQLite would make a rounded number of what is above 2**63."""
        return dialect.type_descriptor(String(20) if dialect.name == "sqlite" else Numeric(20, 0))

    def process_bind_param(self, value: int | None, dialect: Dialect) -> Any:
        """Write with leading zeros where it is text, so that texts sort as numbers do."""
        return f"{value:020d}" if value is not None and dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> int | None:  # noqa: ARG002
        """Read as a number in either case."""
        return None if value is None else int(value)


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
    Column("handoff", Integer, nullable=False),
    Column("submitted", Integer),
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
    Column("evtseq0", Unsigned64),
    Column("evtutc1", TIMESTAMP),
    Column("evtseq1", Unsigned64),
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
    Column("digest", String(64), nullable=False),
    Column("held", SmallInteger, nullable=False),
    PrimaryKeyConstraint("downlink_id", "scid", "startedat", name="glastops_downlink_acq_pk"),
    Index("glastops_downlink_acq_run", "startedat"),
)

# Filled by others. The whole of their schema is not public: these are the columns that are read.
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

# Whoever writes locks the one row of this table first. `owner` is the id of the working directory that uses the ledger,
# `revision` that of these tables.
LOCK = Table(
    "halfpipe_lock",
    METADATA,
    Column("id", Integer, autoincrement=False, nullable=False),
    Column("owner", String(32)),
    Column("revision", String(32), nullable=False),
    PrimaryKeyConstraint("id", name="halfpipe_lock_pk"),
)

# A token for each change of a run's row, written in the transaction that changes it, and the one of which the MOOT
# database was told last.
PENDING = Table(
    "halfpipe_moot_pending",
    METADATA,
    *_of_run(),
    Column("token", String(32), nullable=False),
    Column("told", String(32)),
    PrimaryKeyConstraint("scid", "startedat", name="halfpipe_moot_pending_pk"),
)

OF_A_DOWNLINK = (LINKS, SEGMENTS, DATAGRAMS)
SHARED = (DOWNLINKS, *OF_A_DOWNLINK, RUNS)  # the legacy has tables of these names, too
OURS = (*SHARED, LOCK, PENDING)

# What marks a row that was copied from the legacy's tables. HalfPipe's hand-offs have numbers from 1, its digests 64
# letters.
COPIED = {"handoff": 0, "digest": "legacy", "held": 0}


def legacy_name(table: Table) -> str:
    """Return the name that a table of the legacy has once it was adopted, as ``legacy_acqsummary``."""
    return table.name.replace("glastops_", "legacy_")


def legacy_table(table: Table) -> TableClause:
    """Return the adopted table of the legacy, with the columns that it shares with `table`."""
    shared = (each for each in table.columns if each.name not in {*COPIED, "submitted"})
    return sql_table(legacy_name(table), *(column(each.name, each.type) for each in shared))


def time_of(unix: float) -> datetime:
    """Return Unix UTC seconds as the tables have a time: without a zone, to the microsecond."""
    return datetime.fromtimestamp(float(unix), UTC).replace(tzinfo=None)


def of_downlink(table: Table, downlink: DownlinkId) -> ColumnElement[bool]:
    """Return what chooses the rows of a downlink in `DOWNLINKS`, or in one of `OF_A_DOWNLINK`."""
    return (table.c.id if table is DOWNLINKS else table.c.downlink_id) == downlink.number
