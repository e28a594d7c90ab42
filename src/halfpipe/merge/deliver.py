"""What a downlink delivers of a run, in which files: the merge rule as a pure function over arrays."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise

import numpy as np
from numpy.typing import NDArray

from halfpipe.formats.idx import EVENT
from halfpipe.ids import DownlinkId, RunKind
from halfpipe.merge.aside import Rows
from halfpipe.merge.settle import Interval, KnownDatagrams, Ranges, is_complete, join, settled
from halfpipe.tables import joined, put, taken

_BLOCK = 1 << 17  # events looked at at a time, where a copy of all would take as much memory again


_FEW = 64  # rows looked at for one more of a sequence: as many EPUs share one at the most


@dataclass(frozen=True)
class Policy:
    """How deliveries are cut into files and how many EPUs a run needs; the config explains each."""

    max_events: int = 125000
    chunk_scale: float = 0.9
    chunk_floor: float = 0.5
    min_events: int = 2
    min_epus: int = 2


@dataclass(frozen=True)
class Recorded:
    """The latest delivery of a downlink as it was recorded: its spans and what was known then."""

    spans: tuple[Interval, ...]
    datagrams: Ranges


@dataclass(frozen=True)
class Decision:
    """What one downlink delivers of one run.

    `events` are the delivered events in the order (sequence, APID), `source` of each counts into
    `sources`; `files` are half-open slices of them, `spans` the first and last sequence of each file
    series. `known` counts events after removal of duplicates, `announced` those that the known
    datagrams say they hold, `orphans` includes `withheld`, `late` events lie inside spans recorded for
    other downlinks and came after these. `datagrams` is all that is known of the run now.
    """

    kind: RunKind
    epus: tuple[int, ...]
    complete: bool
    settled: tuple[Interval, ...]
    gaps: tuple[tuple[int, int], ...]
    sources: tuple[DownlinkId, ...]
    events: NDArray[np.void]
    files: tuple[tuple[int, int], ...]
    spans: tuple[Interval, ...]
    known: int
    announced: int
    orphans: int
    withheld: int
    late: int
    datagrams: Ranges


def merge_chunks(chunks: Sequence[tuple[str, NDArray[np.void]]]) -> NDArray[np.void]:
    """Merge the events of the chunks of one downlink: order (sequence, APID), duplicates removed.

    Of equal (sequence, APID) the first line of the first chunk in file-name order stays.

    Parameters
    ----------
    chunks
        Pairs of the index's file name and its events (`EVENT` or a type with its fields) in line order.
    """
    parts = [in_order(events) for _, events in sorted(chunks, key=lambda pair: pair[0])]
    return joined([*merged(parts)]) if any(map(len, parts)) else np.empty(0, EVENT)


def in_order(events: NDArray[np.void]) -> NDArray[np.void]:
    """Return `events` in the order (sequence, APID), of equal ones the first; the same array if it is so."""
    sequence, apid = events["sequence"], events["apid"]
    step = np.greater(sequence[1:], sequence[:-1])
    if step.all():
        return events
    equal = sequence[1:] == sequence[:-1]
    if (step | (equal & (apid[1:] > apid[:-1]))).all():
        return events
    return _first_of_equals(events)


def _first_of_equals(events: NDArray[np.void]) -> NDArray[np.void]:
    order = np.argsort(events["sequence"], kind="stable")
    sequence, apid = events["sequence"].take(order), events["apid"].take(order)
    equal = sequence[1:] == sequence[:-1]
    if (equal & (apid[1:] <= apid[:-1])).any():
        order = np.lexsort((events["apid"], events["sequence"]))  # stable
        sequence, apid = events["sequence"][order], events["apid"][order]
        first = np.ones(len(order), dtype=bool)
        first[1:] = (sequence[1:] != sequence[:-1]) | (apid[1:] != apid[:-1])
        order = order[first]
    return taken(events, order)


def merged(parts: Sequence[Rows], most: int | None = None) -> Iterator[NDArray[np.void]]:
    """Merge parts that are each `in_order`; yield the whole window by window, in order.

    Of equal (sequence, APID) the copy of the first part stays.

    Parameters
    ----------
    parts
        All of one type; the events of a run in several chunks, or of several downlinks.
    most
        So many events of each part are held at a time, at least 1, and those that share the last one's
        sequence; None: a million in all.
    """
    parts = [part for part in parts if len(part)]
    if len(parts) == 1 and isinstance(parts[0], np.ndarray):
        yield parts[0]
        return
    cursors = [_Cursor(part, most or max(1 << 12, (1 << 20) // len(parts))) for part in parts]
    while cursors:
        # Whatever of a part is not held yet lies behind the last that is.
        last = min(cursor.last for cursor in cursors)
        window = [rows for cursor in cursors if len(rows := cursor.take(last))]
        cursors = [cursor for cursor in cursors if len(cursor.held)]
        yield window[0] if len(window) == 1 else _first_of_equals(joined(window))


class _Cursor:
    """Where a merge stands in one part: `held` are the next rows, with all that share the last sequence."""

    def __init__(self, part: Rows, most: int) -> None:
        self._part, self._most, self._next = part, most, 0
        self.held: NDArray[np.void] = part[0:0]
        self._load()

    def _load(self) -> None:
        begin, end = self._next, min(self._next + self._most, len(self._part))
        self.held = self._part[begin:end]
        while end < len(self._part):
            more = self._part[end : end + _FEW]
            count = _behind(more["sequence"], self.last)
            if count:
                self.held = joined([self.held, more[:count]])
            end += count
            if count < len(more):
                break
        self._next = end

    @property
    def last(self) -> np.uint64:
        """The last sequence that is held."""
        last: np.uint64 = self.held["sequence"][-1]
        return last

    def take(self, last: np.uint64) -> NDArray[np.void]:
        """Return the rows up to sequence `last`, and hold what follows."""
        end = _behind(self.held["sequence"], last)
        head, self.held = self.held[:end], self.held[end:]
        if end and not len(self.held):
            self._load()
        return head


def _behind(sequence: NDArray[np.uint64], last: int | np.uint64) -> int:
    """Return how many of the ordered sequences are at most `last`.

    The sequences of a table do not lie beside each other in memory: numpy's search would copy all of them.
    """
    return bisect_right(sequence, last)


def _ahead(sequence: NDArray[np.uint64], first: int) -> int:
    """Return how many of the ordered sequences are less than `first`; without a copy, as `_behind`."""
    return bisect_left(sequence, first)


def decide(
    downlink: DownlinkId,
    datagrams: Mapping[DownlinkId, KnownDatagrams],
    events: Mapping[DownlinkId, NDArray[np.void]],
    recorded: Mapping[DownlinkId, Recorded],
    policy: Policy,
    *,
    given_up: bool = False,
) -> Decision:
    """Decide what `downlink` delivers of a run.

    Parameters
    ----------
    downlink
        The downlink that is processed.
    datagrams
        What each downlink makes known of the run, its own included.
    events
        The events of each downlink, in order and each once; of any type with sequence, APID and datagram.
        If it has the field ``source``, that counts into `in_sources`.
    recorded
        The latest recorded delivery of each downlink that has one.
    policy
        Limits of files and the number of EPUs.
    given_up
        An operator has given the run up: all that is known and not yet delivered goes out.
    """
    known_datagrams = KnownDatagrams.together(datagrams.values())
    segments = known_datagrams.segments()
    own = recorded[downlink].spans if downlink in recorded else ()
    others = {dl: record for dl, record in recorded.items() if dl != downlink}
    places = settled(segments, policy.min_epus, own, given_up=given_up)

    sources = in_sources(downlink, events)
    known = _known(sources, events)
    sequence = known["sequence"]
    is_settled = _holding(sequence, places)
    foreign = join(span for record in others.values() for span in record.spans)
    is_foreign = _holding(sequence, foreign)

    chosen = is_settled & ~is_foreign
    runs = _runs_of(chosen)
    deliverable = sequence[slice(*runs[0])] if len(runs) == 1 else sequence[chosen]
    series = _series(deliverable, places, foreign, own)
    large = [(a, b) for a, b in series if b - a >= policy.min_events]
    withheld = len(deliverable) - sum(b - a for a, b in large)
    if withheld:
        numbers = np.flatnonzero(chosen)
        for a, b in series:
            chosen[numbers[a:b]] = b - a >= policy.min_events
    delivered = _cut_out(known, _runs_of(chosen))
    cuts = _closed_up(large)

    return Decision(
        kind=RunKind.of(segments),
        epus=tuple(sorted(segments)),
        complete=is_complete(segments, policy.min_epus),
        settled=places,
        gaps=tuple((one.last, other.first) for one, other in pairwise(places)),
        sources=sources,
        events=delivered,
        files=tuple(file for a, b in cuts for file in split(delivered["sequence"], a, b, policy)),
        spans=tuple(
            Interval(int(delivered["sequence"][a]), int(delivered["sequence"][b - 1])) for a, b in cuts
        ),
        known=len(known),
        announced=int(known_datagrams.rows["nevts"].sum()),
        orphans=int(np.count_nonzero(~(is_settled | is_foreign))) + withheld,
        withheld=withheld,
        late=_count_late(known, is_foreign, others),
        datagrams=known_datagrams.ranges(),
    )


def in_sources(downlink: DownlinkId, events: Iterable[DownlinkId]) -> tuple[DownlinkId, ...]:
    """Return the order in which copies of one event count: those of `downlink` itself first."""
    return (downlink, *sorted(dl for dl in events if dl != downlink))


def _known(sources: Sequence[DownlinkId], events: Mapping[DownlinkId, NDArray[np.void]]) -> NDArray[np.void]:
    """Join the events of `sources`; of equal (sequence, APID) the copy of the first source stays."""
    parts = [_sourced(events[source], n) for n, source in enumerate(sources) if source in events]
    if not any(map(len, parts)):
        return parts[0] if parts else _sourced(np.empty(0, EVENT), 0)
    windows = merged(parts)
    first = next(windows)
    if len(first) == sum(map(len, parts)):
        return first
    known = np.empty(sum(map(len, parts)), first.dtype)
    at = 0
    for window in chain([first], windows):
        put(known, at, window)
        at += len(window)
    return known[:at]


def _sourced(events: NDArray[np.void], number: int) -> NDArray[np.void]:
    """Return `events` with the field ``source``; those that have it already were numbered by the caller."""
    fields = events.dtype
    if "source" in (fields.names or ()):
        return events
    sourced = np.empty(
        len(events), np.dtype([*((name, fields[name]) for name in fields.names or ()), ("source", np.uint16)])
    )
    for name in fields.names or ():
        sourced[name] = events[name]
    sourced["source"] = number
    return sourced


def _holding(sequence: NDArray[np.uint64], intervals: Sequence[Interval]) -> NDArray[np.bool_]:
    """Tell for each of the ordered sequences whether one of the intervals holds it."""
    held = np.zeros(len(sequence), dtype=bool)
    for first, last in intervals:
        held[_ahead(sequence, first) : _behind(sequence, last)] = True
    return held


def _inside(numbers: NDArray[np.uint64], intervals: Sequence[Interval]) -> NDArray[np.bool_]:
    """Tell for each number whether one of the disjoint, ordered intervals holds it."""
    if not intervals:
        return np.zeros(len(numbers), dtype=bool)
    firsts, lasts = (np.array(edge, np.uint64) for edge in zip(*intervals, strict=True))
    place = np.searchsorted(firsts, numbers, side="right")
    inside: NDArray[np.bool_] = (place > 0) & (numbers <= lasts[np.maximum(place, 1) - 1])
    return inside


def _runs_of(chosen: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return where `chosen` is true, as half-open slices."""
    steps = np.flatnonzero(chosen[1:] != chosen[:-1]) + 1
    edges = [0, *steps.tolist(), len(chosen)]
    return [(a, b) for a, b in pairwise(edges) if b > a and chosen[a]]


