"""The legacy's merge, replayed on arrays: what its rule makes of the datagrams and events that it knew.

It is what `halfpipe compare` holds the legacy's deliveries against. Written from docs/legacy.md, and held against what
the legacy itself recorded.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from halfpipe.ids import RunId
from halfpipe.merge.decision import inside_any
from halfpipe.merge.intervals import Interval, join
from halfpipe.merge.settle import CLOSES, OPENS, KnownDatagrams, consecutive

LPA = frozenset({956, 957, 958})  # any other APID made a run LCI to the legacy, 955 too
EPUS = 2  # of an LPA run: with one or three it delivered nothing
EIGHT_DIGITS = 0x10000000  # MET: it wrote the hex digits of earlier runs without the leading zero


class Piece(NamedTuple):
    """Consecutive datagrams of one EPU as the legacy sees them: `first` and `last` as they stand in its datagrams."""

    first: int
    last: int
    opens: bool
    closing: bytes
    hollow: bool


@dataclass(frozen=True)
class Merged:
    """What the legacy makes of a run.

    Attributes
    ----------
    events
        Those that it knew, in order (sequence, APID), each once.
    delivered, done
        Which of them it writes, and which lie inside spans of other downlinks.
    kind, complete, refused
        LPA or LCI to it; whether it retires the run; whether it delivers nothing of it.
    spans
        What it finds to be delivered.
    defect
        By which number of docs/legacy.md it does not deliver what it does not deliver behind its last span.
    """

    events: NDArray[np.void]
    delivered: NDArray[np.bool_]
    done: NDArray[np.bool_]
    kind: str
    complete: bool
    refused: bool
    spans: tuple[Interval, ...] = ()
    defect: int = 3

    @property
    def recorded(self) -> list[Interval]:
        """The spans that it records: one ends only where a known event is skipped, and bridges what may come."""
        numbers = np.flatnonzero(self.delivered)
        parts = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1) if len(numbers) else []
        sequence = self.events["sequence"]
        return [Interval(int(sequence[part[0]]), int(sequence[part[-1]])) for part in parts]

    def lines(self, run: RunId) -> dict[str, list[str]]:
        """Return its lines of the texts that follow from a merge; it counts the events of the last span only."""
        retired = [f"{run.l1} COMPLETE"] if self.complete else []
        if self.refused:
            return {"delivered_events": [], "event_gaps": [], "retired_runs": retired}
        last = int((self.delivered & inside_any(self.events["sequence"], self.recorded[-1:])).sum())
        orphans = int((~self.delivered & ~self.done).sum())
        return {
            "delivered_events": [f"{run.l1} {last} {orphans} {self.kind}"],
            "event_gaps": sorted(f"{run.l1} {one.last} {other.first}" for one, other in pairwise(self.spans)),
            "retired_runs": retired,
        }


def merged(
    run: RunId, parts: Iterable[KnownDatagrams], events: NDArray[np.void], done: Iterable[Interval]
) -> Merged:
    """Merge a run as the legacy does.

    Parameters
    ----------
    run
        The run. Of an early one the legacy finds no files.
    parts
        What downlinks made known, the own one first: of several lines of a datagram the first part's counts.
    events
        All events that it knew, in order (sequence, APID), each once.
    done
        The spans that it recorded for other downlinks.
    """
    lines: dict[tuple[int, int], bytes] = {}
    several = False
    for part in parts:
        for row, line in zip(part.rows[["apid", "datagram"]].tolist(), part.lines, strict=True):
            several |= lines.setdefault(row, line) != line
    of = {apid: pieces(rows) for apid, rows in KnownDatagrams.of(lines.values()).by_apid().items()}
    early = run.met < EIGHT_DIGITS
    is_lpa = of.keys() <= LPA
    kind, nothing = "LPA" if is_lpa else "LCI", np.zeros(len(events), bool)
    complete = not early and all(len(p) == 1 and p[0].opens and p[0].closing in CLOSES for p in of.values())
    if early or not of or (is_lpa and len(of) != EPUS):
        return Merged(events, nothing, nothing, kind, complete and bool(of), True, defect=35 if early else 3)
    if is_lpa:
        one, other = (of[apid] for apid in sorted(of))
        spans, number = spans_of_two(one, other)
    else:
        # It takes what comes first in a dict of Python 2, of eight slots; of two in one slot what has a gap.
        first = min(of, key=lambda apid: (apid % 8, len(of[apid]) == 1, apid))
        spans = [Interval(piece.first, piece.last) for piece in of[first]]
        number = 8 if {957, 965} <= of.keys() else 7 if len(of) > 1 else 22
    is_done = inside_any(events["sequence"], join(done))
    delivered = (
        inside_any(events["sequence"], join(span for span in spans if span.first <= span.last)) & ~is_done
    )
    defect = 34 if several else number
    return Merged(events, delivered, is_done, kind, complete, False, tuple(spans), defect)


def pieces(rows: NDArray[np.void]) -> list[Piece]:
    """Return the pieces of one EPU; `rows` are its datagrams in order of their numbers."""
    return [
        Piece(
            int(part["evtseq0"][0]),
            int(part["evtseq1"][-1]),
            bytes(part["oaction"][0]) == OPENS,
            bytes(part["caction"][-1]),
            not (part["nevts"][0] and part["nevts"][-1]),
        )
        for part in consecutive(rows)
    ]


def spans_of_two(one: Sequence[Piece], other: Sequence[Piece]) -> tuple[list[Interval], int]:
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
            i, rest = i + 1, other[j + 1 :]
        else:
            j, rest = j + 1, one[i + 1 :]
        if i == len(one) or j == len(other):
            break
    if any(piece.hollow for piece in (*one, *other)):
        return spans, 22
    if rest:
        return spans, 20
    if stopped:
        return spans, 16
    return spans, 5 if {a.closing, b.closing} <= {*CLOSES} else 6
