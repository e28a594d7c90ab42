"""Sorting rows of events by sequence and APID, without duplicates.

The merge searches ordered rows with `bisect`. A column of a table is not contiguous in memory, so numpy's search would
copy the whole column.
"""

from bisect import bisect_left
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from halfpipe.formats.idx import Sequenced
from halfpipe.formats.structured import put

WINDOW = 1 << 14  # rows of each part that are merged at a time, so that they stay in the processor's cache

T = TypeVar("T", bound=Sequenced)


def in_order(events: T) -> T:
    """Sort `events` by (sequence, APID), and keep the first of equal ones; return the same array if nothing changes."""
    sequence = events.sequence
    apid = events.apid
    step = sequence[1:] > sequence[:-1]
    if step.all() or (step | _again(sequence) & (apid[1:] > apid[:-1])).all():
        return events
    ordered = events.take(np.argsort(sequence, kind="stable"))
    sequence = ordered.sequence
    apid = ordered.apid
    if (_again(sequence) & (apid[1:] <= apid[:-1])).any():
        ordered = ordered.take(np.lexsort((apid, sequence)))  # stable
        sequence = ordered.sequence
        apid = ordered.apid
        ordered = ordered[np.r_[True, ~_again(sequence) | (apid[1:] != apid[:-1])]]
    return ordered


def _again(sequence: NDArray[np.uint64]) -> NDArray[np.bool_]:
    return np.equal(sequence[1:], sequence[:-1])


def in_one(parts: list[T]) -> T:
    """Merge one or more parts, all of one type, into one table that is `in_order`.

    If several parts have an event with the same (sequence, APID), the copy of the first part stays. A single part is
    not copied. The list is emptied, so that the memory of parts is released as soon as possible, and most rows of a run
    are in memory only once.
    """
    left = [in_order(part) for part in parts if len(part)] or parts[:1]
    parts.clear()
    if len(left) == 1:
        return left[0]
    events = left[0].zeros(sum(map(len, left)))
    end = 0
    borders = sorted({border for part in left for border in part.sequence[::WINDOW].tolist()})
    for border in [*borders[1:], None]:
        sizes = [len(part) if border is None else bisect_left(part.sequence, border) for part in left]
        begin = end
        for part, size in zip(left, sizes, strict=True):
            put(events[end : end + size], part[:size])
            end += size
        window = in_order(events[begin:end])
        put(events[begin : begin + len(window)], window)
        end = begin + len(window)
        left = [part[size:] for part, size in zip(left, sizes, strict=True) if size < len(part)]
    return events[:end]


def numbers_in(column: NDArray[np.integer]) -> list[int]:
    """Return the distinct numbers in a column of small integers, in order."""
    return np.flatnonzero(np.bincount(column)).tolist()
