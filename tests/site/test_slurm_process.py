"""`halfpipe process` on a Slurm: a killed element, a bad RetDef, the bytes of single commands (`make test-slurm`)."""

import json
import os
import signal
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import pytest
import yaml

from halfpipe import paths
from halfpipe.causes import Verdict
from halfpipe.config import load
from halfpipe.ids import DownlinkId
from halfpipe.site.element import End
from halfpipe.status.checks import check
from halfpipe_simulator.scenario import Scenario
from tests.site.test_slurm import DL, content, daemons, golden_site, private, undisturbed
from tests.support.in_process import ROOT
from tests.support.private_slurm import PARTITION, PrivateSlurm, wait_for
from tests.support.servers import command_lines
from tests.support.verbs import COMMAND
from tests.support.workflow import Running, Site, run

__all__ = ["daemons", "private", "undisturbed"]  # fixtures
pytestmark = pytest.mark.slurm

MONTH = [f"2304{day:02d}00{number}" for day in (1, 2, 3, 4) for number in (1, 2)]
BAD = MONTH[4]
ELEMENTS = 3


@pytest.fixture
def month(tmp_path: Path) -> Site:
    """A site with runs that are spread over neighbours, over ends of elements too; a decoder takes a while."""
    scenario = Scenario(seed=3, downlinks=MONTH)
    for first in range(0, len(MONTH) - 1):
        scenario.lci_run(events=20, parts=2, first=first, per_datagram=5)
    site = Site(tmp_path / "month")
    site.simulate(scenario)
    site.work.mkdir()
    return site


def profile(site: Site, jobs: int = ELEMENTS) -> list[str]:
    """Return the options that name the profile of a site; as many elements are made as it has jobs."""
    place = site.home / "profile"
    place.mkdir(exist_ok=True)
    policy = yaml.safe_load((ROOT / "profiles" / "s3df" / "profile.v9+.yaml").read_text())
    policy |= {"jobs": jobs, "configfile": str(site.configfile)}
    policy["default-resources"]["mem_mb"] = 1000  # of a core: the node has few
    (place / "profile.v9+.yaml").write_text(yaml.safe_dump(policy))
    return ["--profile", str(place)]


def command(site: Site, jobs: int = ELEMENTS) -> list[str]:
    """Return the command that processes a month."""
    return [*COMMAND, "process", "2023-04", *profile(site, jobs)]


def ends(site: Site) -> list[End]:
    """Return how downlinks have ended, as elements said it."""
    logs = sorted((site.work / paths.BATCH_LOGS).glob("*.log"))
    return [end for log in logs for end in map(End.read, log.read_text().splitlines(keepends=True)) if end]


def test_a_month_with_killed_elements_is_that_of_single_commands(
    month: Site, tmp_path: Path, daemons: PrivateSlurm
) -> None:
    single, site = month.clone(tmp_path / "single"), month.clone(tmp_path / "slurm")
    for dl in MONTH:
        single.by_hand(dl)

    retdef = site.retdefs / BAD / f"RetDef-{BAD}-00001.xml"
    good = retdef.read_text()
    retdef.write_text("no RetDef")
    running = Running(command(site), tmp_path, daemons.env)
    running.wait_for("a hand-off", lambda: any(site.work.glob("dl=*")))
    states = daemons.run("squeue", "-h", "-r", "-t", "R", "-o", "%i %y").split()
    if states:
        daemons.run("scancel", states[0], check=False)
    ended = running.ended()
    assert (ended.status, BAD in ended.said) == (1, True), ended.said
    assert (DownlinkId(BAD), "failed", "format") in {(one.downlink, one.end, one.code) for one in ends(site)}
    assert len(list(site.work.glob("dl=*"))) == len(MONTH) - 1 - (not states)

    retdef.write_text(good)
    run(command(site), daemons.env).good()
    assert content(site) == content(single)
    for dl in MONTH:
        causes = check(load([site.configfile]), DownlinkId(dl))
        assert [cause for cause in causes if cause.verdict is Verdict.ACTION] == []
    assert daemons.run("squeue", "-h") == ""


