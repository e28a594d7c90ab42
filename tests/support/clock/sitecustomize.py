"""Another clock for each Python program that starts with this directory on its PYTHONPATH.

TEST_CLOCK is a number of days ahead ("40d"), or the time in the zone of TZ at which the first program starts. The times
of files, which the kernel's clock sets, are ahead by as much. Python imports a module of this name at its start.
"""

import os
import re
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

NANO = 10**9
STATUS_TIMES = slice(7, 10)  # in the plain tuple of an os.stat_result

real_time = time.time
real_scandir = os.scandir
real_utime = os.utime


def seconds_ahead(clock: str) -> int:
    """Convert TEST_CLOCK to the number of seconds that the clock is ahead."""
    if ahead := re.fullmatch(r"(\d+)([ds])", clock):
        return int(ahead[1]) * {"d": 86400, "s": 1}[ahead[2]]
    return round(datetime.fromisoformat(clock).timestamp() - real_time())


AHEAD = seconds_ahead(os.environ["TEST_CLOCK"])
os.environ["TEST_CLOCK"] = f"{AHEAD}s"  # the clock of the programs that this one starts


def later(status: os.stat_result) -> os.stat_result:
    """Return the status of a file with later times."""
    parts: Any = status.__reduce__()[1]
    numbers, named = parts
    for name in ("st_atime", "st_mtime", "st_ctime"):
        named[name] += AHEAD
        named[f"{name}_ns"] += AHEAD * NANO
    return os.stat_result(
        (*numbers[:7], *(seconds + AHEAD for seconds in numbers[STATUS_TIMES]), *numbers[10:]), named
    )


def utime(path: Any, times: Any = None, **keys: Any) -> None:
    """Set the times of a file to times of this clock."""
    if times is not None:
        times = tuple(seconds - AHEAD for seconds in times)
    if keys.get("ns") is not None:
        keys["ns"] = tuple(nanoseconds - AHEAD * NANO for nanoseconds in keys["ns"])
    real_utime(path, times, **keys)


class Entry:
    """An entry of a directory, as os.scandir finds it."""

    def __init__(self, found: "os.DirEntry[Any]") -> None:
        self._found = found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._found, name)

    def __fspath__(self) -> Any:
        return self._found.path

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Return the status with later times."""
        return later(self._found.stat(follow_symlinks=follow_symlinks))


class Entries:
    """The entries of a directory: what os.scandir returns."""

    def __init__(self, path: Any = ".") -> None:
        self._found = real_scandir(path)

    def __iter__(self) -> Iterator[Entry]:
        return map(Entry, self._found)

    def __next__(self) -> Entry:
        return Entry(next(self._found))

    def __enter__(self) -> "Entries":
        return self

    def __exit__(self, *_: object) -> None:
        self._found.close()

    def close(self) -> None:
        """Close the directory."""
        self._found.close()


def replace(name: str, new: Any) -> None:
    """Replace a function of os; other modules ask these sets what it can do."""
    for known in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks):
        if getattr(os, name) in known:
            known.add(new)
    setattr(os, name, new)


def with_later_times(name: str) -> None:
    """Replace a function of os that returns the status of a file."""
    real = getattr(os, name)
    replace(name, lambda *words, **keys: later(real(*words, **keys)))


if AHEAD:
    time.time = lambda: real_time() + AHEAD
    for status in ("stat", "lstat", "fstat"):
        with_later_times(status)
    replace("utime", utime)
    replace("scandir", Entries)
