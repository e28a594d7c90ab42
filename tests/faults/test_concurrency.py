"""Several processes at once, and processes that die: nothing is delivered twice, and nothing is left behind."""

import os
import re
import shlex
import shutil
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
from tests.support.harness import event_records, invoke
from tests.support.in_process import ROOT
from tests.support.leases import leases, time_passes
from tests.support.series import values
from tests.support.workflow import REPLAY, Ended, Site, run

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
os.execv(sys.executable, [sys.executable, {replay!r}, "--source", {source!r}, *sys.argv[1:]])
"""

# Kills the process before change number `at` that it makes to files `below` a directory, or lists all changes.
WATCH = """
import os, runpy, signal, sys

def watch(at, below, moments):
    count = 0

    def hook(event, arguments):
        nonlocal count
        changes = event in {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
        if event == "open" and isinstance(arguments[2], int):
            changes = bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        if not changes or not isinstance(arguments[0], (str, os.PathLike)):
            return
        path = os.fspath(arguments[0])
        if not path.startswith(below) or "/logs/" in path or "/leases/" in path:
            return
        count += 1
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)
        if moments:
            descriptor = os.open(moments, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(descriptor, (event + " " + path + "\\n").encode())
            os.close(descriptor)

    sys.addaudithook(hook)
"""

# Read by Python at its start: watches one of the project's programs.
KILLER = (
    WATCH
    + """
script = os.environ.get("TEST_KILL_SCRIPT", "")
if script and sys.orig_argv[1:] and sys.orig_argv[1].endswith("/scripts/" + script + ".py"):
    watch(int(os.environ["TEST_KILL_AT"]), os.environ["TEST_KILL_BELOW"], "")
"""
)

# Repeats one job, each time in a fork that has everything imported: reads where to kill it, says how it ended.
REPEATER = (
    WATCH
    + """
import halfpipe.downlink.deliver_run, halfpipe.downlink.receipt, halfpipe.run.moot_keys, halfpipe.downlink.plan
below, moments, script, *words = sys.argv[1:]
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        os.dup2(2, 1)
        watch(int(line), below, moments if int(line) < 0 else "")
        sys.argv = [script, *words]
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as end:
            sys.stdout.flush()
            os._exit(end.code or 0)
        os._exit(99)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
)


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
    staged = {path: path.read_bytes() for path in site.stage.glob("*/r*/*.evt")}
    golden = {path: path.read_bytes() for path in CASE.glob("expect/*/stage/r*/*.evt")}
    assert event_records(staged) == event_records(golden)
    assert len(event_records(golden)) == 130
    spans = sorted(span for one in values(site.work, paths.deliveries(RUN)) for span in one["spans"])
    assert all(before[1] < after[0] for before, after in pairwise(spans))
    delivered = sum(run["delivered"] for dl in (FIRST, SECOND) for run in site.receipt(dl)["runs"])
    assert delivered == 130


def test_two_downlinks_of_one_run_in_one_invocation(tmp_path: Path, gate: Gate) -> None:
    site = build(tmp_path / "site", gate)
    gate.open()
    site.process(FIRST, SECOND)
    assert_delivered_once(site)
    assert site.outstanding(FIRST, SECOND) == frozenset()
    assert leases(site.work) == []


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
    held = re.search(
        rf"downlink {FIRST} is in work: \S+, process (\d+) on \S+, since 2\S+\+00:00 holds", second.said
    )
    assert held is not None, second.said
    assert int(held[1]) == first.process.pid
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
    how = "ended by Ctrl-C" if number == signal.SIGINT else "ended by SIGTERM"
    assert re.search(
        rf"^downlink {FIRST} is not handed off: {how}", "\n".join(ended.said.splitlines()[-10:]), re.MULTILINE
    )
    wait_for(lambda: leases(site.work) == [], stopped)
    assert not (site.work / f"dl={FIRST}").exists()
    site.process(FIRST)
    assert site.tree() == undisturbed
    assert leases(site.work) == []


def test_a_failed_job_leaves_no_leases(tmp_path: Path, gate: Gate) -> None:
    site = build(tmp_path / "site", gate)
    site.configure(decoder={"command": "false"})
    failed = site.snakemake(f"dl={FIRST}")
    assert failed.status != 0
    assert "the decoder ended with exit status 1" in failed.said
    assert leases(site.work) == []


def command_of(site: Site, log: str) -> list[str]:
    """Return the command that repeats a job by hand: the first line of its log."""
    line = (site.work / "logs" / log).read_text().splitlines()[0]
    words = shlex.split(line.split(" INFO ", 1)[1])
    at = words.index("--log") + 1  # named relative to the working directory, which is not ours
    return [*words[:at], str(site.work / words[at]), *words[at + 1 :]]


