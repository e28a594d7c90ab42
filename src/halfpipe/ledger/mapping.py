"""MOOT key and alias of a run, from the ISOC's planning tables (ground-chain §10, `map_moot`).

Among the acquisitions of type LPA or LCI that were requested with the run's ground id before its first datagram, the
latest one counts, if it has a key. Otherwise an LPA run gets the latest default that was completed before its first
datagram. If two rows have the same time, the higher key counts, so the order of rows does not matter.
"""

from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Table, func, select

from halfpipe.errors import StateError
from halfpipe.ids import RunId, RunKind
from halfpipe.ledger.moot_file import is_good
from halfpipe.ledger.tables import ACQUISITIONS, DEFAULTS
from halfpipe.state.deliveries import MootKey

UNKNOWN = MootKey(0xFFFFFFFF, "UNKNOWN")


def look_up(connection: Connection, run: RunId, kind: RunKind, ground_id: int, start: datetime) -> MootKey:
    """Find MOOT key and alias of a run in the tables that the ISOC fills; `UNKNOWN` if no row applies.

    Parameters
    ----------
    connection
        A connection to the ledger's database.
    run, kind
        The run, and its kind, which follows from its APIDs.
    ground_id, start
        Ground id and time of its first datagram, UTC without a zone.

    Raises
    ------
    StateError
        If the row that counts has a key or alias that does not fit into an event file.
    """
    requested = ACQUISITIONS.c
    completed = DEFAULTS.c
    kind_asked = func.trim(requested.type)  # a fixed-width column is padded with blanks
    found = _latest(
        connection,
        ACQUISITIONS,
        requested.trequested,
        (requested.id == ground_id)
        & (requested.trequested < start)
        # A row of another run does not count. The run may be written into its row later.
        & (requested.startedat.is_(None) | (requested.startedat == run.met))
        # Either type: what was requested is not always what was sent.
        & ((kind_asked == RunKind.LPA) | (kind_asked == RunKind.LCI)),
    )
    if found is None and kind is RunKind.LPA:
        earlier = (completed.tcompleted < start) & completed.moot_key.is_not(None)
        found = _latest(connection, DEFAULTS, completed.tcompleted, earlier)
    return found or UNKNOWN


def _latest(
    connection: Connection, table: Table, time: ColumnElement[datetime], which: ColumnElement[bool]
) -> MootKey | None:
    """Return key and alias of the latest row; None if no row applies or the row has no key."""
    key = table.c.moot_key
    alias = table.c.moot_alias
    order = (time.desc(), func.coalesce(key, 0).desc(), func.coalesce(alias, "").desc())
    row = connection.execute(select(key, alias).where(which).order_by(*order).limit(1)).first()
    if row is None or (table is ACQUISITIONS and not row.moot_key):  # 0 means no key
        return None
    found = MootKey(int(row.moot_key), (row.moot_alias or "").strip() or UNKNOWN.alias)
    if not is_good(found):
        raise StateError(
            f"{table.name} has key {found.key} and alias {found.alias!r}, expected a 32-bit number and an ASCII word. "
            "Have the row corrected, or name the run in moot.file.",
            code="ledger",
        )
    return found
