"""The level-0 hours that a chunk needs; those that the archive has not are fetched from a copy into a shared cache.

A decoder that finds no packets of an hour ends well, so whoever starts it looks for the hours before.

The cache has the layout of the archive. An hour's directory is fetched beside its place and renamed, so one that is
there is whole. Each has a file that is locked: shared by who reads the hour, alone by who fetches or removes it. So
nobody loses an hour that a decoder reads, and two jobs fetch none twice. Which hours a chunk needs is no input of a
rule: another set of inputs would make everything outstanding that was ever made.
"""

import fcntl
import logging
import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from halfpipe.errors import MissingInputError
from halfpipe.formats import archive_hours, level0, met
from halfpipe.formats.retdef import RetDef
from halfpipe.process import command_words
from halfpipe.process.programs import Log, run
from halfpipe.settings import ROOT, Level0, Settings

EDGE_SECONDS = 60  # of an hour: which one a packet stands in is not known to the second
SETTLED_SECONDS = 14 * 86400.0  # after so long nothing more of an hour comes into the copy
ASKED_SECONDS = 3600.0  # until then, or where it had nothing, it is asked again so often
LOCKS = ".locks"
PART = ".part-"  # what is being fetched or removed; the name of the hour's lock and "~" follow
GB = 10**9

log = logging.getLogger(__name__)


def directories(retdef: RetDef) -> dict[str, int]:
    """Return the directories of an archive in which packets of a RetDef may lie, each with its hour's begin.

    They are relative to the archive's root, in order; times are Unix seconds.
    """
    spans = [(span.begin - EDGE_SECONDS, span.end + EDGE_SECONDS) for span in retdef.spans]
    begins = [hour * met.HOUR for hour in sorted(level0.hours_inside(spans))]
    return {str(level0.hour_path(Path(), retdef.scid, begin)): begin for begin in begins}


def look(root: Path, retdef: RetDef) -> dict[str, Any]:
    """Look for the hours that the spans of a RetDef need.

    Parameters
    ----------
    root
        Root of the archive, as it is seen from here.
    retdef
        The chunk's RetDef.

    Returns
    -------
    dict
        ``needed``: how many hours of an APID; ``missing``: those of which the archive has no file, each with its
        ``hour`` (the directory, relative to the root) and ``apid``, None if the archive could not be looked at: a
        container may see another one; ``files``: their bytes and times of modification (Unix seconds), by names
        relative to the root.
    """
    needed = {
        (hour, span.apid) for span in retdef.spans for hour in level0.hours_inside([(span.begin, span.end)])
    }
    missing, files = list[dict[str, Any]](), dict[str, list[int]]()
    unseen: dict[str, Any] = {"needed": len(needed), "missing": None, "files": {}}
    try:
        if not level0.source_path(root, retdef.scid).is_dir():
            return unseen
        for hour, apid in sorted(needed):
            directory = level0.hour_path(root, retdef.scid, hour * met.HOUR)
            found = archive_hours.files(directory, retdef.scid, apid)
            if not found:
                missing.append({"hour": str(directory.relative_to(root)), "apid": apid})
            for path in found:
                status = path.stat()
                files[str(path.relative_to(root))] = [status.st_size, int(status.st_mtime)]
    except OSError:
        return unseen
    return {"needed": len(needed), "missing": missing, "files": files}


