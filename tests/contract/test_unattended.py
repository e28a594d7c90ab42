"""Unattended processing: a downlink that fails or hangs stops no other one, and problems are reported once."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.ids import DownlinkId
from halfpipe.operate import unattended_turn as program
from halfpipe.operate.invocation import SnakemakeCall
from halfpipe.plan.plan import Plan
from halfpipe.status.site_causes import last_turn
from tests.support.golden_cases import GOLDEN
from tests.support.harness import job_log
from tests.support.leases import leases
from tests.support.servers import command_lines, wait_for
from tests.support.verbs import COMMAND
from tests.support.workflow import PATIENCE, Running, Site, run

FIRST, SECOND = "240601001", "240601002"
RUN = "2c2e5787"
CASE = GOLDEN / "split2"


@pytest.fixture
def outstanding(site: Site) -> Site:
    """A site with two outstanding downlinks."""
    site.work.mkdir()
    site.replay(CASE / "in", FIRST, SECOND)
    return site


def command(site: Site, *arguments: str) -> list[str]:
    """Return the command of a crontab, with a relative path of the config file."""
    return [*COMMAND, "unattended", "--cores", "2", *arguments, "--configfile", site.configfile.name]


def unattended(site: Site, *arguments: str) -> tuple[int, str]:
    """Run the command as cron does; return its exit status and its output below the first line."""
    site.work.mkdir(exist_ok=True)
    ended = run(command(site, *arguments), {"PATH": "/usr/bin:/bin"}, cwd=site.home)
    head = f"HalfPipe at {site.work} ({site.configfile.name})"
    assert not ended.said or ended.said.startswith((head, "error: ")), ended.said
    return ended.status, re.sub(rf"\A{re.escape(head)}.*\n", "", ended.said)


def alive(site: Site, *words: str) -> list[str]:
    """Return the command lines of all processes of the site."""
    return list(command_lines(str(site.home), *words).values())


def logs(site: Site) -> list[Path]:
    return sorted(site.work.glob("logs/unattended/*.log"))


@pytest.mark.workflow
def test_a_turn_without_work_is_silent_and_a_bad_config_is_reported(site: Site) -> None:
    assert unattended(site) == (0, "")
    assert last_turn(site.work) is None, "only turns of the timer are recorded"
    assert unattended(site, "--timer") == (0, "")
    assert last_turn(site.work) is not None
    assert leases(site.work) == []

    site.add_retdefs(CASE / "in", FIRST, SECOND)
    site.configure(outstanding={"max": 1})
    status, said = unattended(site)
    assert (status, "outstanding.max" in said) == (2, True)
    assert unattended(site) == (2, ""), "it was reported"
    site.configure(outstanding={"maximum": 1})
    status, said = unattended(site)
    assert (status, "outstanding.maximum" in said) == (2, True)
    assert logs(site) == []
    assert leases(site.work) == []


@pytest.mark.workflow
def test_a_downlink_that_fails_stops_no_other_and_is_reported_until_it_is_read(outstanding: Site) -> None:
    site = outstanding
    site.misbehave_in(CASE / "in", "exit3", FIRST)
    read, write = os.pipe()
    os.close(read)
    turn = subprocess.run(
        command(site), cwd=site.home, stdout=write, stderr=subprocess.PIPE, timeout=PATIENCE, check=False
    )
    os.close(write)
    assert (turn.returncode, turn.stderr) == (1, b""), "a closed pipe stops no turn"
    assert len(logs(site)) == 1, "one command of Snakemake"
    status, said = unattended(site)
    assert (status, f"downlink {FIRST}\n" in said) == (1, True), "it was not read, so it is reported again"
    assert not (site.work / f"dl={FIRST}").exists()
    assert site.receipt(SECOND).receipt.downlink == SECOND
    assert SECOND not in said
    assert len(said) < 10_000
    assert f"{site.work}/logs/{FIRST}/decode_chunk-00001.log (and 1 more)\n" in said
    assert unattended(site) == (1, ""), "it was reported"
    assert "\x1b" not in said, "no control characters"

    # The first line of the log repeats the job.
    log = site.work / "logs" / FIRST / "decode_chunk-00001.log"
    again = f"cd {site.work} && {log.read_text().splitlines()[0].partition(' INFO    ')[2]}"
    log.unlink()
    assert run(["sh", "-c", again]).status == 1
    assert "cannot go on" in log.read_text()
    site.misbehave_in(CASE / "in", "exit3")
    run(["sh", "-c", again]).good()
    vouched = site.work / FIRST / "chunks" / "00001.json"
    assert json.loads(vouched.read_text())["chunk"] == "00001"
    status, said = unattended(site)
    assert site.receipt(FIRST).receipt.downlink == FIRST
    assert (status, said.splitlines()[0]) == (0, f"HalfPipe: downlink {FIRST}: decoder: over")
    assert said.endswith("  decoder decode_chunk 00001, 00002\n")
    assert unattended(site, "--timer") == (0, "")
    last = json.loads((site.work / "logs" / "unattended" / "last.json").read_text())
    assert last["status"] == 0
    assert leases(site.work) == []


@pytest.mark.workflow
def test_a_turn_that_hangs_is_ended_at_its_time_limit(outstanding: Site) -> None:
    site = outstanding
    site.misbehave_in(CASE / "in", "hangs", FIRST)
    shutil.rmtree(site.retdefs / SECOND)
    status, said = unattended(site, "--timeout-minutes", "0.2")
    assert (status, f"{logs(site)[0]}\n" in said) == (3, True)
    assert alive(site) == []
    assert leases(site.work) == []


@pytest.mark.workflow
def test_a_second_turn_is_refused_and_the_first_one_ends_its_programs(outstanding: Site) -> None:
    site = outstanding
    site.misbehave_in(CASE / "in", "hangs", FIRST, SECOND)  # side by side
    # A shell starts background commands like this.
    in_background = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *command(site)]
    first = Running(in_background, site.home, cwd=site.home).process
    wait_for("decoders that hang", lambda: len(alive(site, "deaf")) == 2)
    status, said = unattended(site)
    assert status == 4
    assert f" process {first.pid} on " in said
    assert unattended(site, "--timer") == (4, "")
    (number,) = (site.work / paths.UNATTENDED_LEASE).iterdir()
    os.utime(number, (then := time.time() - 3700, then))
    status, said = unattended(site, "--timer")
    assert (status, "site (unattended-stopped)" in said) == (4, True), "an hour later"
    assert f"end process {first.pid} on " in said
    assert unattended(site, "--timer") == (4, ""), "it was reported"
    assert len(logs(site)) == 1

    first.terminate()
    assert first.wait(PATIENCE) == 128 + signal.SIGTERM
    assert alive(site) == []
    assert leases(site.work) == []
    assert not (site.work / f"dl={SECOND}").exists()


def test_downlinks_that_failed_before_are_last(outstanding: Site) -> None:
    plan = Plan(outstanding.settings)
    first, second = DownlinkId(FIRST), DownlinkId(SECOND)
    assert program.in_turn(plan) == [[first, second], []]
    job_log(outstanding.work, "decode_chunk-00001", downlink=FIRST)
    assert program.in_turn(plan) == [[second], [first]]


def test_a_late_retdef_is_reported_if_snakemake_fails_before_its_first_job(outstanding: Site) -> None:
    site, said = outstanding, list[str]()
    shutil.rmtree(site.retdefs / SECOND)
    late = site.retdefs / FIRST / f"RetDef-{FIRST}-00002.xml"
    late.rename(site.home / late.name)
    site.process(FIRST)
    (site.home / late.name).rename(late)

    def say(text: str) -> bool:
        said.append(text)
        return True

    def turn(*options: str) -> int:
        call = SnakemakeCall(("--configfile", str(site.configfile), *options), cores=1)
        return program.turn(site.settings, call, 1.0, say, timer=False)

    assert turn("--no-such-option") == program.FAILED
    assert f"downlink {FIRST}" in said[0]
    assert turn() == program.GOOD
    assert site.receipt(FIRST).number == 2
    assert len(said) == 2, "it is over"
