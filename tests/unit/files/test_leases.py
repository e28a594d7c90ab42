"""Leases: which process holds one, which waits, which takes over, and which notices. Others are real processes."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from msgspec.structs import asdict, replace

from halfpipe import paths, settings
from halfpipe.errors import LeaseLostError, LockedError
from halfpipe.files import heartbeat, leases
from halfpipe.files.durable import publish
from halfpipe.files.heartbeat import Holder
from halfpipe.files.leases import Found, Lease
from halfpipe.ids import DownlinkId, RunId
from halfpipe.settings import Paths, Settings
from tests.support.forks import ended, started
from tests.support.leases import job_of_another, left_by_another
from tests.support.leases import leases as left

DL = DownlinkId("230401001")
RUN = RunId("2c2e5787")
PLACE = paths.downlink_lease(DL)
OF_RUN = paths.run_lease(RUN)
LIFETIME = 1.5  # seconds
TAKES = {
    "head": "leases.hold_downlink(settings, DownlinkId('230401001'), say); held()",
    "job": "with leases.downlink_job(settings, DownlinkId('230401001')) as lease: held(lease)",
    "run": "with leases.run_lease(settings, RunId('2c2e5787'), say) as lease: held(lease)",
}
PROGRAM = """
import os, sys
from pathlib import Path
from halfpipe.files import leases
from halfpipe.errors import HalfPipeError
from halfpipe.ids import DownlinkId, RunId
from halfpipe.settings import Lease, Paths, Settings
settings = Settings(Paths(Path(sys.argv[1]), Path()), lease=Lease(float(sys.argv[3])))

def say(text):
    print(text, flush=True)

def held(lease=None):
    print("held", os.environ.get(leases.HEAD_VARIABLE, ""), flush=True)
    sys.stdin.readline()
    if lease is not None:
        lease.check()

try:
    exec(sys.argv[2])
except HalfPipeError as error:
    print("refused", type(error).__name__, error, flush=True)
"""


def site(work: Path, lifetime: float = LIFETIME) -> Settings:
    return Settings(Paths(work, work), lease=settings.Lease(lifetime))


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(leases.HEAD_VARIABLE, "")  # so that it is at the end what it was before
    monkeypatch.setattr(leases, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(heartbeat, "PROBE_SECONDS", 0.1)


class Other:
    """Another process that takes a lease and keeps it until `finish`."""

    def __init__(self, work: Path, takes: str, head: str = "") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(work), TAKES[takes], str(LIFETIME)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, leases.HEAD_VARIABLE: head},
        )

    def line(self) -> str:
        """Return the next line of its output: ``held`` and the head's heartbeat when it has the lease."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def head(self) -> str:
        words = self.line().split()
        assert words[0] == "held", words
        return words[-1]

    def finish(self) -> str:
        return self.process.communicate("\n", timeout=30)[0]

    def stop(self) -> None:
        self.process.send_signal(signal.SIGSTOP)
        time.sleep(LIFETIME + 0.5)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def another(work: Path, takes: str, head: str = "") -> Iterator[Other]:
    """Run another process that takes a lease; it is killed at the end if it lives."""
    other = Other(work, takes, head)
    try:
        yield other
    finally:
        other.process.kill()
        other.process.communicate(timeout=30)


def there(work: Path, place: str) -> Found:
    """Return the lease at `place`, which is there."""
    found = leases.look(work, place)
    assert found is not None
    return found


def pid_of(found: Found) -> int:
    assert found.holder is not None
    return found.holder.pid