@contextmanager
def archive(settings: Settings, retdef: RetDef, output: IO[str]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Give the root of what a chunk is to be decoded from, and what `look` says of it.

    That is the archive. If hours that the chunk needs are missing there, and the config says how they are fetched, all
    that it needs is fetched, and it is the cache, unless that lacks as many.

    Parameters
    ----------
    settings, retdef
        Say where the archive and the cache are, and which hours are needed.
    output
        Takes what the command prints.

    Raises
    ------
    MissingInputError
        If hours are missing and cannot be fetched: then nothing is decoded, for it would be too little.
    """
    root = Path(command_words.archive(settings, retdef.arch))
    # Before the decoder looks: an hour that arrives in between is told as missing, never as found.
    found = look(root, retdef)
    cache = settings.level0.cache
    if settings.level0.fetch is None or cache is None or found["missing"] == []:
        yield root, found
        return
    with ExitStack() as held:
        for directory, begin in directories(retdef).items():
            held.enter_context(_hour(settings.level0, cache, directory, begin, retdef.scid, output))
        fetched = look(cache, retdef)
        if fetched["missing"] is not None and (
            found["missing"] is None or len(fetched["missing"]) < len(found["missing"])
        ):
            root, found = cache, fetched
        yield root, found


@contextmanager
def _hour(
    keys: Level0, cache: Path, directory: str, begin: int, scid: int, output: IO[str]
) -> Iterator[None]:
    """Have an hour in the cache, and keep it there; nothing of it is there if the copy has none.

    Parameters
    ----------
    keys, cache
        How an hour is fetched, and where to.
    directory, begin
        The hour's, relative to the root of an archive, and when it begins (Unix seconds).
    scid, output
        The spacecraft, and what takes what the command prints.

    Raises
    ------
    MissingInputError
        If it cannot be fetched.
    """
    place, handle = cache / directory, _lock(cache, directory)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        while not _is_good(place, begin):
            # All take hours in one order, so that of those who wait here nobody waits for another.
            fcntl.flock(handle, fcntl.LOCK_EX)
            if not _is_good(place, begin):
                _fetch(keys, cache, directory, scid, output)
            # Between the two locks somebody may have removed it.
            fcntl.flock(handle, fcntl.LOCK_SH)
        with suppress(OSError):  # that it was used now; when it was fetched stays
            os.utime(place, (time.time(), place.stat().st_mtime))
        yield
    finally:
        os.close(handle)


def _is_good(place: Path, begin: int) -> bool:
    """Tell whether an hour is there, and the copy cannot have more of it by now than when it was fetched."""
    try:
        fetched = place.stat().st_mtime
        settled = fetched > begin + SETTLED_SECONDS and any(place.iterdir())
    except OSError:
        return False
    return settled or time.time() < fetched + ASKED_SECONDS


def _lock(cache: Path, directory: str) -> int:
    """Open the file that is locked for an hour; it is never removed."""
    path = cache / LOCKS / directory.replace("/", "+")
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)


def _part(cache: Path, directory: str) -> Path:
    """Make a directory for what is fetched or removed of an hour; its name tells the hour's lock.

    Each is another one: the command of a job that was killed may still be writing.
    """
    return Path(tempfile.mkdtemp(prefix=f"{PART}{directory.replace('/', '+')}~", dir=cache))


def _fetch(keys: Level0, cache: Path, directory: str, scid: int, output: IO[str]) -> None:
    make_room(cache, keys.cache_gb * GB)
    place, part = cache / directory, _part(cache, directory)
    try:
        out, whole = part / "out", part / "whole"
        out.mkdir()
        whole.mkdir()
        words = command_words.filled_in(keys.fetch or "", {"hour": directory, "out": str(out)})
        log.info("fetching level-0 of %s: %s", directory, shlex.join(words))
        ended = run(words, ROOT, Log(output), seconds=keys.seconds, whole_group=True)
        if not ended.well:
            raise MissingInputError(
                f"level-0 of {directory} is not in the archive and cannot be fetched: the command of level0.fetch "
                f"{ended.how}: {ended.shown}Nothing of this chunk was decoded. Fix this, then re-run the command."
            )
        for path in sorted(out.rglob("*")):
            name = archive_hours.NAME.fullmatch(path.name)
            if name and int(name[1]) == scid and path.is_file():
                path.rename(whole / path.name)
        if not any(whole.iterdir()):
            log.warning("level-0 of %s: the copy has none of it either", directory)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(place, ignore_errors=True)  # what was fetched before all of it was there
        whole.rename(place)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def make_room(cache: Path, limit: float) -> None:
    """Remove hours that nobody reads, the longest unused first, until the cache is smaller than `limit`, bytes.

    Raises
    ------
    MissingInputError
        If it is full of hours that are being read.
    """
    for path in cache.glob(f"{PART}*"):
        _remove(cache, path.name.removeprefix(PART).partition("~")[0].replace("+", "/"), path)
    found = sorted((path.stat().st_atime, path) for path in cache.glob("src*/*/*/*/utc*") if path.is_dir())
    sizes = {path: size_of(path) for _, path in found}
    left = sum(sizes.values()) + sum(size_of(path) for path in cache.glob(f"{PART}*"))
    for _, path in found:
        if left < limit:
            return
        if _remove(cache, str(path.relative_to(cache)), path):
            left -= sizes[path]
    if left >= limit:
        raise MissingInputError(
            f"{cache}: the cache of level-0 is full, {left / GB:.1f} GB of {limit / GB:.1f} (level0.cache_gb), and all "
            "of it is being read. Raise the limit, or have fewer jobs at a time; then re-run the command."
        )


def size_of(directory: Path) -> int:
    """Return the bytes of all files below a directory."""
    return sum(path.lstat().st_size for path in directory.rglob("*") if path.is_file())


def _remove(cache: Path, directory: str, path: Path) -> bool:
    """Remove an hour, or a part of it, at `path`, unless somebody has the hour."""
    handle = _lock(cache, directory)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        if path == cache / directory:  # which has an hour only as long as that is whole
            path = path.rename(_part(cache, directory))
        shutil.rmtree(path, ignore_errors=True)
        return True
    finally:
        os.close(handle)
