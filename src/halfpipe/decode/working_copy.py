"""A directory of one call's own on the scratch disk, which is removed whatever happens."""

import fcntl
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from halfpipe.decode.flight_settings import Flight
from halfpipe.files.advice import in_the_way

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WorkingCopy:
    """A directory of one call's own: `source` here, `target` as the program sees it; below it `out` and `tmp`.

    The program inherits `lock`, so that nobody takes the directory for a leftover while the program lives.
    """

    source: Path
    target: PurePosixPath
    lock: int

    @property
    def out(self) -> Path:
        """Where products belong."""
        return self.source / "out"


def scratch_directory(names: Sequence[str]) -> Path:
    """Return the first of `names` (variables or paths) that is a directory to write in, or the system's."""
    for name in names:
        value = name if name.startswith("/") else os.environ.get(name, "")
        if value.startswith("/") and Path(value).is_dir() and os.access(value, os.W_OK | os.X_OK):
            return Path(value)
    return Path(tempfile.gettempdir())


@contextmanager
def working_copy(flight: Flight, label: str) -> Iterator[WorkingCopy]:
    """Make a working copy on the scratch disk, and remove it whatever happens.

    Working copies whose maker and program are dead (SIGKILL leaves them) are removed first.

    Parameters
    ----------
    flight
        Says where scratch is and how the container sees the working copy.
    label
        Tells in the directory's name what it is of.

    Raises
    ------
    HalfPipeError
        If it cannot be made; names the place and its owner.
    """
    scratch = scratch_directory(flight.scratch)
    prefix = f"halfpipe-{os.getuid()}-"
    _sweep(scratch, prefix)
    try:
        path, lock = _locked_directory(scratch, f"{prefix}{label}-")
        for name in ("out", "tmp"):
            (path / name).mkdir()
    except OSError as error:
        raise in_the_way(scratch, error) from error
    inside = path if flight.bare or flight.inside is None else flight.inside
    try:
        yield WorkingCopy(path, PurePosixPath(inside), lock)
    finally:
        _remove(path)
        os.close(lock)


def _locked_directory(scratch: Path, prefix: str) -> tuple[Path, int]:
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=scratch))
        with suppress(FileNotFoundError):
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            # A sweep may have come between the two lines: then it has the lock's directory removed.
            if path.exists():
                return path, lock
            os.close(lock)


def _sweep(scratch: Path, prefix: str) -> None:
    for path in scratch.glob(f"{prefix}*"):
        try:
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            if os.fstat(handle).st_uid == os.getuid():
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(path)
        except BlockingIOError:
            pass
        finally:
            os.close(handle)


def _remove(path: Path) -> None:
    """Remove a directory; what cannot be removed is named with its owner, and is nobody's failure."""
    for directory, names, _ in os.walk(path):
        for name in names:  # a program may have closed its own directories
            with suppress(OSError):
                entry = Path(directory, name)
                if not entry.is_symlink():
                    entry.chmod(stat.S_IRWXU)
    try:
        shutil.rmtree(path)
    except OSError as error:
        shutil.rmtree(path, ignore_errors=True)
        if path.exists():
            _log.warning("left behind: %s", in_the_way(Path(error.filename or path), error))