def test_a_lease_names_its_holder_and_is_gone_after_its_release(tmp_path: Path) -> None:
    mine = Lease(tmp_path, OF_RUN, LIFETIME)
    with another(tmp_path, "run") as other:
        assert other.line() == "held"
        assert not mine.try_take()
        found = there(tmp_path, OF_RUN)
        assert found.lives
        assert pid_of(found) == other.process.pid
        assert re.fullmatch(rf"\S+, process {other.process.pid} on \S+, since .{{19}} UTC", str(found))
        time.sleep(1.2 * LIFETIME)
        assert not mine.try_take(), "its heart beats"
        other.stop()
        shutil.rmtree(tmp_path / paths.HEARTBEATS)
        (tmp_path / paths.HEARTBEATS).mkdir()
        other.go_on()
        time.sleep(0.5)
        assert not mine.try_take(), "it was suspended, no process took over, and it beats again"
        assert other.finish() == ""
    assert left(tmp_path) == []
    assert mine.try_take()
    mine.check()
    assert len(left(tmp_path)) == 3, "the directory, the number, the heartbeat"
    mine.release()
    mine.release()
    assert left(tmp_path) == []


def test_time_is_the_servers_lifetime_the_holders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left_by_another(tmp_path, "leases/a", silent=200)
    mine = Lease(tmp_path, "leases/a", LIFETIME)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 1e6)
    assert not mine.try_take(), "whatever this machine's clock says"
    monkeypatch.setattr(time, "time", lambda: real() - 1e6)
    monkeypatch.setattr(heartbeat, "_probed", {})
    (file,) = (tmp_path / paths.HEARTBEATS).iterdir()
    os.utime(file, (real() - 301, real() - 301))
    assert mine.try_take()
    mine.release()


HOLDER = asdict(replace(heartbeat.whoami(), heart="h"))
SHORT = {key: value for key, value in HOLDER.items() if key != "token"}
NOBODY = ["", json.dumps(SHORT), "{}", "[1]", '{"user": "x"', "\xff", "9" * 5000]
NOBODY += [json.dumps(HOLDER | {"heart": heart}) for heart in ("../../x", "", ".", "a/b", "\0")]


@pytest.mark.parametrize("content", NOBODY)
def test_a_lease_with_damaged_content_lives_by_its_own_time(tmp_path: Path, content: str) -> None:
    mine = Lease(tmp_path, "leases/a", LIFETIME)
    mine.home.mkdir(parents=True)
    (mine.home / "later").write_text(json.dumps(HOLDER | {"of a later version": 1}))
    assert Holder.read(mine.home / "later") is not None
    (mine.home / "000007").write_text(content, encoding="latin-1")
    assert there(tmp_path, "leases/a").holder is None
    assert not mine.try_take()
    os.utime(mine.home / "000007", (1, 1))
    assert mine.try_take()
    assert (mine.home / "000008").exists()
    mine.release()


def test_unexpected_files_among_the_leases_stop_no_process(tmp_path: Path) -> None:
    home = tmp_path / paths.LEASES
    (home / "b" / "000001").mkdir(parents=True)
    (home / "c").write_bytes(b"")
    (home / "d").mkdir()
    (home / "e").mkdir()
    (home / "e" / ".0123").touch()  # of one that was killed while it took it
    assert [found.name for found in leases.all_leases(tmp_path)] == ["b"]
    mine = Lease(tmp_path, "leases/e", LIFETIME)
    assert mine.try_take()
    mine.release()
    assert leases.look(tmp_path, "leases/e") is None
    with pytest.raises(NotADirectoryError):
        Lease(tmp_path, "leases/c", LIFETIME).try_take()


