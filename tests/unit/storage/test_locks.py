"""Locks: who holds one, who waits, and what a dead holder leaves behind. Others are real processes."""

import errno
import fcntl
import json
import os
import re
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

from halfpipe.errors import HalfPipeError, LockedError
from halfpipe.ids import DownlinkId, RunId
from halfpipe.storage import locks, paths
from halfpipe.storage.locks import FileLock, Holder

DL = DownlinkId("230401001")
RUN = RunId("2c2e5787")
TAKES = {
    "file": "lock = locks.FileLock(work / 'locks/a'); assert lock.try_take(); held()",
    "head": "locks.hold_downlink(work, DownlinkId('230401001'), print); held()",
    "job": "\nwith locks.downlink_job(work, DownlinkId('230401001')):\n    held()",
    "run": "\nwith locks.run_locked(work, RunId('2c2e5787'), print):\n    held()",
}
PROGRAM = """
import sys, time
from pathlib import Path
from halfpipe.storage import locks
from halfpipe.errors import HalfPipeError
from halfpipe.ids import DownlinkId, RunId
work = Path(sys.argv[1])

def held():
    import os
    print("held", os.environ.get(locks.TOKEN_VARIABLE, ""), flush=True)
    sys.stdin.readline()

try:
    exec(sys.argv[2])
except HalfPipeError as error:
    print("refused", error, flush=True)
"""


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(locks.TOKEN_VARIABLE, raising=False)


