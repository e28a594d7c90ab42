"""Rows of events put in order, by sequence and APID, each once."""

from bisect import bisect_left, bisect_right
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfpipe.formats.structured import put


def in_order(events: NDArray[np.void]) -> NDArray[np.void]:
    """Return `events` in the order (sequence, APID), of equal ones the first; the same array if it is so."""
    order = _order(events)
    return events if order is None else events.take(order)


def _order(events: NDArray[np.void]) -> NDArray[np.intp] | None:
    """Return which rows make `events` ordered, each once; None if they are so."""
    sequence, apid = events["sequence"], events["apid"]
    step = np.greater(sequence[1:], sequence[:-1])
    if step.all():
        return None
    equal = sequence[1:] == sequence[:-1]
    if (step | (equal & (apid[1:] > apid[:-1]))).all():
        return None
    order = np.argsort(sequence, kind="stable")
    sequence, apid = sequence.take(order), apid.take(order)
    equal = sequence[1:] == sequence[:-1]
    if (equal & (apid[1:] <= apid[:-1])).any():
        order = np.lexsort((events["apid"], events["sequence"]))  # stable
        sequence, apid = events["sequence"][order], events["apid"][order]
        first = np.ones(len(order), dtype=bool)
        first[1:] = (sequence[1:] != sequence[:-1]) | (apid[1:] != apid[:-1])
        order = order[first]
    return order


def in_one(parts: list[NDArray[np.void]]) -> NDArray[np.void]:
    """Merge one or more parts, all of one type, into one table that is `in_order`.

    Of equal (sequence, APID) the copy of the first part stays. Nothing is copied where one part has all rows. The list
    is emptied, so that what nobody else holds goes as it is laid down: the rows of a run are held once.
    """
    filled = [part for part in parts if len(part)] or parts[:1]
    parts.clear()
    if len(filled) == 1:
        return in_order(filled[0])
    events = np.empty(sum(map(len, filled)), filled[0].dtype)
    end = len(events)
    while filled:
        begin = end - len(filled[-1])
        put(events[begin:end], filled.pop())
        end = begin
    order = _order(events)
    if order is None:
        return events
    # In their place: a second table would be the largest thing of a merge.
    for name in events.dtype.names or ():
        events[name][: len(order)] = events[name].take(order)
    return events[: len(order)]


def behind(sequence: NDArray[np.uint64], last: int | np.uint64) -> int:
    """Return how many of the ordered sequences are at most `last`.

    The sequences of a table do not lie beside each other in memory: numpy's search would copy all of them.
    """
    return bisect_right(sequence, last)


def ahead(sequence: NDArray[np.uint64], first: int) -> int:
    """Return how many of the ordered sequences are less than `first`; without a copy, as `behind`."""
    return bisect_left(sequence, first)


def numbers_in(column: NDArray[np.integer[Any]]) -> list[int]:
    """Return the different numbers in a column of small ones, in order."""
    return np.flatnonzero(np.bincount(column)).tolist()
