"""Rows of events put in order, by sequence and APID, each once."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from halfpipe.formats.structured import joined


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
    return events.take(order)


def in_one(parts: Sequence[NDArray[np.void]]) -> NDArray[np.void]:
    """Merge one or more parts, all of one type, into one table that is `in_order`.

    Of equal (sequence, APID) the copy of the first part stays. Nothing is copied where one part has all rows.
    """
    filled = [part for part in parts if len(part)] or parts[:1]
    return in_order(filled[0] if len(filled) == 1 else joined(filled))


def behind(sequence: NDArray[np.uint64], last: int | np.uint64) -> int:
    """Return how many of the ordered sequences are at most `last`.

    The sequences of a table do not lie beside each other in memory: numpy's search would copy all of them.
    """
    return bisect_right(sequence, last)


def ahead(sequence: NDArray[np.uint64], first: int) -> int:
    """Return how many of the ordered sequences are less than `first`; without a copy, as `behind`."""
    return bisect_left(sequence, first)
