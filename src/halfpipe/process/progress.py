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
LOOK_SECONDS = 1.0  # between two looks at what a decoder has written
STALE_SECONDS = 3 * EVERY_SECONDS  # a job that has said nothing for so long is not told of
TAIL_BYTES = 1000  # of a log, which its last line of progress lies in
LINE = re.compile(
    r" INFO +(\S[^\n]*: (?:done, )?(?:[0-9,]+ events, )?[0-9,]+ MB[, ][^\n]+)\n"
)  # as it stands in a log

_log = logging.getLogger(__name__)


class Progress:
    """How far the work inside the ``with`` is. Its methods may be called by several threads.

    Parameters
    ----------
    what
        The job for people, as in ``deliver_run 14b2a3c4``.
    total_bytes
        Bytes that will be added in all, if that is known: then the time left is shown.
    directory
        Where another program writes: the bytes that are done are those of its files.
    say
        Takes lines, without their ends; by default the job's log.
    every
        Seconds between two lines.

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
        every: float = EVERY_SECONDS,
    ) -> None:
        self.what, self.events, self.size = what, 0, 0
        self._total, self._directory, self._say, self._every = total_bytes, directory, say, every
        self._begun = time.monotonic()
        self._due = self._begun + every
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._looks = threading.Thread(target=self._look, name="progress", daemon=True)

    def __enter__(self) -> Self:
        if self._directory is not None:
            self._looks.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._directory is not None:
            self._ended.set()
            self._looks.join()
        if kind is None:
            self._finish()

    def _look(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            self._measure()

    def add(self, *, events: int = 0, size: int = 0) -> None:
        """Count `events` and `size` bytes that were done since the last call."""
        with self._lock:
            self.events += events
            self.size += size
            self._show()

    def _measure(self) -> None:
        """Look at what another program has written."""
        if self._directory is not None:
            with self._lock:
                self.size = size_of(self._directory)
                self._show()

    def line(self) -> str:
        """Return how far it is as a line for people; MB are 10^6 bytes."""
        seconds = max(time.monotonic() - self._begun, 1e-9)
        words = [f"{self.events:,} events"] if self.events else []
        words += [f"{self.size / 1e6:,.0f} MB", f"{self.size / 1e6 / seconds:,.1f} MB/s"]
        if self._total and 0 < self.size <= self._total:
            words.append(f"{seconds * (self._total / self.size - 1):,.0f} s left")
        return f"{self.what}: {', '.join(words)}"

    def _finish(self) -> None:
        """Say that it is done, if anything was said before."""
        self._measure()
        seconds = time.monotonic() - self._begun
        if seconds >= self._every:
            events = f"{self.events:,} events, " if self.events else ""
            self._say(f"{self.what}: done, {events}{self.size / 1e6:,.0f} MB in {seconds:,.0f} s")

    def _show(self) -> None:
        if (now := time.monotonic()) >= self._due:
            self._due = now + self._every
            self._say(self.line())


def progress_in_log(log: Path, now: float) -> str | None:
    """Return how far a job is, as its log said last; None if it said nothing, has ended, or says nothing any more.

    A job writes its first such line after ten seconds, and one more when it is done.
    """
    with suppress(OSError):
        if now - log.stat().st_mtime < STALE_SECONDS:
            with log.open("rb") as file:
                file.seek(-min(TAIL_BYTES, file.seek(0, os.SEEK_END)), os.SEEK_END)
                found = LINE.findall(file.read().decode(errors="replace"))
            if found and ": done, " not in found[-1]:
                return str(found[-1])
    return None


def size_of(directory: Path) -> int:
    """Return the bytes of all files in `directory`, 0 if it is not there; files may come and go meanwhile."""
    size = 0
    with suppress(OSError):
        for path in directory.iterdir():
            with suppress(OSError):
                size += path.lstat().st_size
    return size
