"""Leases: who holds one, who waits, who takes over, and who finds out. Others are real processes."""

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
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.errors import LeaseLostError, LockedError
from halfpipe.files import leases
from halfpipe.files.durable import publish
from halfpipe.files.leases import Holder, Lease
from halfpipe.ids import DownlinkId, RunId
from tests.support.forks import ended, started
from tests.support.leases import leases as left
from tests.support.leases import left_by_another

DL = DownlinkId("230401001")
RUN = RunId("2c2e5787")
PLACE, OF_RUN = paths.downlink_lease(DL), paths.run_lease(RUN)
LIFETIME = 1.5  # seconds
TAKES = {
    "head": "leases.hold_downlink(work, DownlinkId('230401001'), say); held()",
    "job": "with leases.downlink_job(work, DownlinkId('230401001')) as lease: held(lease)",
    "run": "with leases.run_lease(work, RunId('2c2e5787'), say) as lease: held(lease)",
}
PROGRAM = """
import os, sys, time
from pathlib import Path
from halfpipe.files import leases
from halfpipe.errors import HalfPipeError
from halfpipe.ids import DownlinkId, RunId
work = Path(sys.argv[1])
leases.lifetime = float(sys.argv[3])

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


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(leases.HEAD_VARIABLE, raising=False)
    monkeypatch.setattr(leases, "lifetime", LIFETIME)
    monkeypatch.setattr(leases, "POLL_SECONDS", 0.1)


class Other:
    """Another process that takes a lease and keeps it until it is told to end."""

    def __init__(self, work: Path, takes: str, head: str = "") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(work), TAKES[takes], str(LIFETIME)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, leases.HEAD_VARIABLE: head},
        )

    def line(self) -> str:
        """Return the next line that it says: ``held`` and the head's heartbeat when it has the lease."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def head(self) -> str:
        """Return its heartbeat when it has the lease."""
        words = self.line().split()
        assert words[0] == "held", words
        return words[-1]

    def finish(self) -> str:
        """Let it end; return what it says."""
        return self.process.communicate("\n", timeout=30)[0]

    def stop(self) -> None:
        """Let it stand still for more than its lifetime."""
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


def there(work: Path, place: str) -> leases.Found:
    """Return the lease at `place`, which is there."""
    found = leases.look(work, place)
    assert found is not None
    return found


def pid_of(found: leases.Found) -> int:
    assert found.holder is not None
    return found.holder.pid


def test_a_lease_says_who_holds_it_and_goes_when_it_is_given_back(tmp_path: Path) -> None:
    mine = Lease(tmp_path, OF_RUN)
    with another(tmp_path, "run") as other:
        assert other.line() == "held"
        assert not mine.try_take()
        found = there(tmp_path, OF_RUN)
        assert found.lives
        assert pid_of(found) == other.process.pid
        assert re.fullmatch(rf"\S+, process {other.process.pid} on \S+, since \S+\+00:00", str(found))
        time.sleep(1.2 * LIFETIME)
        assert not mine.try_take(), "its heart beats"
        other.stop()
        shutil.rmtree(tmp_path / paths.HEARTBEATS)
        (tmp_path / paths.HEARTBEATS).mkdir()
        other.go_on()
        time.sleep(0.5)
        assert not mine.try_take(), "it stood still and was not followed: it beats again"
        assert other.finish() == ""
    assert left(tmp_path) == []
    assert mine.try_take()
    mine.check()
    assert len(left(tmp_path)) == 3, "the directory, the number, the heartbeat"
    mine.give_back()
    mine.give_back()
    assert left(tmp_path) == []


def test_the_clock_is_the_file_servers_and_the_lifetime_the_holders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_by_another(tmp_path, "leases/a", silent=200)
    lease, real = Lease(tmp_path, "leases/a"), time.time
    monkeypatch.setattr(time, "time", lambda: real() + 1e6)
    assert not lease.try_take(), "whatever this machine's clock says"
    monkeypatch.setattr(time, "time", lambda: real() - 1e6)
    monkeypatch.setattr(leases, "_probed", {})
    (heartbeat,) = (tmp_path / paths.HEARTBEATS).iterdir()
    os.utime(heartbeat, (real() - 301, real() - 301))
    assert lease.try_take()
    lease.give_back()


HOLDER = asdict(replace(leases.whoami(), heart="h"))
NOBODY = ["", "{}", "[1]", '{"user": "x"', "\xff", "9" * 5000]
NOBODY += [json.dumps(HOLDER | {"heart": heart}) for heart in ("../../x", "", ".", "a/b", "\0")]


