"""The legacy's merge, replayed on arrays: what its rule makes of the datagrams and events that it knew.

It is what `halfpipe compare` holds the legacy's deliveries against. Written from docs/legacy.md, and held against a
model of its own and against spans that the legacy itself recorded.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from halfpipe.ids import RunId
from halfpipe.merge.decision import holding
from halfpipe.merge.intervals import Interval, join
from halfpipe.merge.settle import CLOSES, OPENS, KnownDatagrams
from halfpipe.settings import Merge

LPA = frozenset({956, 957, 958})  # any other APID made a run LCI to the legacy, 955 too
EPUS = 2  # of an LPA run: with one or three it delivered nothing
EIGHT_DIGITS = 0x10000000  # MET: it wrote the hex digits of earlier runs without the leading zero
WRAPPED = 2**31  # the first sequence that it could not write into a name


class Piece(NamedTuple):
    """Consecutive datagrams of one EPU as the legacy sees them: `first` and `last` as they stand in its datagrams."""

    first: int
    last: int
    opens: bool
    closing: bytes
    hollow: bool


class File(NamedTuple):
    """An event file: its name's number, and the half-open slice of the delivered events that it holds."""

    number: int
    begin: int
    end: int


@dataclass(frozen=True)
class Merged:
    """What the legacy makes of a run.

    Attributes
    ----------
    datagrams
        Those that it knew.
    kind, apids, complete, refused
        LPA or LCI to it; the EPUs that it knew; whether it retires the run; whether it delivers nothing of it.
    places
        Its spans as it finds them; `recorded` are those that it records, with events at both ends.
    defect
        By which number of docs/legacy.md nothing behind its last span is delivered.
    delivered, done
        Of the known events, in order: those that it writes, and those inside spans of other downlinks.
    series
        Half-open slices of the events that it writes, one for each merged index.
    files
        The event files that it writes, in order: of those of one name the last is left.
    orphans
        Its count.
    """

    datagrams: KnownDatagrams
    delivered: NDArray[np.bool_]
    done: NDArray[np.bool_]
    kind: str = "LPA"
    apids: frozenset[int] = frozenset()
    complete: bool = False
    refused: bool = False
    places: tuple[Interval, ...] = ()
    recorded: tuple[Interval, ...] = ()
    defect: int | None = None
    series: tuple[tuple[int, int], ...] = ()
    files: tuple[File, ...] = ()
    orphans: int = 0

    def lines(self, run: RunId) -> dict[str, list[str]]:
        """Return its lines of the texts that follow from a merge."""
        last = self.series[-1][1] - self.series[-1][0] if self.series else 0
        said = [] if self.refused else [f"{run.l1} {last} {self.orphans} {self.kind}"]
        gaps = [] if self.refused else pairwise(self.places)
        return {
            "delivered_events": said,
            "event_gaps": sorted(f"{run.l1} {one.last} {other.first}" for one, other in gaps),
            "retired_runs": [f"{run.l1} COMPLETE"] if self.complete else [],
        }


def lines_that_count(own_first: Iterable[KnownDatagrams]) -> KnownDatagrams:
    """Return the datagrams that the legacy knows: of several lines of one the first part's, the own downlink's."""
    lines: dict[tuple[int, int], bytes] = {}
    for part in own_first:
        for row, line in zip(part.rows[["apid", "datagram"]].tolist(), part.lines, strict=True):
            lines.setdefault(row, line)
    return KnownDatagrams.of(lines.values())


def pieces(rows: NDArray[np.void]) -> list[Piece]:
    """Return the pieces of one EPU; `rows` are its datagrams in order of their numbers."""
    jumps = np.flatnonzero(np.diff(rows["datagram"].astype(np.int64)) != 1) + 1
    return [
        Piece(
            int(part["evtseq0"][0]),
            int(part["evtseq1"][-1]),
            bytes(part["oaction"][0]) == OPENS,
            bytes(part["caction"][-1]),
            not (part["nevts"][0] and part["nevts"][-1]),
        )
        for part in np.split(rows, jumps)
    ]


def spans_of_two(one: Sequence[Piece], other: Sequence[Piece]) -> tuple[tuple[Interval, ...], int]:
    """Return the spans that the legacy finds in an LPA run, and the defect by which nothing behind them is delivered.

    It goes through the pieces of both EPUs side by side, on with whichever ends first, and is done when that has
    no other piece. A span is where two pieces overlap; from the first of the two if both open the run, to the last if
    both end with stop.
    """
    spans: list[Interval] = []
    i = j = 0
    while True:
        a, b = one[i], other[j]
        opened, stopped = a.opens and b.opens, a.closing == b.closing == b"stop"
        first = (min if opened else max)(a.first, b.first)
        last = (max if stopped else min)(a.last, b.last)
        if opened or stopped or first <= last:
            spans.append(Interval(first, last))
        if a.last <= b.last:
            i += 1
            rest = other[j + 1 :]
        else:
            j += 1
            rest = one[i + 1 :]
        if i == len(one) or j == len(other):
            break
    if any(piece.hollow for piece in (*one, *other)):
        return tuple(spans), 22
    if rest:
        return tuple(spans), 20
    if stopped:
        return tuple(spans), 16
    return tuple(spans), 5 if {a.closing, b.closing} <= {*CLOSES} else 6


