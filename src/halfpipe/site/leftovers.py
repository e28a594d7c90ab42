"""What killed jobs left half-made, and old logs.

A job's own next try writes over what it left; these are the ones that had no next try.
"""

import os
import re
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from halfpipe import paths
from halfpipe.errors import HalfPipeError, LockedError
from halfpipe.files.advice import in_the_way
from halfpipe.files.durable import remove_tree
from halfpipe.ids import DownlinkId, RunId
from halfpipe.settings import Settings
from halfpipe.site.in_work import at_work, nobody_else
from halfpipe.site.removable_products import DAY, DOWNLINK, RUN, directories, listed, remove_unchanged

# What jobs took of time and memory lies beside their logs, and stays.
LOG = re.compile(r".*\.(log|failure\.json)|[0-9]{8}T.*\.json", re.DOTALL)
PART = re.compile(r"\..+\.part", re.DOTALL)  # `durable.replacing`, `records`, `paths.chunk_scratch`
# Of what users name, as a receipt, and of the working directory's mark.
TOP_PART = re.compile(rf"\.(\w+={DownlinkId.PATTERN}|{re.escape(paths.format_mark())}\.\w+)\.part")
CONTEXT = PurePath(paths.context("")).name
HEARTBEAT = re.compile(r".+", re.DOTALL)  # of a process that was killed, if it is old
SCRATCH = re.compile(PurePath(paths.stage_scratch(DownlinkId.PATTERN, r"\w+")).name)
ID = re.compile(rf"(?<!\w){DownlinkId.PATTERN}(?!\w)")
LEAST_AGE = DAY  # longer than any job runs


@dataclass(frozen=True)
class Leftover:
    """A file or a directory that a killed job left, and whose job it was.

    `changed` is when it was last changed, or something in it, in Unix seconds. `kept` says why it stays; empty,
    it goes, or is gone. `failed`: it should go and could not.
    """

    path: Path
    downlink: DownlinkId | None
    run: RunId | None
    is_directory: bool
    size: int
    changed: float
    kept: str = ""
    failed: bool = False


def found(work: Path, stage: Path) -> list[Leftover]:
    """Find what only a job that was killed, or still runs, can have left below `work` and `stage`."""
    left = [*_left(work, "", TOP_PART), *_left(stage, paths.stage_scratches(), SCRATCH)]
    # Of chunks that no `deliver_run` came to.
    left += _left(work, str(PurePath(paths.kept_indexes(""))), DOWNLINK)
    old = time.time() - LEAST_AGE
    left += (heart for heart in _left(work, paths.heartbeats(), HEARTBEAT) if heart.changed < old)
    others = (paths.runs(), paths.copies(""), paths.all_settings(), paths.stage_mark_copy())
    for top in (
        *(work / name for name in (*directories(work, "", DOWNLINK), *others)),
        stage / paths.stage_mark(),
    ):
        left += _half_made(top)
    return left


def _half_made(top: Path) -> Iterator[Leftover]:
    """Find what is half-made below a directory, by its name; a run and a downlink are called in its path."""
    for place, below, names in [] if top.is_symlink() else os.walk(top):
        half = [name for name in (*below, *names) if PART.fullmatch(name) or name == CONTEXT]
        below[:] = set(below).difference(half)
        for name in half:
            yield from _leftover(Path(place, name), Path(place).relative_to(top.parent).parts)


def _left(root: Path, below: str, wanted: re.Pattern[str]) -> Iterator[Leftover]:
    """Find files and directories under the names `wanted`, which say the downlink if there is one."""
    for path, _ in listed(root, below, wanted):
        yield from _leftover(path, ID.findall(path.name))


def _leftover(path: Path, names: Sequence[str]) -> Iterator[Leftover]:
    """Yield a file or directory that is there and no link; its downlink and its run are among `names`."""
    with suppress(FileNotFoundError):
        status = path.lstat()
        downlink = next((DownlinkId(name) for name in names if DOWNLINK.fullmatch(name)), None)
        run = next((RunId(name) for name in names if RUN.fullmatch(name)), None)
        if stat.S_ISDIR(status.st_mode):
            yield Leftover(path, downlink, run, True, *_measured(path))
        elif stat.S_ISREG(status.st_mode):
            yield Leftover(path, downlink, run, False, status.st_size, status.st_mtime)


def _measured(directory: Path) -> tuple[int, float]:
    """Return the bytes of the files in a directory, and the Unix time of the youngest change in it."""
    size, youngest = 0, 0.0
    for place, _, files in os.walk(directory):
        for path in (Path(place), *(Path(place, name) for name in files)):
            with suppress(FileNotFoundError):
                status = path.lstat()
                size += 0 if stat.S_ISDIR(status.st_mode) else status.st_size
                youngest = max(youngest, status.st_mtime)
    return size, youngest


def clean(settings: Settings, now: float, halted: str, *, remove: bool) -> Iterator[Leftover]:
    """Remove what killed jobs left if it is older than a day and no job can be at work on it; or only look.

    Parameters as for `halfpipe.site.removable_products.clean`.
    """
    work, stage = settings.paths.work, settings.paths.stage
    for what in found(work, stage):
        looked = replace(what, kept=halted or _why_kept(work, what, now))
        yield _removed(work, looked) if remove and not looked.kept else looked
    if remove and not halted:
        with suppress(OSError):  # something is in it
            (stage / paths.stage_scratches()).rmdir()


def _removed(work: Path, what: Leftover) -> Leftover:
    try:
        with nobody_else(work, what.downlink, what.run):
            if what.is_directory:
                remove_tree(what.path)
            else:
                remove_unchanged(what.path, what.size)
    except HalfPipeError as error:
        return replace(what, kept=str(error), failed=not isinstance(error, LockedError))
    return what


def _why_kept(work: Path, what: Leftover, now: float) -> str:
    if said := at_work(work, [what.downlink] if what.downlink else [], [what.run] if what.run else []):
        return said
    hours = (now - what.changed) / 3600
    return (
        f"changed {hours:.1f} hours ago, less than {LEAST_AGE / 3600:g}" if hours * 3600 < LEAST_AGE else ""
    )


def clean_logs(settings: Settings, now: float, *, remove: bool) -> tuple[int, int]:
    """Remove logs older than `cleanup.log_days`, or look.

    Returns
    -------
    tuple
        How many files, and their bytes.

    Raises
    ------
    HalfPipeError
        If one cannot be removed; says whose it is.
    """
    oldest = now - settings.cleanup.log_days * DAY
    old = [
        (path, status.st_size)
        for place, _, _ in os.walk(settings.paths.work / paths.logs())
        for path, status in listed(Path(place), "", LOG)
        if stat.S_ISREG(status.st_mode) and status.st_mtime < oldest
    ]
    for path, _ in old if remove else ():
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise in_the_way(path, error) from error
    return len(old), sum(size for _, size in old)
