"""A cache of level-0 hours that have left the archive, in the archive's layout. All jobs on all nodes share it.

An hour is fetched next to its place and renamed when it is complete. A lease makes one job at a time fetch an hour. If
the lease is lost, the hour is fetched twice, which only costs time.

Decoders read the cache itself. An hour that was used a short time ago is not removed. If a job uses an hour for longer,
and another one removes it meanwhile, the job finds the files changed and decodes its chunk again.

The hours are not inputs of a rule, because another set of inputs would make all earlier downlinks outstanding.
"""

import logging
import os
import secrets
import shlex
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from halfpipe import paths
from halfpipe.decode.archive_listing import ArchiveListing, directories, list_archive
from halfpipe.errors import MissingInputError
from halfpipe.files.durable import fsync_file
from halfpipe.files.lease import Lease
from halfpipe.formats import archive_hours
from halfpipe.formats.retdef import RetDef
from halfpipe.process import command_words
from halfpipe.process.programs import Log, run
from halfpipe.settings import ROOT, Settings

SETTLED_SECONDS = 14 * 86400.0  # after its begin, when the copy of an hour is complete
RETRY_SECONDS = 3600.0  # before an hour is fetched again that was not complete, or not in the copy
IN_USE_SECONDS = 3600.0  # after its last use, an hour is not removed: most jobs end sooner
LEFTOVER_SECONDS = 2 * 86400.0  # no job runs for so long, so older directories are leftovers of killed jobs
FETCHED = ".fetched"  # a file in the directory of an hour; its modification time is when the hour was fetched
SCRATCH = ".part-"  # directory of an hour that is being fetched or removed
GB = 10**9

log = logging.getLogger(__name__)


def source(
    settings: Settings, retdef: RetDef, root: Path, archive: ArchiveListing, output: IO[str]
) -> tuple[Path, ArchiveListing]:
    """Return the archive root that a decoder must read for a chunk, and a listing of it.

    This is the archive itself, if it has all hours of the chunk or the config does not fetch hours. Otherwise all hours
    are fetched, and it is the cache, unless this has no fewer missing hours than the archive.

    Parameters
    ----------
    settings, retdef
        Settings with the cache and the command that fetches an hour; the RetDef of the chunk.
    root, archive
        The archive, and a listing of it.
    output
        Gets the output of the command.

    Raises
    ------
    MissingInputError
        If hours are missing and cannot be fetched: then nothing may be decoded, because events would be missing.
    """
    cache = settings.level0.cache
    if settings.level0.fetch is None or cache is None or archive.missing == []:
        return root, archive
    for directory, begin in directories(retdef).items():
        if not _is_cached(cache / directory, begin):
            lease = Lease(cache, f"{paths.LEASES}/{directory.replace('/', '+')}", settings.lease.seconds)
            with lease.take(f"level-0 of {directory}", log.warning):
                if not _is_cached(cache / directory, begin):
                    _fetch(settings, cache, directory, output)
    cached = list_archive(cache, retdef)
    fewer = cached.missing is not None and (
        archive.missing is None or len(cached.missing) < len(archive.missing)
    )
    return (cache, cached) if fewer else (root, archive)


def _is_cached(place: Path, begin: int) -> bool:
    """Tell whether an hour is in the cache and the copy has no more of it by now; if so, note that it is used."""
    try:
        with suppress(PermissionError):  # another account may own the directory
            os.utime(place)
        fetched = (place / FETCHED).stat().st_mtime
        settled = fetched > begin + SETTLED_SECONDS and any(path.name != FETCHED for path in place.iterdir())
    except FileNotFoundError:
        return False
    return settled or time.time() <= fetched + RETRY_SECONDS


def _fetch(settings: Settings, cache: Path, directory: str, output: IO[str]) -> None:
    """Fetch an hour and put it into the cache."""
    keys = settings.level0
    make_room(cache, keys.cache_gb * GB)
    # A new directory each time, because the command of a killed job may still be writing.
    part = cache / f"{SCRATCH}{secrets.token_hex(8)}"
    try:
        out, whole, place = part / "out", part / "whole", cache / directory
        out.mkdir(parents=True)
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
            if archive_hours.NAME.fullmatch(path.name) and path.is_file():
                fsync_file(path)
                path.rename(whole / path.name)
        if not any(whole.iterdir()):
            log.warning("level-0 of %s is not in the copy either", directory)
        (whole / FETCHED).touch()
        place.parent.mkdir(parents=True, exist_ok=True)
        _remove(cache, place)
        whole.rename(place)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def make_room(cache: Path, limit: float) -> None:
    """Remove hours, the longest unused first, until the cache is smaller than `limit`, bytes.

    Hours that are in use or being fetched come on top.
    """
    now = time.time()
    for path in cache.glob(f"{SCRATCH}*"):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < now - LEFTOVER_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
    found = []
    for path in cache.glob("src*/*/*/*/utc*"):
        with suppress(FileNotFoundError):  # removed on another node
            size = sum(file.stat().st_size for file in path.iterdir())
            found.append((path.stat().st_mtime, path, size))
    left = sum(size for _, _, size in found)
    for used, path, size in sorted(found):
        if left < limit or used > now - IN_USE_SECONDS:
            return
        _remove(cache, path)
        left -= size


def _remove(cache: Path, place: Path) -> None:
    """Remove an hour from the cache; rename it first, so that under its own name it is always complete."""
    gone = cache / f"{SCRATCH}{secrets.token_hex(8)}"
    with suppress(FileNotFoundError):  # not there, or removed on another node
        place.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
