"""Two heads of one downlink, and heads that are killed or terminated: nothing is left behind."""

import os
import shlex
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.golden_cases import GOLDEN
from tests.support.leases import leases
from tests.support.servers import wait_for
from tests.support.workflow import REPLAY, Running, Site

pytestmark = pytest.mark.workflow

DL, SOURCE = "240601001", GOLDEN / "split2" / "in"
# A decoder that marks its start, and waits until the gate is open.
WAITS = (
    'touch "$0/started"; for n in $(seq 1000); do test -e "$0/open" && break; sleep 0.05; done; exec sh "$@"'
)


@dataclass(frozen=True)
class Gated:
    """A site whose decoder waits at a gate, and its tree after an undisturbed run."""

    site: Site
    gate: Path
    in_peace: dict[str, bytes]

    def open(self) -> None:
        (self.gate / "open").touch()

    def start(self) -> Running:
        """Start Snakemake as an operator does, and wait until its decoder is started."""
        running = Running(self.site.command(f"dl={DL}"), self.site.home)
        running.wait_for("a decoder", (self.gate / "started").exists)
        return running

    def check(self) -> None:
        assert self.site.tree() == self.in_peace
        assert leases(self.site.work) == []


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Gated:
    """One site for all tests, because receipts contain its paths."""
    home = tmp_path_factory.mktemp("site")
    site, gate = Site(home), home / "gate"
    words = ["sh", "-c", WAITS, str(gate), str(REPLAY), "--source", str(SOURCE)]
    site.configure(decoder={"command": shlex.join(words)}, magic7={"command": None}, merge={"min_events": 1})
    site.add_retdefs(SOURCE, DL)
    gate.mkdir()
    (gate / "open").touch()
    site.process(DL)
    return Gated(site, gate, site.tree())


@pytest.fixture
def gated(one: Gated) -> Gated:
    """The site before any processing, with a closed gate."""
    for place in (one.site.work, one.site.stage, one.gate):
        shutil.rmtree(place)
    one.gate.mkdir()
    return one


def test_a_second_head_of_a_downlink_is_refused(gated: Gated) -> None:
    first = gated.start()
    second = gated.site.snakemake(f"dl={DL}")
    assert second.status != 0
    assert {job.rule for job in second.jobs} <= {"refused"}
    assert f" process {first.process.pid} on " in second.said
    assert gated.site.snakemake("-n", f"dl={DL}").good().jobs
    gated.open()
    first.ended().good()
    gated.check()


def test_after_a_killed_head_the_same_command_waits_for_its_jobs(gated: Gated) -> None:
    killed = gated.start()
    os.kill(killed.process.pid, signal.SIGKILL)
    killed.process.wait()
    assert f"downlink-{DL}" in leases(gated.site.work)
    (one,) = gated.site.told("status", DL)["downlinks"]
    assert (one["state"], [cause["code"] for cause in one["causes"]]) == ("in progress", ["in-progress"])
    again = gated.start()  # its decoder was started before
    again.wait_for("it waits", lambda: "that a killed process left behind: job-" in again.log.read_text())
    time.sleep(1)
    assert again.process.poll() is None
    gated.open()
    again.ended().good()
    gated.check()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_head_that_is_terminated_leaves_no_leases(number: signal.Signals, gated: Gated) -> None:
    stopped = gated.start()
    stopped.process.send_signal(number)
    time.sleep(0.5)
    gated.open()
    ended = stopped.ended()
    assert ended.status != 0
    assert ("Ctrl-C" if number == signal.SIGINT else "SIGTERM") in "\n".join(ended.said.splitlines()[-10:])
    assert f"{DL}: outstanding" in ended.said, "it is not in progress any more"
    wait_for("no lease", lambda: leases(gated.site.work) == [])
    assert not gated.site.has_receipt(DL)
    gated.site.process(DL)
    gated.check()


SELECTS = """
import os, signal
from snakemake.scheduling import greedy
SchedulerSettings = greedy.SchedulerSettings
class Scheduler(greedy.Scheduler):
    def select_jobs(self, *arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return super().select_jobs(*arguments)
"""


def test_a_head_that_is_terminated_while_it_selects_jobs_ends(gated: Gated, tmp_path: Path) -> None:
    """With thousands of jobs it does this most of the time."""
    gated.open()
    plugin = tmp_path / "snakemake_scheduler_plugin_ended"
    plugin.mkdir()
    (plugin / "__init__.py").write_text(SELECTS)
    there = os.pathsep.join([str(tmp_path), *sys.path])
    ended = gated.site.typed(f"dl={DL}", "--scheduler", "ended", env={"PYTHONPATH": there})
    assert (ended.status, "terminated (SIGTERM)" in ended.said) == (1, True)
    assert not gated.site.has_receipt(DL)
    assert leases(gated.site.work) == []
