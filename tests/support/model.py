"""The merge rule in plain form: the slow reference for tests of the library.

This is plain Python with lists and sets, easy to compare with the written rule, and shares no code with the library.
Sequences are integers, and infinities are floats. An interval is a pair (first, last) that includes both ends. A
downlink is its id as text, an EPU its APID.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

Interval = tuple[float, float]

OPENING = "start"
CLOSING = ("stop", "abort", "pause")


def dgm_line(
    apid: int, number: int, actions: tuple[str, str], ends: tuple[float, int, float, int], events: int, *, utc: float,
    met: int = 741234567, scid: int = 77, ground_id: int = 7799117, keys: tuple[int, int] = (3348, 7656),
) -> bytes:  # fmt: skip
    """Return the line of a datagram in an index (simulated); `ends`: time and sequence of the first and last event."""
    words = " ".join(
        f"{word:>16}"
        for word in ("NORMAL", actions[0], "requested", actions[1], "full", "LAT", "ORBIT", "EPU0")
    )
    return (
        f"DGM: {met:10d} {utc:19.6f} {scid:3d} {apid:4d} {number:7d} {ground_id:8d}   1 {words}"
        f" {ends[0]:19.6f} {ends[1]:20d} {ends[2]:19.6f} {ends[3]:20d} {events:10d} {keys[0]:10d} {keys[1]:10d}"
    ).encode()


@dataclass(frozen=True)
class Datagram:
    """One datagram line of an index; `first` and `last` count only if `events` is not 0."""

    apid: int
    number: int
    opening: str
    closing: str
    events: int
    first: int
    last: int
    utc: float = 1719541767.0

    @property
    def line(self) -> bytes:
        """The line of the index (simulated)."""
        ends = (self.utc, self.first, self.utc, self.last)
        actions = (self.opening, self.closing)
        return dgm_line(self.apid, self.number, actions, ends, self.events, utc=self.utc)


@dataclass(frozen=True)
class Event:
    """One event line; `copy` distinguishes copies of one event."""

    sequence: int
    apid: int
    datagram: int
    copy: int


@dataclass(frozen=True)
class Chunk:
    """The content of one chunk, lines in file order."""

    name: str
    events: tuple[Event, ...] = ()
    datagrams: tuple[Datagram, ...] = ()


@dataclass(frozen=True)
class Rules:
    max_events: int = 125000
    chunk_scale: float = 0.9
    chunk_floor: float = 0.5
    min_events: int = 2
    min_epus: int = 2


@dataclass(frozen=True)
class Delivery:
    """The record of one delivery.

    `counts` are delivered events by (apid, datagram), `files` have their first and last sequence and number of events,
    and `keys` are (sequence, apid) of the events.
    """

    spans: tuple[tuple[int, int], ...] = ()
    counts: Mapping[tuple[int, int], int] = field(default_factory=dict)
    files: tuple[tuple[int, int, int], ...] = ()
    keys: frozenset[tuple[int, int]] = frozenset()


@dataclass
class ModelDecision:
    """The decision of the reference for one downlink of one run."""

    kind: str
    epus: list[int]
    complete: bool
    settled: list[Interval]
    gaps: list[Interval]
    files: list[list[tuple[str, Event]]] = field(default_factory=list)
    spans: list[tuple[int, int]] = field(default_factory=list)
    undelivered: int = 0
    withheld: int = 0
    late: int = 0
    listed: frozenset[tuple[int, int]] = frozenset()

    @property
    def delivered(self) -> list[tuple[str, Event]]:
        """The events of all files in order, each with the downlink of its copy."""
        return [entry for file in self.files for entry in file]

    @property
    def delivery(self) -> Delivery:
        files = tuple((file[0][1].sequence, file[-1][1].sequence, len(file)) for file in self.files)
        counts = Counter((event.apid, event.datagram) for _, event in self.delivered)
        keys = frozenset((event.sequence, event.apid) for _, event in self.delivered)
        return Delivery(tuple(self.spans), counts, files, keys)


def inside(sequence: float, intervals: Iterable[Interval]) -> bool:
    """Tell whether one of `intervals` contains `sequence`."""
    return any(first <= sequence <= last for first, last in intervals)


def join(intervals: Iterable[Interval]) -> list[Interval]:
    """Join intervals that share a sequence; intervals that are only adjacent stay separate."""
    joined: list[Interval] = []
    for first, last in sorted(intervals):
        if joined and first <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return joined


def known_datagrams(arrived: Iterable[Sequence[Chunk]]) -> dict[int, dict[int, Datagram]]:
    """Return the datagrams by EPU and number; if a datagram has several lines, the one that sorts first."""
    known: dict[int, dict[int, Datagram]] = {}
    lines = [line for chunks in arrived for chunk in chunks for line in chunk.datagrams]
    for datagram in sorted(lines, key=lambda line: line.line):
        known.setdefault(datagram.apid, {}).setdefault(datagram.number, datagram)
    return known


def segments(datagrams: Mapping[int, Datagram]) -> list[list[Datagram]]:
    """Cut the datagrams of one EPU into maximal series of consecutive numbers."""
    series: list[list[Datagram]] = []
    for number in sorted(datagrams):
        if number - 1 not in datagrams:
            series.append([])
        series[-1].append(datagrams[number])
    return series


def opens(segment: Sequence[Datagram]) -> bool:
    """Tell whether the segment's first datagram opens the run."""
    return segment[0].opening == OPENING


