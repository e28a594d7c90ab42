"""The program on a site whose downlinks were really processed, and the MOOT database (a stand-in)."""

import importlib.util
import json
import logging
import shlex
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest

from halfpipe import paths
from halfpipe.errors import LockedError
from halfpipe.files import leases
from halfpipe.formats.retdef import read_retdef
from halfpipe.ids import DownlinkId, RunId
from halfpipe.ledger import moot_update
from halfpipe.ledger.check import check
from halfpipe.ledger.database import Ledger
from halfpipe.ledger.load import load, rebuild, refresh, remove
from halfpipe.ledger.operations import remove_downlink
from halfpipe.settings import Settings
from tests.support.golden_cases import GOLDEN, read_case
from tests.support.in_process import ROOT
from tests.support.ledger_database import Database
from tests.support.ledger_files import content, give_up, process, run_rows, settings_of, whole
from tests.support.private_postgresql import PASSWORD
from tests.support.workflow import Site

STAND_IN = ROOT / "tests" / "support" / "moot_stand_in.py"
RUN, OTHER = RunId("2c2e5787"), RunId("2c2e8000")
ONE, TWO = DownlinkId("240601001"), DownlinkId("240601002")


@pytest.fixture(scope="module")
def program() -> ModuleType:
    """Return scripts/ledger.py, to be run in this process."""
    spec = importlib.util.spec_from_file_location("ledger_program", ROOT / "scripts" / "ledger.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def told(home: Path) -> list[dict[str, str]]:
    """Return what the stand-in was told: options and values."""
    path = home / "told"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [dict(zip(words[::2], words[1::2], strict=True)) for words in lines]


def load_one(program: ModuleType, settings: Settings, downlink: str, home: Path) -> int:
    """Run the job of the rule; return its exit status."""
    file = home / "settings.json"
    file.write_text(settings.as_json())
    log = settings.paths.work / paths.log("ledger", downlink)
    ended: int = program.main(["--settings", str(file), "--downlink", downlink, "--log", str(log)])
    assert PASSWORD not in log.read_text()
    return ended


def test_a_site_from_receipts_to_ledger(
    program: ModuleType, database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = read_case(GOLDEN / "split2")
    site = Site(tmp_path)
    site.replay(case.directory / "in")
    site.add_retdefs(case.directory / "in", *case.downlinks)
    settings = database.of(settings_of(site.work, shlex.join(["python", str(STAND_IN), str(tmp_path)])))
    ledger = database.ledger()

    first, second = map(DownlinkId, case.downlinks)
    assert load_one(program, settings, first, tmp_path) == 1
    assert f"dl={first}: no such file" in capsys.readouterr().err
    assert not (site.work / paths.loaded(first)).exists()

    states = []
    for downlink in (first, second):
        site.by_hand(downlink)
        assert load_one(program, settings, downlink, tmp_path) == 0
        marker = json.loads((site.work / paths.loaded(downlink)).read_text())
        assert (marker["downlink"], marker["handoff"], list(marker["runs"])) == (downlink, 1, [RUN])
        (run,) = site.receipt(downlink)["runs"]
        row = run_rows(ledger)[RUN]
        states.append((row["status"], row["type"]))
        assert states[-1] == ("Complete" if run["complete"] else "InProgress", run["kind"])
    assert states == [("InProgress", "LPA"), ("Complete", "LPA")]
    keys = {f"{row['id']:09d}": row["l0key"] for row in content(ledger)["glastops_downlink"]}
    assert keys == {dl: read_retdef(site.work / paths.retdef(dl, "00001")).l0key for dl in case.downlinks}
    assert [(options["--run"], options["--status"]) for options in told(tmp_path)] == [
        (RUN.l1, "InProgress"),
        (RUN.l1, "Complete"),
    ]
    before = content(ledger)
    bytes_before = (site.work / paths.loaded(first)).read_bytes()
    assert load_one(program, settings, first, tmp_path) == 0
    assert content(ledger) == before
    assert (site.work / paths.loaded(first)).read_bytes() == bytes_before
    said = capsys.readouterr()
    assert PASSWORD not in said.out + said.err

    assert check(ledger, settings) == []
    assert remove_downlink(ledger, settings, first) == [RUN]
    assert not (site.work / paths.loaded(first)).exists()
    behind = [str(finding) for finding in check(ledger, settings, [second])]
    assert [line.partition("; ")[0] for line in behind] == [
        f"run {RUN} ({RUN.l1}): ledger is behind (status InProgress, in the files Complete"
    ]
    assert rebuild(ledger, settings, tell_moot=False) == 2
    assert content(ledger) == before
    assert refresh(ledger, settings, [RUN, OTHER]) == {RUN: "Complete", OTHER: None}
    assert moot_update.pending(ledger) == [RUN], "of what went with the first, and its coming back is no news"
    assert len(told(tmp_path)) == 2, "loading again is no news"


def test_a_downlink_that_is_in_work_is_neither_loaded_nor_removed(
    program: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    process(tmp_path, ONE, {RUN: whole(965, 2)})
    assert load_one(program, settings_of(tmp_path), ONE, tmp_path) == 0
    lease = leases.Lease(tmp_path, paths.downlink_lease(ONE))
    assert lease.try_take()
    try:
        assert load_one(program, settings_of(tmp_path), ONE, tmp_path) == 1
        assert f"downlink {ONE}" in capsys.readouterr().err
        with pytest.raises(LockedError):
            remove_downlink(Ledger.of(settings_of(tmp_path)), settings_of(tmp_path), ONE)
    finally:
        lease.give_back()
    assert (tmp_path / paths.loaded(ONE)).exists()
    assert set(run_rows(Ledger.of(settings_of(tmp_path)))) == {RUN}


def test_no_ledger_can_be_reached(
    program: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    process(tmp_path, ONE, {RUN: whole(965, 2)})
    url = f"sqlite:///{tmp_path}/no/such/directory/ledger.sqlite"
    (tmp_path / paths.loaded(ONE)).write_text("of an earlier hand-off")
    assert load_one(program, Database(url, None).of(settings_of(tmp_path)), ONE, tmp_path) == 1
    assert "unable to open database file. Nothing was changed in it." in capsys.readouterr().err
    assert not (tmp_path / paths.loaded(ONE)).exists()


class Mooted:
    """A ledger whose changes are told to a stand-in."""

    def __init__(self, database: Database, home: Path) -> None:
        self.database, self.ledger, self.home = database, database.ledger(), home
        self.command = shlex.join(["python", str(STAND_IN), str(home)])

    def load(self, downlink: DownlinkId) -> None:
        load(self.ledger, settings_of(self.home, self.command), downlink)

    def send(self, runs: Sequence[RunId] | None = None) -> list[RunId]:
        with (self.home / "output").open("a") as output:
            return moot_update.send(self.ledger, self.command, output, runs, (0.0, 0.0))


@pytest.fixture
def mooted(database: Database, tmp_path: Path) -> Mooted:
    return Mooted(database, tmp_path)


def test_moot_is_told_of_what_has_changed_and_of_nothing_else(mooted: Mooted, tmp_path: Path) -> None:
    process(tmp_path, ONE, {RUN: whole(956, 2), OTHER: whole(965, 2, events=0)})
    mooted.load(ONE)
    assert moot_update.pending(mooted.ledger) == [RUN, OTHER]
    assert mooted.send() == []
    assert moot_update.pending(mooted.ledger) == []
    assert told(tmp_path) == [
        {
            "--run": "r0741234567", "--scid": "77", "--startedat": "741234567", "--type": "LPA",
            "--status": "InProgress", "--moot-key": "4294967295", "--moot-alias": "UNKNOWN", "--nevts": "20",
            "--hwkey": "3348", "--swkey": "7656", "--evtutc0": "2024-06-28 02:29:27.250000",
            "--evtutc1": "2024-06-28 02:29:28.500000",
        },
        {
            "--run": "r0741244928", "--scid": "77", "--startedat": "741244928", "--type": "LCI",
            "--status": "Complete", "--moot-key": "4294967295", "--moot-alias": "UNKNOWN", "--nevts": "0",
            "--hwkey": "3348", "--swkey": "7656",
        },
    ]  # fmt: skip
    mooted.load(ONE)
    assert moot_update.pending(mooted.ledger) == []
    process(tmp_path, TWO, {RUN: whole(957, 2)})
    mooted.load(TWO)
    assert mooted.send() == []
    assert [options["--status"] for options in told(tmp_path)] == ["InProgress", "Complete", "Complete"]
    remove(mooted.ledger, settings_of(tmp_path, "true"), [TWO])
    assert moot_update.pending(mooted.ledger) == [RUN]
    remove(mooted.ledger, settings_of(tmp_path, "true"), [ONE])
    assert moot_update.pending(mooted.ledger) == [], "there is nothing to tell of it any more"


def test_news_is_delayed_by_a_failure_and_not_lost(mooted: Mooted, tmp_path: Path) -> None:
    process(tmp_path, ONE, {RUN: whole(956, 2)})
    mooted.load(ONE)
    (tmp_path / "down").write_text("2")
    assert mooted.send() == [], "the third try goes well"
    process(tmp_path, ONE, {RUN: whole(956, 2), OTHER: whole(965, 2)}, handoff=2)
    mooted.load(ONE)
    (tmp_path / "down").write_text("99")
    assert mooted.send() == [OTHER]
    assert (tmp_path / "down").read_text() == "96"
    assert "the MOOT database is down (simulated)" in (tmp_path / "output").read_text()
    # What changes while MOOT is down is told once, as it is then; also if it changes without a note.
    process(tmp_path, ONE, {RUN: whole(956, 2), OTHER: whole(965, 3)}, handoff=3)
    load(mooted.ledger, settings_of(tmp_path), ONE)
    assert moot_update.pending(mooted.ledger) == [OTHER]
    (tmp_path / "down").unlink()
    assert mooted.send() == []
    assert [(o["--run"], o["--nevts"]) for o in told(tmp_path)] == [(RUN.l1, "20"), (OTHER.l1, "30")]
    mooted.command = "/no/such/program"
    give_up(tmp_path, RUN, ONE)
    rebuild(mooted.ledger, settings_of(tmp_path, mooted.command))
    assert mooted.send() == [RUN]


def runs_of(count: int) -> list[RunId]:
    return [RunId.from_met(RUN.met + number) for number in range(count)]


def test_what_earlier_loads_had_to_leave_is_told_by_later_ones(
    mooted: Mooted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moot_update, "CATCH_UP", 2)
    first, second, third, own = runs_of(4)
    process(tmp_path, ONE, {run: whole(965, 2) for run in (first, second, third, own)})
    mooted.load(ONE)
    assert mooted.send([own]) == [third]
    assert [options["--run"] for options in told(tmp_path)] == [own.l1, first.l1, second.l1]
    assert mooted.send([own]) == []


def test_a_run_that_moot_refuses_keeps_no_other_from_being_told(mooted: Mooted, tmp_path: Path) -> None:
    runs = runs_of(6)
    process(tmp_path, ONE, {run: whole(965, 2) for run in runs})
    mooted.load(ONE)
    (tmp_path / "refused").write_text(f"{runs[0].l1} {runs[1].l1} {runs[3].l1}")
    assert mooted.send() == [runs[0], runs[1], runs[3]]
    assert [options["--run"] for options in told(tmp_path)] == [runs[2].l1, runs[4].l1, runs[5].l1]
    tries = [runs[0].l1] * 3 + [runs[1].l1] + [runs[3].l1] * 3
    assert (tmp_path / "refusals").read_text().split() == tries


def test_three_refusals_in_a_row_end_it_and_so_does_a_command_that_hangs_or_is_not_there(
    mooted: Mooted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logging.getLogger("halfpipe"), "propagate", True)  # a program may have run before
    runs = runs_of(4)
    process(tmp_path, ONE, {run: whole(965, 2) for run in runs})
    mooted.load(ONE)
    (tmp_path / "refused").write_text(" ".join(run.l1 for run in runs[:3]))
    assert mooted.send() == runs
    assert told(tmp_path) == []
    assert f"run {runs[2]} ({runs[2].l1}): moot.update ended with exit status 4" in caplog.messages
    (tmp_path / "hangs.py").write_text(
        f"import time; open({str(tmp_path / 'calls')!r}, 'a').write('x'); time.sleep(60)"
    )
    mooted.command = f"python {tmp_path / 'hangs.py'}"
    monkeypatch.setattr(moot_update, "LONGEST", 1.5)
    assert mooted.send() == runs
    assert (tmp_path / "calls").read_text() == "x"
    run = f"run {runs[0]} ({runs[0].l1}): moot.update"
    assert f"{run} was still running after 1.5 s and was ended" in caplog.messages
    mooted.command = "/no/such/program"
    assert mooted.send() == runs
    cause = "/no/such/program: cannot be started: No such file or directory. Correct it in the config"
    assert f"{run} {cause}" in caplog.messages
    assert caplog.messages[-1].endswith("once the cause is mended: halfpipe ledger moot")


def test_older_news_that_comes_last_is_told_over(mooted: Mooted, tmp_path: Path) -> None:
    """While one load tells of a run, another one loads it and tells of it sooner."""
    process(tmp_path, ONE, {RUN: whole(965, 2)})
    mooted.load(ONE)
    process(tmp_path, ONE, {RUN: whole(965, 3)}, handoff=2)
    slow = tmp_path / "slow.py"
    slow.write_text(
        "import os, subprocess, sys, time; from pathlib import Path\n"
        f"home = Path({str(tmp_path)!r})\n"
        "if not (home / 'begun').exists():\n"
        "    (home / 'begun').touch()\n"
        "    while not (home / 'overtaken').exists(): time.sleep(0.05)\n"
        f"os.execv(sys.executable, [sys.executable, {str(STAND_IN)!r}, str(home), *sys.argv[1:]])\n"
    )
    quick = Mooted(mooted.database, tmp_path)

    def overtake() -> None:
        while not (tmp_path / "begun").exists():
            time.sleep(0.05)
        quick.load(ONE)
        assert quick.send() == []
        (tmp_path / "overtaken").touch()

    mooted.command = f"python {slow}"
    with ThreadPoolExecutor() as pool:
        other = pool.submit(overtake)
        assert mooted.send() == []
        other.result()
    assert [options["--nevts"] for options in told(tmp_path)] == ["30", "20", "30"]
    assert moot_update.pending(mooted.ledger) == []


def test_a_run_that_changes_while_moot_is_told_stays_noted(mooted: Mooted, tmp_path: Path) -> None:
    process(tmp_path, ONE, {RUN: whole(965, 2)})
    mooted.load(ONE)
    process(tmp_path, ONE, {RUN: whole(965, 3)}, handoff=2)
    loads_again = tmp_path / "loads_again.py"
    loads_again.write_text(
        "import sys; from pathlib import Path; sys.path.insert(0, '.')\n"
        "from halfpipe.ids import DownlinkId; from halfpipe.ledger.database import Ledger\n"
        "from halfpipe.ledger.load import load; from halfpipe.settings import Settings\n"
        "settings = Settings.read(Path(sys.argv[1]))\n"
        f"load(Ledger.of(settings), settings, DownlinkId({str(ONE)!r}))\n"
    )
    settings = mooted.database.of(settings_of(tmp_path, mooted.command))
    (tmp_path / "settings.json").write_text(settings.as_json())
    command, mooted.command = mooted.command, f"python {loads_again} {tmp_path / 'settings.json'}"
    assert mooted.send() == []
    assert moot_update.pending(mooted.ledger) == [RUN]
    mooted.command = command
    assert mooted.send() == []
    assert [options["--nevts"] for options in told(tmp_path)] == ["30"]
    assert moot_update.pending(mooted.ledger) == []
