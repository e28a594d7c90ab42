"""Updates of the MOOT database with the runs of a ledger."""

from collections.abc import Callable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from halfpipe.ids import DownlinkId, RunId
from halfpipe.ledger import moot_update
from halfpipe.ledger.load import load, remove
from halfpipe.process.programs import Ending
from tests.support.ledger_files import Database, Datagram, process, settings_of, whole

RUN = RunId("2c2e5787")
OTHER = RunId("2c2e8000")
ONE = DownlinkId("240601001")
TWO = DownlinkId("240601002")


class Mooted:
    """A ledger, and a stand-in for the command of moot.update; `meanwhile` happens while the command runs."""

    def __init__(self, database: Database, home: Path) -> None:
        self.ledger = database.ledger()
        self.home = home
        self.told: list[dict[str, str]] = []
        self.ends: dict[str, Ending] = {}
        self.meanwhile: Callable[[], None] | None = None

    def command(self, words: Sequence[str], *_more: Any, **_options: Any) -> Ending:
        options = dict(zip(words[1::2], words[2::2], strict=True))
        if self.meanwhile is not None:
            act = self.meanwhile
            self.meanwhile = None
            act()
        if ending := self.ends.get(options["--run"]):
            return ending
        self.told.append(options)
        return Ending("ended with exit status 0", 0)

    def load(
        self, brought: Mapping[RunId, list[Datagram]], downlink: DownlinkId = ONE, handoff: int = 1
    ) -> None:
        process(self.home, downlink, brought, handoff=handoff)
        load(self.ledger, settings_of(self.home, "moot"), downlink)

    def send(self, runs: Sequence[RunId] | None = None) -> list[RunId]:
        return moot_update.send(self.ledger, "moot", StringIO(), runs)

    def events(self) -> list[int]:
        return [int(options["--nevts"]) for options in self.told]


@pytest.fixture
def mooted(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mooted:
    made = Mooted(database, tmp_path)
    monkeypatch.setattr(moot_update, "run_program", made.command)
    return made


def test_moot_gets_the_changed_runs_only(mooted: Mooted) -> None:
    brought = {RUN: whole(956, 2), OTHER: whole(965, 2, events=0)}
    mooted.load(brought)
    assert moot_update.pending(mooted.ledger) == [RUN, OTHER]
    assert mooted.send() == moot_update.pending(mooted.ledger) == []
    of_both = {"--scid": "77", "--moot-key": "4294967295", "--moot-alias": "UNKNOWN", "--hwkey": "3348"}
    of_both |= {"--swkey": "7656"}
    times = {"--evtutc0": "2024-06-28 02:29:27.250000", "--evtutc1": "2024-06-28 02:29:28.500000"}
    assert mooted.told == [
        {"--run": "r0741234567", "--startedat": "741234567", "--type": "LPA", "--status": "InProgress"}
        | {"--nevts": "20"} | times | of_both,
        {"--run": "r0741244928", "--startedat": "741244928", "--type": "LCI", "--status": "Complete"}
        | {"--nevts": "0"} | of_both,
    ]  # fmt: skip
    mooted.load(brought)
    assert moot_update.pending(mooted.ledger) == []
    mooted.load({RUN: whole(957, 2)}, TWO)
    assert (mooted.send(), mooted.told[2]["--status"]) == ([], "Complete")
    for downlink, pending in ((TWO, [RUN]), (ONE, [])):  # finally no run is left
        remove(mooted.ledger, settings_of(mooted.home, "moot"), downlink)
        assert moot_update.pending(mooted.ledger) == pending


@pytest.mark.parametrize(
    ("ending", "left"),
    [
        (Ending("ended with exit status 4", 4), [RUN]),
        # A command that is missing or hangs is not tried with other runs.
        (Ending("was ended", None), [RUN, OTHER]),
        (Ending("was still running", -15, late=True), [RUN, OTHER]),
    ],
    ids=["refused", "absent", "hangs"],
)
def test_an_update_that_fails_is_repeated(mooted: Mooted, ending: Ending, left: list[RunId]) -> None:
    mooted.load({run: whole(965, 2) for run in (RUN, OTHER)})
    mooted.ends[RUN.l1] = ending
    assert mooted.send() == left
    # A run that changes meanwhile is sent once, in its new state.
    process(mooted.home, ONE, {RUN: whole(965, 3), OTHER: whole(965, 2)}, handoff=2, into=mooted.ledger)
    assert moot_update.pending(mooted.ledger) == left
    mooted.ends = {}
    assert (mooted.send(), sorted(mooted.events())) == ([], [20, 30])


def test_later_loads_send_what_earlier_ones_left(mooted: Mooted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moot_update, "CATCH_UP", 2)
    first, second, third, own = (RunId.from_met(RUN.met + number) for number in range(4))
    mooted.load({run: whole(965, 2) for run in (first, second, third, own)})
    assert mooted.send([own]) == [third]
    assert [options["--run"] for options in mooted.told] == [own.l1, first.l1, second.l1]
    assert mooted.send([own]) == []


@pytest.mark.parametrize(("sooner", "events"), [(True, [30, 20, 30]), (False, [20, 30])])
def test_a_run_that_changes_during_its_update_is_sent_again(
    mooted: Mooted, sooner: bool, events: list[int]
) -> None:
    """Another process loads the run, and may send it first. Then the old state, which arrives last, is overwritten."""

    def meanwhile() -> None:
        mooted.load({RUN: whole(965, 3)}, handoff=2)
        assert not sooner or mooted.send() == []

    mooted.load({RUN: whole(965, 2)})
    mooted.meanwhile = meanwhile
    assert (mooted.send(), mooted.events()) == ([], events)
    assert moot_update.pending(mooted.ledger) == []
