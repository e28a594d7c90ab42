"""Several processes at once, and processes that die: nothing is delivered twice, and nothing is left behind."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.files.leases import found
from tests.support.golden_cases import GOLDEN
from tests.support.harness import event_records
from tests.support.in_process import ROOT
from tests.support.leases import held_by_another, leases
from tests.support.series import values
from tests.support.workflow import REPLAY, Ended, Site

pytestmark = pytest.mark.workflow

FIRST, SECOND = "240601001", "240601002"
RUN = "2c2e5787"
CASE = GOLDEN / "split2"
PATIENCE = 60  # seconds, on a machine that is busy with other tests

# A decoder that says that it was started, and waits for leave to go on.
WAITING_DECODER = """
import os, pathlib, sys, time
gate = pathlib.Path({gate!r})
name = sys.argv[sys.argv.index("-r") + 1]
(gate / ("started-" + pathlib.Path(name).stem)).touch()
end = time.monotonic() + {patience}
while not (gate / "open").exists() and time.monotonic() < end:
    time.sleep(0.02)
os.execvp("sh", ["sh", {replay!r}, "--source", {source!r}, *sys.argv[1:]])
"""


@dataclass(frozen=True)
class Gate:
    """Holds decoders back until it is opened."""

    directory: Path

    def open(self) -> None:
        (self.directory / "open").touch()

    def close(self) -> None:
        (self.directory / "open").unlink(missing_ok=True)
        for path in self.directory.glob("started-*"):
            path.unlink()

    def started(self, downlink: str) -> bool:
        return bool(list(self.directory.glob(f"started-RetDef-{downlink}-*")))


@dataclass(frozen=True)
class Running:
    """Snakemake in the background; what it says goes to a file, which outlives it."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text()

    def ended(self) -> Ended:
        return Ended(self.process.wait(timeout=PATIENCE * 2), self.said)


