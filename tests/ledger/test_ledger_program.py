"""The program on a site whose downlinks were really processed, and the MOOT database (a stand-in)."""

import importlib.util
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest

from halfpipe import paths
from halfpipe.formats.retdef import read_retdef
from halfpipe.ids import DownlinkId, RunId
from halfpipe.ledger import moot_update
from halfpipe.ledger.brought import Rule
from halfpipe.ledger.load import load, rebuild, remove
from tests.golden_cases import GOLDEN, read_case
from tests.ledger.conftest import Database
from tests.ledger.files import RULE, content, process, run_rows, whole
from tests.ledger.private_postgresql import PASSWORD
from tests.workflow import ROOT, Site

STAND_IN = ROOT / "tests" / "ledger" / "moot_stand_in.py"
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


def test_a_site_from_receipts_to_ledger(
    program: ModuleType, database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = read_case(GOLDEN / "split2")
    site = Site(tmp_path)
    site.replay(case.directory / "in")
    site.add_retdefs(case.directory / "in", *case.downlinks)
    site.configure(ledger=database.configuration())
    config = ["--configfile", str(site.configfile)]

    def load_one(downlink: str) -> int:
        log = site.work / "logs" / downlink / "ledger.log"
        where = ["--work", str(site.work), "--downlink", downlink, "--min-epus", "2", "--log", str(log)]
        moot = ["--moot-update", f"python {STAND_IN} {tmp_path}"]
        ended: int = program.main(["load", *where, *database.options(), *moot])
        assert PASSWORD not in log.read_text()
        return ended

    first, second = case.downlinks
    assert load_one(first) == 1
    assert f"dl={first}: no such file" in capsys.readouterr().err
    assert not (site.work / paths.loaded(first)).exists()

    states = []
    for downlink in (first, second):
        site.by_hand(downlink)
        assert load_one(downlink) == 0
        marker = json.loads((site.work / paths.loaded(downlink)).read_text())
        assert (marker["downlink"], marker["handoff"], list(marker["runs"])) == (downlink, 1, [RUN])
        (run,) = site.receipt(downlink)["runs"]
        row = run_rows(database.ledger())[RUN]
        states.append((row["status"], row["type"]))
        assert states[-1] == ("Complete" if run["complete"] else "InProgress", run["kind"])
    assert states == [("InProgress", "LPA"), ("Complete", "LPA")]
    keys = {f"{row['id']:09d}": row["l0key"] for row in content(database.ledger())["glastops_downlink"]}
    assert keys == {dl: read_retdef(site.work / paths.retdef(dl, "00001")).l0key for dl in case.downlinks}
    assert [(options["--run"], options["--status"]) for options in told(tmp_path)] == [
        (RUN.l1, "InProgress"),
        (RUN.l1, "Complete"),
    ]
    before = content(database.ledger())
    bytes_before = (site.work / paths.loaded(first)).read_bytes()
    assert load_one(first) == 0
    assert content(database.ledger()) == before
    assert (site.work / paths.loaded(first)).read_bytes() == bytes_before

    capsys.readouterr()
    assert program.main(["check", *config]) == 0
    assert program.main(["remove", first, *config]) == 0
    assert not (site.work / paths.loaded(first)).exists()
    assert program.main(["check", second, *config]) == 1
    assert program.main(["rebuild", *config]) == 0
    assert content(database.ledger()) == before
    assert program.main(["upgrade", *config]) == 0
    assert program.main(["refresh", RUN.l1, OTHER, *config]) == 0
    assert len(told(tmp_path)) == 2, "loading again is no news"
    assert program.main(["moot", *config]) == 1
    said = capsys.readouterr()
    assert "0 differences between " in said.out
    assert f"downlink {first}: taken out of the ledger, with 1 runs" in said.out
    assert (
        "run 2c2e5787 (r0741234567): ledger is behind (status InProgress, in the files Complete" in said.out
    )
    assert f"run {RUN} ({RUN.l1}): Complete\nrun {OTHER} ({OTHER.l1}): not in the ledger" in said.out
    assert f"2 downlinks in {database.ledger().name}" in said.out
    assert "moot.update is null" in said.err
    assert PASSWORD not in said.out + said.err
    site.configure(ledger={"url": None, "password_file": None})
    assert program.main(["check", *config]) == 1
    assert "ledger.url is null" in capsys.readouterr().err


def test_no_ledger_can_be_reached(
    program: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    process(tmp_path, ONE, {RUN: whole(965, 2)})
    url = f"sqlite:///{tmp_path}/no/such/directory/ledger.sqlite"
    (tmp_path / paths.loaded(ONE)).write_text("of an earlier hand-off")
    where = ["--work", str(tmp_path), "--downlink", ONE, "--min-epus", "2", "--url", url]
    assert program.main(["load", *where]) == 1
    assert "unable to open database file. Nothing was changed in it." in capsys.readouterr().err
    assert not (tmp_path / paths.loaded(ONE)).exists()


class Mooted:
    """A ledger whose changes are told to a stand-in."""

    def __init__(self, database: Database, home: Path) -> None:
        self.database, self.ledger, self.home = database, database.ledger(), home
        self.command = f"python {STAND_IN} {home}"

    def load(self, downlink: DownlinkId) -> None:
        load(self.ledger, self.home, downlink, RULE, tell_moot=True)

    def send(self, runs: Sequence[RunId] | None = None) -> list[RunId]:
        with (self.home / "output").open("a") as output:
            return moot_update.send(self.ledger, self.command, ROOT, output, runs, (0.0, 0.0))


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
    remove(mooted.ledger, tmp_path, [TWO], RULE, tell_moot=True)
    assert moot_update.pending(mooted.ledger) == [RUN]
    remove(mooted.ledger, tmp_path, [ONE], RULE, tell_moot=True)
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
    load(mooted.ledger, tmp_path, ONE, RULE, tell_moot=False)
    assert moot_update.pending(mooted.ledger) == [OTHER]
    (tmp_path / "down").unlink()
    assert mooted.send() == []
    assert [(o["--run"], o["--nevts"]) for o in told(tmp_path)] == [(RUN.l1, "20"), (OTHER.l1, "30")]
    mooted.command = "/no/such/program"
    rebuild(mooted.ledger, tmp_path, Rule(2, {RUN}.__contains__), tell_moot=True)
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


def test_three_refusals_in_a_row_end_it_and_so_does_a_command_that_hangs(
    mooted: Mooted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = runs_of(4)
    process(tmp_path, ONE, {run: whole(965, 2) for run in runs})
    mooted.load(ONE)
    (tmp_path / "refused").write_text(" ".join(run.l1 for run in runs[:3]))
    assert mooted.send() == runs
    assert told(tmp_path) == []
    (tmp_path / "hangs.py").write_text(
        f"import time; open({str(tmp_path / 'calls')!r}, 'a').write('x'); time.sleep(60)"
    )
    mooted.command = f"python {tmp_path / 'hangs.py'}"
    monkeypatch.setattr(moot_update, "LONGEST", 1.5)
    assert mooted.send() == runs
    assert (tmp_path / "calls").read_text() == "x"


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
        "from halfpipe.ledger.load import load; from tests.ledger.files import RULE\n"
        f"password = {str(mooted.database.password_file or '')!r}\n"
        "ledger = Ledger.of(sys.argv[1], Path(password) if password else None)\n"
        f"load(ledger, Path({str(tmp_path)!r}), DownlinkId({str(ONE)!r}), RULE, tell_moot=True)\n"
    )
    command, mooted.command = mooted.command, f"python {loads_again} {mooted.database.url}"
    assert mooted.send() == []
    assert moot_update.pending(mooted.ledger) == [RUN]
    mooted.command = command
    assert mooted.send() == []
    assert [options["--nevts"] for options in told(tmp_path)] == ["30"]
    assert moot_update.pending(mooted.ledger) == []
