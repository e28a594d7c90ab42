"""Late events: events inside spans that another downlink delivered without them.

A delivery records how many events of each datagram it contains. If more events of a datagram are known now in the same
spans, the datagram had arrived only in part, or not at all. Datagram lines cannot show this, because the line of an
incomplete datagram may announce only the part that had arrived.
"""

import operator
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from halfpipe.formats.idx import Datagrams, Events
from halfpipe.ids import DownlinkId
from halfpipe.merge.intervals import Interval, Ranges, join, subtract
from halfpipe.merge.ordering import numbers_in
from halfpipe.merge.settle import with_events


def counts_of(events: Events) -> dict[int, str]:
    """Count the events of each datagram; return one text for each APID.

    The text is short because a run has some 18,000 datagrams: ``0: 145 143 17: 150`` means 145 and 143 events of the
    datagrams 0 and 1, and 150 of datagram 17.
    """
    found = {}
    apids = events.apid
    datagrams = events.datagram
    for apid in numbers_in(apids):
        numbers, counts = np.unique(datagrams[apids == apid], return_counts=True)
        words: list[str] = []
        follows = -1
        for number, events_of_it in zip(numbers.tolist(), counts.tolist(), strict=True):
            words += [str(events_of_it)] if number == follows else [f"{number}:", str(events_of_it)]
            follows = number + 1
        found[apid] = " ".join(words)
    return found


def by_datagram(counts: str) -> dict[int, int]:
    """Return the counts in a text of `counts_of` by datagram number, without datagrams that have no events."""
    found = {}
    number = 0
    for word in counts.split():
        if word.endswith(":"):
            number = int(word[:-1])
        else:
            found[number] = int(word)
            number += 1
    return found


class RecordedDelivery(Protocol):
    """A recorded delivery of a downlink."""

    @property
    def spans(self) -> tuple[Interval, ...]:
        """The delivered spans."""

    @property
    def datagrams(self) -> Ranges:
        """The datagrams known at the time of the delivery."""

    @property
    def counts(self) -> Mapping[int, str] | None:
        """Number of events of each datagram, in the form of `counts_of`; None if it is unknown."""

    @property
    def events(self) -> int:
        """Number of events in its event files."""

    @property
    def total(self) -> int | None:
        """Number of events in the delivery; None if it is unknown."""


def late_and_closed(
    known: Events,
    inside: NDArray[np.bool_],
    recorded: Mapping[DownlinkId, Sequence[RecordedDelivery]],
    copies: Mapping[DownlinkId, Events] = MappingProxyType({}),
) -> tuple[list[tuple[DownlinkId, Events]], list[tuple[DownlinkId, Events]]]:
    """Return the late events and the closed events inside recorded spans, delivery by delivery.

    A late event was not delivered with its span. A closed event was delivered by a downlink whose later deliveries no
    longer cover it. No downlink delivers a closed event again until a person opens the span.

    Parameters
    ----------
    known
        All known events, in order and each once.
    inside
        Which of them are in a recorded span.
    recorded
        The deliveries of each downlink, oldest first. Where several cover a place, the last one counts.
    copies
        The events that each downlink itself contains. If a datagram arrived in part, those of the delivering downlink
        are the delivered ones. Without them only the number of late events of the datagram is known, not which ones
        are late. All copies show which events were delivered from another datagram than the one in `known`.

    Returns
    -------
    list of tuple, list of tuple
        The late and the closed events: for each delivery its downlink, and the events.
    """
    late = []
    closed = []
    rows = known.take(np.flatnonzero(inside))
    for downlink, records in recorded.items():
        mine = copies.get(downlink)
        for n, record in enumerate(records):
            later = [span for after in records[n + 1 :] for span in after.spans]
            here = rows[numbers_inside(rows.sequence, subtract(join(record.spans), later))]
            if record.counts is not None:
                beyond = _more_than(here, record.counts, mine, copies)
            else:
                beyond = ~listed(here, record.datagrams)
                if record.total is not None and not later:
                    beyond[_surplus(here, np.flatnonzero(~beyond), record.total, mine)] = True
            late.append((downlink, here[beyond]))
            if n < len(records) - 1:
                closed.append((downlink, here[~beyond]))
    return late, closed


def _more_than(
    rows: Events, counts: Mapping[int, str], own: Events | None, copies: Mapping[DownlinkId, Events]
) -> NDArray[np.bool_]:
    """Tell for each row whether it is beyond the number of events of its datagram in a delivery."""
    beyond = np.zeros(len(rows), dtype=bool)
    apids = rows.apid
    for apid in np.unique(apids).tolist():
        of_apid = np.flatnonzero(apids == apid)
        recorded = by_datagram(counts.get(apid, ""))
        numbers = rows.datagram[of_apid]
        place, now, then = _compared_counts(numbers, recorded)
        if (now > then).any() and own is not None:
            numbers = _datagrams_in(own, apid, rows.take(of_apid))
            place, now, then = _compared_counts(numbers, recorded)
        is_more = (then == 0)[place]
        for number in np.flatnonzero((then > 0) & (now > then)).tolist():
            which = np.flatnonzero(place == number)
            is_more[which[np.isin(of_apid[which], _surplus(rows, of_apid[which], then[number], own))]] = True
        if is_more.any():
            room = Counter(recorded)
            room.subtract(numbers[~is_more].tolist())
            is_more[_delivered_elsewhere(rows.take(of_apid), np.flatnonzero(is_more), room, copies)] = False
        beyond[of_apid[is_more]] = True
    return beyond