class Other:
    """Another process that takes a lock and keeps it until it is told to end."""

    def __init__(self, work: Path, takes: str, token: str = "") -> None:
        env = {**os.environ, locks.TOKEN_VARIABLE: token}
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(work), TAKES[takes]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
        )

    def line(self) -> str:
        """Return the next line that it says: ``held <token>`` when it has the lock."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def finish(self) -> None:
        """Let it end."""
        self.process.communicate("\n", timeout=30)

    def kill(self) -> None:
        """Kill it."""
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate(timeout=30)


@contextmanager
def another(work: Path, takes: str, token: str = "") -> Iterator[Other]:
    """Run another process that holds a lock."""
    other = Other(work, takes, token)
    try:
        yield other
    finally:
        if other.process.poll() is None:
            other.kill()


def left(work: Path) -> list[str]:
    return sorted(path.name for path in (work / "locks").iterdir())


def test_a_lock_says_who_holds_it_and_goes_when_it_is_given_back(tmp_path: Path) -> None:
    with another(tmp_path, "file") as other:
        assert other.line() == "held"
        mine = FileLock(tmp_path / "locks/a")
        assert not mine.try_take()
        assert re.fullmatch(
            rf"\S+, process {other.process.pid} on \S+, since \d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00",
            mine.held_by(),
        )
        holder = Holder.written_in(tmp_path / "locks/a")
        assert holder is not None
        assert holder.pid == other.process.pid
    # It was killed: the file is stale, and its lock is free.
    assert left(tmp_path) == ["a"]
    assert mine.try_take()
    assert Holder.written_in(mine.path) == mine.holder
    mine.give_back()
    mine.give_back()
    assert left(tmp_path) == []


def test_two_takings_have_different_tokens(tmp_path: Path) -> None:
    assert FileLock(tmp_path / "a").holder.token != FileLock(tmp_path / "a").holder.token


def test_waiting_says_once_for_whom(tmp_path: Path) -> None:
    said: list[str] = []
    with another(tmp_path, "run") as other:
        assert other.line() == "held"
        ending = threading.Timer(1, other.finish)
        ending.start()
        begin = time.monotonic()
        with locks.run_locked(tmp_path, RUN, said.append):
            assert time.monotonic() - begin > 0.5
            assert left(tmp_path) == [f"run-{RUN}"]
        ending.join()
    assert len(said) == 1
    assert re.match(rf"waiting for the lock of run {RUN}, held by \S+, process \d+ on ", said[0])
    assert left(tmp_path) == []


def test_a_run_is_free_again_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="on purpose"), locks.run_locked(tmp_path, RUN, print):
        raise ValueError("on purpose")
    assert left(tmp_path) == []


def test_a_file_that_says_nothing_of_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for content in (b"", b"{}", b"[1]", b'{"user": "x"'):
        path.write_bytes(content)
        assert Holder.written_in(path) is None
        assert FileLock(path).held_by() == "a process that does not say who it is"
        lock = FileLock(path)
        assert lock.try_take()
        assert json.loads(path.read_bytes())["token"] == lock.holder.token
        lock.give_back()


def test_a_file_that_was_removed_meanwhile_is_no_lock(tmp_path: Path) -> None:
    first = FileLock(tmp_path / "a")
    assert first.try_take()
    first.path.unlink()  # by hand
    second = FileLock(tmp_path / "a")
    assert second.try_take()
    first.give_back()  # and leaves the other's alone
    assert Holder.written_in(second.path) == second.holder
    second.give_back()
    assert not second.path.exists()


def test_a_directory_that_goes_while_it_is_looked_at_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = FileLock(tmp_path / "locks" / "a")
    is_dir = Path.is_dir
    gone: list[Path] = []

    def removed_by_the_last_one_out(path: Path, **options: bool) -> bool:
        if path == lock.path.parent and not gone:
            gone.append(path)
            path.rmdir()
        return is_dir(path, **options)

    lock.path.parent.mkdir()
    # `Path.mkdir` asks this when the directory was there already.
    monkeypatch.setattr(Path, "is_dir", removed_by_the_last_one_out)
    assert lock.try_take()
    assert gone, "it went while it was looked at"
    lock.give_back()


def test_where_no_lock_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "locks").write_bytes(b"")
    with pytest.raises(HalfPipeError, match=r"locks/a: cannot be made.*A file is where a directory"):
        FileLock(tmp_path / "locks" / "a").try_take()


def test_one_process_is_at_work_on_a_downlink(tmp_path: Path) -> None:
    with another(tmp_path, "head") as head:
        assert head.line().startswith("held ")
        who = rf"\S+, process {head.process.pid} on \S+, since \S+"
        refusal = rf"downlink {DL} is in work: {who} holds .*Wait for it to end"
        with pytest.raises(LockedError, match=refusal):
            locks.hold_downlink(tmp_path, DL, print)
        with pytest.raises(LockedError, match=refusal), locks.downlink_job(tmp_path, DL):
            pass
        told = locks.in_work(tmp_path, DL)
        assert told is not None
        assert re.fullmatch(who, told)
        assert locks.in_work(tmp_path, DownlinkId("230401002")) is None
        head.finish()
    assert locks.in_work(tmp_path, DL) is None
    assert left(tmp_path) == []


def test_nobody_is_at_work_after_a_kill(tmp_path: Path) -> None:
    with another(tmp_path, "head") as head:
        head.line()
    assert left(tmp_path) == [f"downlink-{DL}"]
    assert locks.in_work(tmp_path, DL) is None
    with locks.downlink_job(tmp_path, DL):
        assert left(tmp_path) == [f"downlink-{DL}"]
    assert left(tmp_path) == []


def test_jobs_work_under_the_lock_of_their_head(tmp_path: Path) -> None:
    with another(tmp_path, "head") as head:
        token = head.line().removeprefix("held ")
        with another(tmp_path, "job", token) as one, another(tmp_path, "job", f"{token} 0123") as two:
            assert one.line().startswith("held")
            assert two.line().startswith("held")
            assert left(tmp_path) == [f"downlink-{DL}", f"jobs-{DL}"]
            one.finish()
            assert left(tmp_path) == [f"downlink-{DL}", f"jobs-{DL}"]
            two.finish()
        assert left(tmp_path) == [f"downlink-{DL}"]


def test_a_new_head_waits_for_orphans_and_their_heads_token_is_refused(tmp_path: Path) -> None:
    with another(tmp_path, "head") as killed:
        token = killed.line().removeprefix("held ")
        orphan = Other(tmp_path, "job", token)
        assert orphan.line().startswith("held")
    with another(tmp_path, "head") as head:
        said = head.line()
        assert said.startswith(
            f"waiting for jobs of downlink {DL} that a killed process left behind, held by "
        )
        orphan.finish()
        assert head.line().startswith("held ")
        with another(tmp_path, "job", token) as late:
            refused = late.line()
        assert refused.startswith(f"refused the process that started this job of downlink {DL} is gone, now ")
        assert f"process {head.process.pid} on" in refused
        assert refused.endswith("nothing was done.")
        head.finish()
    with another(tmp_path, "job", token) as later:
        assert "nobody is at work on it now" in later.line()
    assert left(tmp_path) == []


def test_this_process_as_a_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    second = DownlinkId("230401002")
    monkeypatch.setenv(locks.TOKEN_VARIABLE, "")
    try:
        locks.hold_downlink(tmp_path, DL, print)
        locks.hold_downlink(tmp_path, DL, print)
        locks.hold_downlink(tmp_path, second, print)
        assert locks.in_work(tmp_path, DL) is None  # by another process
        assert len(os.environ[locks.TOKEN_VARIABLE].split()) == 2
        for downlink in (DL, second):
            with locks.downlink_job(tmp_path, downlink), locks.downlink_job(tmp_path, downlink):
                assert (tmp_path / paths.job_locks(downlink)).exists()
            assert not (tmp_path / paths.job_locks(downlink)).exists()
    finally:
        locks.give_back_downlinks()
    assert left(tmp_path) == []


def foreign(path: Path, **of_holder: object) -> Holder:
    """Leave a lock file at `path` as another host leaves it: nobody here keeps it flocked."""
    holder = replace(Holder.myself(), host="elsewhere", boot="other", **of_holder)  # type: ignore[arg-type]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(holder)))
    return holder


def test_a_lock_of_another_host_is_held_until_a_person_removes_it(tmp_path: Path) -> None:
    path = tmp_path / "locks" / f"downlink-{DL}"
    holder = foreign(path, pid=4711)
    lock = FileLock(path)
    assert not lock.try_take()
    assert "process 4711 on elsewhere" in lock.held_by()
    assert f"halfpipe unlock downlink-{DL}" in lock.held_by()
    assert locks.in_work(tmp_path, DL) == lock.held_by()
    assert locks.found(tmp_path) == [locks.Found(path.name, holder, dead=False)]
    assert locks.remove(tmp_path, path.name) == str(holder)
    assert lock.try_take()
    with pytest.raises(LockedError, match="lives on this host: end that process instead"):
        locks.remove(tmp_path, path.name)
    lock.give_back()
    with pytest.raises(LockedError, match="there is no lock"):
        locks.remove(tmp_path, path.name)


def test_a_lock_from_before_a_restart_of_this_host_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "a"
    foreign(path)
    holder = Holder.written_in(path)
    assert holder is not None
    path.write_text(json.dumps(asdict(replace(holder, host=Holder.myself().host))))
    lock = FileLock(path)
    assert lock.try_take()
    lock.give_back()


@pytest.mark.parametrize(("state", "gone"), [("RUNNING", False), ("PENDING", False), ("", True)])
def test_slurm_tells_whether_a_job_on_another_host_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, gone: bool
) -> None:
    squeue = tmp_path / "bin" / "squeue"
    squeue.parent.mkdir()
    squeue.write_text(f"#!/bin/sh\necho {state}\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{squeue.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(locks, "_asked", {})
    foreign(tmp_path / "locks" / "a", slurm_job="17")
    lock = FileLock(tmp_path / "locks" / "a")
    assert lock.try_take() is gone
    lock.give_back()


def test_a_dead_holders_lock_goes_to_one_of_many(tmp_path: Path) -> None:
    """Six processes want what a killed one left; each adds to a number under it, so all get it in turn."""
    with another(tmp_path, "run") as other:
        other.line()
    number = tmp_path / "number"
    number.write_text("0")
    program = (
        "import sys, time; from pathlib import Path\n"
        "from halfpipe.storage import locks; from halfpipe.ids import RunId\n"
        "locks.POLL_SECONDS = 0.001\n"
        "path = Path(sys.argv[1]) / 'number'\n"
        "with locks.run_locked(path.parent, RunId('2c2e5787'), lambda line: None):\n"
        "    value = int(path.read_text()); time.sleep(0.02); path.write_text(str(value + 1))\n"
    )
    others = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path)]) for _ in range(6)]
    assert [other.wait(timeout=60) for other in others] == [0] * 6
    assert number.read_text() == "6"
    assert left(tmp_path) == []


def test_runs_are_changed_by_one_process_at_a_time(tmp_path: Path) -> None:
    """Four processes add to a number 25 times each, under the run's lock."""
    number = tmp_path / "number"
    number.write_text("0")
    program = (
        "import sys, time; from pathlib import Path\n"
        "from halfpipe.storage import locks; from halfpipe.ids import RunId\n"
        "locks.POLL_SECONDS = 0.001\n"
        "path = Path(sys.argv[1]) / 'number'\n"
        "for _ in range(25):\n"
        "    with locks.run_locked(path.parent, RunId('2c2e5787'), lambda line: None):\n"
        "        value = int(path.read_text()); time.sleep(0.0005); path.write_text(str(value + 1))\n"
    )
    others = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path)]) for _ in range(4)]
    assert [other.wait(timeout=60) for other in others] == [0, 0, 0, 0]
    assert number.read_text() == "100"
    assert left(tmp_path) == []