@pytest.mark.parametrize("content", NOBODY)
def test_a_lease_that_does_not_say_whose_it_is_lives_by_its_own_time(tmp_path: Path, content: str) -> None:
    assert Holder.of(json.dumps(HOLDER | {"of a later version": 1}).encode()) is not None
    lease = Lease(tmp_path, "leases/a")
    lease.home.mkdir(parents=True)
    (lease.home / "000007").write_text(content, encoding="latin-1")
    assert there(tmp_path, "leases/a").holder is None
    assert not lease.try_take()
    os.utime(lease.home / "000007", (1, 1))
    assert lease.try_take()
    assert (lease.home / "000008").exists()
    lease.give_back()


def test_what_is_odd_among_the_leases_stops_nobody(tmp_path: Path) -> None:
    home = tmp_path / paths.LEASES
    (home / "b" / "000001").mkdir(parents=True)
    (home / "c").write_bytes(b"")
    (home / "d").mkdir()
    (home / "e").mkdir()
    (home / "e" / ".0123").touch()  # of one that was killed while it took it
    assert [found.name for found in leases.found(tmp_path)] == ["b"]
    lease = Lease(tmp_path, "leases/e")
    assert lease.try_take()
    lease.give_back()
    assert leases.look(tmp_path, "leases/e") is None
    with pytest.raises(NotADirectoryError):
        Lease(tmp_path, "leases/c").try_take()


