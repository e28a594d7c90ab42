"""Locks on downlinks and runs, for several people, jobs on several hosts, and cron.

A lock is a file that says who holds it: user, host, process, Slurm job, since when. It is made by a hard
link, which is atomic on network file systems too, so it is never half-written. On the holder's own host
the kernel tells whether the holder lives (it keeps the file flocked, and the kernel frees that however
it dies), and Slurm tells whether a job lives; then a dead holder's lock is taken over without being
asked. What a dead process on another host left is removed with one command, `scripts/unlock.py`.
"""

import atexit
import errno
import fcntl
import getpass
import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from halfpipe import paths
from halfpipe.errors import HalfPipeError, LockedError
from halfpipe.files import advice
from halfpipe.ids import DownlinkId, RunId

TOKEN_VARIABLE = "HALFPIPE_DOWNLINK_TOKENS"  # noqa: S105 - names the holder to its jobs, guards no secret
POLL_SECONDS = 0.2
ATTEMPTS = 10  # where another process makes and removes the same files at the same moment
SLURM_POLL_SECONDS = 10.0  # squeue is asked no more often than this about one job
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
ENDED_STATES = {
    "CANCELLED",
    "COMPLETED",
    "FAILED",
    "TIMEOUT",
    "OUT_OF_MEMORY",
    "NODE_FAIL",
    "BOOT_FAIL",
    "DEADLINE",
}
Say = Callable[[str], None]