def start(site: Site, *arguments: str) -> Running:
    """Start Snakemake as an operator does and go on."""
    log = site.home / f"said-{len(list(site.home.glob('said-*')))}"
    with log.open("wb") as out:
        process = subprocess.Popen(
            site.command(*arguments), cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    return Running(process, log)


def wait_for(what: Callable[[], bool], running: Running) -> None:
    """Wait until something has happened, and fail with what Snakemake said if it does not."""
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end, running.said
        time.sleep(0.02)


@pytest.fixture(scope="module")
def one_gate(tmp_path_factory: pytest.TempPathFactory) -> Gate:
    """The gate of all sites: one for all, for its place stands in receipts, which are compared."""
    return Gate(tmp_path_factory.mktemp("gate"))


@pytest.fixture
def gate(one_gate: Gate) -> Gate:
    """The gate, closed."""
    one_gate.close()
    return one_gate


def build(home: Path, gate: Gate) -> Site:
    """Return a site with two downlinks of one run, whose decoder waits at `gate`."""
    decoder = gate.directory / "decoder.py"
    decoder.write_text(
        WAITING_DECODER.format(
            gate=str(gate.directory), patience=PATIENCE, replay=str(REPLAY), source=str(CASE / "in")
        )
    )
    site = Site(home)
    site.configure(
        decoder={"command": shlex.join([sys.executable, str(decoder)])},
        magic7={"command": None},
        merge={"min_events": 1},
    )
    site.add_retdefs(CASE / "in", FIRST, SECOND)
    return site


def assert_delivered_once(site: Site) -> None:
    """Assert that the two downlinks together have delivered every event of the case exactly once."""
    golden = event_records(CASE.glob("expect/*/stage/r*/*.evt"))
    assert event_records(site.stage.glob("*/r*/*.evt")) == golden
    assert len(golden) == 130
    spans = sorted(span for one in values(site.work, paths.deliveries(RUN)) for span in one["spans"])
    assert all(before[1] < after[0] for before, after in pairwise(spans))
    delivered = sum(run["delivered"] for dl in (FIRST, SECOND) for run in site.receipt(dl)["runs"])
    assert delivered == 130


def test_two_downlinks_of_one_run_in_two_invocations_at_once(tmp_path: Path, gate: Gate) -> None:
    site = build(tmp_path / "site", gate)
    one, two = (start(site, f"dl={downlink}") for downlink in (FIRST, SECOND))
    wait_for(lambda: gate.started(FIRST), one)
    wait_for(lambda: gate.started(SECOND), two)
    assert {each.name for each in found(site.work)} == {
        f"downlink-{FIRST}",
        f"downlink-{SECOND}",
    }
    gate.open()
    one.ended().good()
    two.ended().good()
    assert_delivered_once(site)
    assert site.outstanding(FIRST, SECOND) == frozenset()
    assert leases(site.work) == []


def test_the_same_downlink_twice_at_once(tmp_path: Path, gate: Gate) -> None:
    site = build(tmp_path / "site", gate)
    first = start(site, f"dl={FIRST}")
    wait_for(lambda: gate.started(FIRST), first)
    second = site.snakemake(f"dl={FIRST}")
    assert second.status != 0
    assert second.jobs == frozenset()
    assert f" process {first.process.pid} on " in second.said
    # To look is free.
    assert site.snakemake("-n", f"dl={FIRST}").good().jobs
    # Without a target the downlink is skipped with a word, and the other one is done.
    everything = start(site)
    wait_for(lambda: gate.started(SECOND), everything)
    gate.open()
    assert f"downlink {FIRST} is in work: " in everything.ended().good().said
    first.ended().good()
    assert {job.dl for job in everything.ended().jobs} == {SECOND}
    assert_delivered_once(site)
    assert leases(site.work) == []


def test_who_holds_a_run_is_said_on_the_terminal_and_in_the_log(tmp_path: Path, gate: Gate) -> None:
    site = build(tmp_path / "site", gate)
    gate.open()
    with held_by_another(site.work, paths.run_lease(RUN)):
        waits = start(site, f"dl={FIRST}")
        wait_for(lambda: f"\nwaiting for run {RUN}, held by " in waits.said, waits)
    waits.ended().good()
    assert f"waiting for run {RUN}, " in (site.work / paths.done_log(FIRST)).read_text()


@pytest.fixture(scope="module")
def undisturbed(one_gate: Gate, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The tree of a site that has processed the first downlink in peace."""
    site = build(tmp_path_factory.mktemp("peace"), one_gate)
    one_gate.open()
    site.process(FIRST)
    assert leases(site.work) == []
    return site.tree()


def test_after_a_killed_head_the_same_command_waits_for_its_orphans(
    undisturbed: dict[str, bytes], tmp_path: Path, gate: Gate
) -> None:
    site = build(tmp_path / "site", gate)
    killed = start(site, f"dl={FIRST}")
    wait_for(lambda: gate.started(FIRST), killed)
    os.kill(killed.process.pid, signal.SIGKILL)
    killed.process.wait()
    assert f"downlink-{FIRST}" in leases(site.work)  # nobody could remove it
    again = start(site, f"dl={FIRST}")
    wait_for(lambda: "that a killed process left behind, held by" in again.said, again)
    time.sleep(1)
    assert again.process.poll() is None
    gate.open()
    again.ended().good()
    assert site.tree() == undisturbed
    assert site.outstanding(FIRST) == frozenset()
    assert leases(site.work) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_head_that_is_told_to_stop_leaves_no_leases(
    number: signal.Signals, undisturbed: dict[str, bytes], tmp_path: Path, gate: Gate
) -> None:
    site = build(tmp_path / "site", gate)
    stopped = start(site, f"dl={FIRST}")
    wait_for(lambda: gate.started(FIRST), stopped)
    stopped.process.send_signal(number)
    time.sleep(0.5)
    gate.open()
    ended = stopped.ended()
    assert ended.status != 0
    assert ("Ctrl-C" if number == signal.SIGINT else "SIGTERM") in "\n".join(ended.said.splitlines()[-10:])
    wait_for(lambda: leases(site.work) == [], stopped)
    assert not (site.work / f"dl={FIRST}").exists()
    site.process(FIRST)
    assert site.tree() == undisturbed
    assert leases(site.work) == []


SELECTS = """
import os, signal
from snakemake.scheduling import greedy
SchedulerSettings = greedy.SchedulerSettings
class Scheduler(greedy.Scheduler):
    def select_jobs(self, *arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return super().select_jobs(*arguments)
"""


def test_a_head_that_is_told_to_end_while_it_selects_jobs_ends(site: Site, tmp_path: Path) -> None:
    """Of thousands it selects for most of its time."""
    source = GOLDEN / "complete_basic" / "in"
    site.replay(source)
    site.add_retdefs(source, FIRST)
    plugin = tmp_path / "plugins" / "snakemake_scheduler_plugin_ended"
    plugin.mkdir(parents=True)
    (plugin / "__init__.py").write_text(SELECTS)
    there = os.pathsep.join([str(plugin.parent), *sys.path])
    ended = site.typed(f"dl={FIRST}", "--scheduler", "ended", env={"PYTHONPATH": there})
    assert ended.status == 1
    assert "ended by SIGTERM" in ended.said
    assert not site.has_receipt(FIRST)
    assert leases(site.work) == []
    site.typed(f"dl={FIRST}").good()
