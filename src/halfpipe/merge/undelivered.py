"""Why known events of a run are not delivered: the merge rule read backwards, over arrays.

The result explains the current state of a run, independent of any downlink: which events another downlink of the run
would deliver if it contained no new data, and which it would not. The books follow from it: every known event is in
exactly one account. `lost_events` counts them in another way, by the records of the deliveries, datagram by datagram.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from types import MappingProxyType

import numpy as np

from halfpipe.formats.idx import Events
from halfpipe.formats.structured import joined
from halfpipe.ids import DownlinkId
from halfpipe.merge.books import Books
from halfpipe.merge.decision import LEAST_IN_A_FILE, inside_any, series_of
from halfpipe.merge.intervals import EVERYTHING, Interval, join, subtract
from halfpipe.merge.late_events import RecordedDelivery, by_datagram, late_and_closed, numbers_inside
from halfpipe.merge.ordering import numbers_in
from halfpipe.merge.settle import Segment, enough_epus, settled
from halfpipe.settings import Merge


class NotDelivered(StrEnum):
    """Why events are not delivered.

    `WAITING`: an EPU may still add an event at their place. `WITHHELD`: settled, but too few next to each other to
    make a file. `LATE`: they arrived after their place was delivered. `CLOSED`: a downlink delivered them before but
    does not now, so their place is closed to other downlinks. `DUE`: ready, and in the next delivery of the run.
    """

    WAITING = "waiting"
    WITHHELD = "withheld"
    LATE = "late"
    CLOSED = "closed"
    DUE = "due"


class MissingPart(StrEnum):
    """Which part of a run is missing."""

    DATAGRAMS = "datagrams"
    START = "start"
    END = "end"
    EPU = "epu"


@dataclass(frozen=True)
class Lack:
    """Data of one EPU that must arrive before a place is settled.

    Attributes
    ----------
    what
        Datagrams between others, the start or the end of the EPU's stream, or a whole EPU that was not seen.
    apid
        The EPU; None if it is unknown.
    first, last
        Datagram numbers. A missing end has only `first`. Both are None for an EPU that was not seen. They are also
        None for a start that cannot arrive, because datagram 0 is known and does not open the run.
    """

    what: MissingPart
    apid: int | None = None
    first: int | None = None
    last: int | None = None


@dataclass(frozen=True)
class Group:
    """Undelivered events of one EPU, all with the same reason.

    `first` and `last` are sequences. Waiting events wait for `lacks`. Late and closed events are inside deliveries of
    the downlink `inside`.
    """

    kind: NotDelivered
    apid: int
    first: int
    last: int
    events: int
    lacks: tuple[Lack, ...] = ()
    inside: DownlinkId | None = None


def undelivered(
    segments: Mapping[int, Sequence[Segment]],
    known: Events,
    recorded: Mapping[DownlinkId, Sequence[RecordedDelivery]],
    limits: Merge,
    *,
    settle_all: bool = False,
    copies: Mapping[DownlinkId, Events] = MappingProxyType({}),
    just: DownlinkId | None = None,
) -> list[Group]:
    """Return the known events of a run that are not delivered, grouped by reason, in the order of sequences.

    Parameters
    ----------
    segments
        The segments of each EPU that was seen.
    known
        All known events, in order and each once, from `halfpipe.merge.decision.all_known`.
    recorded
        The deliveries of each downlink that Level-1 may have, oldest first.
    limits
        As for `halfpipe.merge.decision.decide`.
    settle_all
        As for `halfpipe.merge.settle.settled`.
    copies
        As for `halfpipe.merge.late_events.late_and_closed`.
    just
        The downlink that has just delivered: all known events inside its latest spans are in its delivery.
    """
    places = settled(segments, limits.min_epus, settle_all=settle_all)
    taken = join(span for records in recorded.values() for record in records for span in record.spans)
    sequence = known.sequence
    is_settled = inside_any(sequence, places)
    is_taken = inside_any(sequence, taken)
    compared = is_taken
    if just is not None and just in recorded:
        compared = is_taken & ~inside_any(sequence, join(recorded[just][-1].spans))
    late, closed = late_and_closed(known, compared, recorded, copies)
    found = [*_of_downlinks(NotDelivered.LATE, late), *_closed(closed, recorded, limits)]

    ready = known[is_settled & ~is_taken]
    for a, b in series_of(ready.sequence, places, taken, ()):
        found += _by_epu(
            NotDelivered.DUE if b - a >= limits.min_events else NotDelivered.WITHHELD, ready[a:b]
        )

    waiting = known[~(is_settled | is_taken)]
    if len(waiting):
        for hole in subtract([EVERYTHING], [*places, *taken]):
            inside = _within(waiting, hole)
            if len(inside):
                for place, lacks in _stretches(segments, hole, limits.min_epus):
                    found += _by_epu(NotDelivered.WAITING, _within(inside, place), lacks)
    return sorted(found, key=lambda group: (group.first, group.last, group.apid))


def books_of(
    known: Events,
    groups: Sequence[Group],
    latest: Mapping[DownlinkId, RecordedDelivery],
    copies: Mapping[DownlinkId, Events],
    *,
    is_refused: bool = False,
) -> Books:
    """Return the books of a run.

    Parameters
    ----------
    known, groups, latest, copies
        As for `lost_events`; `groups` are all groups that `undelivered` returns.
    is_refused
        Whether Level-1 would refuse the run. Then its due events count as refused.
    """
    delivered = sum(delivery.events for delivery in latest.values())
    accounts = Counter[str]()
    for group in groups:
        refused = is_refused and group.kind is NotDelivered.DUE
        accounts["refused" if refused else str(group.kind)] += group.events
    every = delivered + accounts.total() + lost_events(known, groups, latest, copies)
    return Books(known=every, delivered=delivered, **accounts)


def lost_events(
    known: Events,
    groups: Iterable[Group],
    latest: Mapping[DownlinkId, RecordedDelivery],
    copies: Mapping[DownlinkId, Events],
) -> int:
    """Count the known events that are neither in a delivery nor in a group, EPU by EPU.

    The records have the number of delivered events of each datagram. After a chunk was ignored, a delivery may contain
    more events than are known now, so only a positive difference is a loss. The result is 0 if a delivery
    has no counts.

    Parameters
    ----------
    known
        All known events of some datagrams, each once.
    groups
        The groups of those among them that are not delivered.
    latest
        The latest delivery of each downlink.
    copies
        The events of each downlink. A delivery counts an event in the datagram of one of its copies, which need not be
        the datagram in `known`.
    """
    undelivered = Counter[int]()
    lost = 0
    for group in groups:
        undelivered[group.apid] += group.events
    if any(delivery.counts is None for delivery in latest.values()):
        return 0
    apids = known.apid
    for apid in numbers_in(apids):
        there = {
            number
            for events in (known, *copies.values())
            for number in np.unique(events.datagram[events.apid == apid]).tolist()
        }
        delivered = sum(
            events
            for delivery in latest.values()
            for number, events in by_datagram((delivery.counts or {}).get(apid, "")).items()
            if number in there
        )
        lost += max(0, int(np.count_nonzero(apids == apid)) - undelivered[apid] - delivered)
    return lost


def _by_epu(
    kind: NotDelivered, rows: Events, lacks: tuple[Lack, ...] = (), inside: DownlinkId | None = None
) -> Iterator[Group]:
    apids = rows.apid
    for apid in np.unique(apids).tolist():
        sequence = rows.sequence[apids == apid]
        yield Group(kind, apid, int(sequence[0]), int(sequence[-1]), len(sequence), lacks, inside)


def _closed(
    found: Iterable[tuple[DownlinkId, Events]],
    recorded: Mapping[DownlinkId, Sequence[RecordedDelivery]],
    limits: Merge,
) -> Iterator[Group]:
    """Yield closed events. They count as withheld if they would be too few for a file even if their place is opened."""
    latest = join(span for records in recorded.values() for span in records[-1].spans)
    least = min(LEAST_IN_A_FILE, limits.min_events)
    for downlink, rows in found:
        left = rows[~numbers_inside(rows.sequence, latest)]
        for a, b in series_of(left.sequence, (), latest, ()):
            if b - a < least:
                yield from _by_epu(NotDelivered.WITHHELD, left[a:b])
            else:
                yield from _by_epu(NotDelivered.CLOSED, left[a:b], inside=downlink)


def _of_downlinks(kind: NotDelivered, found: Iterable[tuple[DownlinkId, Events]]) -> Iterator[Group]:
    by_downlink: dict[DownlinkId, list[Events]] = {}
    for downlink, rows in found:
        if len(rows):
            by_downlink.setdefault(downlink, []).append(rows)
    for downlink, parts in by_downlink.items():
        rows = joined(parts)
        yield from _by_epu(kind, rows[np.argsort(rows.sequence, kind="stable")], inside=downlink)


def _within(rows: Events, place: Interval) -> Events:
    sequence = rows.sequence
    return rows[bisect_left(sequence, place.first) : bisect_right(sequence, place.last)]


def _stretches(
    segments: Mapping[int, Sequence[Segment]], hole: Interval, min_epus: int
) -> Iterator[tuple[Interval, tuple[Lack, ...]]]:
    """Cut an unsettled interval into stretches, so that all places of a stretch lack the same data."""
    covered = [one.covers for of_apid in segments.values() for one in of_apid if one.covers]
    edges = {edge for one in covered for edge in (one.first, one.last + 1) if hole.first < edge <= hole.last}
    begin = hole.first
    before = missing_at(segments, min_epus, begin)
    for first in sorted(edges):
        lacks = missing_at(segments, min_epus, first)
        if lacks != before:
            yield Interval(begin, first - 1), before
            begin = first
            before = lacks
    yield Interval(begin, hole.last), before


def missing_at(segments: Mapping[int, Sequence[Segment]], min_epus: int, sequence: int) -> tuple[Lack, ...]:
    """Return the data that must arrive before `sequence` is settled; empty if it is settled."""
    of_seen = (lack for apid, of_apid in segments.items() for lack in _of_one(apid, of_apid, sequence))
    return (*_unseen(segments, min_epus), *of_seen)


def missing_of_run(segments: Mapping[int, Sequence[Segment]], min_epus: int) -> list[str]:
    """Return messages about the data that a run needs to be complete; empty if it is complete."""
    of_seen = (lack for apid, of_apid in segments.items() for lack in _between(apid, of_apid, None, None))
    return [in_words(lack, segments, min_epus) for lack in (*_unseen(segments, min_epus), *of_seen)]


def in_words(lack: Lack, segments: Mapping[int, Sequence[Segment]], min_epus: int) -> str:
    """Return the missing data in words; all reports use them."""
    epu = f"EPU {lack.apid}"
    numbers = f"datagram{'' if lack.first == lack.last else 's'} {lack.first}"
    if lack.last != lack.first:
        numbers += f" to {lack.last}"
    match lack.what:
        case MissingPart.EPU if not segments:
            return "no datagram is known"
        case MissingPart.EPU:
            return f"only {len(segments)} of {min_epus} EPUs were seen ({', '.join(map(str, segments))})"
        case MissingPart.START if lack.last is None:
            first = segments[lack.apid or 0][0].datagrams[0]
            return f"{epu} has no start: its first datagram, {first}, does not open the run"
        case MissingPart.START:
            return f"the start of {epu} is missing: {numbers}"
        case MissingPart.END:
            assert lack.first is not None
            return f"{epu} stops after datagram {lack.first - 1}: its later data have not arrived"
        case _:
            return f"{numbers} of {epu} {'is' if lack.first == lack.last else 'are'} missing"


def _unseen(segments: Mapping[int, Sequence[Segment]], min_epus: int) -> tuple[Lack, ...]:
    return () if enough_epus(segments, min_epus) else (Lack(MissingPart.EPU),)


def _of_one(apid: int, segments: Sequence[Segment], sequence: int) -> Iterator[Lack]:
    """Yield the data that one EPU needs to cover `sequence`; nothing if it already does.

    The EPU covers the gap between two segments once all datagrams between them have arrived. If these datagrams extend
    beyond the sequence, some of them may be enough.
    """
    sides = [  # -1: below the sequence, 0: contains it, 1: above it
        None if one.covers is None else (one.covers.first > sequence) - (one.covers.last < sequence)
        for one in segments
    ]
    if 0 in sides:
        return
    below = max((n for n, side in enumerate(sides) if side == -1), default=None)
    above = next((n for n in range(below or 0, len(sides)) if sides[n] == 1), None)
    yield from _between(apid, segments, below, above)


def _between(apid: int, segments: Sequence[Segment], below: int | None, above: int | None) -> Iterator[Lack]:
    """Yield the missing data between two segments of an EPU; None means before the first, or after the last."""
    if below is None and not segments[0].opens:
        last = segments[0].datagrams[0] - 1
        yield Lack(MissingPart.START, apid, 0, last) if last >= 0 else Lack(MissingPart.START, apid)
    for one, other in pairwise(segments[below or 0 : len(segments) if above is None else above + 1]):
        yield Lack(MissingPart.DATAGRAMS, apid, one.datagrams[1] + 1, other.datagrams[0] - 1)
    if above is None and not segments[-1].closes:
        yield Lack(MissingPart.END, apid, segments[-1].datagrams[1] + 1)
