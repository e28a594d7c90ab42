"""The troubles of `halfpipe drill`: a block of at most 40 words names each, and its remedy helps when it is pasted."""

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.downlink import halts
from halfpipe.downlink.halts import Switch
from halfpipe.ids import DownlinkId
from halfpipe.process.failure_record import Failure
from halfpipe_simulator.scenario import Scenario
from halfpipe_simulator.troubles import STRAY, TROUBLES, Ground, Trouble, remove_stray
from tests.support.harness import job_log
from tests.support.workflow import Site

FIRST, SECOND = DownlinkId("230401001"), DownlinkId("230401002")
MOST_WORDS = 40
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


def test_a_command_that_fails_names_no_failure_of_an_earlier_one(site: Site) -> None:
    job_log(site.work, "deliver_run-29d7d35d", Failure("memory", "it needed 9 TB"), SECOND)
    for path in (site.work / paths.job_logs(SECOND)).iterdir():
        os.utime(path, (1, 1))
    site.configure(decoder={"command": "sh -c 'exit 3'"})
    ended = site.snakemake(f"dl={SECOND}").bad("exit status 3")
    assert "it needed 9 TB" not in ended.said