# The jobs of the second downlink in an order in which they can run, by their logs.
JOBS = [
    *(f"{rule}-{chunk}" for rule in ("stage_retdef", "decode_chunk") for chunk in ("00001", "00002")),
    f"deliver_run-{RUN}",
    "receipt",
]


@dataclass(frozen=True)
class History:
    """A site at two times: before its second downlink was processed, and after; and the commands in between."""

    site: Site
    before: Path
    after: Path
    commands: dict[str, list[str]]

    def restore(self, time: Path) -> None:
        """Bring the site back to one of the two times."""
        shutil.rmtree(self.site.home)
        shutil.copytree(time, self.site.home)


@pytest.fixture(scope="module")
def history(one_gate: Gate, tmp_path_factory: pytest.TempPathFactory) -> History:
    """A site that has processed two downlinks of one run."""
    home = tmp_path_factory.mktemp("history")
    site = build(home / "site", one_gate)
    one_gate.open()
    site.process(FIRST)
    shutil.copytree(site.home, home / "before")
    site.process(SECOND)
    shutil.copytree(site.home, home / "after")
    commands = {name: command_of(site, f"{SECOND}/{name}.log") for name in JOBS}
    return History(site, home / "before", home / "after", commands)


class Repeater:
    """Does one job again and again, killed before a change that it makes to files, or not at all."""

    def __init__(self, command: list[str], below: Path, moments: Path) -> None:
        python, *words = command
        self.moments = moments
        self._process = subprocess.Popen(
            [python, "-c", REPEATER, str(below), str(moments), *words],
            cwd=below.parent,  # the job's log is named relative to where it runs
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def run(self, at: int = 0) -> int:
        """Do the job, killed before change number `at`; return how it ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{at}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def changes(self) -> list[str]:
        """Do the job whole; return the changes that it made."""
        assert self.run(-1) == 0
        return self.moments.read_text().splitlines()

    def finish(self) -> None:
        """End."""
        self._process.communicate(timeout=PATIENCE)


@pytest.mark.parametrize(
    ("job", "again"),
    [("stage_retdef-00001", False), ("decode_chunk-00001", False)]
    + [(job, again) for job in JOBS[-3:] for again in (False, True)],
)
def test_a_job_killed_at_any_moment_and_repeated_leaves_the_same_tree(
    job: str, again: bool, history: History, tmp_path: Path, gate: Gate
) -> None:
    """Kill a job before every change that it makes to files, and repeat it; `again`: it was done once before."""
    gate.open()
    site = history.site
    before = history.after
    if not again:
        history.restore(history.before)
        for name in JOBS[: JOBS.index(job)]:
            run(history.commands[name]).good()
        before = shutil.copytree(site.home, tmp_path / "before")
    history.restore(before)
    repeater = Repeater(history.commands[job], site.home, tmp_path / "moments")
    changes = repeater.changes()
    # What a chunk's products replace is kept aside until the hand-off, and so are those of a try that was killed.
    aside = f"work/{paths.replaced(SECOND)}/"
    expected = site.tree()
    assert len(changes) >= 3
    for at, change in enumerate(changes, 1):
        history.restore(before)
        assert repeater.run(at) == -signal.SIGKILL, change
        time_passes(site.work)
        assert repeater.run() == 0, change
        left = {
            name: data for name, data in site.tree().items() if name in expected or not name.startswith(aside)
        }
        assert left == expected, change
    repeater.finish()


@pytest.mark.parametrize("at", [15, 25])
def test_after_a_killed_job_the_same_command_leaves_the_same_tree(
    at: int, undisturbed: dict[str, bytes], tmp_path: Path, gate: Gate
) -> None:
    gate.open()
    site = build(tmp_path / "site", gate)
    (tmp_path / "sitecustomize.py").write_text(KILLER)
    env = {
        "PYTHONPATH": str(tmp_path),
        "TEST_KILL_SCRIPT": "deliver_run",
        "TEST_KILL_AT": str(at),
        "TEST_KILL_BELOW": str(site.home),
    }
    failed = site.snakemake(f"dl={FIRST}", env=env)
    assert failed.status != 0
    assert "Error in rule deliver_run" in failed.said
    assert not (site.work / f"dl={FIRST}").exists()
    assert [each.name for each in found(site.work)] == [f"run-{RUN}"], "of the dead"
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
    ended = invoke(site, f"dl={FIRST}", "--scheduler", "ended", env={"PYTHONPATH": there})
    assert ended.status == 1
    assert "ended by SIGTERM" in ended.said
    assert not site.has_receipt(FIRST)
    assert leases(site.work) == []
    invoke(site, f"dl={FIRST}").good()
