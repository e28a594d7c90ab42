"""Locks on downlinks and runs.

A lock is a file that its holder keeps locked through the kernel (`flock`), which frees it however the
holder dies. The file tells who holds it, since when and where; it is removed when the lock is given
back, so `ls locks` shows what is held, or was held by somebody who died.
"""

import atexit
import fcntl
import getpass
import json
import os
import secrets
import socket
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
Say = Callable[[str], None]


@dataclass(frozen=True)
class Holder:
    """Who holds a lock: `token` is different for every taking."""

    user: str
    host: str
    pid: int
    since: str
    token: str

    @classmethod
    def myself(cls) -> Self:
        """Describe this process."""
        try:
            user = getpass.getuser()
        except (KeyError, OSError):  # a container may run a user id without a name
            user = str(os.getuid())
        since = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(user, socket.gethostname(), os.getpid(), since, secrets.token_hex(8))

    @classmethod
    def written_in(cls, path: Path) -> Self | None:
        """Read who holds the lock at `path`; None where nobody says so."""
        try:
            return cls(**json.loads(path.read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def __str__(self) -> str:
        return f"{self.user}, process {self.pid} on {self.host}, since {self.since}"


class FileLock:
    """One lock file, taken by this process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.holder = Holder.myself()
        self._handle = -1

    def try_take(self) -> bool:
        """Take the lock if nobody holds it.

        Raises
        ------
        HalfPipeError
            If the lock file cannot be made.
        """
        while True:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o664)
            except OSError as error:
                raise HalfPipeError(
                    f"{self.path}: cannot be made: {error.strerror}. {advice(error)}"
                ) from error
            if not _flock(handle, fcntl.LOCK_EX):
                os.close(handle)
                return False
            if _same_file(handle, self.path):
                break
            os.close(handle)  # its last holder removed it meanwhile
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(asdict(self.holder)).encode(), 0)
        self._handle = handle
        return True

    def take(self, what: str, say: Say) -> None:
        """Wait until the lock is free and take it; say once who holds it."""
        said = False
        while not self.try_take():
            if not said:
                say(f"waiting for {what}, held by {self.held_by()}")
                said = True
            time.sleep(POLL_SECONDS)

    def held_by(self) -> str:
        """Say who holds the lock."""
        return str(Holder.written_in(self.path) or "a process that has not said who it is yet")

    def give_back(self) -> None:
        """Remove the lock file and give the lock back."""
        if self._handle >= 0:
            with suppress(OSError):
                self.path.unlink()
            os.close(self._handle)
            self._handle = -1


def _flock(handle: int, mode: int) -> bool:
    try:
        fcntl.flock(handle, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _same_file(handle: int, path: Path) -> bool:
    """Tell whether the open file is still the one at `path`: another holder may have removed it."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


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
        raise LockedError(
            f"downlink {downlink} is in work: {lock.held_by()} holds {path}. "
            "Wait for it to end, or end it, then give the same command again."
        )
    if not _held:
        atexit.register(give_back_downlinks)
    _held[path] = lock
    orphans = FileLock(work / paths.jobs_lock(downlink))
    orphans.take(f"jobs of downlink {downlink} that a killed process left behind", say)
    orphans.give_back()
    os.environ[TOKEN_VARIABLE] = " ".join(held.holder.token for held in _held.values())


def give_back_downlinks() -> None:
    """Give back what this process took with `hold_downlink`; its end does the same, but for the file."""
    for lock in _held.values():
        if lock.holder.pid == os.getpid():  # a forked child leaves by this way too
            lock.give_back()
    _held.clear()


def in_work(work: Path, downlink: DownlinkId) -> str | None:
    """Say who is at work on `downlink`; None if nobody is, or this process."""
    path = work / paths.downlink_lock(downlink)
    if path.resolve() in _held:
        return None
    try:
        handle = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        return None if _flock(handle, fcntl.LOCK_SH) else FileLock(path).held_by()
    finally:
        os.close(handle)


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
            raise LockedError(
                f"downlink {downlink} is in work: {own.held_by()} holds {path}. "
                "Wait for it to end, then give the same command again."
            )
        try:
            yield
        finally:
            own.give_back()
        return
    with _shared(work / paths.jobs_lock(downlink)):
        holder = Holder.written_in(path)
        if holder is None or holder.token not in tokens:
            now = f"now {holder} is at work on it" if holder else "nobody is at work on it now"
            raise LockedError(
                f"the process that started this job of downlink {downlink} is gone, {now}: nothing was done."
            )
        yield


@contextmanager
def _shared(path: Path) -> Iterator[None]:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o664)
        fcntl.flock(handle, fcntl.LOCK_SH)
        if _same_file(handle, path):
            break
        os.close(handle)
    try:
        yield
    finally:
        # The last job out removes the file; whoever opened it meanwhile sees that it is gone.
        if _flock(handle, fcntl.LOCK_EX):
            with suppress(OSError):
                path.unlink()
        os.close(handle)
