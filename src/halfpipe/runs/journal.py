"""The journal of a run: what each downlink delivered, one line a delivery, flushed before files show.

It is read and written under the run's lock. The latest line of a downlink says what its files are now. What its
earlier lines covered beyond that Level-1 may have too: it stays closed to other downlinks until a line of another
kind, a release, says that Level-1 has nothing of it any more.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from halfpipe.ids import DownlinkId
from halfpipe.merge.intervals import Interval, Ranges, join, subtract
from halfpipe.storage.json_lines import JsonLines

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EventFile:
    """One event file as Level-1 sees it; seconds are `current.timeSecs` of its first and last event."""

    name: str
    events: int
    sequences: tuple[int, int]
    seconds: tuple[int, int]
    size: int
    sha256: str

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Self:
        """Read one from JSON."""
        (first, last), (begin, end) = entry["sequences"], entry["seconds"]
        return cls(
            entry["name"], entry["events"], (first, last), (begin, end), entry["size"], entry["sha256"]
        )

    def as_json(self) -> dict[str, Any]:
        """Write it as JSON."""
        return {
            "name": self.name,
            "events": self.events,
            "sequences": list(self.sequences),
            "seconds": list(self.seconds),
            "size": self.size,
            "sha256": self.sha256,
        }


@dataclass(frozen=True)
class Counted:
    """A span that the legacy recorded, and the events of its merged index; None if that is gone."""

    sequences: tuple[int, int]
    events: int | None


@dataclass(frozen=True)
class Delivery:
    """What one downlink delivered of a run: its spans, its files, and which datagrams were known then.

    `times` are those of the first and the last event in order of sequence, `window` the earliest and
    the latest: Unix UTC seconds, None without an event. `handoff` is the number of the hand-off that it was
    made for first, None if it is not known. `accepted` is the reason for which fewer events than before were accepted.
    `legacy` are the spans of a delivery that was taken over from the legacy, which has no files here; None of others.
    """

    downlink: DownlinkId
    spans: tuple[Interval, ...]
    datagrams: Ranges
    files: tuple[EventFile, ...]
    times: tuple[float, float] | None
    window: tuple[float, float] | None
    handoff: int | None = None
    accepted: str | None = None
    legacy: tuple[Counted, ...] | None = None

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Self:
        """Read one from JSON: a line of the journal, or a manifest."""
        return cls(
            DownlinkId(entry["downlink"]),
            tuple(Interval(*span) for span in entry["spans"]),
            {int(apid): tuple((a, b) for a, b in ranges) for apid, ranges in entry["datagrams"].items()},
            tuple(EventFile.of(file) for file in entry["files"]),
            _pair(entry["times"]),
            _pair(entry["window"]),
            entry.get("handoff"),
            entry.get("accepted"),
            _counted(entry.get("legacy")),
        )

    def as_json(self) -> dict[str, Any]:
        """Write it as JSON."""
        legacy = None if self.legacy is None else [[*span.sequences, span.events] for span in self.legacy]
        said = {"handoff": self.handoff, "accepted": self.accepted, "legacy": legacy}
        return {key: value for key, value in said.items() if value is not None} | {
            "downlink": str(self.downlink),
            "spans": [list(span) for span in self.spans],
            "datagrams": {
                str(apid): [list(pair) for pair in r] for apid, r in sorted(self.datagrams.items())
            },
            "files": [file.as_json() for file in self.files],
            "times": list(self.times) if self.times else None,
            "window": list(self.window) if self.window else None,
        }

    @property
    def events(self) -> int:
        """The number of events delivered; of the legacy's, as far as it is known."""
        return sum(piece.events or 0 for piece in self.pieces)

    @property
    def pieces(self) -> tuple[EventFile | Counted, ...]:
        """What its events are counted by."""
        return (*self.files, *(self.legacy or ()))


def _counted(entry: Sequence[Sequence[Any]] | None) -> tuple[Counted, ...] | None:
    return None if entry is None else tuple(Counted((first, last), events) for first, last, events in entry)


def _pair(values: Sequence[float] | None) -> tuple[float, float] | None:
    return (values[0], values[1]) if values else None


@dataclass(frozen=True)
class Release:
    """A person's word that Level-1 has nothing any more of what a downlink's earlier deliveries covered."""

    downlink: DownlinkId
    reason: str
    by: str
    when: str

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Self:
        """Read one from JSON."""
        return cls(DownlinkId(entry["released"]), str(entry["reason"]), str(entry["by"]), str(entry["when"]))

    def as_json(self) -> dict[str, Any]:
        """Write it as JSON."""
        return {"released": str(self.downlink), "reason": self.reason, "by": self.by, "when": self.when}