def _delivered_elsewhere(
    rows: Events, which: NDArray[np.intp], room: Counter[int], copies: Mapping[DownlinkId, Events]
) -> list[int]:
    """Return those of the rows in `which` that were delivered from another datagram, as copies of them show.

    All rows are of one APID. `room` is the number of delivered events of each datagram that are not among the other
    rows.
    """
    left = which
    found = list[int]()
    for events in copies.values():
        open_numbers = [number for number, events_of_it in room.items() if events_of_it > 0]
        if not (open_numbers and len(left)):
            break
        numbers = _datagrams_in(events, int(rows.apid[0]), rows[left])
        fits = np.isin(numbers, open_numbers)
        for row, number in zip(left[fits].tolist(), numbers[fits].tolist(), strict=True):
            if room[number] > 0:
                room[number] -= 1
                found.append(row)
        left = left[~np.isin(left, found)]
    return found


def _compared_counts(
    numbers: NDArray[np.integer], recorded: Mapping[int, int]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.int64]]:
    """Return the index of each number among the distinct ones, and the event counts of these now and in `recorded`."""
    distinct, place, now = np.unique(numbers, return_inverse=True, return_counts=True)
    return place, now, np.array([recorded.get(number, 0) for number in distinct.tolist()], np.int64)


def _datagrams_in(events: Events, apid: int, rows: Events) -> NDArray[np.uint32]:
    """Return the datagram of each row; if two datagrams contain an event, the one that a downlink with `events` has.

    All rows are of this APID, and all are in order and each once.
    """
    own_events = events[events.apid == apid]
    numbers = rows.datagram.copy()
    sequence = rows.sequence
    own_sequence = own_events.sequence
    place = np.searchsorted(own_sequence, sequence)
    is_own = place < len(own_events)
    is_own[is_own] = own_sequence[place[is_own]] == sequence[is_own]
    numbers[is_own] = own_events.datagram[place[is_own]]
    return numbers


def _surplus(rows: Events, which: NDArray[np.intp], delivered: int, own: Events | None) -> NDArray[np.intp]:
    """Return the rows in `which` beyond the number `delivered`; the downlink's own events count as delivered first."""
    if len(which) > delivered and own is not None:
        is_own = np.zeros(len(which), dtype=bool)
        apids = rows.apid[which]
        for apid in np.unique(apids).tolist():
            mine = own.sequence[own.apid == apid]
            is_own |= (apids == apid) & np.isin(rows.sequence[which], mine)
        which = which[np.argsort(~is_own, kind="stable")]
    return which[delivered:]


def numbers_inside(numbers: NDArray[np.uint64], intervals: Sequence[Interval]) -> NDArray[np.bool_]:
    """Tell for each number whether it is in one of the disjoint, ordered intervals."""
    if not intervals:
        return np.zeros(len(numbers), dtype=bool)
    firsts, lasts = (np.array(edge, np.uint64) for edge in zip(*intervals, strict=True))
    place = np.searchsorted(firsts, numbers, side="right")
    inside: NDArray[np.bool_] = (place > 0) & (numbers <= lasts[np.maximum(place, 1) - 1])
    return inside


def listed(rows: Events | Datagrams, datagrams: Ranges) -> NDArray[np.bool_]:
    """Tell for each row (of events or datagrams) whether its datagram is in `datagrams`."""
    found = np.zeros(len(rows), dtype=bool)
    for apid, ranges in datagrams.items():
        of_apid = rows.apid == apid
        numbers = rows.datagram[of_apid].astype(np.uint64)
        found[of_apid] = numbers_inside(numbers, [Interval(*pair) for pair in ranges])
    return found


def not_all_delivered(datagrams: Datagrams, records: Sequence[RecordedDelivery]) -> bool:
    """Tell whether `datagrams` may contain an event that is not in any of the deliveries `records`."""
    rows = with_events(datagrams)
    delivered = np.zeros(len(rows), dtype=bool)
    spans = sorted(span for record in records for span in record.spans)
    # Downlinks can share the events of a datagram. If their spans overlap, an event may be counted twice.
    together = operator.add if all(a.last < b.first for a, b in pairwise(spans)) else operator.or_
    found = dict[int, Counter[int]]()
    for record in records:
        known_then = listed(rows, record.datagrams)
        for span in record.spans:
            inside = (rows.evtseq0 >= span.first) & (rows.evtseq1 <= span.last)
            delivered |= inside & known_then
        for apid, counts in (record.counts or {}).items():
            found[apid] = together(found.get(apid, Counter()), Counter(by_datagram(counts)))
    left = rows[~delivered]
    expected = zip(left.apid.tolist(), left.datagram.tolist(), left.nevts.tolist(), strict=True)
    return any(found.get(apid, Counter())[number] < events for apid, number, events in expected)
