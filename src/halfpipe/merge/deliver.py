"""What a downlink delivers of a run, in which files: the merge rule as a pure function over arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from halfpipe.formats.idx import EVENT
from halfpipe.ids import DownlinkId, RunKind
from halfpipe.merge.settle import Interval, KnownDatagrams, Ranges, is_complete, join, settled


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
    series. `known` counts events after removal of duplicates, `orphans` includes `withheld`, `late`
    events lie inside spans recorded for other downlinks and came after these. `datagrams` is all that
    is known of the run now.
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
    ordered = [events for _, events in sorted(chunks, key=lambda pair: pair[0])]
    return _first_of_equals(np.concatenate(ordered)) if ordered else np.empty(0, EVENT)


def _first_of_equals(events: NDArray[np.void]) -> NDArray[np.void]:
    events = events[np.lexsort((events["apid"], events["sequence"]))]  # stable
    first = np.ones(len(events), dtype=bool)
    first[1:] = (events["sequence"][1:] != events["sequence"][:-1]) | (
        events["apid"][1:] != events["apid"][:-1]
    )
    return events[first]


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
        The events of each downlink, as `merge_chunks` returns them.
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

    sources = (downlink, *sorted(dl for dl in events if dl != downlink))
    known = _known(sources, events)
    sequence = known["sequence"]
    is_settled = _inside(sequence, places)
    foreign = join(span for record in others.values() for span in record.spans)
    is_foreign = _inside(sequence, foreign)

    deliverable = known[is_settled & ~is_foreign]
    orphans = known[~is_settled & ~is_foreign]
    series = _series(deliverable["sequence"], places, foreign, orphans["sequence"], own)
    taken = [(a, b) for a, b in series if b - a >= policy.min_events]
    withheld = len(deliverable) - sum(b - a for a, b in taken)
    delivered, taken = _compact(deliverable, taken)

    return Decision(
        kind=RunKind.of(segments),
        epus=tuple(sorted(segments)),
        complete=is_complete(segments, policy.min_epus),
        settled=places,
        gaps=tuple((one.last, other.first) for one, other in pairwise(places)),
        sources=sources,
        events=delivered,
        files=tuple(cut for a, b in taken for cut in split(delivered["sequence"], a, b, policy)),
        spans=tuple(
            Interval(int(delivered["sequence"][a]), int(delivered["sequence"][b - 1])) for a, b in taken
        ),
        known=len(known),
        orphans=len(orphans) + withheld,
        withheld=withheld,
        late=_count_late(known[is_foreign], others),
        datagrams=known_datagrams.ranges(),
    )


def _known(sources: Sequence[DownlinkId], events: Mapping[DownlinkId, NDArray[np.void]]) -> NDArray[np.void]:
    """Join the events of `sources`; of equal (sequence, APID) the copy of the first source stays."""
    fields = next((part.dtype for part in events.values()), EVENT)
    sourced = np.dtype([*((name, fields[name]) for name in fields.names or ()), ("source", np.uint32)])
    parts = []
    for number, source in enumerate(sources):
        own = events.get(source, np.empty(0, fields))
        part = np.empty(len(own), sourced)
        for name in fields.names or ():
            part[name] = own[name]
        part["source"] = number
        parts.append(part)
    return _first_of_equals(np.concatenate(parts))


def _inside(sequence: NDArray[np.uint64], intervals: Sequence[Interval]) -> NDArray[np.bool_]:
    """Tell for each sequence whether one of the disjoint, ordered intervals holds it."""
    if not intervals:
        return np.zeros(len(sequence), dtype=bool)
    firsts, lasts = (np.array(edge, np.uint64) for edge in zip(*intervals, strict=True))
    place = np.searchsorted(firsts, sequence, side="right")
    inside: NDArray[np.bool_] = (place > 0) & (sequence <= lasts[np.maximum(place, 1) - 1])
    return inside


def _series(
    sequence: NDArray[np.uint64],
    places: Sequence[Interval],
    foreign: Sequence[Interval],
    orphans: NDArray[np.uint64],
    own: Sequence[Interval],
) -> list[tuple[int, int]]:
    """Cut the ordered deliverable sequences into file series, as half-open slices.

    A series never crosses a border of a settled interval, a span recorded for another downlink, an
    orphan, or an edge of a span recorded for the downlink itself. Each of these is something that
    lies, at the latest, at one event and not before the event ahead of it: counting how many of them
    lie before each event makes every crossing a step in the count.
    """
    if not len(sequence):
        return []
    crossed = np.zeros(len(sequence), np.int64)
    for starts in (
        np.array([place.first for place in places], np.uint64),
        np.array([span.first for span in foreign], np.uint64),
        np.array([span.first for span in own], np.uint64),
        orphans,
    ):
        crossed += np.searchsorted(starts, sequence, side="right")
    ends = np.array(sorted(span.last for span in own), np.uint64)
    crossed += np.searchsorted(ends, sequence, side="left")
    cuts = np.flatnonzero(np.diff(crossed)) + 1
    edges = [0, *cuts.tolist(), len(sequence)]
    return list(pairwise(edges))


def _compact(
    events: NDArray[np.void], slices: Sequence[tuple[int, int]]
) -> tuple[NDArray[np.void], list[tuple[int, int]]]:
    """Keep only the events in `slices`; return them and the slices as they lie now."""
    moved, at = [], 0
    for a, b in slices:
        moved.append((at, at + b - a))
        at += b - a
    if at == len(events):
        return events, moved
    return np.concatenate([events[:0], *(events[a:b] for a, b in slices)]), moved


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
            stop = int(np.searchsorted(sequence[:end], sequence[stop - 1], side="right"))
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


def _count_late(inside: NDArray[np.void], others: Mapping[DownlinkId, Recorded]) -> int:
    """Count the events `inside` spans of `others` whose datagram was not known when these were recorded."""
    late = 0
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