def test_a_command_and_an_element_that_are_killed(month: Site, tmp_path: Path, daemons: PrivateSlurm) -> None:
    single, site = month.clone(tmp_path / "single"), month.clone(tmp_path / "slurm")
    for dl in MONTH:
        single.by_hand(dl)
    words = command(site, jobs=len(MONTH))
    running = Running(words, tmp_path, daemons.env).process
    wait_for("a downlink in work", lambda: any(site.work.glob("leases/downlink-*/0*")), 240)
    assert set(daemons.run("squeue", "-h", "-r", "-o", "%y").split()) == {"1000"}, "history is nice"
    running.kill()
    running.wait()
    for pid in [*command_lines("process_downlinks", str(site.home))][:1]:
        os.kill(pid, signal.SIGKILL)
    for _ in range(4):  # what was killed is left alone until its lease is over
        if run(words, daemons.env).status == 0:
            break
    assert content(site) == content(single)
    assert daemons.run("squeue", "-h") == ""


def test_the_nights_downlink_is_one_job_with_a_core_a_chunk_and_starts_before_history(
    month: Site, tmp_path: Path, daemons: PrivateSlurm, undisturbed: Mapping[str, bytes]
) -> None:
    tonight = golden_site(tmp_path / "tonight", daemons.env, "--pause", "5")
    tonight.work.mkdir()
    named = [f"--partition={PARTITION}", "--account=fermi:L1", "--output=/dev/null"]
    other = daemons.run("sbatch", "--parsable", *named, "--exclusive", "--wrap=sleep 600").strip()
    history = Running(command(month, len(MONTH)), tmp_path, daemons.env).process
    try:
        pending = ("squeue", "-h", "-r", "-t", "PD", "-o", "%i")
        wait_for("history", lambda: len(daemons.run(*pending).split()) == len(MONTH), 120)
        elements = daemons.run(*pending).split()
        words = [*COMMAND, "unattended", *profile(tonight, 100)]
        night = Running(words, tmp_path, daemons.env).process
        wait_for("the night", lambda: len(daemons.run(*pending).split()) > len(MONTH), 120)
        daemons.run("scancel", other)
        assert night.wait(300) == 0
        assert history.wait(300) == 0
    finally:
        for one in (history, night):
            one.kill()
            one.wait()
    assert content(tonight) == undisturbed
    lines = daemons.run("squeue", "-h", "-r", "--states=all", "-o", "%i %S %j %T %C").splitlines()
    jobs = {job: words for job, *words in map(str.split, lines)}
    (mine,) = (words for words in jobs.values() if words[1].startswith(f"halfpipe-{DL}-"))
    chunks = [chunk["chunk"] for chunk in tonight.receipt(DL)["chunks"]]
    assert mine[2:] == ["COMPLETED", str(len(chunks))]
    assert mine[0] <= min(jobs[element][0] for element in elements)
    lines = (tonight.work / paths.usage(DL)).read_text().splitlines()
    took = [usage for usage in map(json.loads, lines) if usage["job"].startswith("decode_chunk")]
    begun = [datetime.fromisoformat(usage["begun"]) for usage in took]
    assert len(begun) == len(chunks) > 1
    assert (max(begun) - min(begun)).total_seconds() < 5, "side by side"


def test_an_element_that_has_too_little_memory_gets_more(
    tmp_path: Path, daemons: PrivateSlurm, undisturbed: Mapping[str, bytes]
) -> None:
    site = golden_site(tmp_path, daemons.env, "--hungry", "00001=900")
    site.work.mkdir()
    words = [*COMMAND, "process", DL, *profile(site, 1)]
    file = site.home / "profile" / "profile.v9+.yaml"
    file.write_text(file.read_text().replace("mem_mb: 1000\n", "mem_mb: 800\n"))
    jobs = ("squeue", "-h", "-r", "--states=all", "--sort=i", "-o", "%i %m %T")
    before = daemons.run(*jobs).splitlines()
    run(words, daemons.env).good()
    assert content(site) == undisturbed
    mine = [line.split()[1:] for line in daemons.run(*jobs).splitlines() if line not in before]
    assert [memory for memory, _ in mine] == ["800M", "1600M"]
    assert mine[0][1] != "COMPLETED" == mine[1][1]
