"""Rows of events put in order, by sequence and APID, each once."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from halfpipe.formats.idx import EVENT
from halfpipe.formats.row_copies import joined, put, taken

_FEW = 64  # rows looked at for one more of a sequence: as many EPUs share one at the most


class Rows(Protocol):
    """Rows of a table, of which slices can be had as arrays: an array itself, or rows on disk."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> NDArray[np.void]: ...


def merge_chunks(chunks: Sequence[tuple[str, NDArray[np.void]]]) -> NDArray[np.void]:
    """Merge the events of the chunks of one downlink: order (sequence, APID), duplicates removed.

    Of equal (sequence, APID) the first line of the first chunk in file-name order stays.

    Parameters
    ----------
    chunks
        Pairs of the index's file name and its events (`EVENT` or a type with its fields) in line order.
    """
    parts = [in_order(events) for _, events in sorted(chunks, key=lambda pair: pair[0])]
    return in_one(parts) if parts else np.empty(0, EVENT)


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


def in_one(parts: Sequence[NDArray[np.void]]) -> NDArray[np.void]:
    """Merge one or more parts as `merged` does, into one table; not copied where one part has all rows."""
    if not any(map(len, parts)):
        return parts[0]
    windows = merged(parts)
    first = next(windows)
    most = sum(map(len, parts))
    if len(first) == most:
        return first
    table = np.empty(most, first.dtype)
    at = 0
    for window in chain([first], windows):
        put(table, at, window)
        at += len(window)
    return table[:at]


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
            count = behind(more["sequence"], self.last)
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
        end = behind(self.held["sequence"], last)
        head, self.held = self.held[:end], self.held[end:]
        if end and not len(self.held):
            self._load()
        return head


def behind(sequence: NDArray[np.uint64], last: int | np.uint64) -> int:
    """Return how many of the ordered sequences are at most `last`.

    The sequences of a table do not lie beside each other in memory: numpy's search would copy all of them.
    """
    return bisect_right(sequence, last)


def ahead(sequence: NDArray[np.uint64], first: int) -> int:
    """Return how many of the ordered sequences are less than `first`; without a copy, as `behind`."""
    return bisect_left(sequence, first)