def closes(segment: Sequence[Datagram]) -> bool:
    """Tell whether the segment's last datagram closes the run."""
    return segment[-1].closing in CLOSING


def covered(segment: Sequence[Datagram]) -> list[Interval]:
    """Return what a segment covers: one interval, or none."""
    edges = [(d.first, d.last) for d in segment if d.events]
    if not edges:
        return [(-inf, inf)] if opens(segment) and closes(segment) else []
    return [
        (
            -inf if opens(segment) else min(first for first, _ in edges),
            inf if closes(segment) else max(last for _, last in edges),
        )
    ]


def is_lpa(epus: Iterable[int]) -> bool:
    """Tell whether these APIDs belong to an LPA run."""
    return all(955 <= apid <= 958 for apid in epus)


def enough(epus: Sequence[int], rules: Rules) -> bool:
    """Tell whether enough EPUs have been seen."""
    return len(epus) >= (rules.min_epus if is_lpa(epus) else 1)


def settled(known: Mapping[int, Mapping[int, Datagram]], rules: Rules, settle_all: bool) -> list[Interval]:
    """Return the settled intervals: no EPU can add an event there."""
    if settle_all:
        return [(-inf, inf)]
    if not known or not enough(list(known), rules):
        return []
    choices = [[i for s in segments(datagrams) for i in covered(s)] for datagrams in known.values()]
    common = [
        (max(first for first, _ in choice), min(last for _, last in choice))
        for choice in itertools.product(*choices)
    ]
    return join((first, last) for first, last in common if first <= last)


def complete(known: Mapping[int, Mapping[int, Datagram]], rules: Rules) -> bool:
    """Tell whether enough EPUs are seen and each is one segment from start to close."""
    if not known or not enough(list(known), rules):
        return False
    for datagrams in known.values():
        pieces = segments(datagrams)
        if len(pieces) != 1 or not opens(pieces[0]) or not closes(pieces[0]):
            return False
    return True


def known_events(current: str, arrived: Mapping[str, Sequence[Chunk]]) -> list[tuple[str, Event]]:
    """Return every event once, in order: the current downlink's copy, else the first by id, chunk and line."""
    copies: dict[tuple[int, int], tuple[str, Event]] = {}
    for downlink in [current, *sorted(set(arrived) - {current})]:
        for chunk in sorted(arrived.get(downlink, ()), key=lambda chunk: chunk.name):
            for event in chunk.events:
                copies.setdefault((event.sequence, event.apid), (downlink, event))
    return [copies[place] for place in sorted(copies)]


def split(series: Sequence[int], rules: Rules) -> list[int]:
    """Return the numbers of events of the files that the `series` of sequences is split into."""
    lowest = max(1, rules.min_events)
    limit = max(rules.max_events, lowest)
    sizes: list[int] = []
    begin = 0
    while begin < len(series):
        end = len(series)
        if rules.max_events > 0:
            end = min(begin + limit, end)
            while end < len(series) and series[end] == series[end - 1]:
                end += 1
        sizes.append(end - begin)
        begin = end
        small = limit <= rules.chunk_floor * rules.max_events
        limit = max(rules.max_events if small else int(rules.chunk_scale * limit), lowest)
    if len(sizes) > 1 and sizes[-1] < rules.min_events:
        sizes[-2:] = [sizes[-2] + sizes[-1]]
    return sizes


def release(deliveries: Sequence[Delivery]) -> list[Delivery]:
    """Return the deliveries that count after a release: only the latest one."""
    return list(deliveries[-1:])


def shrinks(
    outcome: ModelDecision, deliveries: Sequence[Delivery], arrived: Mapping[str, Sequence[Chunk]]
) -> bool:
    """Tell whether a datagram would have fewer events in the spans of the latest delivery.

    An event counts in each datagram that contains it. One that was alone in a span counts while it is known, because
    Level-1 refuses it.
    """
    if not deliveries:
        return False
    latest = deliveries[-1]
    alone = [
        span for span in latest.spans if sum(n for first, _, n in latest.files if inside(first, [span])) == 1
    ]
    now = {
        (event.sequence, event.apid) for _, event in outcome.delivered if inside(event.sequence, latest.spans)
    }
    again = {
        (event.sequence, event.apid, event.datagram)
        for chunks in arrived.values()
        for event in events_of(chunks)
        if (event.sequence, event.apid) in now or inside(event.sequence, alone)
    }
    counts = Counter((apid, datagram) for _, apid, datagram in again)
    return any(counts[datagram] < events for datagram, events in latest.counts.items())


