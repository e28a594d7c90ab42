"""The level-0 files that a chunk needs, as they lie in an archive at one moment.

A decoder that finds no packets of an hour ends well, and one that finds half a file does, too. So HalfPipe looks before
the decoder starts and after it ended: two equal looks mean that no file came, went, or changed meanwhile. A rename
changes the ctime of a file, so one that was away only while the decoder ran is noticed as well.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from halfpipe.formats import archive_hours, level0, met
from halfpipe.formats.retdef import RetDef

EDGE_SECONDS = 60  # around a span: which hour's file a packet is in is not known to the second
# Ingest moves the file of an hour away to merge new packets into it: a file may be absent for so long.
AWAY_SECONDS = 120.0
POLL_SECONDS = 0.2


class Seen(NamedTuple):
    """A file as stat(2) showed it: bytes, nanoseconds since the Unix epoch, inode."""

    size: int
    mtime: int
    ctime: int
    inode: int


HourOfApid = tuple[str, int]  # the directory of an hour, relative to the archive's root, and an APID


@dataclass(frozen=True)
class Look:
    """What one look found.

    Attributes
    ----------
    needed
        The hours of each APID that hold a part of the RetDef's spans.
    files
        The files by name, for each of `needed`, and for the hours that a span only comes near. None if the archive
        could not be looked at, because a container may see another one.
    """

    needed: frozenset[HourOfApid]
    files: Mapping[HourOfApid, Mapping[str, Seen]] | None

    @property
    def missing(self) -> list[HourOfApid] | None:
        """The needed hours that have no file, in order; None if that is not known."""
        return None if self.files is None else sorted(hour for hour in self.needed if not self.files[hour])

    @cached_property
    def by_name(self) -> dict[str, Seen]:
        """All files by their names relative to the root."""
        every = (self.files or {}).items()
        return {f"{hour}/{name}": seen for (hour, _), files in every for name, seen in files.items()}

    def summary(self) -> dict[str, Any]:
        """Return how many hours are needed, and the directory and the APID of each that is missing."""
        missing = self.missing
        named = None if missing is None else [{"hour": hour, "apid": apid} for hour, apid in missing]
        return {"needed": len(self.needed), "missing": named}

    def as_json(self) -> list[dict[str, Any]]:
        """Return the files hour by hour: size in bytes and mtime in Unix seconds by name."""
        return [
            {
                "hour": hour,
                "apid": apid,
                "files": {name: [seen.size, seen.mtime // 10**9] for name, seen in sorted(files.items())},
            }
            for (hour, apid), files in sorted((self.files or {}).items())
        ]


def directories(retdef: RetDef) -> dict[str, int]:
    """Return the directories of an archive that may hold packets of a RetDef, with the Unix second when each begins.

    They are relative to the archive's root, in order.
    """
    hours = {hour for hour, _ in _hours(retdef, EDGE_SECONDS)}
    return {_directory(retdef, hour): hour * met.HOUR for hour in sorted(hours)}


def _hours(retdef: RetDef, edge: float) -> Iterator[tuple[int, int]]:
    """Yield the hours, counted from the Unix epoch, and the APIDs of the spans, each `edge` seconds longer."""
    for span in retdef.spans:
        for hour in level0.hours_inside([(span.begin - edge, span.end + edge)]):
            yield hour, span.apid


def _directory(retdef: RetDef, hour: int) -> str:
    return str(level0.hour_path(Path(), retdef.scid, hour * met.HOUR))


def look(root: Path, retdef: RetDef) -> Look:
    """Look for the files that the spans of a RetDef need below `root`, an archive as it is seen from here."""
    needed = frozenset((_directory(retdef, hour), apid) for hour, apid in _hours(retdef, 0))
    around = sorted({(_directory(retdef, hour), apid) for hour, apid in _hours(retdef, EDGE_SECONDS)})
    try:
        if not level0.source_path(root, retdef.scid).is_dir():
            return Look(needed, None)
        files = {(hour, apid): _files(root / hour, retdef.scid, apid) for hour, apid in around}
    except OSError:
        return Look(needed, None)
    return Look(needed, files)


def _files(directory: Path, scid: int, apid: int) -> dict[str, Seen]:
    found = {}
    for path in archive_hours.files(directory, scid, apid):
        try:
            status = path.stat()
        except FileNotFoundError:  # moved away since it was listed
            continue
        found[path.name] = Seen(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    return found


def look_again(root: Path, retdef: RetDef, before: Look) -> Look:
    """Look once more; wait for files that were there `before` and are absent, which ingest may be about to replace."""
    deadline = time.monotonic() + AWAY_SECONDS
    now = look(root, retdef)
    while before.by_name.keys() - now.by_name.keys() and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        now = look(root, retdef)
    return now


def changes(before: Look, now: Look) -> list[str]:
    """Return the names of the files that differ between two looks, in order, each with what became of it."""
    old, new = before.by_name, now.by_name
    if before.files is None or now.files is None:
        return [] if before.files is now.files else ["the archive can be seen only at times"]
    differ = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    return [
        f"{name} ({'new' if name not in old else 'gone' if name not in new else 'changed'})"
        for name in differ
    ]
