"""Random histories: a ledger that was kept says what one says that is made again, and what a slow model says."""

import random
import shutil
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete, insert

from halfpipe.ids import DownlinkId, RunId
from halfpipe.ledger.check import check
from halfpipe.ledger.database import Ledger
from halfpipe.ledger.load import load, rebuild, refresh, remove
from halfpipe.ledger.tables import DEFAULTS
from tests.support.ledger_database import Database
from tests.support.ledger_files import UTC as START
from tests.support.ledger_files import Datagram, content, give_up, process, run_rows, settings_of

HISTORIES, LONG_HISTORIES = 12, 300
DOWNLINKS = tuple(DownlinkId(f"24060100{n}") for n in range(1, 4))
RUNS = {RunId("2c2e5787"): (956, 957), RunId("2c2e8000"): (956, 957, 958), RunId("2c2e9000"): (965,)}

Known = dict[RunId, list[Datagram]]


def brought(chance: random.Random) -> Known:
    """Draw what a downlink brings: pieces of runs, now and then a datagram that others know differently."""
    found: Known = {}
    for run in chance.sample(sorted(RUNS), chance.randint(0, len(RUNS))):
        found[run] = []
        for apid in RUNS[run]:
            count = 6
            begin = chance.choice([0, 0, 0, chance.randint(0, count)])
            end = chance.choice([count, count, chance.randint(begin, count)])
            for number in range(begin, end):
                if chance.random() < 0.95:
                    found[run].append(
                        Datagram(
                            apid,
                            number,
                            "start" if number == 0 else "continue",
                            "stop" if number == count - 1 else "continue",
                            events=chance.choice([10, 10, 10, 0, 7]) if chance.random() < 0.1 else 10,
                            keys=(apid, number),
                        )
                    )
    return found


def expected(run: RunId, parts: Iterable[Iterable[Datagram]], given_up: set[RunId]) -> tuple[str, int, int]:
    """Return status, datagrams and events of a run, the slow way."""
    known: dict[tuple[int, int], Datagram] = {}
    for part in parts:
        for datagram in part:
            key = (datagram.apid, datagram.number)
            if key not in known or datagram.line(run) < known[key].line(run):
                known[key] = datagram
    apids = {apid for apid, _ in known}
    complete = len(apids) >= (1 if 965 in apids else 2)
    for apid in apids:
        numbers = sorted(number for of, number in known if of == apid)
        first, last = known[apid, numbers[0]], known[apid, numbers[-1]]
        holes = numbers != list(range(numbers[0], numbers[-1] + 1))
        complete &= not holes and first.opens == "start" and last.closes == "stop"
    status = "Complete" if complete else ("Incomplete" if run in given_up else "InProgress")
    return status, len(known), sum(datagram.events for datagram in known.values())


def go_through(seed: int, ledger: Ledger, again: Ledger, work: Path) -> None:
    """Go through one history with `ledger`, and make `again` from what is there at its end."""
    chance = random.Random(seed)
    given_up = set(chance.sample(sorted(RUNS), 1))
    start = datetime.fromtimestamp(START, UTC).replace(tzinfo=None)
    defaults = [
        {
            "tcompleted": start + timedelta(seconds=chance.randint(-9, 9)),
            "moot_key": key,
            "moot_alias": f"alias{key}",
        }
        for key in range(4)
    ]
    for one in (ledger, again):
        one.write(lambda c: (c.execute(delete(DEFAULTS)), c.execute(insert(DEFAULTS), defaults)))
    rebuild(ledger, settings_of(work))  # what an earlier history left in it goes
    now: dict[DownlinkId, Known] = {}
    held: dict[DownlinkId, set[RunId]] = {}
    handoffs: dict[DownlinkId, int] = {}
    stale: set[DownlinkId] = set()
    for turn in range(chance.randint(6, 12)):
        # At first there must be something to load.
        what = (
            "process" if turn < 2 else chance.choice(["process", "load", "load", "load", "remove", "refresh"])
        )
        downlink = chance.choice(DOWNLINKS if what == "process" else sorted(now))
        if what == "process":
            now[downlink] = brought(chance)
            handoffs[downlink] = handoffs.get(downlink, 0) + 1
            held[downlink] = {run for run in now[downlink] if chance.random() < 0.05}
            process(work, downlink, now[downlink], handoff=handoffs[downlink], held=held[downlink])
            for run in given_up & now[downlink].keys():
                give_up(work, run, downlink)
            stale.add(downlink)
        elif what == "load":
            load(ledger, settings_of(work), downlink)
            stale.discard(downlink)
        elif what == "remove":
            remove(ledger, settings_of(work), [downlink])
            stale.add(downlink)
        else:
            refresh(ledger, settings_of(work), RUNS)
    for downlink in chance.sample(sorted(stale), len(stale)):
        load(ledger, settings_of(work), downlink)

    rebuild(again, settings_of(work))
    assert content(ledger) == content(again), seed
    assert check(ledger, settings_of(work)) == [], seed
    rows = {run: (row["status"], row["ndgms"], row["nevts"]) for run, row in run_rows(ledger).items()}
    parts = {run: {dl: known[run] for dl, known in now.items() if known.get(run)} for run in RUNS}
    wanted = {run: expected(run, of_run.values(), given_up) for run, of_run in parts.items() if of_run}
    for run in wanted:
        if any(run in held[downlink] for downlink in parts[run]):
            wanted[run] = ("InProgress", *wanted[run][1:])
    assert rows == wanted, seed


def go_through_all(count: int, database: Database, tmp_path: Path) -> None:
    empty = tmp_path / "empty.sqlite"
    Ledger(f"sqlite:///{empty}").upgrade()
    ledger = database.ledger()
    for seed in range(count):
        again = tmp_path / "again.sqlite"
        shutil.copy(empty, again)
        work = tmp_path / f"work{seed}"
        work.mkdir()
        go_through(seed, ledger, Ledger(f"sqlite:///{again}"), work)
        shutil.rmtree(work)
    print(f"{count} histories")


def test_random_histories(database: Database, tmp_path: Path) -> None:
    go_through_all(HISTORIES, database, tmp_path)


@pytest.mark.long
def test_many_random_histories(database: Database, tmp_path: Path) -> None:
    go_through_all(LONG_HISTORIES, database, tmp_path)
