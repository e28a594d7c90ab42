"""What killed jobs left half-made, and old logs.

A job's own next try writes over what it left; these are the ones that had no next try.
"""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath

from halfpipe import paths
from halfpipe.cleanup import below
from halfpipe.cleanup.owners import at_work, nobody_else
from halfpipe.cleanup.products import DAY, DOWNLINK, RUN
from halfpipe.errors import HalfPipeError, LockedError
from halfpipe.files import in_the_way
from halfpipe.ids import DownlinkId, RunId

LOG = ".log"  # what jobs took of time and memory lies beside their logs, and stays
PART = re.compile(r"\..+\.part", re.DOTALL)  # `files.replacing`, `paths.chunk_scratch`
TARGET_PART = re.compile(rf"\.\w+=(?P<dl>{DownlinkId.PATTERN})\.part")  # of what users name, as a receipt
CONTEXT = re.compile(re.escape(PurePath(paths.context("")).name))
KEPT_INDEXES = re.compile(rf"(?P<dl>{DownlinkId.PATTERN})")  # of chunks that no `deliver_run` came to
SCRATCH = re.compile(PurePath(paths.stage_scratch(rf"(?P<dl>{DownlinkId.PATTERN})", r"\w+")).name)
LEAST_AGE = DAY  # longer than any job runs


@dataclass(frozen=True)
class Leftover:
    """A file or a directory below `root` that a killed job left, and whose job it was.

    `changed` is when it was last changed, or something in it, in Unix seconds.
    """

    root: Path
    path: str
    downlink: DownlinkId | None
    run: RunId | None
    is_directory: bool
    size: int
    changed: float

    def __str__(self) -> str:
        return str(self.root / self.path)


@dataclass(frozen=True)
class Outcome:
    """What becomes of a leftover: `kept` says why it stays; empty, it goes, or is gone.

    `failed`: it should go and could not.
    """

    what: Leftover
    kept: str = ""
    failed: bool = False


def found(work: Path, stage: Path) -> list[Leftover]:
    """Find what only a job that was killed, or still runs, can have left below `work` and `stage`."""
    left = [*_left(work, ".", TARGET_PART), *_left(stage, paths.stage_scratches(), SCRATCH)]
    left += _left(work, str(PurePath(paths.kept_indexes(""))), KEPT_INDEXES)
    for name, _ in below.listed(work, ".", DOWNLINK):
        history = str(PurePath(paths.receipt_history(name, 0)).parent)
        for home in (name, paths.chunks(name), history):
            left += _left(work, home, PART, DownlinkId(name))
    for run, _ in below.listed(work, paths.runs(), RUN):
        left += _left(work, paths.run(run), CONTEXT, run=RunId(run))
        for name, _ in below.listed(work, paths.run(run), DOWNLINK):
            left += _left(work, f"{paths.run(run)}/{name}", PART, DownlinkId(name))
    return left


def _left(
    root: Path,
    home: str,
    wanted: re.Pattern[str],
    downlink: DownlinkId | None = None,
    run: RunId | None = None,
) -> Iterator[Leftover]:
    """Find files and directories under the names `wanted`, which say the downlink where it is not given."""
    for name, status in below.listed(root, home, wanted):
        match = wanted.fullmatch(name)
        owner = DownlinkId(match["dl"]) if match and "dl" in wanted.groupindex else downlink
        path = str(PurePath(home, name))
        if stat.S_ISDIR(status.st_mode):
            yield Leftover(root, path, owner, run, True, *below.measured(root, path))
        elif stat.S_ISREG(status.st_mode):
            yield Leftover(root, path, owner, run, False, status.st_size, status.st_mtime)


def clean(work: Path, stage: Path, now: float, halted: str, *, remove: bool) -> Iterator[Outcome]:
    """Remove what killed jobs left if it is older than a day and no job can be at work on it; or only look."""
    for what in found(work, stage):
        kept = halted or _why_kept(work, what, now)
        yield _removed(work, what) if remove and not kept else Outcome(what, kept)
    if remove and not halted:
        below.remove_empty(stage, paths.stage_scratches())


def _removed(work: Path, what: Leftover) -> Outcome:
    try:
        with nobody_else(work, what.downlink, what.run):
            if what.is_directory:
                below.remove_tree(what.root, what.path)
            else:
                below.remove_file(what.root, what.path, what.size)
    except LockedError as error:
        return Outcome(what, str(error))
    except HalfPipeError as error:
        return Outcome(what, str(error), failed=True)
    return Outcome(what)


def _why_kept(work: Path, what: Leftover, now: float) -> str:
    owners = [what.downlink] if what.downlink else [], [what.run] if what.run else []
    if said := at_work(work, *owners):
        return said
    hours = (now - what.changed) / 3600
    return (
        f"changed {hours:.1f} hours ago, less than {LEAST_AGE / 3600:g}" if hours * 3600 < LEAST_AGE else ""
    )


def clean_logs(work: Path, days: float, now: float, *, remove: bool) -> tuple[int, int]:
    """Remove logs that are older than `days`, and directories that have been empty for as long; or only look.

    Returns
    -------
    tuple
        How many files, and their bytes.

    Raises
    ------
    HalfPipeError
        If one cannot be removed; says whose it is.
    """
    oldest = now - days * DAY
    count = size = 0
    empty = []
    with suppress(FileNotFoundError, NotADirectoryError), below.directory(work, paths.logs()) as top:
        for place, directories, files, home in os.fwalk(".", dir_fd=top):
            if not directories and not files and os.fstat(home).st_mtime < oldest:
                empty.append(place)
            for name in files:
                found_size = _size_if_old_log(name, home, oldest)
                if found_size is not None:
                    count, size = count + 1, size + found_size
                    if remove:
                        _unlink(work / paths.logs() / place / name, home)
    if remove:
        for place in empty:
            below.remove_empty(work, f"{paths.logs()}/{place}")
    return count, size


def _size_if_old_log(name: str, home: int, oldest: float) -> int | None:
    """Return the bytes of a log that is older than `oldest`; None if it is not, or is something else."""
    try:
        status = os.stat(name, dir_fd=home, follow_symlinks=False)
    except FileNotFoundError:
        return None
    is_old_log = name.endswith(LOG) and stat.S_ISREG(status.st_mode) and status.st_mtime < oldest
    return status.st_size if is_old_log else None


def _unlink(path: Path, home: int) -> None:
    """Remove the file `path` from the directory that the handle `home` is of, not from where its name leads."""
    try:
        os.unlink(path.name, dir_fd=home)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise in_the_way(path, error) from error