@dataclass(frozen=True)
class Holder:
    """Who holds a lock: `token` is different for every taking, `boot` for every start of the host."""

    user: str
    host: str
    boot: str
    pid: int
    slurm_job: str
    since: str
    token: str

    @classmethod
    def myself(cls) -> Self:
        """Describe this process."""
        try:
            user = getpass.getuser()
        except (KeyError, OSError):  # a container may run a user id without a name
            user = str(os.getuid())
        return cls(
            user,
            socket.gethostname(),
            _boot(),
            os.getpid(),
            os.environ.get("SLURM_JOB_ID", ""),
            datetime.now(UTC).isoformat(timespec="seconds"),
            secrets.token_hex(8),
        )

    @classmethod
    def written_in(cls, path: Path) -> Self | None:
        """Read who holds the lock at `path`; None where nobody says so."""
        try:
            return cls(**json.loads(path.read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def __str__(self) -> str:
        job = f", Slurm job {self.slurm_job}" if self.slurm_job else ""
        return f"{self.user}, process {self.pid} on {self.host}{job}, since {self.since}"


def _boot() -> str:
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


_asked: dict[str, tuple[float, bool]] = {}


def _slurm_job_is_gone(job: str) -> bool:
    """Tell whether Slurm says that `job` does not run any more; in doubt it does."""
    if not job or shutil.which("squeue") is None:
        return False
    when, gone = _asked.get(job, (-SLURM_POLL_SECONDS, False))
    if time.monotonic() - when >= SLURM_POLL_SECONDS:
        try:
            said = subprocess.run(
                ["squeue", "--noheader", "--format=%T", f"--jobs={job}"],
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            gone = False
        else:
            ended = said.returncode == 0 and set(said.stdout.split()) <= ENDED_STATES
            gone = ended or "Invalid job id" in said.stderr
        _asked[job] = (time.monotonic(), gone)
    return gone


def is_dead(path: Path, holder: Holder | None) -> bool:
    """Tell whether the holder that is written in the lock file `path` is known not to live any more.

    A file that does not say who holds it was not made by this module, or was lost in a crash of the
    machine: its content is flushed before it gets its name.
    """
    if holder is not None:
        if holder.host != socket.gethostname():
            return _slurm_job_is_gone(holder.slurm_job)
        if holder.boot != _boot():
            return True
    try:
        handle = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        return _flock(handle)
    finally:
        os.close(handle)


def _flock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held; or the file system has no such locks, then nobody is known to be dead
        return False
    return True


class FileLock:
    """One lock file, taken by this process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.holder = Holder.myself()
        self._handle = -1

    def try_take(self) -> bool:
        """Take the lock if nobody holds it who lives.

        Raises
        ------
        HalfPipeError
            If the lock file cannot be made.
        """
        for _ in range(ATTEMPTS):
            handle = self._make_mine()
            try:
                if _link(self._mine, self.path) or self._take_over():
                    self._handle = handle
                    _sweep(self.path.parent, f".{self.path.name}.")
                    return True
                if self.path.exists():
                    break
            finally:
                self._mine.unlink(missing_ok=True)
                if self._handle < 0:
                    os.close(handle)
        return False

    def _make_mine(self) -> int:
        """Write the lock file beside its place, flocked, and return its handle."""
        try:
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                    handle = os.open(self._mine, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o664)
                    break
                except (FileNotFoundError, FileExistsError):
                    # The last one out removed the directory, after it was made here or while it was looked at.
                    if attempt == ATTEMPTS:
                        raise
            self._write_mine(handle)
        except OSError as error:
            raise HalfPipeError(f"{self.path}: cannot be made: {error.strerror}. {advice(error)}") from error
        return handle

    def _write_mine(self, handle: int) -> None:
        content = json.dumps(asdict(self.holder)).encode()
        try:
            with suppress(OSError):  # a file system without such locks
                fcntl.flock(handle, fcntl.LOCK_EX)  # waits for nobody but who tries whether we live
            if os.write(handle, content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(handle)
        except OSError:
            os.close(handle)
            self._mine.unlink(missing_ok=True)
            raise

    @property
    def _mine(self) -> Path:
        return self.path.with_name(f".{self.path.name}.{self.holder.token}")

    def _take_over(self) -> bool:
        """Replace the lock of a dead holder; only one process gets the right to do it for one holder."""
        dead = Holder.written_in(self.path)
        if not is_dead(self.path, dead):
            return False
        right = self.path.with_name(f".{self.path.name}.after-{dead.token if dead else 'nobody'}")
        if not _link(self._mine, right):
            if is_dead(right, Holder.written_in(right)):
                right.unlink(missing_ok=True)
            return False
        try:
            if Holder.written_in(self.path) != dead or not self.path.exists():
                return False
            self._mine.replace(self.path)
            return True
        except FileNotFoundError:
            return False
        finally:
            right.unlink(missing_ok=True)

    def take(self, what: str, say: Say) -> None:
        """Wait until the lock is free and take it; say once who holds it."""
        said = False
        while not self.try_take():
            if not said:
                say(f"waiting for {what}, held by {self.held_by()}")
                said = True
            time.sleep(POLL_SECONDS)

    def held_by(self) -> str:
        """Say who holds the lock, and on another host how to remove it if its holder is dead."""
        holder = Holder.written_in(self.path)
        if holder is None:
            return "a process that does not say who it is"
        if holder.host == socket.gethostname():
            return str(holder)
        return f"{holder} (if that process is dead: scripts/unlock.py {self.path.name})"

    def give_back(self) -> None:
        """Give the lock back, unless somebody has removed or taken it meanwhile."""
        if self._handle >= 0:
            now = Holder.written_in(self.path)
            if now is not None and now.token == self.holder.token:
                with suppress(OSError):
                    self.path.unlink()
            os.close(self._handle)
            self._handle = -1


def _sweep(home: Path, prefix: str = ".") -> None:
    """Remove what is left in `home` of processes that died while they took a lock.

    One that is just about to take it may be met before it is flocked: it will find its file gone, and
    make another.
    """
    for path in home.iterdir():
        if path.name.startswith(prefix) and is_dead(path, Holder.written_in(path)):
            path.unlink(missing_ok=True)


def _link(source: Path, target: Path) -> bool:
    """Make the hard link `target`, which is atomic; False if it exists already or `source` is gone."""
    try:
        os.link(source, target)
    except (FileExistsError, FileNotFoundError):
        return False
    except OSError as error:
        raise HalfPipeError(f"{target}: cannot be made: {error.strerror}. {advice(error)}") from error
    return True


@contextmanager
def run_locked(work: Path, run: RunId, say: Say) -> Iterator[None]:
    """Hold the lock of `run`, waiting for it; under it the state of the run is read and changed."""
    lock = FileLock(work / paths.run_lock(run))
    lock.take(f"the lock of run {run}", say)
    try:
        yield
    finally:
        lock.give_back()


_held: dict[Path, FileLock] = {}
_homes: dict[Path, Path] = {}  # where the jobs of a held downlink register


def hold_downlink(work: Path, downlink: DownlinkId, say: Say) -> None:
    """Take the lock of `downlink` for as long as this process lives, and hand it to its jobs.

    Jobs that a killed holder left behind are waited for: they must not stage anything after us.

    Raises
    ------
    LockedError
        If another process is at work on the downlink; says who, since when and where.
    """
    path = (work / paths.downlink_lock(downlink)).resolve()
    if path in _held:
        return
    lock = FileLock(path)
    if not lock.try_take():
        raise _in_work(downlink, lock)
    if not _held:
        atexit.register(give_back_downlinks)
    _held[path] = lock
    _homes[path] = work.resolve() / paths.job_locks(downlink)
    os.environ[TOKEN_VARIABLE] = " ".join(held.holder.token for held in _held.values())
    _wait_for_jobs(work / paths.job_locks(downlink), downlink, say)


def _in_work(downlink: DownlinkId, lock: FileLock) -> LockedError:
    return LockedError(
        f"downlink {downlink} is in work: {lock.held_by()} holds {lock.path}. "
        "Wait for it to end, or end it, then give the same command again."
    )


def _wait_for_jobs(home: Path, downlink: DownlinkId, say: Say) -> None:
    """Wait for the jobs that are registered in `home`; those that are dead are struck out."""
    said = False
    while left := [path for path in _registered(home) if not _strike_out(path)]:
        if not said:
            holders = "; ".join(FileLock(path).held_by() for path in left)
            say(
                f"waiting for jobs of downlink {downlink} that a killed process left behind, held by {holders}"
            )
            said = True
        time.sleep(POLL_SECONDS)
    with suppress(OSError):
        _sweep(home)
        home.rmdir()


def _registered(home: Path) -> list[Path]:
    try:
        return sorted(path for path in home.iterdir() if not path.name.startswith("."))
    except FileNotFoundError:
        return []


def _strike_out(path: Path) -> bool:
    """Remove a job's registration if the job is dead; tell whether it is gone."""
    if is_dead(path, Holder.written_in(path)):
        path.unlink(missing_ok=True)
    return not path.exists()


def give_back_downlinks() -> None:
    """Give back what this process took with `hold_downlink`; its end does the same, but for the file.

    Jobs that were killed, as for their time or memory, could not strike themselves out: that is done here.
    """
    for path, lock in _held.items():
        if lock.holder.pid == os.getpid():  # a forked child leaves by this way too
            for job in _registered(_homes[path]):
                _strike_out(job)
            with suppress(OSError):
                _sweep(_homes[path])
                _homes[path].rmdir()
            lock.give_back()
    _held.clear()


def in_work(work: Path, downlink: DownlinkId) -> str | None:
    """Say who is at work on `downlink`; None if nobody is who lives, or this process."""
    path = work / paths.downlink_lock(downlink)
    if path.resolve() in _held:
        return None
    if not path.exists() or is_dead(path, Holder.written_in(path)):
        return None
    return FileLock(path).held_by()


@contextmanager
def downlink_job(work: Path, downlink: DownlinkId) -> Iterator[None]:
    """Run a job of `downlink`: under the lock of the process that started it, or else under its own.

    Raises
    ------
    LockedError
        If another process is at work on the downlink, or the one that started this job is gone.
    """
    path = work / paths.downlink_lock(downlink)
    tokens = os.environ.get(TOKEN_VARIABLE, "").split()
    if not tokens:
        own = FileLock(path)
        if not own.try_take():
            raise _in_work(downlink, own)
        try:
            yield
        finally:
            own.give_back()
        return
    registration = FileLock(work / paths.job_locks(downlink) / secrets.token_hex(8))
    registration.take("a place among the jobs", lambda _: None)
    try:
        holder = Holder.written_in(path)
        if holder is None or holder.token not in tokens:
            now = f"now {holder} is at work on it" if holder else "nobody is at work on it now"
            raise LockedError(
                f"the process that started this job of downlink {downlink} is gone, {now}: nothing was done."
            )
        yield
    finally:
        registration.give_back()
        with suppress(OSError):
            registration.path.parent.rmdir()


@dataclass(frozen=True)
class Found:
    """A lock that exists: its name for `scripts/unlock.py`, its holder, and whether that one is dead."""

    name: str
    holder: Holder | None
    dead: bool


def found(work: Path) -> list[Found]:
    """Return all locks that exist."""
    home = (work / paths.run_lock("")).parent
    files = (
        sorted(p for p in home.rglob("*") if p.is_file() and not p.name.startswith("."))
        if home.exists()
        else []
    )
    return [
        Found(str(path.relative_to(home)), holder, is_dead(path, holder))
        for path in files
        for holder in [Holder.written_in(path)]
    ]


def remove(work: Path, name: str) -> str:
    """Remove the lock `name` whose holder is dead, which only a person can know of another host.

    Returns
    -------
    str
        Who held it.

    Raises
    ------
    LockedError
        If there is no such lock, or its holder lives on this host.
    """
    home = (work / paths.run_lock("")).parent
    there = next((lock for lock in found(work) if lock.name == name), None)
    if there is None:
        raise LockedError(f"there is no lock {name!r} in {home}. scripts/unlock.py without a name lists all.")
    if there.holder is not None and there.holder.host == socket.gethostname() and not there.dead:
        raise LockedError(
            f"{name} is held by {there.holder}, which lives on this host: end that process instead."
        )
    (home / name).unlink(missing_ok=True)
    return str(there.holder or "nobody who says so")