@pytest.mark.parametrize(
    ("before", "now", "damaged"),
    [(3, 9, False), (1, 1, False), (3, 1, True)],
    ids=["working", "released", "released-damaged"],
)
def test_a_slow_process_does_not_take_over_what_others_took_over_before(
    before: int, now: int, damaged: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Released: a third process has begun at number 1 again."""
    mine = Lease(tmp_path, "leases/a", LIFETIME)
    left_by_another(tmp_path, "leases/a", silent=1e4, number=before)
    first = mine.home / f"{before:06d}"
    if damaged:
        first.write_text("")
        os.utime(first, (1, 1))

    def slow(path: Path, content: bytes, *, lasting: bool) -> bool:
        if damaged:
            first.unlink()
        left_by_another(tmp_path, "leases/a", number=now)
        return publish(path, content, lasting=lasting)

    monkeypatch.setattr(leases, "publish", slow)
    assert not mine.try_take()
    left = {f"{now:06d}"} if damaged else {first.name, f"{now:06d}"}
    assert {path.name for path in mine.home.iterdir()} == left


def test_a_job_that_a_resumed_head_starts_at_the_last_moment_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = Lease(tmp_path, "leases/a", LIFETIME)
    jobs = list[Path]()
    left_by_another(tmp_path, "leases/a", silent=1e4)

    def late(path: Path, content: bytes, *, lasting: bool) -> bool:
        jobs.append(job_of_another(tmp_path, "leases/a"))
        return publish(path, content, lasting=lasting)

    with monkeypatch.context() as patched:
        patched.setattr(leases, "publish", late)
        assert not mine.try_take()
    assert {path.name for path in mine.home.iterdir()} == {"000001", jobs[0].name}
    jobs[0].unlink()
    assert mine.try_take()
    mine.release()


def test_a_lease_released_during_a_look_is_not_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = left_by_another(tmp_path, "leases/a")
    touched = heartbeat.touched

    def meanwhile(work: Path, heart: str) -> float | None:
        if heart == gone.heart:
            (work / paths.HEARTBEATS / heart).unlink()
            left_by_another(work, "leases/a")  # a third one has taken it, from the first number on
        return touched(work, heart)

    monkeypatch.setattr(heartbeat, "touched", meanwhile)
    found = there(tmp_path, "leases/a")
    assert found.lives
    assert found.holder != gone


@pytest.mark.parametrize(("seconds", "messages"), [(0.3, 0), (2.2, 2)])
def test_a_wait_is_reported_after_a_while_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, messages: int
) -> None:
    monkeypatch.setattr(leases, "PATIENCE_SECONDS", 0.5 if messages else 2.0)
    monkeypatch.setattr(leases, "REMIND_SECONDS", 1.0)
    said: list[str] = []
    with another(tmp_path, "run") as other:
        assert other.line() == "held"
        ending = threading.Timer(seconds, other.finish)
        ending.start()
        with leases.run_lease(site(tmp_path), RUN, said.append) as mine:
            mine.check()
        ending.join()
        assert len(said) == messages
        assert all(f"run {RUN}, " in line and f"process {other.process.pid} on " in line for line in said)
    assert left(tmp_path) == []


def test_a_job_that_registers_before_its_head_is_seen_dead_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = left_by_another(tmp_path, PLACE)
    touched = heartbeat.touched

    def late(work: Path, heart: str) -> float | None:
        if heart == holder.heart and not list((work / PLACE).glob("job-*")):
            job_of_another(work, PLACE)  # its head still lives
            (work / paths.HEARTBEATS / heart).unlink()
        return touched(work, heart)

    monkeypatch.setattr(heartbeat, "touched", late)
    assert not Lease(tmp_path, PLACE, LIFETIME).try_take()
    assert len(list((tmp_path / PLACE).glob("job-*"))) == 1


def test_one_process_works_on_a_downlink(tmp_path: Path) -> None:
    with another(tmp_path, "head") as head:
        assert head.line().startswith("held ")
        who = rf"\S+, process {head.process.pid} on \S+, since .{{19}} UTC"
        refusal = rf"downlink {DL} is in progress: {who} holds .*Wait for it to end"
        with pytest.raises(LockedError, match=refusal):
            leases.hold_downlink(site(tmp_path), DL, print)
        with pytest.raises(LockedError, match=refusal), leases.downlink_job(site(tmp_path), DL):
            pass
        told = leases.in_progress(tmp_path, DL)
        assert told is not None
        assert re.fullmatch(who, told)
        assert leases.in_progress(tmp_path, DownlinkId("230401002")) is None
        head.finish()
    assert leases.in_progress(tmp_path, DL) is None
    assert left(tmp_path) == []


def test_a_new_head_waits_for_orphans_and_they_may_end_their_work(tmp_path: Path) -> None:
    with another(tmp_path, "head") as killed:
        heart = killed.head()
        orphan = Other(tmp_path, "job", heart)
        assert orphan.line().startswith("held")
    with another(tmp_path, "head") as head:
        assert f"-{orphan.process.pid}-" in head.line()
        assert leases.in_progress(tmp_path, DL) is None
        assert orphan.finish() == "", "no process has taken over"
        head.head()
        with another(tmp_path, "job", heart) as late:
            refused = late.line()
        assert refused.startswith("refused LockedError ")
        assert f"process {head.process.pid} on" in refused
        head.finish()
    with another(tmp_path, "job", heart) as later:
        assert later.line().startswith("refused LockedError ")
    assert left(tmp_path) == []


@pytest.mark.parametrize("reaped", [True, False], ids=["gone", "zombie"])
def test_a_head_and_a_job_that_were_killed_on_this_host_are_not_waited_for(
    tmp_path: Path, reaped: bool
) -> None:
    def in_progress() -> None:
        leases.hold_downlink(site(tmp_path, 1e6), DL, print)
        with leases.downlink_job(site(tmp_path, 1e6), DL):
            os.kill(os.getpid(), signal.SIGKILL)

    killed = started(in_progress)
    os.waitid(os.P_PID, killed, os.WEXITED | os.WNOWAIT)
    if reaped:
        ended(killed)
    found = there(tmp_path, PLACE)
    assert (found.lives, found.jobs) == (False, ())
    assert list((tmp_path / PLACE).glob("job-*"))
    said: list[str] = []
    try:
        leases.hold_downlink(site(tmp_path), DL, said.append)
        assert (said, list((tmp_path / PLACE).glob("job-*"))) == ([], [])
    finally:
        leases.release_downlinks()
        if not reaped:
            ended(killed)
    assert left(tmp_path) == []


def test_only_a_process_that_has_ended_on_this_host_in_this_boot_is_gone(tmp_path: Path) -> None:
    with another(tmp_path, "run") as other:
        other.line()
        holder = there(tmp_path, OF_RUN).holder
        assert holder is not None
        assert not holder.is_gone
        other.process.send_signal(signal.SIGSTOP)
        assert not holder.is_gone, "it may go on"
        assert replace(holder, begun=holder.begun - 1).is_gone, "its number was given to another process"
    assert holder.is_gone
    for differs in ({"host": "elsewhere"}, {"boot": "an earlier one"}, {"boot": ""}):
        assert not replace(holder, **differs).is_gone
    assert not replace(holder, pid=10**20).is_gone


def test_a_suspended_head_and_its_job_notice_that_another_has_taken_over(tmp_path: Path) -> None:
    with another(tmp_path, "head") as slow:
        heart = slow.head()
        orphan = Other(tmp_path, "job", heart)
        orphan.line()
        orphan.process.send_signal(signal.SIGSTOP)
        slow.stop()
        with another(tmp_path, "head") as head:
            head.head()  # the job is not waited for
            assert list((tmp_path / PLACE).glob("job-*")) == [], "its registration is removed"
            orphan.go_on()
            assert "LeaseLostError" in orphan.finish()
            slow.go_on()
            with another(tmp_path, "job", heart) as late:
                assert late.line().startswith("refused LockedError ")
            slow.finish()
            assert slow.process.returncode == 1, "it ended by itself"
            assert pid_of(there(tmp_path, PLACE)) == head.process.pid, "it released nothing of the other head"
            head.finish()
    assert left(tmp_path) == []


def test_a_head_removes_jobs_that_were_killed_and_keeps_those_that_live(tmp_path: Path) -> None:
    with another(tmp_path, "head") as head:
        heart = head.head()
        with another(tmp_path, "job", heart) as killed:
            killed.line()
        living = Other(tmp_path, "job", heart)
        living.line()
        head.finish()
        assert [re.sub(r"\b([0-9a-f]{8}|[0-9a-f]{16})\b", "x", name) for name in left(tmp_path)] == [
            f"alive/{os.uname().nodename}-{living.process.pid}-x",
            f"downlink-{DL}",
            f"downlink-{DL}/job-{os.uname().nodename}-{living.process.pid}-x-x",
        ]
        assert "LeaseLostError" in living.finish(), "its head has released the downlink"
    assert left(tmp_path) == []


def test_this_process_as_a_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    second = DownlinkId("230401002")

    def interrupted(work: Path) -> None:
        raise SystemExit

    try:
        leases.hold_downlink(site(tmp_path), DL, print)
        leases.hold_downlink(site(tmp_path), DL, print)
        leases.hold_downlink(site(tmp_path), second, print)
        assert leases.in_progress(tmp_path, DL) is None  # by another process
        assert ended(started(leases.release_downlinks)) == 0, "a forked child releases nothing"
        for downlink in (DL, second):
            job = partial(leases.downlink_job, site(tmp_path), downlink)
            with job(), job() as mine:
                mine.check()
                (found,) = (each for each in leases.all_leases(tmp_path) if each.name.endswith(downlink))
                assert len(found.jobs) == 2
        with monkeypatch.context() as cut:  # a job that is interrupted between two steps leaves no heartbeat
            cut.setattr(heartbeat, "end", interrupted)
            with pytest.raises(SystemExit), leases.downlink_job(site(tmp_path), DL):
                pass
    finally:
        leases.release_downlinks()
    assert left(tmp_path) == []


@pytest.mark.parametrize("killed", [False, True])
def test_runs_are_changed_by_one_process_at_a_time(tmp_path: Path, killed: bool) -> None:
    if killed:
        left_by_another(tmp_path, OF_RUN, silent=1e4)
    (tmp_path / "number").write_text("0")

    def adds() -> None:
        leases.POLL_SECONDS = 0.02
        for _ in range(8):
            with leases.run_lease(site(tmp_path, 30.0), RUN, lambda _: None) as mine:
                value = int((tmp_path / "number").read_text())
                time.sleep(0.002)
                mine.check()
                (tmp_path / "number").write_text(str(value + 1))

    assert [ended(other) for other in [started(adds) for _ in range(4)]] == [0] * 4
    assert (tmp_path / "number").read_text() == "32"
    assert left(tmp_path) == []


def test_a_job_notices_that_its_head_is_gone(tmp_path: Path) -> None:
    leases.check_head(tmp_path)  # without a head
    mine = leases.hold_downlink(site(tmp_path), DL, print)
    try:
        leases.check_head(tmp_path)
        mine.check()
        left_by_another(tmp_path, PLACE, number=2)
        with pytest.raises(LeaseLostError, match="on elsewhere"):
            leases.hold_downlink(site(tmp_path), DL, print).check()
    finally:
        leases.release_downlinks()
    assert there(tmp_path, PLACE).number == 2, "a lost lease is not released"
    with pytest.raises(LockedError):
        leases.check_head(tmp_path)


def test_jobs_of_an_ended_head_die_after_three_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept = list[float]()
    leases.hold_downlink(site(tmp_path, 300.0), DL, print)
    beat = 300.0 / heartbeat.BEATS
    living, dead = (job_of_another(tmp_path, PLACE, beats * beat) for beats in (2, 4))
    with monkeypatch.context() as quick:
        quick.setattr(time, "sleep", slept.append)
        leases.release_downlinks()
    assert slept == [3 * beat]
    assert (living.exists(), dead.exists()) == (True, False)
