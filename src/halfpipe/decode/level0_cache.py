"""A cache of level-0 hours that have left the archive. All jobs on all nodes share it.

An hour in the cache is a directory. It is fetched under another name and renamed when it is complete. No name is used
twice. Each job makes hard links to the files it needs, in its own directory with the layout of an archive, and its
decoder reads these links. So a job on another node may remove an hour from the cache at any moment without a lock, and
no decoder loses data. A lease ensures that one job at a time fetches an hour. If the lease is lost, the hour is fetched
twice, which only costs time.

The hours are not inputs of a rule, because another set of inputs would make all earlier downlinks outstanding.
"""

import logging
import os
import secrets
import shlex
import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from halfpipe import paths
from halfpipe.decode.archive_listing import ArchiveListing, directories, list_archive
from halfpipe.errors import MissingInputError
from halfpipe.files.durable import fsync_file
from halfpipe.files.leases import Lease
from halfpipe.formats import archive_hours
from halfpipe.formats.retdef import RetDef
from halfpipe.process import command_words
from halfpipe.process.programs import Log, run
from halfpipe.settings import ROOT, Settings

SETTLED_SECONDS = 14 * 86400.0  # after the start of an hour, its copy is complete
RETRY_SECONDS = 3600.0  # until an hour that was incomplete or absent in the copy is fetched again
LEFTOVER_SECONDS = 2 * 86400.0  # no job runs that long, so older directories are leftovers of killed jobs
# Directories of an hour that is being fetched, of the links of one job, and of an hour that is being removed.
FETCHING, LINKS, REMOVING = ".part-", ".used-", ".gone-"
GB = 10**9

log = logging.getLogger(__name__)


