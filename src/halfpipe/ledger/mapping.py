"""Which MOOT key and alias a run has, from what was planned (ground-chain §10, `map_moot`).

For an LPA run the latest default that was complete before its first datagram; then, for any run, the latest
acquisition of type LPA or LCI that was requested under its ground id before that. The latter wins, if it has a
key. Of equal times the highest key is taken, so that the order of rows does not matter.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, Table, select

from halfpipe.errors import LedgerError, StateError
from halfpipe.ids import RunId, RunKind
from halfpipe.ledger.database import Ledger
from halfpipe.ledger.tables import ACQUISITIONS, DEFAULTS
from halfpipe.run.moot_keys import Moot, is_good

UNKNOWN = Moot(0xFFFFFFFF, "UNKNOWN")


@dataclass(frozen=True)
class Default:
    """A row of ``glastops_acqdefaults``: what holds for LPA runs from `completed` on (UTC, no zone)."""

    completed: datetime
    moot: Moot


@dataclass(frozen=True)
class Acquisition:
    """A row of ``glastops_acquisition``: what was requested under a ground id.

    `startedat` is the start of the run that the row is known to be of, None if that was not said; `type` is
    of that or of something else; `moot` is None if the row has no key.
    """

    ground_id: int
    requested: datetime
    startedat: int | None
    type: str | None
    moot: Moot | None


def map_moot(
    run: RunId,
    kind: RunKind,
    ground_id: int,
    start: datetime,
    defaults: Iterable[Default],
    acquisitions: Iterable[Acquisition],
) -> Moot:
    """Map a run to its MOOT key and alias; `UNKNOWN` if nothing says it.

    Parameters
    ----------
    run, kind
        The run, and its kind by its APIDs.
    ground_id
        Of its first datagram.
    start
        Time of its first datagram, UTC without a zone.
    defaults, acquisitions
        Any rows, in any order. An acquisition that is known to be of another run does not count, nor one
        whose type is neither LPA nor LCI; which of the two does not matter. The earlier system took rows
        without a run only, and had no answer once the run was written into one.
    """
    moot = UNKNOWN
    if kind is RunKind.LPA:
        earlier = [row for row in defaults if row.completed < start]
        latest = max(earlier, key=lambda row: (row.completed, row.moot.key, row.moot.alias), default=None)
        moot = latest.moot if latest else UNKNOWN
    requested = [
        row
        for row in acquisitions
        if row.ground_id == ground_id
        and row.requested < start
        and row.startedat in (None, run.met)
        and row.type in RunKind.__members__
    ]
    found = max(requested, key=_order, default=None)
    return found.moot if found and found.moot else moot


def _order(row: Acquisition) -> tuple[datetime, int, str]:
    key, alias = (row.moot.key, row.moot.alias) if row.moot else (-1, "")
    return row.requested, key, alias


def mapped_by(ledger: Ledger, run: RunId) -> Callable[[RunKind, float, int], Moot | None]:
    """Return what maps `run` by its kind, and Unix UTC seconds and ground id of its first datagram.

    It gives None if nothing says it, and raises `LedgerError` if the database is down, has no tables or a key
    that is none: the key of a run must not depend on that. `StateError` says that the time is none.
    """

    def mapped(kind: RunKind, seconds: float, ground_id: int) -> Moot | None:
        try:
            start = datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
        except (OverflowError, ValueError, OSError) as error:
            raise StateError(
                f"run {run} ({run.l1}): its first datagram has the time {seconds}, so no MOOT key can be looked up; an "
                "index line is damaged. Have the chunk decoded again (-F)."
            ) from error
        try:
            found = ledger.read(lambda connection: look_up(connection, run, kind, ground_id, start))
        except (LedgerError, StateError) as error:
            raise LedgerError(
                f"run {run} ({run.l1}): its MOOT key cannot be looked up: {error} Nothing of it was delivered, so "
                "that no event file gets another key. To go on without the database, set moot.mapping to false, or put "
                "a line of the run into moot.file."
            ) from error
        return None if found == UNKNOWN else found

    return mapped


def look_up(connection: Connection, run: RunId, kind: RunKind, ground_id: int, start: datetime) -> Moot:
    """Map a run, as `map_moot` does, by the rows that the ledger has.

    Raises
    ------
    StateError
        If a row that may count has a key or an alias that an event file cannot hold.
    """
    defaults = read_defaults(connection, start)
    return map_moot(run, kind, ground_id, start, defaults, read_acquisitions(connection, ground_id))


def read_defaults(connection: Connection, start: datetime) -> list[Default]:
    """Read the defaults that may hold at `start` (UTC without a zone): the latest before it."""
    table = DEFAULTS.c
    earlier = (table.tcompleted < start) & table.moot_key.is_not(None)
    times = select(table.tcompleted).where(earlier).order_by(table.tcompleted.desc()).limit(1)
    latest = connection.execute(times).scalar()
    rows = connection.execute(
        select(table.tcompleted, table.moot_key, table.moot_alias).where(earlier, table.tcompleted == latest)
    )
    return [Default(time, _moot(key, alias, DEFAULTS)) for time, key, alias in rows]


def read_acquisitions(connection: Connection, ground_id: int) -> list[Acquisition]:
    """Read what was requested under `ground_id`."""
    table = ACQUISITIONS.c
    columns = (table.id, table.trequested, table.startedat, table.type, table.moot_key, table.moot_alias)
    return [
        Acquisition(
            int(ground),
            requested,
            None if started is None else int(started),
            type_ and type_.strip(),
            _moot(key, alias, ACQUISITIONS) if key else None,  # 0 is no key, as in the earlier system
        )
        for ground, requested, started, type_, key, alias in connection.execute(
            select(*columns).where(table.id == ground_id)
        )
    ]


def _moot(key: int, alias: str | None, table: Table) -> Moot:
    """Make it of what others have entered; a fixed-width column fills up with blanks."""
    found = Moot(int(key), (alias or "").strip() or UNKNOWN.alias)
    if not is_good(found):
        raise StateError(
            f"{table.name} has key {found.key} and alias {found.alias!r}, expected a number of 32 bits and a word of "
            "ASCII. Have the row corrected, or name the run in moot.file."
        )
    return found