def renamed(path: Path, **of_holder: object) -> Holder:
    """Let the lock file at `path` say something else of its holder, who keeps it flocked."""
    holder = Holder.written_in(path)
    assert holder is not None
    holder = replace(holder, **of_holder)  # type: ignore[arg-type]
    path.write_text(json.dumps(asdict(holder)))
    return holder


def of_another_file_system(
    monkeypatch: pytest.MonkeyPatch, path: Path, kind: str, options: str = "rw"
) -> None:
    """Have this machine believe that `path` lies on a file system of that kind."""
    mounts = path / "mounts"
    mounts.write_text(
        f"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:50 / {path} rw,relatime shared:1 - {kind} server:/x {options}\n"
    )
    monkeypatch.setattr(locks, "MOUNTS", mounts)


@pytest.mark.parametrize("host", [None, "elsewhere"], ids=["the-same-name", "another-name"])
def test_who_keeps_the_file_flocked_lives_whatever_stands_in_it(tmp_path: Path, host: str | None) -> None:
    """Cloned machines and containers have one name, and each its own boot id."""
    with another(tmp_path, "run") as other:
        assert other.line() == "held"
        path = tmp_path / paths.run_lock(RUN)
        holder = renamed(path, boot="another start", host=host or Holder.myself().host, slurm_job="17")
        assert not locks.is_dead(path, holder)
        assert not FileLock(path).try_take()
        assert Holder.written_in(path) == holder
        assert [lock.dead for lock in locks.found(tmp_path)] == [False]
        with pytest.raises(LockedError, match="which lives and keeps the file flocked: end that process"):
            locks.remove(tmp_path, path.name)
        assert "halfpipe unlock" not in FileLock(path).held_by()
    assert locks.is_dead(path, holder) is (host is None)


