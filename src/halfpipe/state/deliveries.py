"""The deliveries of a run: a series of records, each published before its event files appear in the stage.

The latest delivery of a downlink lists its current files. Level-1 may also have what earlier deliveries covered beyond
those, so other downlinks do not deliver there. A release (another kind of record) opens these sequences again: a person
confirms that Level-1 no longer has their events.
"""

import logging
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

from halfpipe import paths
from halfpipe.errors import Remedy, StateError
from halfpipe.files import leases
from halfpipe.files.heartbeat import whoami
from halfpipe.files.records import Record, Series
from halfpipe.files.typed import Stored, values
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.books import Books
from halfpipe.merge.intervals import Interval, intersect, join, subtract
from halfpipe.settings import Settings
from halfpipe.state.merged_chunks import MergedChunk

MOST_CONTRADICTIONS = 20  # in a record
log = logging.getLogger(__name__)


class EventFile(Stored, frozen=True):
    """One event file as Level-1 sees it; `seconds` are `current.timeSecs` of its first and last event."""

    name: str
    events: int
    sequences: tuple[int, int]
    seconds: tuple[int, int]
    size: int
    sha256: str


class CountedSpan(Stored, frozen=True):
    """A span that was delivered elsewhere, without files here; `events` is None if their number is unknown."""

    sequences: tuple[int, int]
    events: int | None


class MootKey(Stored, frozen=True):
    """Key (32 bits) and alias of one run's configuration in MOOT."""

    key: int
    alias: str


class Contradiction(Stored, frozen=True):
    """A datagram that another downlink contains with other sequences: first and last, `here` and in `downlink`."""

    apid: int
    datagram: int
    downlink: DownlinkId
    here: Interval
    there: Interval


class Delivery(Stored, frozen=True, tag_field="record", tag="delivery"):
    """What one downlink delivered of a run, and from what.

    Attributes
    ----------
    downlink, handoff
        The downlink, and the number of the hand-off that the delivery was made for.
    spans, files
        The sequences of each file series, and the event files. Those of the delivery before, if this one was refused.
    times
        Times of the first and the last event in order of sequence, Unix UTC seconds; None without events.
    datagrams, counts
        The datagrams of the run that were known, and the number of delivered events in each, as text for each APID;
        `counts` is None if it is unknown.
    chunks, index
        The chunks that were merged, with their products; the seal of the merged index that was made of them.
    brought
        The number of events in these chunks, each once.
    kind, epus, complete, abandoned, gaps
        The run, as the decision describes it (`halfpipe.merge.decision.Decision`).
    moot
        The MOOT key of the run.
    books, state
        The books of the run after this delivery, and the checksum of everything that they depend on
        (`halfpipe.state.run_books.state_of`); None while events are due, because the next delivery changes them.
    loss, accepted
        Number of events of the delivery before that are not delivered again; why a person accepted this.
    refused
        Why Level-1 would refuse the run. Then nothing new is staged.
    missing
        Messages on chunks of other downlinks that the merge did without.
    contradicts
        The first datagrams that other downlinks contain with other sequences (at most `MOST_CONTRADICTIONS`).
    origin
        The system that made the delivery; empty for HalfPipe.
    counted
        The spans of a delivery of another system.
    """

    downlink: DownlinkId
    handoff: int
    spans: tuple[Interval, ...]
    datagrams: dict[int, tuple[tuple[int, int], ...]]
    files: tuple[EventFile, ...] = ()
    times: tuple[float, float] | None = None
    counts: dict[int, str] | None = None
    chunks: tuple[MergedChunk, ...] = ()
    index: str = ""
    brought: int = 0
    kind: str = ""
    epus: tuple[int, ...] = ()
    complete: bool = False
    abandoned: bool = False
    gaps: tuple[tuple[int, int], ...] = ()
    moot: MootKey | None = None
    books: Books = Books()
    state: str | None = None
    loss: int = 0
    accepted: str | None = None
    refused: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    contradicts: tuple[Contradiction, ...] = ()
    origin: str = ""
    counted: tuple[CountedSpan, ...] = ()

    @property
    def events(self) -> int:
        """The number of events delivered, as far as it is known."""
        return sum(piece.events or 0 for piece in self.pieces)

    @property
    def total(self) -> int | None:
        """The number of events delivered; None if it is unknown."""
        return None if any(piece.events is None for piece in self.pieces) else self.events

    @property
    def pieces(self) -> tuple[EventFile | CountedSpan, ...]:
        """The files and spans over which events are counted."""
        return (*self.files, *self.counted)

    @property
    def state_word(self) -> str:
        """The state of the run in one word."""
        if self.refused:
            return "REFUSED"
        if self.complete:
            return "complete"
        return "abandoned" if self.abandoned else "open"


class Release(Stored, frozen=True, tag_field="record", tag="release"):
    """A person's confirmation that Level-1 no longer has events from earlier deliveries of a downlink."""

    downlink: DownlinkId
    reason: str
    by: str
    when: str


class Unreadable(Stored, frozen=True, tag_field="record", tag="unreadable"):
    """What another system delivered of a downlink cannot be read: why, and what to do."""

    downlink: DownlinkId
    text: str
    first: str
    do: str

    @property
    def remedy(self) -> Remedy:
        """What to do."""
        return Remedy(self.do, first=self.first)


Entry = Delivery | Release | Unreadable


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
        """The downlinks whose record in another system still cannot be read."""
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

    @property
    def closing(self) -> list[DownlinkId]:
        """The downlinks whose earlier deliveries close sequences to others, in order."""
        return [dl for dl in sorted(self.earlier()) if self.closed(dl)]

    def with_next(self, delivery: Delivery) -> "DeliveryHistory":
        """Return the history as it will be after `delivery`, whose record has no seal yet."""
        return DeliveryHistory([*self._entries, (delivery, "")])

    def sealed(self, seal: str) -> Delivery | None:
        """Return the delivery whose record has this seal."""
        return next(
            (entry for entry, of in self._entries if of == seal and isinstance(entry, Delivery)), None
        )

    def first_handoff(self, downlink: DownlinkId) -> int | None:
        """Return the first hand-off of `downlink` that has the spans of its latest delivery; None without one."""
        found = None
        latest = self.latest().get(downlink)
        for delivery in reversed(self.of(downlink)):
            if latest is None or delivery.spans != latest.spans:
                break
            found = delivery.handoff
        return found

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
            self._entries.append((self._series.typed(record, Entry), record.seal))

    def publish(self, entry: Entry) -> Record:
        """Publish `entry`, unless it equals the latest entry of its downlink; return its record.

        Raises
        ------
        TakenError
            If another process published a record of the run after these were read: read and decide again.
        HalfPipeError
            If the record cannot be written. Then nothing may be delivered.
        """
        numbers = [n for n, (known, _) in enumerate(self._entries) if known.downlink == entry.downlink]
        if numbers and self._entries[numbers[-1]][0] == entry:
            return self._series.records[numbers[-1]]
        record = self._series.publish(values(entry))
        self._entries.append((entry, record.seal))
        return record


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
                "it shrinks and process the downlink again."
            )
        me = whoami()
        now = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds")
        deliveries.publish(Release(downlink, reason, f"{me.user} on {me.host}", now))
    return closed
