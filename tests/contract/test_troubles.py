"""The troubles of `halfpipe drill`: a block of at most 40 words names each, and its remedy helps when it is pasted."""

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.errors import LedgerError
from halfpipe.ids import DownlinkId
from halfpipe.ledger import database
from halfpipe.process.failure_record import Failure
from halfpipe.state import halts
from halfpipe.state.halts import Switch
from halfpipe_simulator.scenario import Scenario
from halfpipe_simulator.troubles import BY_NAME, STRAY, TROUBLES, Ground, Trouble, remove_stray
from tests.support.harness import job_log
from tests.support.workflow import Site, run

FIRST, SECOND = DownlinkId("230401001"), DownlinkId("230401002")
MOST_WORDS = 40
CRASHING = "sh -c 'echo cannot open calibration >&2; exit 3'"
BLOCK = re.compile(r"^[✗!] .*\n(?:  .*\n)*", re.MULTILINE)  # below the table of status


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path / "site")
    site.simulate(Scenario(seed=3, downlinks=(FIRST, SECOND)).lpa_run(events=300, parts=2))
    site.work.mkdir()
    return site


def late_retdef(ground: Ground) -> None:
    """The next turn cures this, so it is no drill."""
    ground.take_away(ground.retdefs()[-1])
    ground.process()
    ground.bring_back()


def foreign_file_before_staging(ground: Ground) -> None:
    stray = ground.settings.paths.stage / ground.second / "r0702010205" / STRAY
    stray.parent.mkdir(parents=True)
    stray.touch()
    ground.process()


def held(ground: Ground) -> None:
    """No alarm reports this, so it is no drill."""
    halts.hold(ground.work, Switch.STAGE, ground.second, "the robot is down")
    ground.process()


MORE = [
    Trouble("held", held, ""),
    Trouble("retdef-late", late_retdef, ""),
    Trouble("foreign-file-before-staging", foreign_file_before_staging, "", "the other system", remove_stray),
]


def blocks(said: str) -> Iterator[str]:
    """Yield the blocks of status: those below the table, and the notes in it."""
    yield from BLOCK.findall(said)
    yield from re.findall(r"! note: (.*)", said)


@pytest.mark.parametrize("trouble", [*TROUBLES, *MORE], ids=lambda trouble: trouble.name)
def test_a_block_of_few_words_names_a_trouble_and_its_commands_end_it(trouble: Trouble, site: Site) -> None:
    ground = Ground(site.settings, FIRST, SECOND, site.home / "away", site.snakemake)
    site.process(FIRST)
    before = set(blocks(site.halfpipe("status").said))
    trouble.make(ground)
    found = [block for block in blocks(site.halfpipe("status").said) if block not in before]
    of_it = next((block for block in found if SECOND in block), found[0])
    assert max(len(block.split()) for block in found) <= MOST_WORDS, found
    if trouble.others:
        trouble.call(ground)
    to_do = of_it.partition("or do without:")[0]  # the other way is in docs/deciding.md
    for program, *arguments in map(shlex.split, re.findall(r"→ ((?:snakemake|halfpipe) .*)", to_do)):
        (site.snakemake if program == "snakemake" else site.halfpipe)(*arguments).good()
    site.snakemake(f"dl={SECOND}").good()
    ended = site.halfpipe("status")
    assert ended.status == 0, ended.said
    assert of_it not in ended.said


def actions(causes: Iterable[Mapping[str, object]]) -> set[tuple[object, ...]]:
    """Return the causes that need action, each with its remedy."""
    wanted = ("code", "text", "first", "do", "accept", "log")
    return {tuple(one[name] for name in wanted) for one in causes if one["verdict"] == "action"}


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.name)
def test_every_screen_shows_the_same_causes_with_the_same_remedies(trouble: Trouble, site: Site) -> None:
    ground = Ground(site.settings, FIRST, SECOND, site.home / "away", site.snakemake)
    site.process(FIRST)
    trouble.make(ground)
    status = site.told("status")
    (of_it,) = [one for one in status["downlinks"] if one["dl"] == SECOND] or [{"causes": []}]
    explained = site.told("explain", SECOND)["causes"] if of_it["causes"] else []
    site.halfpipe("board", "--output", str(site.home / "board"))
    board = json.loads((site.home / "board" / "status.json").read_text())
    (on_board,) = [one for one in board["downlinks"] if one["dl"] == SECOND] or [{"causes": []}]
    assert actions(explained) == actions(on_board["causes"]) == actions(of_it["causes"])
    assert actions(board["site"]) == actions(status["site"])
    assert actions(status["site"]) | actions(of_it["causes"])


