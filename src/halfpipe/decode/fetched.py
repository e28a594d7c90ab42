"""Level-0 hours that left the archive: fetched from a copy into a cache that all jobs on all nodes share.

An hour in the cache is a directory that is fetched beside its place and renamed, so it is whole. Its name is used once
and never again. A job links the files that it needs into a directory of its own, which has the layout of an archive,
and the decoder reads these hard links. So the cache may lose an hour at any moment, removed by a job on another node,
and no decoder loses a byte. Nothing has to be locked for that. Only one job at a time fetches an hour, under a lease.
If that is lost, the hour is fetched twice, which costs time.

Which hours a chunk needs is no input of a rule: another set of inputs would make everything outstanding that was ever
made.
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
from halfpipe.decode.archive_look import Look, directories, look
from halfpipe.errors import MissingInputError
from halfpipe.files.durable import fsync_file
from halfpipe.files.lease import Lease
from halfpipe.formats import archive_hours
from halfpipe.formats.retdef import RetDef
from halfpipe.process import command_words
from halfpipe.process.programs import Log, run
from halfpipe.settings import ROOT, Settings

SETTLED_SECONDS = 14 * 86400.0  # after so long nothing more of an hour comes into the copy
ASKED_SECONDS = 3600.0  # until then, or if the copy had nothing, an hour is fetched again after so long
LEFT_SECONDS = 2 * 86400.0  # no job runs for so long, so what is older was left behind by a killed one
PART, USED, GONE = (
    ".part-",
    ".used-",
    ".gone-",
)  # directories of what is fetched, read by one job, and removed
GB = 10**9

log = logging.getLogger(__name__)


@contextmanager
def source(
    settings: Settings, retdef: RetDef, root: Path, seen: Look, output: IO[str]
) -> Iterator[tuple[Path, Look]]:
    """Give the root of what a chunk is decoded from, and a look at it.

    That is the archive. If the archive lacks hours that the chunk needs, and the config says how they are fetched, all
    hours are fetched. Then it is a directory of links to them, unless the copy lacks as many.

    Parameters
    ----------
    settings, retdef
        They name the cache and the command that fetches, and the hours that are needed.
    root, seen
        The archive and a look at it.
    output
        Takes what the command prints.

    Raises
    ------
    MissingInputError
        If hours are missing and cannot be fetched: nothing is decoded, because that would be too little.
    """
    cache = settings.level0.cache
    if settings.level0.fetch is None or cache is None or seen.missing == []:
        yield root, seen
        return
    links = cache / f"{USED}{secrets.token_hex(8)}"
    try:
        for directory, begin in directories(retdef).items():
            apids = {span.apid for span in retdef.spans}
            _Hour(settings, cache, directory, begin, retdef.scid).provide(links / directory, apids, output)
        linked = look(links, retdef)
        fewer = linked.missing is not None and (
            seen.missing is None or len(linked.missing) < len(seen.missing)
        )
        yield (links, linked) if fewer else (root, seen)
    finally:
        shutil.rmtree(links, ignore_errors=True)


@dataclass(frozen=True)
class _Hour:
    """An hour of level-0 in the cache.

    `directory` is relative to the root of an archive, `begin` is Unix seconds.
    """

    settings: Settings
    cache: Path
    directory: str
    begin: int
    scid: int

    @property
    def _name(self) -> str:
        return self.directory.replace("/", "+")

    def provide(self, links: Path, apids: Collection[int], output: IO[str]) -> None:
        """Link the files of some APIDs into the directory `links`, and fetch the hour if need be."""
        if self._is_linked(links, apids):
            return
        lease = Lease(self.cache, f"{paths.LEASES}/{self._name}", self.settings.lease.seconds)
        with lease.take(f"level-0 of {self.directory}", log.warning):
            if not self._is_linked(links, apids):
                self._fetch(links, apids, output)

    def _is_linked(self, links: Path, apids: Collection[int]) -> bool:
        """Link the files of the latest fetch, unless there is none, or the copy may have more by now."""
        there = self._there()
        if not there:
            return False
        fetched, place = there[-1]
        try:
            settled = fetched > self.begin + SETTLED_SECONDS and any(place.iterdir())
            if not settled and time.time() > fetched + ASKED_SECONDS:
                return False
            self._link(place, links, apids)
            place.stat()  # no other hour ever has this name: as it is there still, the list of files was whole
        except FileNotFoundError:  # removed on another node
            shutil.rmtree(links, ignore_errors=True)
            return False
        with suppress(OSError):  # the time of the last use: another account may own it
            os.utime(place)
        return True

    def _there(self) -> list[tuple[int, Path]]:
        """Return the directories of this hour, the latest last, with the Unix second when each was fetched."""
        return sorted((int(path.name.split("~")[1]), path) for path in self.cache.glob(f"{self._name}~*~*"))

    def _link(self, place: Path, links: Path, apids: Collection[int]) -> None:
        links.mkdir(parents=True, exist_ok=True)
        for apid in apids:
            for path in archive_hours.files(place, self.scid, apid):
                try:
                    os.link(path, links / path.name)
                except PermissionError as error:
                    raise MissingInputError(
                        f"{path}: no hard link can be made to it: {error.strerror}. All of {self.cache} must belong to "
                        "the account that runs the jobs. Name another directory in level0.cache, then re-run the "
                        "command."
                    ) from error

    def _fetch(self, links: Path, apids: Collection[int], output: IO[str]) -> None:
        """Fetch the hour, link it into `links`, and put it into the cache."""
        keys = self.settings.level0
        make_room(self.cache, keys.cache_gb * GB)
        # A directory of its own each time: the command of a job that was killed may still be writing.
        part = self.cache / f"{PART}{secrets.token_hex(8)}"
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
                    f"level0.fetch {ended.how}: {ended.shown}Nothing of this chunk was decoded. Fix this, then re-run "
                    "the command."
                )
            for path in sorted(out.rglob("*")):
                name = archive_hours.NAME.fullmatch(path.name)
                if name and int(name[1]) == self.scid and path.is_file():
                    fsync_file(path)
                    path.rename(whole / path.name)
            if not any(whole.iterdir()):
                log.warning("level-0 of %s: the copy has none of it either", self.directory)
            self._link(whole, links, apids)  # first: once it is in the cache, it may be removed from there
            earlier = self._there()
            whole.rename(self.cache / f"{self._name}~{int(time.time()):011d}~{secrets.token_hex(4)}")
            for _, path in earlier:
                _remove(self.cache, path)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def make_room(cache: Path, limit: float) -> None:
    """Remove hours, the longest unused first, until the cache is smaller than `limit`, bytes.

    What jobs read keeps its bytes until they end, and what is being fetched comes on top.
    """
    for path in cache.glob(f"{GONE}*"):
        shutil.rmtree(path, ignore_errors=True)
    for path in (*cache.glob(f"{PART}*"), *cache.glob(f"{USED}*")):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < time.time() - LEFT_SECONDS:
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
    """Take an hour out of the cache, under another name first: under its own it is always whole."""
    gone = cache / f"{GONE}{secrets.token_hex(8)}"
    with suppress(FileNotFoundError):  # removed on another node
        place.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
