"""Locks on downlinks and runs, for several people, jobs on several hosts, and cron.

A lock is a file that says who holds it: user, host, process, Slurm job, since when. It is made by a hard
link, which is atomic on network file systems too, so it is never half-written. A holder keeps the file
flocked, and the kernel frees that however it dies: who keeps it flocked lives, whatever host stands in the
file, for machines may share their name. That nobody does proves a holder dead only if this machine would see
its flock: on its own machine, or on a file system that shows flocks to all. Slurm tells whether a job lives.
A dead holder's lock is taken over without being asked; what a dead process on another machine left is
removed with one command, `halfpipe unlock`.
"""

import atexit
import errno
import fcntl
import getpass
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Self

from halfpipe.errors import HalfPipeError, LockedError
from halfpipe.ids import DownlinkId, RunId
from halfpipe.storage import durable, paths
from halfpipe.storage.advice import advice, cannot_be_read, in_the_way

TOKEN_VARIABLE = "HALFPIPE_DOWNLINK_TOKENS"  # noqa: S105 - names the holder to its jobs, guards no secret
POLL_SECONDS = 0.2
ATTEMPTS = 10  # where another process makes and removes the same files at the same moment
SLURM_POLL_SECONDS = 10.0  # squeue is asked no more often than this about one job
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
MOUNTS = Path("/proc/self/mountinfo")
# File systems where every machine that sees a file sees who has flocked it: no other machine sees it at all,
# or they ask each other. With an option that is named here it is so, or else it is not.
ONE_MACHINE = frozenset(
    {"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "overlay", "ramfs", "tmpfs", "xfs", "zfs"}
)
IF_MOUNTED_WITH = {
    "ceph": "",
    "gpfs": "",
    "lustre": "flock",
    "nfs": "local_lock=none",
    "nfs4": "local_lock=none",
}
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
            _boot(BOOT_ID),
            os.getpid(),
            os.environ.get("SLURM_JOB_ID", ""),
            datetime.now(UTC).isoformat(timespec="seconds"),
            os.urandom(8).hex(),
        )

    @classmethod
    def written_in(cls, path: Path) -> Self | None:
        """Read who holds the lock at `path`; None where nobody says so."""
        try:
            return cls(**json.loads(path.read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    @property
    def is_here(self) -> bool:
        """Whether it is a process of this machine, and of this start of it: the kernel knows of it."""
        return self.host == socket.gethostname() and self.boot == _boot(BOOT_ID)

    def __str__(self) -> str:
        job = f", Slurm job {self.slurm_job}" if self.slurm_job else ""
        return f"{self.user}, process {self.pid} on {self.host}{job}, since {self.since}"


@cache
def _boot(path: Path) -> str:
    try:
        return path.read_text().strip()
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
    flocked = is_flocked(path)
    if flocked:
        return False
    if holder is None:
        return flocked is not None
    if flocked is False and _would_be_seen(path, holder):
        return True
    return not holder.is_here and _slurm_job_is_gone(holder.slurm_job)


def is_flocked(path: Path) -> bool | None:
    """Tell whether a process keeps `path` flocked; None if that cannot be told."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        # Shared, for two who ask at the same moment must not take each other for the holder.
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without such locks
        return None
    finally:
        os.close(handle)
    return False


def _would_be_seen(path: Path, holder: Holder) -> bool:
    """Tell whether this machine would see the flock of a holder who lives.

    Of another machine nothing is concluded even where it would: a file server forgets the flocks of a machine
    that it has not heard of for a while. But a machine of our name was most likely this one before its last start.
    """
    if holder.is_here:
        return True
    return holder.host == socket.gethostname() and _shows_all_flocks(path)


def _shows_all_flocks(path: Path) -> bool:
    """Tell whether the file system of `path` shows flocks to all machines that see the file; in doubt it does not."""
    try:
        return _directory_shows_all_flocks(MOUNTS, path.parent, path.parent.stat().st_dev)
    except OSError:
        return False


@lru_cache(maxsize=16)  # a directory over which another file system is mounted is on another device
def _directory_shows_all_flocks(mounted: Path, home: Path, _device: int) -> bool:
    place, mounts = os.path.realpath(home), mounted.read_text(errors="replace").splitlines()
    best, found = "", ("", "")
    for line in mounts:
        # proc(5): ... mount point, options, optional fields, "-", type, source, options of the file system
        before, _, after = line.partition(" - ")
        fields, (kind, _, *options) = before.split(), [*after.split(), "", ""][:3]
        where = fields[4].replace("\\040", " ") if len(fields) > 5 else ""
        inside = place == where or place.startswith(where.rstrip("/") + "/")
        if where and inside and len(where) >= len(best):
            best, found = where, (kind, ",".join([fields[5], *options]))
    kind, all_options = found
    if kind in ONE_MACHINE:
        return True
    needed = IF_MOUNTED_WITH.get(kind)
    return needed is not None and (not needed or needed in all_options.split(","))


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
                elif not self.path.exists():
                    continue
                break
            finally:
                self._mine.unlink(missing_ok=True)
                if self._handle < 0:
                    os.close(handle)
        if self._handle >= 0:
            _sweep(self.path.parent, f".{self.path.name}.")
        return self._handle >= 0

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
        except PermissionError as error:
            raise in_the_way(self.path, error) from error
        except OSError as error:
            raise HalfPipeError(f"{self.path}: cannot be made: {error.strerror}. {advice(error)}") from error
        return handle

    def _write_mine(self, handle: int) -> None:
        content = json.dumps(vars(self.holder)).encode()
        try:
            with suppress(OSError):  # a file system without such locks
                fcntl.flock(handle, fcntl.LOCK_EX)  # waits for nobody but who tries whether we live
            if os.write(handle, content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            # Others tell that we live by the flock where they see it, by what is written where they do not.
            if not (durable.together() and _shows_all_flocks(self.path)):
                os.fsync(handle)
        except OSError:
            os.close(handle)
            self._mine.unlink(missing_ok=True)
            raise

    @cached_property
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
        """Say who holds the lock, and on another machine how to remove it if its holder is dead."""
        holder = Holder.written_in(self.path)
        if holder is None:
            return _unread(self.path)
        if holder.is_here:
            return str(holder)
        same = ", another machine of that name or this one before its last start"
        where = same if holder.host == socket.gethostname() else ""
        if is_flocked(self.path):
            return f"{holder}{where}"
        return f"{holder}{where} (if that process is dead: halfpipe unlock {self.path.name})"

    def give_back(self) -> None:
        """Give the lock back, unless somebody has removed or taken it meanwhile."""
        if self._handle >= 0:
            now = Holder.written_in(self.path)
            if now is not None and now.token == self.holder.token:
                with suppress(OSError):
                    self.path.unlink()
            os.close(self._handle)
            self._handle = -1


def _unread(path: Path) -> str:
    """Say of a lock file that does not tell its holder whose it is."""
    try:
        path.read_bytes()
    except FileNotFoundError:
        pass
    except OSError as error:
        return f"a process that cannot be asked: {cannot_be_read(path, error)}"
    return "a process that does not say who it is"


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
    registration = FileLock(work / paths.job_locks(downlink) / os.urandom(8).hex())
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
    """A lock that exists: its name for `halfpipe unlock`, its holder, and whether that one is dead."""

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
        If there is no such lock, or its holder is known to live.
    """
    home = (work / paths.run_lock("")).parent
    there = next((lock for lock in found(work) if lock.name == name), None)
    if there is None:
        raise LockedError(f"there is no lock {name!r} in {home}. halfpipe unlock without a name lists all.")
    lives = there.holder is not None and (there.holder.is_here or is_flocked(home / name))
    if lives and not there.dead:
        where = "on this host" if there.holder and there.holder.is_here else "and keeps the file flocked"
        raise LockedError(f"{name} is held by {there.holder}, which lives {where}: end that process instead.")
    (home / name).unlink(missing_ok=True)
    return str(there.holder or "nobody who says so")
