"""Which events of a run a downlink delivers, and in which files: the merge rule as a pure function over arrays."""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from halfpipe.formats.idx import Events
from halfpipe.formats.structured import joined
from halfpipe.ids import DownlinkId, RunKind
from halfpipe.merge.intervals import Interval, Ranges, join
from halfpipe.merge.late_events import RecordedDelivery, counts_of, numbers_inside
from halfpipe.merge.ordering import in_one
from halfpipe.merge.settle import KnownDatagrams, is_complete, settled
from halfpipe.settings import Merge

LEAST_IN_A_FILE = 2  # events; Level-1 refuses a whole run if one of its files has fewer


@dataclass(frozen=True)
class Decision:
    """The delivery of one run by one downlink.

    Attributes
    ----------
    events
        The delivered events in the order (sequence, APID).
    files, spans
        Half-open slices of `events`, one per file; first and last sequence of each file series.
    counts
        The number of delivered events of each datagram, in the form of `counts_of`.
    datagrams
        All known datagrams of the run.
    """

    kind: RunKind
    epus: tuple[int, ...]
    complete: bool
    settled: tuple[Interval, ...]
    gaps: tuple[tuple[int, int], ...]
    events: Events
    files: tuple[tuple[int, int], ...]
    spans: tuple[Interval, ...]
    counts: Mapping[int, str]
    datagrams: Ranges


def decide(
    downlink: DownlinkId,
    datagrams: KnownDatagrams,
    known: Events,
    recorded: Mapping[DownlinkId, RecordedDelivery],
    limits: Merge,
    *,
    earlier: Mapping[DownlinkId, Sequence[RecordedDelivery]] = MappingProxyType({}),
    settle_all: bool = False,
    vanished: bool = False,
) -> Decision:
    """Decide what `downlink` delivers of a run.

    Parameters
    ----------
    downlink
        The downlink that is processed.
    datagrams
        The datagrams of the run from all downlinks.
    known
        All known events, in order and each once, from `all_known`.
    recorded
        The latest recorded delivery of each downlink that has one.
    limits
        Limits for files, and the number of EPUs.
    earlier
        Earlier deliveries of each downlink, oldest first, that covered more than the later ones. Level-1 may still have
        these events, so they count as recorded.
    settle_all
        As for `settled`: all known events that are not delivered yet are delivered now.
    vanished
        No chunk of the downlink contains the run any more. So the downlink delivers nothing, not even inside its own
        spans, where other downlinks may have events.
    """
    segments = datagrams.segments()
    others = {dl: (*earlier.get(dl, ()), record) for dl, record in recorded.items()}
    own = [span for record in others.pop(downlink, ()) for span in record.spans]
    places = settled(segments, limits.min_epus, own, settle_all=settle_all)

    sequence = known.sequence
    is_settled = inside_any(sequence, places)
    foreign = join(span for records in others.values() for record in records for span in record.spans)
    is_foreign = inside_any(sequence, foreign)

    chosen = is_settled & ~is_foreign & (not vanished)
    deliverable = known if chosen.all() else known.take(np.flatnonzero(chosen))
    series = series_of(deliverable.sequence, places, foreign, own)
    least = _least(deliverable.sequence, series, own, limits)
    large = [(a, b) for (a, b), enough in zip(series, least, strict=True) if b - a >= enough]
    delivered = deliverable
    if len(large) < len(series):
        delivered = joined([deliverable[:0], *(deliverable[a:b] for a, b in large)])
    sent = delivered.sequence
    cuts = list(pairwise([0, *accumulate(b - a for a, b in large)]))  # `large`, as slices of `delivered`

    return Decision(
        kind=RunKind.of(segments),
        epus=tuple(sorted(segments)),
        complete=is_complete(segments, limits.min_epus),
        settled=places,
        gaps=tuple((one.last, other.first) for one, other in pairwise(places)),
        events=delivered,
        files=tuple(file for a, b in cuts for file in split(sent, a, b, limits)),
        spans=tuple(Interval(int(sent[a]), int(sent[b - 1])) for a, b in cuts),
        counts=counts_of(delivered),
        datagrams=datagrams.ranges(),
    )


def all_known(events: Mapping[DownlinkId, Events], first: DownlinkId | None = None) -> Events:
    """Join the events of all downlinks, in order and each once.

    For equal (sequence, APID) the copy of the downlink `first` stays, otherwise that of the lowest downlink.
    """
    sources = sorted(events, key=lambda downlink: (downlink != first, downlink))
    return in_one([Events.zeros(0), *(events[source] for source in sources)])


def inside_any(sequence: NDArray[np.uint64], intervals: Sequence[Interval]) -> NDArray[np.bool_]:
    """Tell for each of the ordered sequences whether it is in one of the intervals."""
    inside = np.zeros(len(sequence), dtype=bool)
    for first, last in intervals:
        inside[bisect_left(sequence, first) : bisect_right(sequence, last)] = True
    return inside


def series_of(
    sequence: NDArray[np.uint64],
    places: Sequence[Interval],
    foreign: Sequence[Interval],
    own: Sequence[Interval],
) -> list[tuple[int, int]]:
    """Cut the ordered deliverable sequences into file series, as half-open slices.

    A series never crosses the border of a settled interval, a span of another downlink, or the edge of a span of the
    downlink itself. It also never crosses a waiting event, because waiting events are between settled intervals.
    The cuts are before the first event at or after the start of such an interval, and before the first event after the
    end of an own span.
    """
    if not len(sequence):
        return []
    cuts = {bisect_left(sequence, interval.first) for interval in (*places, *foreign, *own)}
    cuts |= {bisect_right(sequence, span.last) for span in own}
    return list(pairwise(sorted({0, *cuts, len(sequence)})))


def _least(
    sequence: NDArray[np.uint64], series: Sequence[tuple[int, int]], own: Sequence[Interval], limits: Merge
) -> list[int]:
    """Return how many events each series needs to be delivered.

    A series that the downlink delivered before is delivered again, even if `min_events` was raised later. The exception
    is a lone event, because Level-1 refuses the run for it.
    """
    if limits.min_events <= LEAST_IN_A_FILE or not own:
        return [limits.min_events] * len(series)
    # A series is either completely inside an own span or completely outside.
    again = numbers_inside(sequence[[a for a, _ in series]], join(own)) if series else ()
    return [LEAST_IN_A_FILE if delivered else limits.min_events for delivered in again]


def split(sequence: NDArray[np.uint64], begin: int, end: int, limits: Merge) -> list[tuple[int, int]]:
    """Split the series `sequence[begin:end]` into files, as half-open slices.

    Parameters
    ----------
    sequence
        Ordered sequences of delivered events, shape (n,).
    begin, end
        The slice to split.
    limits
        Limits of files. A `max_events` of 0 or less means no limit.
    """
    if limits.max_events <= 0:
        return [(begin, end)]
    least = max(1, limits.min_events)
    limit = max(limits.max_events, least)
    files: list[tuple[int, int]] = []
    start = begin
    while start < end:
        stop = start + limit
        if stop < end:
            # Level-1 refuses a run if two files share a sequence, so all events of this sequence go into one file.
            stop = bisect_right(sequence, sequence[stop - 1], stop, end)
        stop = min(stop, end)
        files.append((start, stop))
        start = stop
        if limit <= limits.chunk_floor * limits.max_events:
            limit = limits.max_events
        else:
            limit = int(limits.chunk_scale * limit)
        limit = max(limit, least)
    if len(files) > 1 and files[-1][1] - files[-1][0] < limits.min_events:
        files[-2:] = [(files[-2][0], files[-1][1])]
    return files