def test_a_ledger_that_is_down_is_one_problem_with_one_command(site: Site) -> None:
    site.process(FIRST, SECOND)
    site.configure(ledger={"url": "postgresql+psycopg://halfpipe@127.0.0.1:1/halfpipe"})
    with pytest.raises(LedgerError) as refused:
        database.Ledger.of(site.settings, waits=()).read(lambda _: None)
    for downlink in (FIRST, SECOND):
        job_log(site.work, "ledger", Failure.of(refused.value), downlink)
    told = site.told("status")
    (action,) = [cause for cause in told["site"] if cause["verdict"] == "action"]
    assert (action["code"], "2 downlinks wait" in action["text"]) == ("ledger", True)
    assert action["do"] == f"snakemake {FIRST}/ledger.json {SECOND}/ledger.json"
    of_downlinks = [cause for one in told["downlinks"] for cause in one["causes"]]
    assert {cause["verdict"] for cause in of_downlinks} == {"note"}
    assert not [cause for cause in of_downlinks if cause["code"] == "ledger" and cause["do"]]
    site.configure(ledger={"url": "built-in"})
    site.snakemake(*action["do"].split()[1:]).good()
    assert "ledger" not in {
        cause["code"] for one in site.told("status")["downlinks"] for cause in one["causes"]
    }


def test_a_damaged_ledger_is_made_again_before_downlinks_are_loaded(site: Site) -> None:
    ground = Ground(site.settings, FIRST, SECOND, site.home / "away", site.snakemake)
    site.process(FIRST, SECOND)
    BY_NAME["ledger-down"].make(ground)
    (action,) = [cause for cause in site.told("status")["site"] if cause["verdict"] == "action"]
    rebuild, load = (action["do"].find(part) for part in ("halfpipe ledger rebuild", "snakemake "))
    assert 0 < rebuild < load


def test_a_full_disk_turns_the_light_of_the_board(site: Site) -> None:
    board = site.home / "board"
    site.configure(board={"dir": str(board)})
    site.stage.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=20k", "halfpipe-test", str(site.stage)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting is refused")
    try:
        assert site.snakemake(f"dl={FIRST}").status == 1
        site.halfpipe("board")
        assert re.search(r'<li class="a"><i>.</i> disk .*disk-full', (board / paths.BOARD).read_text())
        subprocess.run(["mount", "-o", "remount,size=64m", str(site.stage)], check=True)
        site.process(FIRST)
        site.halfpipe("board")
        assert re.search(r'<li class="g"><i>.</i> disk ', (board / paths.BOARD).read_text())
    finally:
        subprocess.run(["umount", "-l", str(site.stage)], check=True)


def test_a_decoder_that_crashes_each_time_is_reported_instead_of_repeated(site: Site) -> None:
    site.configure(board={"contacts": {"decoded": "R. Doe"}})
    site.configure(decoder={"command": CRASHING})
    site.snakemake(f"dl={SECOND}")
    first = site.told("status")["downlinks"][0]["causes"][0]
    assert first["do"] == f"snakemake dl={SECOND}"
    ended = site.snakemake(f"dl={SECOND}")
    second = site.told("status")["downlinks"][0]["causes"][0]
    assert second["text"] == first["text"]
    assert second["since"] == first["since"], "it began with the first failure"
    assert "2 times in a row" in second["first"]
    assert "R. Doe" in second["first"]
    assert second["do"] in ended.said
    mail, page = site.halfpipe("unattended").said, site.halfpipe("explain", SECOND).said
    assert "3 times in a row" in mail
    assert "3 times in a row" in page
    assert run(["sh", "-c", f"cd {site.home} && {second['do']}"]).status == 0
    listed = run(["sh", "-c", f"tar -tzf {site.home}/{SECOND}-*.tar.gz"]).said.split()
    assert f"{SECOND}/RetDef-{SECOND}-00001.xml" in listed


def test_a_command_that_fails_names_no_failure_of_an_earlier_one(site: Site) -> None:
    job_log(site.work, "deliver_run-29d7d35d", Failure("memory", "it needed 9 TB"), SECOND)
    for path in (site.work / paths.job_logs(SECOND)).iterdir():
        os.utime(path, (1, 1))
    site.configure(decoder={"command": "sh -c 'exit 3'"})
    ended = site.snakemake(f"dl={SECOND}").bad("exit status 3")
    assert "it needed 9 TB" not in ended.said