def read_line(value: Mapping[str, Any]) -> Delivery | Release:
    """Read a line of a journal.

    Raises
    ------
    ValueError, KeyError, TypeError, AttributeError
        If it is none.
    """
    return Release.of(value) if "released" in value else Delivery.of(value)


class Journal:
    """The deliveries of one run as its journal holds them.

    Parameters
    ----------
    path
        The journal; none yet means that nothing was delivered.
    lines
        What it holds, if not what is there: to see what would follow.

    Raises
    ------
    StateError
        If a line other than a torn last one is damaged.
    """

    def __init__(self, path: Path, lines: Iterable[Delivery | Release] | None = None) -> None:
        self.path = path
        self.deliveries: list[Delivery] = []
        self._latest: dict[DownlinkId, Delivery] = {}
        self._earlier: dict[DownlinkId, list[Delivery]] = {}
        if lines is not None:
            for line in lines:
                self._take(line)
            return
        self._lines = JsonLines(
            path,
            "What was delivered must be known before more can be",
            "nothing was delivered",
            "restore the file from a backup, or rebuild it from manifests and receipts: "
            f"halfpipe repair {path.parent.name}",
            "journal-damaged",
        )
        if self._lines.torn:
            log.warning("%s: the last line is torn (a job died while writing it) and is ignored", path)
        for number, value in enumerate(self._lines.values, 1):
            try:
                self._take(read_line(value))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise self._lines.damaged(number, error) from error

    def _take(self, line: Delivery | Release) -> None:
        if isinstance(line, Release):
            self._earlier.pop(line.downlink, None)
            return
        if (before := self._latest.get(line.downlink)) and before.spans:
            self._earlier.setdefault(line.downlink, []).append(before)
        # Only the version before could deliver again to one downlink what another had let go.
        for downlink, earlier in self._earlier.items():
            if downlink != line.downlink:
                self._earlier[downlink] = [replace(e, spans=subtract(e.spans, line.spans)) for e in earlier]
        self.deliveries.append(line)
        self._latest[line.downlink] = line

    def latest(self) -> dict[DownlinkId, Delivery]:
        """Return the latest delivery of each downlink."""
        return dict(self._latest)

    def earlier(self) -> dict[DownlinkId, list[Delivery]]:
        """Return deliveries before the latest that covered more than what came after, the oldest first."""
        found: dict[DownlinkId, list[Delivery]] = {}
        for downlink, latest in self._latest.items():
            newer = list(latest.spans)
            for delivery in reversed(self._earlier.get(downlink, [])):
                if subtract(delivery.spans, newer):
                    found.setdefault(downlink, []).insert(0, delivery)
                    newer += delivery.spans
        return found

    def closed(self, downlink: DownlinkId) -> tuple[Interval, ...]:
        """Return what earlier deliveries of `downlink` covered beyond its latest: closed to others until released."""
        spans = (span for delivery in self.earlier().get(downlink, []) for span in delivery.spans)
        latest = self._latest.get(downlink)
        return subtract(spans, latest.spans if latest else ())

    def covered(self, downlink: DownlinkId) -> tuple[Interval, ...]:
        """Return all that deliveries of `downlink` ever covered, released or not."""
        return join(span for delivery in self.of(downlink) for span in delivery.spans)

    def of(self, downlink: DownlinkId) -> list[Delivery]:
        """Return all deliveries of `downlink`, the oldest first."""
        return [delivery for delivery in self.deliveries if delivery.downlink == downlink]

    def names(self, downlink: DownlinkId) -> set[str]:
        """Return the names of all files that `downlink` ever delivered of the run."""
        return {file.name for delivery in self.of(downlink) for file in delivery.files}

    def record(self, line: Delivery | Release) -> None:
        """Append `line` and flush it to disk, unless it is a delivery that equals the latest of its downlink.

        The same again for a later hand-off is no other delivery.

        Raises
        ------
        HalfPipeError
            If it cannot be written and flushed: then nothing may be delivered.
        """
        if isinstance(line, Delivery):
            latest = self._latest.get(line.downlink)
            if latest is None and not line.spans:
                return
            if latest is not None and replace(line, handoff=latest.handoff) == latest:
                return
        self._lines.append(line.as_json())
        self._take(line)
