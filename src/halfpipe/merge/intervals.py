"""Intervals of sequences, and ranges of datagram numbers for each EPU.

Sequences are GEM event sequences, unsigned 64-bit integers. Intervals include both ends. The lowest and the highest
possible sequence stand for minus and plus infinity.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

LOWEST = 0
HIGHEST = 2**64 - 1

Ranges = dict[int, tuple[tuple[int, int], ...]]  # inclusive, by APID


class Interval(NamedTuple):
    """Sequences from `first` to `last`, both included."""

    first: int
    last: int


EVERYTHING = Interval(LOWEST, HIGHEST)


def join(intervals: Iterable[tuple[int, int]]) -> tuple[Interval, ...]:
    """Join intervals that share a sequence; intervals that only touch (…1049 and 1050…) stay separate."""
    joined: list[Interval] = []
    for first, last in sorted(intervals):
        if joined and first <= joined[-1].last:
            joined[-1] = Interval(joined[-1].first, max(joined[-1].last, last))
        else:
            joined.append(Interval(first, last))
    return tuple(joined)


def intersect(one: Sequence[Interval], other: Sequence[Interval]) -> tuple[Interval, ...]:
    """Return the intersection of two series of disjoint, ordered intervals, in order."""
    common: list[Interval] = []
    i = j = 0
    while i < len(one) and j < len(other):
        first = max(one[i].first, other[j].first)
        last = min(one[i].last, other[j].last)
        if first <= last:
            common.append(Interval(first, last))
        if one[i].last < other[j].last:
            i += 1
        else:
            j += 1
    return tuple(common)


def subtract(one: Iterable[Interval], other: Iterable[tuple[int, int]]) -> tuple[Interval, ...]:
    """Return the parts of the intervals `one` outside `other`, in order; the intervals of each argument may overlap."""
    left = list(join(one))
    for first, last in join(other):
        kept = []
        for interval in left:
            if interval.last < first or last < interval.first:
                kept.append(interval)
                continue
            if interval.first < first:
                kept.append(Interval(interval.first, first - 1))
            if last < interval.last:
                kept.append(Interval(last + 1, interval.last))
        left = kept
    return tuple(left)