def test_slurm_does_not_make_a_job_dead_that_keeps_the_file_flocked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_slurm_job_is_gone", bool)
    with another(tmp_path, "run") as other:
        assert other.line() == "held"
        path = tmp_path / paths.run_lock(RUN)
        holder = renamed(path, boot="another start", host="elsewhere", slurm_job="17")
        assert not locks.is_dead(path, holder)
    assert locks.is_dead(path, holder)


@pytest.mark.parametrize(
    ("kind", "options", "dead"),
    [
        ("ext4", "rw", True),
        ("nfs4", "rw,vers=4.2,local_lock=none,addr=10.0.0.1", True),
        ("nfs", "rw,vers=3,local_lock=all,addr=10.0.0.1", False),
        ("lustre", "rw,flock,lazystatfs", True),
        ("lustre", "rw,localflock,lazystatfs", False),
        ("fuse.sshfs", "rw", False),
        ("9p", "rw", False),
    ],
)
def test_another_boot_id_alone_proves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, options: str, dead: bool
) -> None:
    """Where a flock is seen by its own machine alone, its absence does not tell a clone from a restart."""
    of_another_file_system(monkeypatch, tmp_path, kind, options)
    path = tmp_path / "locks" / f"downlink-{DL}"
    foreign(path)
    holder = renamed(path, host=Holder.myself().host)
    lock = FileLock(path)
    assert lock.try_take() is dead
    if not dead:
        assert "another machine of that name or this one before its last start" in lock.held_by()
        assert f"(if that process is dead: halfpipe unlock downlink-{DL})" in lock.held_by()
        # Slurm counts where the flock says nothing, and a person may remove it.
        monkeypatch.setattr(locks, "_slurm_job_is_gone", bool)
        assert locks.is_dead(path, renamed(path, slurm_job="17"))
        renamed(path, slurm_job="")
        assert locks.remove(tmp_path, path.name) == str(holder)
        assert lock.try_take()
    lock.give_back()


def test_where_mounts_cannot_be_read_another_boot_id_proves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "MOUNTS", tmp_path / "none")
    path = tmp_path / "locks" / "a"
    foreign(path)
    assert not locks.is_dead(path, renamed(path, host=Holder.myself().host))


def test_asking_whether_a_holder_lives_does_not_look_like_a_holder(tmp_path: Path) -> None:
    with another(tmp_path, "file") as other:
        other.line()
    path = tmp_path / "locks" / "a"
    holder = Holder.written_in(path)
    with path.open() as asking:
        fcntl.flock(asking, fcntl.LOCK_SH)  # as another process does that asks at this moment
        assert locks.is_dead(path, holder)


def test_a_lock_file_that_cannot_be_read_says_whose_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.touch()

    def denied(*_: object, **__: object) -> bytes:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "read_bytes", denied)
    assert (
        FileLock(path)
        .held_by()
        .startswith(
            f"a process that cannot be asked: {path} cannot be read: Permission denied. {path} belongs to "
        )
    )