def decide(
    current: str,
    arrived: Mapping[str, Sequence[Chunk]],
    recorded: Mapping[str, Sequence[Delivery]],
    rules: Rules,
    settle_all: bool = False,
) -> ModelDecision:
    """Apply the rule to `current`, given the chunks of all downlinks and their recorded deliveries, in order.

    After a release, the deliveries before the latest one are not in `recorded`.
    """
    known = known_datagrams(arrived.values())
    own = [span for delivery in recorded.get(current, ()) for span in delivery.spans]
    foreign = {downlink: deliveries for downlink, deliveries in recorded.items() if downlink != current}
    taken = [span for deliveries in foreign.values() for delivery in deliveries for span in delivery.spans]
    places = join([*settled(known, rules, settle_all), *own])

    outcome = ModelDecision(
        kind="LPA" if is_lpa(known) else "LCI",
        epus=sorted(known),
        complete=complete(known, rules),
        settled=places,
        gaps=[(before[1], after[0]) for before, after in itertools.pairwise(places)],
        listed=frozenset((apid, number) for apid, numbers in known.items() for number in numbers),
    )
    events = known_events(current, arrived)

    due: list[tuple[str, Event]] = []
    waiting: list[int] = []
    covered_by_others: list[Event] = []
    for downlink, event in events:
        if inside(event.sequence, taken):
            covered_by_others.append(event)
        elif inside(event.sequence, places):
            due.append((downlink, event))
        else:
            waiting.append(event.sequence)
    outcome.undelivered = len(waiting)
    outcome.late = sum(
        late(covered_by_others, deliveries, events_of(arrived.get(downlink, ())))
        for downlink, deliveries in foreign.items()
    )

    for series in _series(due, _breaks(places, taken, waiting, own)):
        again = inside(series[0][1].sequence, own) and len(series) >= 2
        if len(series) < rules.min_events and not again:
            outcome.withheld += len(series)
            outcome.undelivered += len(series)
            continue
        outcome.spans.append((series[0][1].sequence, series[-1][1].sequence))
        remaining = iter(series)
        for size in split([event.sequence for _, event in series], rules):
            outcome.files.append(list(itertools.islice(remaining, size)))
    return outcome


def events_of(chunks: Iterable[Chunk]) -> list[Event]:
    """Return the events of chunks, including repeats."""
    return [event for chunk in chunks for event in chunk.events]


def closed(
    events: Iterable[Event], deliveries: Sequence[Delivery], latest: Sequence[tuple[int, int]]
) -> list[Event]:
    """Return the events inside earlier deliveries of a downlink, but not inside any latest delivery."""
    found = []
    for event in events:
        covering = [n for n, delivery in enumerate(deliveries) if inside(event.sequence, delivery.spans)]
        if covering and covering[-1] < len(deliveries) - 1 and not inside(event.sequence, latest):
            found.append(event)
    return found


def late(events: Iterable[Event], deliveries: Sequence[Delivery], own: Iterable[Event] = ()) -> int:
    """Count the events inside the spans of a downlink's deliveries (oldest first) that were not delivered.

    If several deliveries cover a place, the newest counts. If that delivery has fewer events of a datagram than are
    known now, the datagram was incomplete or missing at that time. An event that the downlink delivered from another
    datagram, as its `own` events show, is not late.
    """
    own = list(own)
    known = Counter[tuple[int, int, int]]()
    for event in events:
        covering = [n for n, delivery in enumerate(deliveries) if inside(event.sequence, delivery.spans)]
        if not covering:
            continue
        counts = deliveries[covering[-1]].counts
        others = {e.datagram for e in own if (e.sequence, e.apid) == (event.sequence, event.apid)}
        if not counts.get((event.apid, event.datagram)) and any(counts.get((event.apid, d)) for d in others):
            continue
        known[covering[-1], event.apid, event.datagram] += 1
    return sum(max(0, now - deliveries[n].counts.get((a, d), 0)) for (n, a, d), now in known.items())


def _breaks(
    places: Sequence[Interval],
    taken: Sequence[tuple[int, int]],
    waiting: Sequence[int],
    own: Sequence[tuple[int, int]],
) -> Callable[[int, int], bool]:
    """Return a function that tells whether a series ends between two consecutive delivered events."""

    def place(sequence: int) -> int:
        return next(n for n, (first, last) in enumerate(places) if first <= sequence <= last)

    def ends(before: int, after: int) -> bool:
        return (
            place(before) != place(after)
            or any(before < first and last < after for first, last in taken)
            or any(before < one < after for one in waiting)
            or any(before < first <= after or before <= last < after for first, last in own)
        )

    return ends


def _series(
    due: Sequence[tuple[str, Event]], ends: Callable[[int, int], bool]
) -> list[list[tuple[str, Event]]]:
    series: list[list[tuple[str, Event]]] = []
    for entry in due:
        if not series or ends(series[-1][-1][1].sequence, entry[1].sequence):
            series.append([])
        series[-1].append(entry)
    return series