@pytest.mark.parametrize(("before", "now"), [(3, 9), (1, 1)], ids=["and gone on", "and given back"])
def test_who_is_slow_does_not_follow_a_dead_one_that_others_have_followed(
    before: int, now: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given back, a third one has taken it from the first number on."""
    lease = Lease(tmp_path, "leases/a")
    left_by_another(tmp_path, "leases/a", silent=1e4, number=before)

    def slow(path: Path, content: bytes, *, lasting: bool) -> bool:
        left_by_another(tmp_path, "leases/a", number=now)
        return publish(path, content, lasting=lasting)

    monkeypatch.setattr(leases, "publish", slow)
    assert not lease.try_take()
    assert {path.name for path in lease.home.iterdir()} == {f"{before:06d}", f"{now:06d}"}


def test_one_that_is_given_back_while_it_is_looked_at_has_not_died(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, touched = left_by_another(tmp_path, "leases/a"), leases._touched

    def meanwhile(work: Path, heart: str) -> float | None:
        if heart == gone.heart:
            (work / paths.HEARTBEATS / heart).unlink()
            left_by_another(work, "leases/a")  # a third one has taken it, from the first number on
        return touched(work, heart)

    monkeypatch.setattr(leases, "_touched", meanwhile)
    found = there(tmp_path, "leases/a")
    assert found.lives
    assert found.holder != gone


@pytest.mark.parametrize(("seconds", "messages"), [(0.3, 0), (2.2, 2)])
def test_who_waits_says_for_whom_and_reminds_but_not_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, messages: int
) -> None:
    monkeypatch.setattr(leases, "PATIENCE_SECONDS", 0.5 if messages else 2.0)
    monkeypatch.setattr(leases, "REMIND_SECONDS", 1.0)
    said: list[str] = []
    with another(tmp_path, "run") as other:
        assert other.line() == "held"
        ending = threading.Timer(seconds, other.finish)
        ending.start()
        with leases.run_lease(tmp_path, RUN, said.append) as lease:
            lease.check()
        ending.join()
        assert len(said) == messages
        assert all(f"run {RUN}, " in line and f"process {other.process.pid} on " in line for line in said)
    assert left(tmp_path) == []


def test_one_process_is_at_work_on_a_downlink(tmp_path: Path) -> None:
    with another(tmp_path, "head") as head:
        assert head.line().startswith("held ")
        who = rf"\S+, process {head.process.pid} on \S+, since \S+"
        refusal = rf"downlink {DL} is in work: {who} holds .*Wait for it to end"
        with pytest.raises(LockedError, match=refusal):
            leases.hold_downlink(tmp_path, DL, print)
        with pytest.raises(LockedError, match=refusal), leases.downlink_job(tmp_path, DL):
            pass
        told = leases.in_work(tmp_path, DL)
        assert told is not None
        assert re.fullmatch(who, told)
        assert leases.in_work(tmp_path, DownlinkId("230401002")) is None
        head.finish()
    assert leases.in_work(tmp_path, DL) is None
    assert left(tmp_path) == []


def test_a_new_head_waits_for_orphans_and_they_may_end_their_work(tmp_path: Path) -> None:
    with another(tmp_path, "head") as killed:
        heart = killed.head()
        orphan = Other(tmp_path, "job", heart)
        assert orphan.line().startswith("held")
    with another(tmp_path, "head") as head:
        assert f"-{orphan.process.pid}-" in head.line()
        assert leases.in_work(tmp_path, DL) is None
        assert orphan.finish() == "", "nobody has followed its head"
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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reaped: bool
) -> None:
    monkeypatch.setattr(leases, "lifetime", 1e6)
    monkeypatch.setenv(leases.HEAD_VARIABLE, "")  # so that it is what it was before

    def in_work() -> None:
        leases.lifetime = 1e6
        leases.hold_downlink(tmp_path, DL, print)
        with leases.downlink_job(tmp_path, DL):
            os.kill(os.getpid(), signal.SIGKILL)

    killed = started(in_work)
    os.waitid(os.P_PID, killed, os.WEXITED | os.WNOWAIT)
    if reaped:
        ended(killed)
    found = there(tmp_path, PLACE)
    assert (found.lives, found.jobs, len(found.registered)) == (False, (), 1)
    said: list[str] = []
    try:
        leases.hold_downlink(tmp_path, DL, said.append)
        assert (said, there(tmp_path, PLACE).registered) == ([], {})
    finally:
        leases.give_back_downlinks()
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


def test_a_head_and_its_job_that_stood_still_find_out_that_another_has_followed(tmp_path: Path) -> None:
    with another(tmp_path, "head") as slow:
        heart = slow.head()
        orphan = Other(tmp_path, "job", heart)
        orphan.line()
        orphan.process.send_signal(signal.SIGSTOP)
        slow.stop()
        with another(tmp_path, "head") as head:
            head.head()  # the job is not waited for
            assert there(tmp_path, PLACE).registered == {}, "it is struck out"
            orphan.go_on()
            assert "LeaseLostError" in orphan.finish()
            slow.go_on()
            with another(tmp_path, "job", heart) as late:
                assert late.line().startswith("refused LockedError ")
            slow.finish()
            assert slow.process.returncode == 1, "it has ended by itself, and what it began is left to others"
            assert pid_of(there(tmp_path, PLACE)) == head.process.pid, (
                "what it gave back was not its own any more"
            )
            head.finish()
    assert left(tmp_path) == []


def test_a_head_strikes_out_jobs_that_were_killed_and_leaves_those_that_live(tmp_path: Path) -> None:
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
        assert "LeaseLostError" in living.finish(), "its head has abandoned"
    assert left(tmp_path) == []


def test_this_process_as_a_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    second = DownlinkId("230401002")
    monkeypatch.setenv(leases.HEAD_VARIABLE, "")

    def told_to_end(work: Path) -> None:
        raise SystemExit

    try:
        leases.hold_downlink(tmp_path, DL, print)
        leases.hold_downlink(tmp_path, DL, print)
        leases.hold_downlink(tmp_path, second, print)
        assert leases.in_work(tmp_path, DL) is None  # by another process
        assert ended(started(leases.give_back_downlinks)) == 0, "a forked child gives nothing back"
        for downlink in (DL, second):
            with leases.downlink_job(tmp_path, downlink), leases.downlink_job(tmp_path, downlink) as lease:
                lease.check()
                (found,) = (each for each in leases.found(tmp_path) if each.name.endswith(downlink))
                assert len(found.jobs) == 2
        with monkeypatch.context() as cut:  # a job that is cut short between two steps leaves no heartbeat
            cut.setattr(leases, "_end", told_to_end)
            with pytest.raises(SystemExit), leases.downlink_job(tmp_path, DL):
                pass
    finally:
        leases.give_back_downlinks()
    assert left(tmp_path) == []


@pytest.mark.parametrize("killed", [False, True])
def test_runs_are_changed_by_one_process_at_a_time(tmp_path: Path, killed: bool) -> None:
    if killed:
        left_by_another(tmp_path, OF_RUN, silent=1e4)
    (tmp_path / "number").write_text("0")

    def adds() -> None:
        leases.lifetime, leases.POLL_SECONDS = 30.0, 0.02
        for _ in range(8):
            with leases.run_lease(tmp_path, RUN, lambda _: None) as lease:
                value = int((tmp_path / "number").read_text())
                time.sleep(0.002)
                lease.check()
                (tmp_path / "number").write_text(str(value + 1))

    assert [ended(other) for other in [started(adds) for _ in range(4)]] == [0] * 4
    assert (tmp_path / "number").read_text() == "32"
    assert left(tmp_path) == []


def test_a_job_finds_out_that_its_head_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(leases.HEAD_VARIABLE, "")
    leases.check_head(tmp_path)  # nobody has started it
    lease = leases.hold_downlink(tmp_path, DL, print)
    try:
        leases.check_head(tmp_path)
        lease.check()
        left_by_another(tmp_path, PLACE, number=2)
        with pytest.raises(LeaseLostError, match="on elsewhere"):
            leases.hold_downlink(tmp_path, DL, print).check()
    finally:
        leases.give_back_downlinks()
    assert there(tmp_path, PLACE).number == 2, "what was lost is not given back"
    with pytest.raises(LockedError):
        leases.check_head(tmp_path)