@contextmanager
def source(
    settings: Settings, retdef: RetDef, root: Path, archive: ArchiveListing, output: IO[str]
) -> Iterator[tuple[Path, ArchiveListing]]:
    """Yield the archive root that a decoder must read for a chunk, and a listing of it.

    This is the archive itself if it has all hours of the chunk, or if the config does not fetch hours. Otherwise all
    hours are fetched, and this is a directory of links to them if it lacks fewer hours than the archive.

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
    if settings.level0.fetch is None or cache is None or archive.missing == ():
        yield root, archive
        return
    links = cache / f"{LINKS}{secrets.token_hex(8)}"
    try:
        for directory, begin in directories(retdef).items():
            apids = {span.apid for span in retdef.spans}
            _Hour(settings, cache, directory, begin, retdef.scid).provide(links / directory, apids, output)
        linked = list_archive(links, retdef)
        fewer = linked.missing is not None and (
            archive.missing is None or len(linked.missing) < len(archive.missing)
        )
        yield (links, linked) if fewer else (root, archive)
    finally:
        shutil.rmtree(links, ignore_errors=True)


@dataclass(frozen=True)
class _Hour:
    """An hour of level-0: its `directory`, relative to the root of an archive, and its `begin`, Unix seconds."""

    settings: Settings
    cache: Path
    directory: str
    begin: int
    scid: int

    @property
    def _name(self) -> str:
        return self.directory.replace("/", "+")

    def provide(self, links: Path, apids: Collection[int], output: IO[str]) -> None:
        """Link the files of some APIDs into the directory `links`; fetch the hour first if necessary."""
        if self._link_cached(links, apids):
            return
        lease = Lease(self.cache, f"{paths.LEASES}/{self._name}", self.settings.lease.seconds)
        with lease.take(f"level-0 of {self.directory}", log.warning):
            if not self._link_cached(links, apids):
                self._fetch(links, apids, output)

    def _link_cached(self, links: Path, apids: Collection[int]) -> bool:
        """Link the files of the latest fetch; return False if there is none, or the copy may have more files by now."""
        places = self._places()
        if not places:
            return False
        fetched, place = places[-1]
        try:
            settled = fetched > self.begin + SETTLED_SECONDS and any(place.iterdir())
            if not settled and time.time() > fetched + RETRY_SECONDS:
                return False
            self._link(place, links, apids)
            place.stat()  # its name is never used again: if it still exists, the list of files was complete
        except FileNotFoundError:  # removed on another node
            shutil.rmtree(links, ignore_errors=True)
            return False
        with suppress(OSError):  # the time of the last use; another account may own the directory
            os.utime(place)
        return True

    def _places(self) -> list[tuple[int, Path]]:
        """Return the directories of this hour, the latest last, with the Unix second when each was fetched."""
        return sorted((int(path.name.split("~")[1]), path) for path in self.cache.glob(f"{self._name}~*~*"))

    def _link(self, place: Path, links: Path, apids: Collection[int]) -> None:
        links.mkdir(parents=True, exist_ok=True)
        for path in (path for apid in apids for path in archive_hours.files(place, self.scid, apid)):
            try:
                os.link(path, links / path.name)
            except PermissionError as error:
                raise MissingInputError(
                    f"{path}: cannot make a hard link: {error.strerror}. All of {self.cache} must belong to the "
                    "account that runs the jobs. Name another directory in level0.cache, then rerun the command."
                ) from error

    def _fetch(self, links: Path, apids: Collection[int], output: IO[str]) -> None:
        """Fetch the hour, link it into `links`, and put it into the cache."""
        keys = self.settings.level0
        make_room(self.cache, keys.cache_gb * GB)
        # A new directory each time, because the command of a killed job may still be writing.
        part = self.cache / f"{FETCHING}{secrets.token_hex(8)}"
        try:
            out, whole = part / "out", part / "whole"
            out.mkdir(parents=True)
            whole.mkdir()
            words = command_words.filled_in(keys.fetch or "", {"hour": self.directory, "out": str(out)})
            log.info("fetching level-0 of %s: %s", self.directory, shlex.join(words))
            ended = run(words, ROOT, Log(output), seconds=keys.seconds, whole_group=True)
            if not ended.well:
                raise MissingInputError(
                    f"level-0 of {self.directory} is not in the archive and cannot be fetched: the command of "
                    f"level0.fetch {ended.how}: {ended.shown}The chunk was not decoded. Fix this, then rerun "
                    "the command."
                )
            for path in sorted(out.rglob("*")):
                name = archive_hours.NAME.fullmatch(path.name)
                if name and int(name[1]) == self.scid and path.is_file():
                    fsync_file(path)
                    path.rename(whole / path.name)
            if not any(whole.iterdir()):
                log.warning("level-0 of %s is not in the copy either", self.directory)
            self._link(whole, links, apids)  # first: once it is in the cache, it may be removed
            earlier = self._places()
            whole.rename(self.cache / f"{self._name}~{int(time.time()):011d}~{secrets.token_hex(4)}")
            for _, path in earlier:
                _remove(self.cache, path)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def make_room(cache: Path, limit: float) -> None:
    """Remove hours, the longest unused first, until the cache is smaller than `limit` (bytes).

    Removed files that jobs still read take space until these jobs end. Hours that are being fetched are not counted.
    """
    for path in cache.glob(f"{REMOVING}*"):
        shutil.rmtree(path, ignore_errors=True)
    for path in (*cache.glob(f"{FETCHING}*"), *cache.glob(f"{LINKS}*")):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < time.time() - LEFTOVER_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
    found = []
    for path in cache.glob("src*~*~*"):
        with suppress(FileNotFoundError):  # removed on another node
            used = path.stat().st_mtime
            found.append((used, path, sum(file.stat().st_size for file in path.iterdir())))
    left = sum(size for _, _, size in found)
    for _, path, size in sorted(found):
        if left < limit:
            return
        _remove(cache, path)
        left -= size


def _remove(cache: Path, place: Path) -> None:
    """Remove an hour from the cache; rename it first, so that under its own name it is always complete."""
    gone = cache / f"{REMOVING}{secrets.token_hex(8)}"
    with suppress(FileNotFoundError):  # removed on another node
        place.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
