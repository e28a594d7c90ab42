"""Rows of events put in order, by sequence and APID, each once."""

from bisect import bisect_left, bisect_right
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfpipe.formats.structured import put

WINDOW = 1 << 14  # rows of each part that are merged at a time: what is moved stays in the processor's cache


def in_order(events: NDArray[np.void]) -> NDArray[np.void]:
    """Return `events` in the order (sequence, APID), of equal ones the first; the same array if it is so."""
    sequence, apid = events["sequence"], events["apid"]
    step = sequence[1:] > sequence[:-1]
    if step.all() or (step | _again(sequence) & (apid[1:] > apid[:-1])).all():
        return events
    ordered = events.take(np.argsort(sequence, kind="stable"))
    sequence, apid = ordered["sequence"], ordered["apid"]
    if (_again(sequence) & (apid[1:] <= apid[:-1])).any():
        ordered = ordered.take(np.lexsort((apid, sequence)))  # stable
        sequence, apid = ordered["sequence"], ordered["apid"]
        ordered = ordered[np.r_[True, ~_again(sequence) | (apid[1:] != apid[:-1])]]
    return ordered


def _again(sequence: NDArray[np.uint64]) -> NDArray[np.bool_]:
    return np.equal(sequence[1:], sequence[:-1])


def in_one(parts: list[NDArray[np.void]]) -> NDArray[np.void]:
    """Merge one or more parts, all of one type, into one table that is `in_order`.

    Of equal (sequence, APID) the copy of the first part stays. Nothing is copied where one part has all rows. The list
    is emptied, so that what nobody else holds goes as it is laid down: the rows of a run are held once, but for those
    of parts that lie beside each other.
    """
    left = [in_order(part) for part in parts if len(part)] or parts[:1]
    parts.clear()
    if len(left) == 1:
        return left[0]
    events, end = np.empty(sum(map(len, left)), left[0].dtype), 0
    borders = sorted({border for part in left for border in part["sequence"][::WINDOW].tolist()})
    for border in [*borders[1:], None]:
        sizes = [len(part) if border is None else count_below(part["sequence"], border) for part in left]
        begin = end
        for part, size in zip(left, sizes, strict=True):
            put(events[end : end + size], part[:size])
            end += size
        window = in_order(events[begin:end])
        put(events[begin : begin + len(window)], window)
        end = begin + len(window)
        left = [part[size:] for part, size in zip(left, sizes, strict=True) if size < len(part)]
    return events[:end]


def count_up_to(sequence: NDArray[np.uint64], last: int | np.uint64) -> int:
    """Return how many of the ordered sequences are at most `last`.

    The sequences of a table do not lie beside each other in memory: numpy's search would copy all of them.
    """
    return bisect_right(sequence, last)


def count_below(sequence: NDArray[np.uint64], first: int) -> int:
    """Return how many of the ordered sequences are less than `first`; without a copy, as `count_up_to`."""
    return bisect_left(sequence, first)


def numbers_in(column: NDArray[np.integer[Any]]) -> list[int]:
    """Return the different numbers in a column of small ones, in order."""
    return np.flatnonzero(np.bincount(column)).tolist()
