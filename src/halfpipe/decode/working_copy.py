"""A directory of one call's own on the scratch disk, which is removed whatever happens."""

import logging
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from halfpipe.decode.flight_settings import Flight
from halfpipe.files.advice import in_the_way

LEFT_SECONDS = 2 * 86400.0  # no program is given as long

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WorkingCopy:
    """A directory of one call's own: `source` here, `target` as the program sees it; below it `out` and `tmp`."""

    source: Path
    target: PurePosixPath

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

    What SIGKILL has left is removed by later calls, when no program that works there can live any more.

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
    scratch, prefix = scratch_directory(flight.scratch), f"halfpipe-{os.getuid()}-"
    for left in scratch.glob(f"{prefix}*"):
        with suppress(FileNotFoundError):
            if left.lstat().st_uid == os.getuid() and left.lstat().st_mtime < time.time() - LEFT_SECONDS:
                _remove(left)
    try:
        path = Path(tempfile.mkdtemp(prefix=f"{prefix}{label}-", dir=scratch))
        for name in ("out", "tmp"):
            (path / name).mkdir()
    except OSError as error:
        raise in_the_way(scratch, error) from error
    try:
        yield WorkingCopy(path, PurePosixPath(path if flight.bare else flight.inside or path))
    finally:
        _remove(path)


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
