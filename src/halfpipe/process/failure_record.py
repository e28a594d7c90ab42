"""Why a job failed: a record next to its log.

The job writes the record. If Slurm ended or refused the job, the head writes it. If the job was killed in another way,
there is no record. The record belongs to the last start of the job, and counts only while the job's product is missing.
"""

import errno
import os
import re
import signal
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

from msgspec.structs import replace

from halfpipe import paths
from halfpipe.errors import NOTHING, FormatError, HalfPipeError, Remedy
from halfpipe.files import typed
from halfpipe.files.advice import DISK_FULL, SMALL_FILE, NoRoomError, disk_full, free_space, sentence, size
from halfpipe.files.durable import write_text
from halfpipe.files.json_files import dump_json
from halfpipe.files.reading import modified
from halfpipe.files.typed import Stored

SIGNALS: Mapping[int, tuple[str, str]] = {
    signal.SIGKILL: ("killed", "killed from outside (SIGKILL), most often because memory ran out"),
    signal.SIGINT: ("interrupted", "ended by Ctrl-C (SIGINT)"),
    signal.SIGTERM: ("interrupted", "terminated (SIGTERM)"),
    signal.SIGHUP: ("interrupted", "ended because its terminal was closed (SIGHUP)"),
    signal.SIGXCPU: ("time-limit", "ended because it had used up its processor time (SIGXCPU)"),
    signal.SIGSEGV: ("crashed", "ended by a crash (SIGSEGV)"),
    signal.SIGABRT: ("crashed", "ended by a crash (SIGABRT)"),
    signal.SIGBUS: ("crashed", "ended because memory or a file could not be read (SIGBUS)"),
}
CRASHES = {"decoder", "crashed", "defect"}  # codes of programs that fail, rather than of their surroundings
FILE_NAMES = re.compile(r"(/[^\s'\":]+)")  # absolute paths in a message
SIGNALLED = 128  # exit status after a signal, minus the signal's number


class Failure(Stored, frozen=True):
    """Why a job failed.

    Attributes
    ----------
    code
        A code of `halfpipe.causes.CODES`.
    text
        What happened, in one line.
    remedy
        What to do before re-running the command.
    command
        The command line that repeats the job in `paths.work`; empty if unknown.
    trace
        Python's traceback of a defect, because there may be no log.
    place, needed
        For a full disk: its mount point, empty if unknown, and the bytes for which there was no room.
    times, since
        How often the job has failed in a row with this code; and when it first did, Unix seconds, if more than once.
    contact
        Who gets a report, because rerunning does not help; empty if it may help.
    """

    code: str
    text: str
    remedy: Remedy = NOTHING
    command: str = ""
    trace: str = ""
    place: str = ""
    needed: int = 0
    times: int = 1
    since: float = 0.0
    contact: str = ""

    @classmethod
    def of(cls, error: BaseException, command: str = "") -> Self:
        """Return the failure of a job that ends with `error`."""
        if (full := disk_full(error)) is not None:
            needed = full.needed if isinstance(full, NoRoomError) else 0
            return cls.full(Path(full.filename) if full.filename else None, command, needed)
        if isinstance(error, HalfPipeError) and error.code == DISK_FULL:
            names = FILE_NAMES.findall(error.text.partition(os.strerror(errno.ENOSPC))[0])
            return cls.full(Path(names[-1]) if names else None, command)
        if isinstance(error, HalfPipeError):
            remedy = error.remedy.but(do=map(in_a_line, error.remedy.do), first=in_a_line(error.remedy.first))
            return cls(error.code, in_a_line(error.text), remedy, command)
        if isinstance(error, OSError):
            return cls("file-system", in_a_line(sentence(error)), command=command)
        if isinstance(error, SystemExit):
            return cls.by_signal(error.code - SIGNALLED if isinstance(error.code, int) else 0, command)
        if isinstance(error, MemoryError):
            return cls("memory", "it needs more memory than the host has (MemoryError)", command=command)
        lines = traceback.format_exception(error)
        text = f"a defect of HalfPipe, please report it: {lines[-1]}"
        return cls("defect", in_a_line(text), command=command, trace="".join(lines))

    def unless_full(self, log: Path) -> Self:
        """Return this failure, or that the file system of `log` is full, which prevents a job's own record."""
        with suppress(OSError):
            if free_space(log)[1] < SMALL_FILE:
                return self.full(log)
        return self

    @classmethod
    def full(cls, file: Path | None, command: str = "", needed: int = 0) -> Self:
        """Return the failure of a job whose file system has no room for a file."""
        with suppress(OSError):
            mount, free, total = free_space(file or Path())  # a job works in `paths.work`
            if file is not None or free < SMALL_FILE:
                text = f"DISK FULL {mount}: {size(free)} free of {size(total)}"
                remedy = Remedy(first=f"Free some space there (df -h {mount})")
                return cls(DISK_FULL, text, remedy, command, place=str(mount), needed=needed)
        return cls(DISK_FULL, "DISK FULL", Remedy(first="Free some space (df -h)"), command, needed=needed)

    @classmethod
    def by_signal(cls, number: int, command: str = "") -> Self:
        """Return the failure of a job that a signal ended."""
        code = SIGNALS[number][0] if number in SIGNALS else "killed"
        return cls(code, f"the job was {by_signal(number)}", command=command)

    @classmethod
    def read(cls, log: Path) -> Self | None:
        """Return the record of the job with this log, or why it cannot be read; None without one."""
        path = log.with_suffix(paths.FAILURE_SUFFIX)
        try:
            return typed.decode(path.read_bytes(), cls, path)
        except FileNotFoundError:
            return None
        except (OSError, FormatError) as error:
            return cls.of(error)

    def after(self, before: Self | None, contact: str) -> Self:
        """Return this failure of a job as the next one after `before`, the failure of its last start.

        If a program crashes again, and its error names no remedy, a person sends it to `contact`.
        """
        if before is None or before.code != self.code:
            return self
        is_unexplained = self.code in CRASHES and self.remedy == NOTHING
        return replace(
            self, times=before.times + 1, since=before.since, contact=contact if is_unexplained else ""
        )

    def write(self, log: Path) -> bool:
        """Write the record, completely or not at all; return whether that worked, because a disk may be full."""
        with suppress(HalfPipeError, OSError):
            write_text(log.with_suffix(paths.FAILURE_SUFFIX), dump_json(typed.values(self)), locked=False)
            return True
        return False


def by_signal(number: int) -> str:
    """Return how a signal ended a program, as a text that can follow *was*."""
    return SIGNALS[number][1] if number in SIGNALS else f"killed by signal {number}"


def written(log: Path) -> float | None:
    """Return when the record of the job with this log was written, Unix seconds; None without one."""
    return modified(str(log.with_suffix(paths.FAILURE_SUFFIX)))


def forget(log: Path) -> Failure | None:
    """Remove the record of the job with this log, because the job starts again; return what it contained."""
    before = Failure.read(log)
    when = written(log)
    with suppress(OSError):
        log.with_suffix(paths.FAILURE_SUFFIX).unlink()
    return replace(before, since=before.since or when or 0.0) if before else None


def in_a_line(text: str) -> str:
    """Return a text as one line without control characters."""
    return printable(" ".join(text.splitlines()))


def printable(text: str) -> str:
    """Return a line without control characters, except for tabs."""
    return text if text.isprintable() else "".join(c if c.isprintable() or c == "\t" else "?" for c in text)