def first_of_dict(apids: Mapping[int, Sequence[Piece]]) -> int:
    """Return the key that comes first in a dict of Python 2 of eight slots: those with a gap are put in first."""
    slots: dict[int, int] = {}
    for apid in sorted(apids, key=lambda apid: (len(apids[apid]) == 1, apid)):
        i = perturb = apid
        while i & 7 in slots:
            i = 5 * i + perturb + 1
            perturb >>= 5
        slots[i & 7] = apid
    return slots[min(slots)]


def merged(
    run: RunId,
    datagrams: KnownDatagrams,
    sequences: NDArray[np.uint64],
    done: Iterable[Interval],
    limits: Merge,
) -> Merged:
    """Merge a run as the legacy does.

    Parameters
    ----------
    run
        The run. Of an early one the legacy finds no files.
    datagrams, sequences
        What it knew: `lines_that_count`, and the sequences of all events in order (sequence, APID), each once.
    done
        The spans that it recorded for other downlinks.
    limits
        Of event files.
    """
    apids = datagrams.by_apid()
    nothing = np.zeros(len(sequences), bool)
    if run.met < EIGHT_DIGITS or not apids:
        return Merged(datagrams, nothing, nothing, apids=frozenset(apids), refused=True)
    of = {apid: pieces(rows) for apid, rows in apids.items()}
    is_lpa = of.keys() <= LPA
    result = Merged(
        datagrams,
        nothing,
        nothing,
        "LPA" if is_lpa else "LCI",
        frozenset(of),
        complete=all(len(p) == 1 and p[0].opens and p[0].closing in CLOSES for p in of.values()),
        refused=is_lpa and len(of) != EPUS,
    )
    if result.refused:
        return result
    if is_lpa:
        one, other = (of[apid] for apid in sorted(of))
        places, number = spans_of_two(one, other)
    else:
        places = tuple(Interval(piece.first, piece.last) for piece in of[first_of_dict(of)])
        number = 8 if {957, 965} <= of.keys() else 7
    is_done = holding(sequences, join(done))
    delivered = inside_in_turn(sequences, places) & ~is_done
    series = _series(delivered)
    written = sequences[delivered]
    return replace(
        result,
        places=places,
        recorded=recorded(sequences, delivered),
        defect=number,
        delivered=delivered,
        done=is_done,
        series=series,
        files=tuple(file for a, b in series for file in _files(written, a, b, limits)),
        orphans=int((~delivered & ~is_done).sum()),
    )


def inside_in_turn(sequences: NDArray[np.uint64], places: Sequence[Interval]) -> NDArray[np.bool_]:
    """Tell which ordered sequences lie in spans that are gone through side by side: on to the next behind an end."""
    if not places:
        return np.zeros(len(sequences), bool)
    first, last = (np.array(edge, np.uint64) for edge in zip(*places, strict=True))
    at = np.searchsorted(np.maximum.accumulate(last), sequences).clip(max=len(places) - 1)
    inside: NDArray[np.bool_] = (first[at] <= sequences) & (sequences <= last[at])
    return inside


def recorded(sequences: NDArray[np.uint64], delivered: NDArray[np.bool_]) -> tuple[Interval, ...]:
    """Return the spans that it records: one ends only where an event is skipped, and bridges what may come (4)."""
    written = sequences[delivered]
    return tuple(Interval(int(written[a]), int(written[b - 1])) for a, b in _series(delivered))


def _series(delivered: NDArray[np.bool_]) -> tuple[tuple[int, int], ...]:
    """Return the slices of the delivered events between which at least one known event is not delivered."""
    numbers = np.flatnonzero(delivered)
    if not len(numbers):
        return ()
    cuts = np.flatnonzero(np.diff(numbers) != 1) + 1
    return tuple(pairwise([0, *cuts.tolist(), len(numbers)]))


def _files(written: NDArray[np.uint64], begin: int, end: int, limits: Merge) -> Iterable[File]:
    limit = limits.max_events
    while begin < end:
        stop = min(begin + limit, end) if limit > 0 else end
        yield File(number_in_name(int(written[begin])), begin, stop)
        begin = stop
        shrunk = int(limits.chunk_scale * limit)
        limit = limits.max_events if limit <= limits.chunk_floor * limits.max_events else shrunk


def number_in_name(sequence: int) -> int:
    """Return the number that the legacy writes into the name of a file: 32 bits with a sign."""
    return (sequence + WRAPPED) % 2**32 - WRAPPED
