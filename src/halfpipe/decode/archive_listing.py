"""The level-0 files that a chunk needs, as listed in an archive at one moment.

A decoder succeeds even if it finds no packets for an hour, or only half a file. So HalfPipe lists the files before the
decoder starts and after it ends. If both listings are equal, no file appeared, disappeared, or changed meanwhile. A
file that was moved away only while the decoder ran is noticed too, because a rename changes its ctime.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from halfpipe.decode.chunk import Hour, HourFiles
from halfpipe.formats import archive_hours
from halfpipe.formats.retdef import RetDef

EDGE_SECONDS = 60  # around a span, because packets near a full hour may be in the file of either hour
# Ingest moves the file of an hour away to merge new packets into it: a file may be absent for this long.
AWAY_SECONDS = 120.0
POLL_SECONDS = 0.2


class FileStatus(NamedTuple):
    """The status of a file from stat(2): bytes, nanoseconds since the Unix epoch, inode."""

    size: int
    mtime: int
    ctime: int
    inode: int


@dataclass(frozen=True)
class ArchiveListing:
    """The level-0 files of a RetDef in an archive.

    Attributes
    ----------
    needed
        The hours that the spans of the RetDef touch.
    files
        The files by name, for each of `needed` and for the hours within `EDGE_SECONDS` of a span. None if the archive
        is not visible from here; a container may see it.
    """

    needed: frozenset[Hour]
    files: Mapping[Hour, Mapping[str, FileStatus]] | None

    @property
    def missing(self) -> tuple[Hour, ...] | None:
        """The needed hours without a file, in order; None if this is unknown."""
        if self.files is None:
            return None
        return tuple(hour for hour in sorted(self.needed) if not self.files[hour])

    @cached_property
    def by_name(self) -> dict[str, FileStatus]:
        """All files by their names relative to the root."""
        return {
            f"{hour.hour}/{name}": status
            for hour, files in (self.files or {}).items()
            for name, status in files.items()
        }

    def contents(self) -> Iterator[HourFiles]:
        """Yield the files of each hour, in order."""
        for hour, files in sorted((self.files or {}).items()):
            listed = {name: (one.size, one.mtime // 10**9) for name, one in sorted(files.items())}
            yield HourFiles(hour.hour, hour.apid, listed)


def directories(retdef: RetDef) -> list[str]:
    """Return the archive's directories that may contain packets for a RetDef, relative to its root, in order."""
    return sorted({each.hour for each in _hours(retdef, EDGE_SECONDS)})


def _hours(retdef: RetDef, edge: float) -> set[Hour]:
    """Return the hours of the spans, each extended by `edge` seconds."""
    return {
        Hour(str(archive_hours.hour_path(Path(), retdef.scid, hour * archive_hours.HOUR)), span.apid)
        for span in retdef.spans
        for hour in archive_hours.hours_inside([(span.begin - edge, span.end + edge)])
    }


def list_archive(root: Path, retdef: RetDef) -> ArchiveListing:
    """List the files that the spans of a RetDef need in the archive at `root`."""
    files = None
    with suppress(OSError):
        if archive_hours.source_path(root, retdef.scid).is_dir():
            files = {
                each: _files(root / each.hour, retdef.scid, each.apid)
                for each in sorted(_hours(retdef, EDGE_SECONDS))
            }
    return ArchiveListing(frozenset(_hours(retdef, 0)), files)


def _files(directory: Path, scid: int, apid: int) -> dict[str, FileStatus]:
    found = {}
    for path in archive_hours.files(directory, scid, apid):
        with suppress(FileNotFoundError):  # moved away after it was listed
            status = path.stat()
            found[path.name] = FileStatus(
                status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
            )
    return found


def list_again(root: Path, retdef: RetDef, before: ArchiveListing) -> ArchiveListing:
    """List the files again; wait for files of `before` that are absent, because ingest may be replacing them."""
    deadline = time.monotonic() + AWAY_SECONDS
    while True:
        now = list_archive(root, retdef)
        if before.by_name.keys() <= now.by_name.keys() or time.monotonic() >= deadline:
            return now
        time.sleep(POLL_SECONDS)


def changes(before: ArchiveListing, now: ArchiveListing) -> list[str]:
    """Return the names of the files that differ between two listings, in order, each with the kind of change."""
    if before.files is None or now.files is None:
        return [] if before.files is now.files else ["the archive is visible only some of the time"]
    old = before.by_name
    new = now.by_name
    return sorted(
        [f"{name} (new)" for name in new.keys() - old.keys()]
        + [f"{name} (gone)" for name in old.keys() - new.keys()]
        + [f"{name} (changed)" for name in old.keys() & new.keys() if old[name] != new[name]]
    )
