"""Rows of events put in order, by sequence and APID, each once."""

from bisect import bisect_left, bisect_right
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfpipe.formats.structured import put


def in_order(events: NDArray[np.void]) -> NDArray[np.void]:
    """Return `events` in the order (sequence, APID), of equal ones the first; the same array if it is so."""
    return events if _is_in_order(events) else _put_in_order(events.copy())


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
    return events if _is_in_order(events) else _put_in_order(events)


def _is_in_order(events: NDArray[np.void]) -> bool:
    """Tell whether each event is behind the one before it."""
    sequence, apid = events["sequence"], events["apid"]
    step = sequence[1:] > sequence[:-1]
    return bool(step.all() or (step | _again(sequence) & (apid[1:] > apid[:-1])).all())


def _again(sequence: NDArray[np.uint64]) -> NDArray[np.bool_]:
    return np.equal(sequence[1:], sequence[:-1])


def _put_in_order(events: NDArray[np.void]) -> NDArray[np.void]:
    """Put `events` in order in their place, for a second table would be the largest thing of a merge; return them."""
    events = _taken(events, _by_sequence(events["sequence"]))
    sequence, apid = events["sequence"], events["apid"]
    if (_again(sequence) & (apid[1:] <= apid[:-1])).any():
        events = _taken(events, np.lexsort((apid, sequence)))  # stable
        first = np.ones(len(events), dtype=bool)
        first[1:] = ~_again(sequence) | (apid[1:] != apid[:-1])
        events = _taken(events, np.flatnonzero(first))
    return events


def _by_sequence(sequence: NDArray[np.uint64]) -> NDArray[np.intp]:
    """Return which rows are in the order of their sequences; of equal ones the first is first."""
    low, high = sequence.min(), sequence.max()
    key = np.empty(
        len(sequence), np.uint32 if high - low < 2**32 else np.uint64
    )  # so the sort takes less memory
    np.subtract(sequence, low, out=key, casting="unsafe")
    return np.argsort(key, kind="stable")


def _taken(events: NDArray[np.void], rows: NDArray[np.intp]) -> NDArray[np.void]:
    """Put these rows at the front of `events`, in their order, and return them."""
    for name in events.dtype.names or ():
        events[name][: len(rows)] = events[name][rows]  # `take` would copy the column before
    return events[: len(rows)]


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
