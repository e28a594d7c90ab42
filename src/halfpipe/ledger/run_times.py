"""When runs were taken, from the ledger."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta

from sqlalchemy import Connection, select

from halfpipe.ids import RunId, RunKind
from halfpipe.ledger.database import Ledger
from halfpipe.ledger.tables import RUNS


@dataclass(frozen=True)
class RunTimes:
    """The times of a run's first and last datagram, Unix UTC seconds."""

    run: RunId
    kind: RunKind
    begin: float
    end: float


def run_times(ledger: Ledger, run: RunId, around: float) -> Sequence[RunTimes]:
    """Return the times of a run, and of those that were taken within `around` seconds of it; none if it has no row.

    Raises
    ------
    LedgerError
        If the ledger cannot be read.
    """
    columns = (RUNS.c.startedat, RUNS.c.type, RUNS.c.dgmutc0, RUNS.c.dgmutc1)

    def look(connection: Connection) -> list[RunTimes]:
        own = connection.execute(select(*columns).where(RUNS.c.startedat == run.met)).first()
        if own is None:
            return []
        near = timedelta(seconds=around)
        near_it = (RUNS.c.dgmutc1 >= own.dgmutc0 - near) & (RUNS.c.dgmutc0 <= own.dgmutc1 + near)
        return [
            RunTimes(
                RunId.from_met(int(row.startedat)),
                RunKind(row.type),
                *(time.replace(tzinfo=UTC).timestamp() for time in (row.dgmutc0, row.dgmutc1)),
            )
            for row in connection.execute(select(*columns).where(near_it).order_by(RUNS.c.dgmutc0))
        ]

    return ledger.read(look)
