"""Twelve troubles of an operator: a block of at most 40 words names each, and its remedy helps when it is pasted."""

import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.errors import LedgerError
from halfpipe.ids import ChunkId
from halfpipe.ledger import database
from halfpipe.process.failure_record import Failure
from halfpipe_simulator.scenario import Scenario
from tests.support.harness import job_log
from tests.support.leases import left_by_another
from tests.support.workflow import Ended, Site

FIRST, SECOND = "230401001", "230401002"
MOST_WORDS = 40
BLOCK = re.compile(r"^[✗!] .*\n(?:  .*\n)*", re.MULTILINE)  # below the table of status
Repair = Callable[[], object] | None
"""Undoes the trouble itself, as the words of a remedy ask, if there is more to do than its commands."""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path / "site")
    site.simulate(Scenario(seed=3, downlinks=(FIRST, SECOND)).lpa_run(events=300, parts=2))
    site.configure(ledger={"url": None})
    site.work.mkdir()
    return site


def process(site: Site, *downlinks: str) -> Ended:
    return site.snakemake(*(f"dl={downlink}" for downlink in downlinks))


def missing_retdef(site: Site) -> Repair:
    process(site, FIRST)
    retdef, away = site.retdefs / paths.retdef(SECOND, ChunkId("00001")), site.home / "away.xml"
    retdef.rename(away)
    process(site, SECOND)
    return lambda: away.rename(retdef)


def cut_hour(site: Site) -> Repair:
    chunks = site.home / "simulated" / "level0"
    file = max((path for path in chunks.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    process(site, SECOND)
    return lambda: file.write_bytes(whole)


def failing_decoder(site: Site) -> Repair:
    good = site.config.get("decoder", {})
    site.configure(decoder={"command": "sh -c 'echo cannot open calibration >&2; exit 3'"})
    process(site, SECOND)
    del site.config["decoder"]
    return lambda: site.configure(decoder=good)


def evt_file_gone(site: Site) -> None:
    process(site, FIRST, SECOND)
    next(site.stage.glob(f"{SECOND}/*/*.evt")).unlink()


def full_disk(site: Site) -> None:
    job_log(site.work, "deliver_run-29d7d35d", Failure.full(site.stage / "x", needed=10**9), SECOND)


def killed_head(site: Site) -> None:
    left_by_another(site.work, paths.downlink_lease(SECOND), silent=1e6)


def held(site: Site) -> None:
    site.halfpipe("hold", "stage", SECOND, "--reason", "the robot is down")
    process(site, SECOND)


def database_down(site: Site) -> Repair:
    process(site, SECOND)
    site.configure(ledger={"url": "postgresql+psycopg://halfpipe@127.0.0.1:1/halfpipe"})
    with pytest.raises(LedgerError) as refused:
        database.Ledger.of(site.settings, waits=()).read(lambda _: None)
    job_log(site.work, "ledger", Failure.of(refused.value), SECOND)
    return lambda: site.configure(ledger={"url": "built-in"})


def late_retdef(site: Site) -> None:
    *_, last = sorted((site.retdefs / SECOND).iterdir())
    away = last.rename(site.home / "away.xml")
    process(site, FIRST, SECOND)
    away.rename(last)


def foreign_file(site: Site) -> Repair:
    process(site, FIRST, SECOND)
    stray = next(site.stage.glob(f"{SECOND}/*/*.evt")).with_name("stray.evt")
    stray.touch()
    return stray.unlink


def foreign_files_before_staging(site: Site) -> Repair:
    stray = site.stage / SECOND / "r0702010205" / "stray.evt"
    stray.parent.mkdir(parents=True)
    stray.touch()
    process(site, SECOND)
    return lambda: shutil.rmtree(stray.parent.parent)


def unmounted_stage(site: Site) -> Repair:
    process(site, FIRST)
    away = site.stage.rename(site.home / "away")
    site.stage.mkdir()
    process(site, SECOND)

    def mount() -> None:
        site.stage.rmdir()
        away.rename(site.stage)

    return mount


TROUBLES = [
    missing_retdef,
    cut_hour,
    failing_decoder,
    evt_file_gone,
    full_disk,
    killed_head,
    held,
    database_down,
    late_retdef,
    foreign_file,
    foreign_files_before_staging,
    unmounted_stage,
]


def blocks(said: str) -> Iterator[str]:
    """Yield the blocks of status: those below the table, and the notes in it."""
    yield from BLOCK.findall(said)
    yield from re.findall(r"! note: (.*)", said)


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.__name__)
def test_a_block_of_few_words_names_a_trouble_and_its_commands_end_it(
    trouble: Callable[[Site], Repair], site: Site
) -> None:
    before = set(blocks(site.halfpipe("status").said))
    repair = trouble(site)
    found = [block for block in blocks(site.halfpipe("status").said) if block not in before]
    of_it = next((block for block in found if SECOND in block), found[0])
    assert max(len(block.split()) for block in found) <= MOST_WORDS, found
    if repair:
        repair()
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
    ended = process(site, SECOND).bad("exit status 3")
    assert "it needed 9 TB" not in ended.said
