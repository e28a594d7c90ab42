"""Which MOOT key and alias a run has, from what was planned (ground-chain §10, `map_moot`).

For an LPA run the latest default that was complete before its first datagram; then, for any run, the latest
acquisition of type LPA or LCI that was requested under its ground id before that. The latter wins, if it has a
key. Of equal times the highest key is taken, so that the order of rows does not matter.
"""

from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Table, func, select

from halfpipe.errors import StateError
from halfpipe.ids import RunId, RunKind
from halfpipe.ledger.tables import ACQUISITIONS, DEFAULTS
from halfpipe.run.moot_keys import Moot, is_good

UNKNOWN = Moot(0xFFFFFFFF, "UNKNOWN")


def look_up(connection: Connection, run: RunId, kind: RunKind, ground_id: int, start: datetime) -> Moot:
    """Map a run to its MOOT key and alias by the rows that others have entered; `UNKNOWN` if nothing says it.

    Parameters
    ----------
    connection
        A connection to the ledger's database.
    run, kind
        The run, and its kind by its APIDs.
    ground_id, start
        Of its first datagram, and that one's time, UTC without a zone.

    Raises
    ------
    StateError
        If the row that counts has a key or an alias that an event file cannot hold.
    """
    requested, completed = ACQUISITIONS.c, DEFAULTS.c
    kind_asked = func.trim(requested.type)  # a fixed-width column fills up with blanks
    found = _latest(
        connection,
        ACQUISITIONS,
        requested.trequested,
        (requested.id == ground_id)
        & (requested.trequested < start)
        # One that is known to be of another run does not count. The earlier system took rows without a run only, and
        # had no answer once the run was written into one.
        & (requested.startedat.is_(None) | (requested.startedat == run.met))
        # Which of the two was asked for is not what was sent.
        & ((kind_asked == RunKind.LPA) | (kind_asked == RunKind.LCI)),
    )
    if found is None and kind is RunKind.LPA:
        earlier = (completed.tcompleted < start) & completed.moot_key.is_not(None)
        found = _latest(connection, DEFAULTS, completed.tcompleted, earlier)
    return found or UNKNOWN


def _latest(
    connection: Connection, table: Table, time: ColumnElement[datetime], which: ColumnElement[bool]
) -> Moot | None:
    """Return key and alias of the latest row, None if there is none or it has no key."""
    key, alias = table.c.moot_key, table.c.moot_alias
    order = (time.desc(), func.coalesce(key, 0).desc(), func.coalesce(alias, "").desc())
    row = connection.execute(select(key, alias).where(which).order_by(*order).limit(1)).first()
    if row is None or (table is ACQUISITIONS and not row.moot_key):  # 0 is no key, as in the earlier system
        return None
    found = Moot(int(row.moot_key), (row.moot_alias or "").strip() or UNKNOWN.alias)
    if not is_good(found):
        raise StateError(
            f"{table.name} has key {found.key} and alias {found.alias!r}, expected a number of 32 bits and a word of "
            "ASCII. Have the row corrected, or name the run in moot.file."
        )
    return found
