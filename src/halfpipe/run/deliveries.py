"""The deliveries of a run: a series of records, each published before its event files appear in the stage.

The latest delivery of a downlink lists its current files. Level-1 may also have what earlier deliveries covered beyond
those, so other downlinks do not deliver there. A release (another kind of record) opens these sequences again: a person
confirms that Level-1 no longer has their events.
"""

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any, Self

from halfpipe import paths
from halfpipe.errors import Remedy, StateError
from halfpipe.files import leases
from halfpipe.files.heartbeat import whoami
from halfpipe.files.records import Series
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.intervals import Interval, Ranges, intersect, join, subtract
from halfpipe.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EventFile:
    """One event file as Level-1 sees it; `seconds` are `current.timeSecs` of its first and last event."""

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
class LegacySpan:
    """A span that the legacy recorded, and the number of events in its merged index; None if the index is gone."""

    sequences: tuple[int, int]
    events: int | None


@dataclass(frozen=True)
class Delivery:
    """What one downlink delivered of a run: its spans, its files, and the datagrams known at that time.

    Attributes
    ----------
    times
        Times of the first and the last event in order of sequence, Unix UTC seconds; None without events.
    window
        The earliest and the latest event time, Unix UTC seconds; None without events.
    handoff
        Number of the hand-off that the delivery was first made for; None if unknown.
    accepted
        Why a person accepted fewer events than before; None if there was no loss.
    counts
        Number of events in each datagram, as text for each APID; None for deliveries of the legacy.
    legacy
        Spans of a delivery taken over from the legacy, which has no files here; None for all others.
    """

    downlink: DownlinkId
    spans: tuple[Interval, ...]
    datagrams: Ranges
    files: tuple[EventFile, ...]
    times: tuple[float, float] | None
    window: tuple[float, float] | None
    handoff: int | None = None
    accepted: str | None = None
    legacy: tuple[LegacySpan, ...] | None = None
    counts: Mapping[int, str] | None = None

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Self:
        """Read one from JSON: a record, or a manifest."""
        legacy, counts = entry.get("legacy"), entry.get("counts")
        return cls(
            DownlinkId(entry["downlink"]),
            tuple(Interval(*span) for span in entry["spans"]),
            {int(apid): tuple((a, b) for a, b in ranges) for apid, ranges in entry["datagrams"].items()},
            tuple(EventFile.of(file) for file in entry["files"]),
            _pair(entry["times"]),
            _pair(entry["window"]),
            entry.get("handoff"),
            entry.get("accepted"),
            None if legacy is None else tuple(LegacySpan((first, last), n) for first, last, n in legacy),
            None if counts is None else {int(apid): text for apid, text in counts.items()},
        )

    def as_json(self) -> dict[str, Any]:
        """Write it as JSON."""
        legacy = None if self.legacy is None else [[*span.sequences, span.events] for span in self.legacy]
        counts = None if self.counts is None else {str(apid): text for apid, text in self.counts.items()}
        optional = {"handoff": self.handoff, "accepted": self.accepted, "legacy": legacy, "counts": counts}
        return {key: value for key, value in optional.items() if value is not None} | {
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
        """The number of events delivered; for deliveries of the legacy, the number that is known."""
        return sum(piece.events or 0 for piece in self.pieces)

    @property
    def total(self) -> int | None:
        """The number of events delivered; None if it is unknown because merged indexes of the legacy are gone."""
        return None if any(piece.events is None for piece in self.pieces) else self.events

    @property
    def pieces(self) -> tuple[EventFile | LegacySpan, ...]:
        """The files and legacy spans over which events are counted."""
        return (*self.files, *(self.legacy or ()))


def _pair(values: Sequence[float] | None) -> tuple[float, float] | None:
    return (values[0], values[1]) if values else None


@dataclass(frozen=True)
class _Statement:
    """A record about a downlink that consists of texts only."""

    downlink: DownlinkId

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Self:
        """Read one from JSON."""
        _, *more = fields(cls)
        return cls(DownlinkId(entry["downlink"]), *(str(entry[each.name]) for each in more))

    def as_json(self) -> dict[str, Any]:
        """Write it as JSON."""
        return {key: str(value) for key, value in vars(self).items()}


@dataclass(frozen=True)
class Release(_Statement):
    """A person's confirmation that Level-1 no longer has events from earlier deliveries of a downlink."""

    reason: str
    by: str
    when: str


@dataclass(frozen=True)
class Unreadable(_Statement):
    """The legacy's record of a downlink cannot be read: why, and what to do."""

    text: str
    first: str
    do: str

    @property
    def remedy(self) -> Remedy:
        """What to do."""
        return Remedy(self.do, first=self.first)


Entry = Delivery | Release | Unreadable
KINDS: Mapping[str, type[Entry]] = {"delivery": Delivery, "release": Release, "unreadable": Unreadable}


class DeliveryHistory:
    """The deliveries of a run, from its entries in order, each with the seal of its record."""

    def __init__(self, entries: Iterable[tuple[Entry, str]] = ()) -> None:
        self._entries = list(entries)

    @property
    def deliveries(self) -> list[Delivery]:
        """All deliveries, oldest first."""
        return [entry for entry, _ in self._entries if isinstance(entry, Delivery)]

    @property
    def unreadable(self) -> dict[DownlinkId, Unreadable]:
        """The downlinks whose legacy record is still not readable."""
        last = {entry.downlink: entry for entry, _ in self._entries if not isinstance(entry, Release)}
        return {downlink: entry for downlink, entry in last.items() if isinstance(entry, Unreadable)}

    def latest(self) -> dict[DownlinkId, Delivery]:
        """Return the latest delivery of each downlink."""
        return {delivery.downlink: delivery for delivery in self.deliveries}

    def seal(self, downlink: DownlinkId) -> str | None:
        """Return the seal of the record of the latest delivery of `downlink`; None if there is no delivery."""
        seals = {entry.downlink: seal for entry, seal in self._entries if isinstance(entry, Delivery)}
        return seals.get(downlink)

    def all_recorded(self) -> dict[DownlinkId, tuple[Delivery, ...]]:
        """Return the deliveries of each downlink that Level-1 may have, oldest first: `earlier`, then the latest."""
        earlier = self.earlier()
        return {downlink: (*earlier.get(downlink, ()), latest) for downlink, latest in self.latest().items()}

    def earlier(self) -> dict[DownlinkId, list[Delivery]]:
        """Return the deliveries before the latest that covered more than the later ones, oldest first.

        A release drops all deliveries before the latest one at that time.
        """
        unreleased: dict[DownlinkId, list[Delivery]] = {}
        for entry, _ in self._entries:
            if isinstance(entry, Delivery):
                unreleased.setdefault(entry.downlink, []).append(entry)
            elif isinstance(entry, Release):
                del unreleased.get(entry.downlink, [])[:-1]
        found: dict[DownlinkId, list[Delivery]] = {}
        for downlink, (*before, latest) in unreleased.items():
            newer = list(latest.spans)
            for delivery in reversed(before):
                if subtract(delivery.spans, newer):
                    found.setdefault(downlink, []).insert(0, delivery)
                    newer += delivery.spans
        return found

    def overlaps(self) -> list[tuple[DownlinkId, DownlinkId, Interval]]:
        """Return pairs of downlinks whose latest deliveries overlap, with the first and last common sequence.

        HalfPipe's own decisions never overlap. Overlaps can appear after a backup was restored, or if another system
        delivers too.
        """
        return [
            (one, other, Interval(common[0].first, common[-1].last))
            for (one, a), (other, b) in combinations(sorted(self.latest().items()), 2)
            if (common := intersect(join(a.spans), join(b.spans)))
        ]

    def closed(self, downlink: DownlinkId) -> tuple[Interval, ...]:
        """Return what earlier deliveries of `downlink` covered beyond its latest: closed to others until a release."""
        spans = (span for delivery in self.earlier().get(downlink, []) for span in delivery.spans)
        latest = self.latest().get(downlink)
        return subtract(spans, latest.spans if latest else ())

    def of(self, downlink: DownlinkId) -> list[Delivery]:
        """Return all deliveries of `downlink`, oldest first."""
        return [delivery for delivery in self.deliveries if delivery.downlink == downlink]

    def names(self, downlink: DownlinkId) -> set[str]:
        """Return the names of all files of the run that `downlink` ever delivered."""
        return {file.name for delivery in self.of(downlink) for file in delivery.files}


class Deliveries(DeliveryHistory):
    """The recorded deliveries of one run.

    Parameters
    ----------
    work, run
        `paths.work`, and the run. Without records nothing was delivered.
    only_look
        As for `Series`.

    Raises
    ------
    DamagedError
        If both copies of a record are gone or damaged.
    """

    def __init__(self, work: Path, run: RunId, *, only_look: bool = False) -> None:
        super().__init__()
        self._series = Series(work, paths.deliveries(run), only_look=only_look)
        for record in self._series.read():
            try:
                entry = KINDS[record.values["kind"]].of(record.values)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise self._series.damaged(record.number, f"not a record of a delivery: {error!r}") from error
            self._entries.append((entry, record.seal))

    def publish(self, entry: Entry) -> None:
        """Publish `entry`, unless it equals the latest entry of its downlink.

        The same delivery for a later hand-off counts as equal.

        Raises
        ------
        TakenError
            If another process published a record of the run after these were read: read and decide again.
        HalfPipeError
            If the record cannot be written. Then nothing may be delivered.
        """
        if self._is_known(entry):
            return
        kind = next(word for word, of_kind in KINDS.items() if isinstance(entry, of_kind))
        self._entries.append((entry, self._series.publish({"kind": kind, **entry.as_json()}).seal))

    def _is_known(self, entry: Entry) -> bool:
        if isinstance(entry, Unreadable):
            return self.unreadable.get(entry.downlink) == entry
        if isinstance(entry, Release) or entry.downlink in self.unreadable:
            return False
        latest = self.latest().get(entry.downlink)
        if latest is None:
            return not entry.spans
        return replace(entry, handoff=latest.handoff) == latest


def release(settings: Settings, run: RunId, downlink: DownlinkId, reason: str) -> tuple[Interval, ...]:
    """Open to other downlinks what earlier deliveries of `downlink` covered beyond its latest; return these intervals.

    Raises
    ------
    StateError
        If nothing is closed.
    """
    with leases.run_lease(settings, run, log.warning):
        deliveries = Deliveries(settings.paths.work, run)
        closed = deliveries.closed(downlink)
        if not closed:
            raise StateError(
                f"run {run} ({run.l1}): nothing to release: earlier deliveries of downlink {downlink} close nothing to "
                "other downlinks. Its latest delivery is never released. To release a part of it, first accept that "
                "it shrinks (shrink.accept) and process the downlink again."
            )
        me = whoami()
        now = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds")
        deliveries.publish(Release(downlink, reason, f"{me.user} on {me.host}", now))
    return closed
