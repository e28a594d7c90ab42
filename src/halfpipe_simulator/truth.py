"""What must come of simulated downlinks, by a plain and slow rule of its own.

This is an independent check of the project's merge and shares no code with it: events are looked at one
by one and every question ("is this place settled?") is answered from all that is known.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import product

from halfpipe.ids import RunKind

Event = tuple[int, int]  # sequence, APID
DatagramId = tuple[int, int]  # APID, number

_BEFORE_ALL, _AFTER_ALL = -1, 1 << 64
_CLOSING = ("stop", "abort", "pause")


@dataclass(frozen=True)
class Carried:
    """One datagram of a run as a downlink carries it, undamaged."""

    apid: int
    number: int
    open_action: str
    close_action: str
    sequences: tuple[int, ...]
    utcs: tuple[float, ...]


@dataclass(frozen=True)
class _Span:
    downlink: str
    first: int
    last: int
    known: frozenset[DatagramId]  # datagrams that had been brought when the span was recorded


@dataclass
class RunHistory:
    """What is known of one run, downlink after downlink in the order of processing."""

    min_epus: int = 2
    min_events: int = 2
    datagrams: dict[DatagramId, Carried] = field(default_factory=dict)
    spans: list[_Span] = field(default_factory=list)
    delivered: dict[str, list[Event]] = field(default_factory=dict)
    orphans: list[Event] = field(default_factory=list)

    def take(self, downlink: str, carried: Iterable[Carried]) -> None:
        """Process one downlink, which has not been processed before."""
        for datagram in carried:
            self.datagrams.setdefault((datagram.apid, datagram.number), datagram)
        intervals = self._settled()
        series: list[list[Event]] = [[]]
        place: int | None = None
        self.orphans = []
        for event in self._events():
            sequence = event[0]
            if any(span.first <= sequence <= span.last for span in self.spans):
                place = None
                continue
            inside = [n for n, (low, high) in enumerate(intervals) if low <= sequence <= high]
            if not inside:
                self.orphans.append(event)
                place = None
                continue
            if inside[0] != place:
                series.append([])
            place = inside[0]
            series[-1].append(event)
        out = [events for events in series if len(events) >= self.min_events]
        withheld = [event for events in series if len(events) < self.min_events for event in events]
        self.orphans = sorted(self.orphans + withheld)
        known = frozenset(self.datagrams)
        self.spans += [_Span(downlink, events[0][0], events[-1][0], known) for events in out]
        self.delivered[downlink] = [event for events in out for event in events]

    def late(self) -> list[Event]:
        """Return the events inside a span that came with datagrams unknown when it was recorded."""
        given = {event for events in self.delivered.values() for event in events}
        found: set[Event] = set()
        for (apid, number), datagram in self.datagrams.items():
            for sequence in datagram.sequences:
                if (sequence, apid) not in given and any(
                    span.first <= sequence <= span.last and (apid, number) not in span.known
                    for span in self.spans
                ):
                    found.add((sequence, apid))
        return sorted(found)

    def complete(self) -> bool:
        """Tell whether enough EPUs are known and each is whole from start to close."""
        segments = self._segments()
        return len(segments) >= self._enough() and all(
            len(of_epu) == 1
            and of_epu[0][0].open_action == "start"
            and of_epu[0][-1].close_action in _CLOSING
            for of_epu in segments.values()
        )

    def _events(self) -> list[Event]:
        return sorted({(s, apid) for (apid, _), d in self.datagrams.items() for s in d.sequences})

    def _enough(self) -> int:
        kind = RunKind.of(apid for apid, _ in self.datagrams)
        return self.min_epus if kind == RunKind.LPA else 1

    def _segments(self) -> dict[int, list[list[Carried]]]:
        segments: dict[int, list[list[Carried]]] = defaultdict(list)
        for apid, number in sorted(self.datagrams):
            of_epu = segments[apid]
            if (apid, number - 1) not in self.datagrams:
                of_epu.append([])
            of_epu[-1].append(self.datagrams[apid, number])
        return segments

    def _settled(self) -> list[tuple[int, int]]:
        """Return the settled intervals: places that every EPU covers."""
        segments = self._segments()
        if len(segments) < self._enough():
            return []
        covers = [[cover for segment in of_epu for cover in _cover(segment)] for of_epu in segments.values()]
        intervals: list[tuple[int, int]] = []
        for choice in sorted(product(*covers)):
            low, high = max(low for low, _ in choice), min(high for _, high in choice)
            if low > high:
                continue
            shared = [other for other in intervals if other[0] <= high and low <= other[1]]
            intervals = [other for other in intervals if other not in shared]
            intervals.append((min([low, *(o[0] for o in shared)]), max([high, *(o[1] for o in shared)])))
        return sorted(intervals)


def _cover(segment: list[Carried]) -> list[tuple[int, int]]:
    """Return the sequences that a segment covers, as no or one pair (first, last)."""
    sequences = [sequence for datagram in segment for sequence in datagram.sequences]
    opens = segment[0].open_action == "start"
    closes = segment[-1].close_action in _CLOSING
    if not sequences:
        return [(_BEFORE_ALL, _AFTER_ALL)] if opens and closes else []
    return [(_BEFORE_ALL if opens else min(sequences), _AFTER_ALL if closes else max(sequences))]
