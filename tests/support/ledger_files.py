"""An empty database for a ledger, and SIMULATED receipts and merged indexes to load, without events."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from msgspec.structs import replace as with_values
from sqlalchemy import Connection, create_engine, select, text
from sqlalchemy.pool import NullPool

from halfpipe.decisions import Decisions, Subject, What, decide
from halfpipe.files import working_directory
from halfpipe.ids import LCI_APIDS, LPA_APIDS, DownlinkId, RunId
from halfpipe.ledger.database import Ledger
from halfpipe.ledger.load import load
from halfpipe.ledger.tables import DATAGRAMS, DOWNLINKS, LINKS, RUNS, SEGMENTS
from halfpipe.merge.settle import KnownDatagrams
from halfpipe.settings import Ledger as LedgerSettings
from halfpipe.settings import Moot, Paths, Settings
from halfpipe.state.deliveries import Deliveries, EventFile
from halfpipe.state.merged_index import MergedIndex
from tests.support.model import dgm_line
from tests.support.receipts import delivery, receive

UTC = 1719541767.0  # of the first datagram, Unix seconds: 2024-06-28 02:29:27
SCID = 77
GROUND_ID = 7799117


@dataclass(frozen=True)
class Datagram:
    """One datagram; the sequences of its events follow from its number and APID."""

    apid: int
    number: int
    opens: str = "continue"
    closes: str = "continue"
    events: int = 10
    utc: float | None = None
    keys: tuple[int, int] = (3348, 7656)
    scid: int = SCID
    ground_id: int = GROUND_ID

    def line(self, run: RunId) -> bytes:
        """Return its line in an index."""
        utc = UTC + self.number + (self.apid % 10) / 8 if self.utc is None else self.utc
        times = (utc - 0.5, utc - 0.25) if self.events else (0.0, 0.0)
        first, last = (place + 100 * self.number + self.apid % 10 for place in (1000, 1090))
        return dgm_line(
            self.apid, self.number, (self.opens, self.closes), (times[0], first, times[1], last), self.events,
            utc=utc, met=run.met, scid=self.scid, ground_id=self.ground_id, keys=self.keys,
        )  # fmt: skip


@dataclass(frozen=True)
class Database:
    """An empty database: what a program needs to reach it."""

    url: str

    def ledger(self, waits: tuple[float, ...] = (0.1, 0.2, 0.4)) -> Ledger:
        """Return a ledger in the database, with shorter waits than in production."""
        return Ledger.of(self.of(Settings(Paths(Path("work"), Path("stage")))), waits)

    def of(self, settings: Settings) -> Settings:
        return replace(settings, ledger=LedgerSettings(self.url))

    def by_others(self, *statements: str) -> None:
        """Execute SQL statements in the database, behind the ledger's back."""
        with create_engine(self.url, poolclass=NullPool).begin() as connection:
            for statement in statements:
                connection.execute(text(statement))


def whole(apid: int, count: int, **other: Any) -> list[Datagram]:
    """Return the datagrams of an EPU from start to stop."""
    made = [Datagram(apid, number, **other) for number in range(count)]
    made[0] = replace(made[0], opens="start")
    made[-1] = replace(made[-1], closes="stop")
    return made


def process(
    work: Path,
    downlink: DownlinkId,
    brought: Mapping[RunId, Iterable[Datagram]],
    *,
    handoff: int = 1,
    refused: Collection[RunId] = (),
    staged: Collection[RunId] = (),
    into: Ledger | None = None,
) -> None:
    """Write the records of a handed-off downlink that a ledger reads; load them into `into`, if it is given."""
    work.mkdir(parents=True, exist_ok=True)
    working_directory.begin(work)
    decided = Decisions.read(work)
    file = EventFile("some", 1, (1, 1), (1, 1), 1, "")
    delivered = []
    for run, datagrams in sorted(brought.items()):
        known = KnownDatagrams.of([datagram.line(run) for datagram in datagrams])
        index = MergedIndex(known, ())
        index.save(work, run, downlink)
        one = with_values(
            delivery(downlink, [file] if run in staged else []),
            datagrams=known.ranges(),
            index=index.seal,
            abandoned=decided.is_abandoned(run),
            refused=("it has a reason",) if run in refused else (),
        )
        delivered.append((run, one))
    receive(work, downlink, delivered, handoff)
    if into is not None:
        load(into, settings_of(work), downlink)


def settings_of(work: Path, tells: str | None = None, moot_file: Path | None = None) -> Settings:
    """Return the settings of a site; `tells` is the command that updates the MOOT database."""
    return Settings(Paths(work, work / "stage"), moot=Moot(file=moot_file, update=tells))


def abandon(
    work: Path, run: RunId, downlink: DownlinkId, last: int = 2**32 - 1, *, delivered: bool = True
) -> None:
    """Abandon a run, after a delivery that knew the datagrams up to `last`; `delivered`: as one of an abandoned run."""
    every = dict.fromkeys((*LPA_APIDS, *LCI_APIDS), ((0, last),))
    recorded = Deliveries(work, run)
    latest = recorded.latest()[downlink]
    recorded.publish(with_values(latest, datagrams=every, abandoned=delivered))
    decide(work, What.ABANDONED, Subject(None, run=run), None, "a test")


def content(ledger: Ledger) -> dict[str, list[dict[str, Any]]]:
    """Return all rows that follow from files, sorted."""

    def read(connection: Connection) -> dict[str, list[dict[str, Any]]]:
        return {
            table.name: sorted((dict(row) for row in connection.execute(select(table)).mappings()), key=str)
            for table in (DOWNLINKS, RUNS, SEGMENTS, DATAGRAMS, LINKS)
        }

    return ledger.read(read)


def run_rows(ledger: Ledger) -> dict[RunId, dict[str, Any]]:
    return {RunId.from_met(row["startedat"]): row for row in content(ledger)[RUNS.name]}


def named_in(text: str) -> list[str]:
    """Return the ids of downlinks in a message."""
    return re.findall(r"\b[0-9]{9}\b", text)
