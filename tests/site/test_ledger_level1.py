"""Level-1 may never see a run retired of which something is still to be delivered, whatever happens in which order.

A model of Level-1 takes hand-offs and finishes with their files at random moments, and would retire a run where its
checkRun does (ground-chain §6): the ledger says Complete or Incomplete, and nothing lies in the run's token directory.
Then it must have got every event that was settled by then; and of a run that was abandoned, every event that was known
when the ledger came to say so.
"""

import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from halfpipe import paths
from halfpipe.files.json_files import read_json
from halfpipe.ids import DownlinkId, RunId
from halfpipe.ledger.database import Ledger
from halfpipe.ledger.load import load
from halfpipe.ledger.rows import COMPLETE, INCOMPLETE
from halfpipe.merge.late import listed
from halfpipe.merge.settle import settled
from halfpipe.run.deliveries import Deliveries
from halfpipe.run.downlinks_of_run import known_downlinks
from halfpipe.run.merged_index import events_there, known_datagrams
from tests.support.golden_cases import build, read_case
from tests.support.harness import events_of
from tests.support.ledger_files import run_rows, settings_of
from tests.support.workflow import Site

EVERY_DAY = ("split2", "multi3")
CASES = (*EVERY_DAY, "split3", "one_epu_then_other", "third_epu_late_again", "gap_both_partially_filled")
HISTORIES, LONG_HISTORIES = 1, 100  # of each case
STEPS = 20
MIN_EPUS = 2

Event = tuple[int, int]  # sequence and APID


class Level1:
    """What Level-1 has got, and the tokens of the files that it has not finished with."""

    def __init__(self, stage: Path) -> None:
        self.stage = stage
        self.got: dict[RunId, set[Event]] = {}
        self.unfinished: dict[Path, str] = {}  # the downlink of each

    def take(self, downlink: str) -> None:
        """Move the event files of a hand-off away, and remove its directory."""
        for path in sorted((self.stage / downlink).glob("r*/*.evt")):
            run = RunId.from_l1(path.parent.name)
            self.got.setdefault(run, set()).update(events_of(path.read_bytes()))
            self.unfinished[self.stage / paths.tokens(run.l1) / path.stem] = downlink
        shutil.rmtree(self.stage / downlink, ignore_errors=True)

    def finish(self, token: Path) -> None:
        """Finish with one file."""
        del self.unfinished[token]
        token.unlink(missing_ok=True)

    def stop(self, downlink: str) -> None:
        """Leave off with the files of a downlink: what is staged anew is taken by a roll-back of its stream."""
        self.unfinished = {token: dl for token, dl in self.unfinished.items() if dl != downlink}

    def may_retire(self, run: RunId, status: str) -> bool:
        """Tell whether checkRun would retire a run; a token directory that is gone counts as empty."""
        home = self.stage / paths.tokens(run.l1)
        return status in {COMPLETE, INCOMPLETE} and not (home.is_dir() and any(home.iterdir()))


