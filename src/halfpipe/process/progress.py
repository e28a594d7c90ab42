"""How far a job is: a line in its log from time to time, and none if it is done before the first is due.

Nothing of this is ever part of a product.
"""

import logging
import os
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

EVERY_SECONDS = 10.0  # between two lines in a log
STALE_SECONDS = 3 * EVERY_SECONDS  # a job that has said nothing for so long is not told of
TAIL_BYTES = 1000  # of a log, which its last line of progress lies in
LINE = re.compile(r" INFO +progress: ([^\n]+)\n")  # as it stands in a log

_log = logging.getLogger(__name__)


class Progress:
    """How far the work inside the ``with`` is. `add` may be called by several threads.

    Parameters
    ----------
    what
        The job for people, as in ``deliver_run 14b2a3c4``.
    total_bytes
        Bytes that will be added in all, if that is known.
    directory
        Where another program writes: the bytes that are done are those of its files.
    say
        Takes lines, without their ends; by default the job's log.

    Examples
    --------
    >>> with Progress("deliver_run 14b2a3c4", total_bytes=5_000_000) as bar:
    ...     bar.add(events=1000, size=5_000_000)
    """

    def __init__(
        self,
        what: str,
        total_bytes: int | None = None,
        directory: Path | None = None,
        say: Callable[[str], None] = _log.info,
    ) -> None:
        self._what, self._events, self._size = what, 0, 0
        self._total, self._directory, self._say = total_bytes, directory, say
        self._begun = time.monotonic()
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._tell, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _tell(self) -> None:
        while not self._ended.wait(EVERY_SECONDS):
            self._say(f"progress: {self.line()}")

    def add(self, *, events: int = 0, size: int = 0) -> None:
        """Count `events` and `size` bytes that were done since the last call."""
        with self._lock:
            self._events += events
            self._size += size

    def line(self) -> str:
        """Return how far it is as a line for people; MB are 10^6 bytes."""
        size = self._size if self._directory is None else _size_of(self._directory)
        events = f"{self._events:,} events, " if self._events else ""
        total = f" of {self._total / 1e6:,.0f}" if self._total else ""
        rate = size / 1e6 / max(time.monotonic() - self._begun, 1e-9)
        return f"{self._what}: {events}{size / 1e6:,.0f}{total} MB, {rate:,.1f} MB/s"


def progress_in_log(log: Path, now: float) -> str | None:
    """Return how far a job is, as its log said last; None if it said nothing, or says nothing any more."""
    with suppress(OSError):
        if now - log.stat().st_mtime < STALE_SECONDS:
            with log.open("rb") as file:
                file.seek(-min(TAIL_BYTES, file.seek(0, os.SEEK_END)), os.SEEK_END)
                found = LINE.findall(file.read().decode(errors="replace"))
            return str(found[-1]) if found else None
    return None


def _size_of(directory: Path) -> int:
    """Return the bytes of all files in `directory`, 0 if it is not there; files may come and go meanwhile."""
    size = 0
    with suppress(OSError):
        for path in directory.iterdir():
            with suppress(OSError):
                size += path.lstat().st_size
    return size