def _series(
    sequence: NDArray[np.uint64],
    places: Sequence[Interval],
    foreign: Sequence[Interval],
    own: Sequence[Interval],
) -> list[tuple[int, int]]:
    """Cut the ordered deliverable sequences into file series, as half-open slices.

    A series never crosses a border of a settled interval, a span recorded for another downlink, or an
    edge of a span recorded for the downlink itself; nor an orphan, which lies between two settled
    intervals. Each of these cuts before the first event that does not lie ahead of it, or, where a span
    of its own ends, before the first that does not lie in it.
    """
    if not len(sequence):
        return []
    cuts = {_ahead(sequence, interval.first) for interval in (*places, *foreign, *own)}
    cuts |= {_behind(sequence, span.last) for span in own}
    return list(pairwise(sorted({0, *cuts, len(sequence)})))


def _cut_out(events: NDArray[np.void], slices: Sequence[tuple[int, int]]) -> NDArray[np.void]:
    """Return only the events in `slices`, without a copy if it is one slice of most of them."""
    if len(slices) == 1 and 2 * (slices[0][1] - slices[0][0]) >= len(events):
        return events[slices[0][0] : slices[0][1]]
    return joined([events[:0], *(events[a:b] for a, b in slices)])


def _closed_up(slices: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return where `slices` lie after `_cut_out`."""
    ends = accumulate(b - a for a, b in slices)
    return list(pairwise([0, *ends]))


def split(sequence: NDArray[np.uint64], begin: int, end: int, policy: Policy) -> list[tuple[int, int]]:
    """Split the series `sequence[begin:end]` into files, as half-open slices.

    Parameters
    ----------
    sequence
        Ordered sequences of delivered events, shape (n,).
    begin, end
        The series within them.
    policy
        `max_events` of 0 or less: no limit.
    """
    if policy.max_events <= 0:
        return [(begin, end)]
    least = max(1, policy.min_events)
    limit = max(policy.max_events, least)
    files: list[tuple[int, int]] = []
    start = begin
    while start < end:
        stop = start + limit
        if stop < end:
            # Level-1 refuses a run in which two files share a sequence: take the rest of it too.
            stop = bisect_right(sequence, sequence[stop - 1], stop, end)
        stop = min(stop, end)
        files.append((start, stop))
        start = stop
        if limit <= policy.chunk_floor * policy.max_events:
            limit = policy.max_events
        else:
            limit = int(policy.chunk_scale * limit)
        limit = max(limit, least)
    if len(files) > 1 and files[-1][1] - files[-1][0] < policy.min_events:
        files[-2:] = [(files[-2][0], files[-1][1])]
    return files


def _count_late(
    known: NDArray[np.void], is_foreign: NDArray[np.bool_], others: Mapping[DownlinkId, Recorded]
) -> int:
    """Count the events inside spans of `others` whose datagram was not known when these were recorded."""
    late = 0
    for first in range(0, len(known), _BLOCK):
        inside = taken(known[first : first + _BLOCK], np.flatnonzero(is_foreign[first : first + _BLOCK]))
        for record in others.values():
            here = inside[_inside(inside["sequence"], join(record.spans))]
            late += int((~listed(here, record.datagrams)).sum())
    return late


def listed(rows: NDArray[np.void], datagrams: Ranges) -> NDArray[np.bool_]:
    """Tell for each row, of events or of datagrams, whether its datagram is one of `datagrams`."""
    found = np.zeros(len(rows), dtype=bool)
    for apid, ranges in datagrams.items():
        of_apid = rows["apid"] == apid
        numbers = rows["datagram"][of_apid].astype(np.uint64)
        found[of_apid] = _inside(numbers, [Interval(*pair) for pair in ranges])
    return found