class History:
    """A site of one golden case, its ledger and Level-1, on which things happen at random."""

    def __init__(self, template: Site, home: Path, chance: random.Random) -> None:
        self.chance, self.site = chance, template.clone(home)
        self.ledger = Ledger(f"sqlite:///{home / 'ledger.sqlite'}", waits=())
        self.ledger.write(lambda _: None)
        self.level1 = Level1(self.site.stage)
        self.downlinks = sorted(path.name for path in self.site.retdefs.iterdir())
        self.in_work: set[str] = set()
        self.withheld: dict[RunId, int] = {}
        self.known_when_told: dict[RunId, set[Event]] = {}
        self.may_retire: Counter[str] = Counter()

    def runs(self) -> list[RunId]:
        home = self.site.work / "runs"
        return sorted(RunId(path.name) for path in home.iterdir()) if home.is_dir() else []

    def step(self) -> None:
        """Do one thing."""
        things: list[Callable[[], None]] = [
            *[self.deliver] * 2, *[self.hand_off] * 3, *[self.load] * 3, *[self.whole_downlink] * 4,
            *[self.take] * 2, *[self.finish] * 2, *[self.catch_up] * 2, *[self.force] * 4, *[self.load] * 2,
        ]  # fmt: skip
        self.chance.choice(things)()

    def deliver(self) -> None:
        self._deliver(self.chance.choice(self.downlinks))

    def _deliver(self, downlink: str) -> None:
        (self.site.work / paths.receipt(downlink)).unlink(missing_ok=True)
        for path in self.site.work.glob(paths.manifest("*", downlink)):
            path.unlink()
        self.in_work.add(downlink)
        self.level1.stop(downlink)
        self.site.by_hand(downlink, "deliver_run")
        for path in self.site.work.glob(paths.manifest("*", downlink)):
            self.withheld[RunId(path.parts[-3])] = read_json(path)["withheld"]

    def hand_off(self) -> None:
        if self.in_work:
            self._hand_off(self.chance.choice(sorted(self.in_work)))

    def _hand_off(self, downlink: str) -> None:
        self.site.by_hand(downlink, "receipt")
        self.in_work.remove(downlink)

    def whole_downlink(self) -> None:
        """Process a downlink and load it, often to where Level-1 has taken it."""
        downlink = self.chance.choice(self.downlinks)
        self._deliver(downlink)
        self._hand_off(downlink)
        self._load(downlink)
        if self.chance.random() < 0.5:
            self.catch_up()

    def handed_off(self) -> list[str]:
        return [dl for dl in self.downlinks if (self.site.work / paths.receipt(dl)).exists()]

    def load(self) -> None:
        if self.handed_off():
            self._load(self.chance.choice(self.handed_off()))

    def _load(self, downlink: str) -> None:
        entry = load(self.ledger, settings_of(self.site.work), DownlinkId(downlink))
        self.known_when_told.update({run: set(self.known(run)) for run in entry.parts})

    def take(self) -> None:
        if self.handed_off():
            self.level1.take(self.chance.choice(self.handed_off()))

    def finish(self) -> None:
        if self.level1.unfinished:
            self.level1.finish(self.chance.choice(sorted(self.level1.unfinished)))

    def catch_up(self) -> None:
        for downlink in self.handed_off():
            self.level1.take(downlink)
        for token in list(self.level1.unfinished):
            self.level1.finish(token)

    def force(self) -> None:
        """Give a run up, or take that back, less often."""
        if self.runs():
            path = self.site.work / paths.FORCE / self.chance.choice(self.runs()).l1
            path.parent.mkdir(exist_ok=True)
            if not path.exists():
                path.touch()
            elif self.chance.random() < 0.4:
                path.unlink()

    def known(self, run: RunId) -> dict[Event, int]:
        """Return all events that are known of a run, and the datagram of each."""
        work = self.site.work
        tables = (events_there(work, run, downlink) for downlink in known_downlinks(work, run))
        events = (event for table in tables if table is not None for event in table)
        return {(int(e["sequence"]), int(e["apid"])): int(e["datagram"]) for e in events}

    def check(self) -> None:
        """See that Level-1 lacks nothing of a run that it may retire now."""
        for run, row in run_rows(self.ledger).items():
            if not self.level1.may_retire(run, row["status"]):
                continue
            self.may_retire[row["status"]] += 1
            places = settled(known_datagrams(self.site.work, run).segments(), MIN_EPUS)
            known = self.known(run)
            wanted = {e for e in known if any(first <= e[0] <= last for first, last in places)}
            if row["status"] == INCOMPLETE:
                wanted |= self.known_when_told[run]
            missing = wanted - self.level1.got.get(run, set())
            left = {event for event in missing if not self._is_late(run, event, known[event])}
            assert len(left) <= self.withheld[run], (row["status"], sorted(left))

    def _is_late(self, run: RunId, event: Event, datagram: int) -> bool:
        row = np.array([(event[1], datagram)], [("apid", "u2"), ("datagram", "u4")])
        deliveries = Deliveries(self.site.work, run).latest().values()
        return any(
            first <= event[0] <= last and not listed(row, delivery.datagrams)[0]
            for delivery in deliveries
            for first, last in delivery.spans
        )

    def end(self) -> None:
        """Do all that is left; what is complete may be retired then."""
        for downlink in self.downlinks:
            self._deliver(downlink)
            self._hand_off(downlink)
            self._load(downlink)
        self.catch_up()
        for run, row in run_rows(self.ledger).items():
            expected = read_json(self.site.work / paths.manifest(run, self._last(run)))
            assert (row["status"] == COMPLETE) == expected["complete"]
            assert (row["status"] == INCOMPLETE) == expected["given_up"]
            assert self.level1.may_retire(run, row["status"]) == (row["status"] in {COMPLETE, INCOMPLETE})

    def _last(self, run: RunId) -> str:
        return max(path.parent.name for path in self.site.work.glob(paths.manifest(run, "*")))


def template(name: str, home: Path) -> Site:
    """Return a site for a case, on which all chunks are decoded and nothing was delivered."""
    site = Site(home)
    for downlink in build(name, site, *read_case(name).downlinks).downlinks:
        (site.work / paths.receipt(downlink)).unlink()
        shutil.rmtree(site.work / paths.receipts(downlink))
    shutil.rmtree(site.work / paths.STAGE_MARK_COPY)
    for path in (site.stage, *(site.work / part for part in ("copies", "runs", "logs", "leases"))):
        shutil.rmtree(path)
    return site


def go_through(name: str, home: Path, seeds: range) -> Counter[str]:
    """Go through histories; return how often a run could be retired, by its status."""
    could: Counter[str] = Counter()
    site = template(name, home / name)
    for seed in seeds:
        history = History(site, home / str(seed), random.Random(f"{name}{seed}"))
        for _ in range(STEPS):
            history.step()
            history.check()
        history.end()
        history.check()
        could += history.may_retire
        shutil.rmtree(home / str(seed))
    return could


def test_no_run_is_retired_before_its_events_are_delivered(tmp_path: Path) -> None:
    could: Counter[str] = Counter()
    for name in EVERY_DAY:
        could += go_through(name, tmp_path, range(HISTORIES))
    assert min(could[COMPLETE], could[INCOMPLETE]) >= HISTORIES, could


@pytest.mark.long
@pytest.mark.parametrize("name", CASES)
def test_in_many_histories(name: str, tmp_path: Path) -> None:
    could = go_through(name, tmp_path, range(LONG_HISTORIES))
    assert could[INCOMPLETE] >= LONG_HISTORIES // 2, could
