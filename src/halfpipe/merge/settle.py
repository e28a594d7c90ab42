"""Where a run is settled: no event processing unit (EPU) can add another event there."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from halfpipe.formats.idx import Datagrams, parse_datagrams
from halfpipe.ids import RunKind
from halfpipe.merge.intervals import EVERYTHING, HIGHEST, LOWEST, Interval, Ranges, intersect, join

OPENS = b"start"
CLOSES = (b"stop", b"abort", b"pause")


@dataclass(frozen=True)
class Segment:
    """A maximal series of consecutive datagrams of one EPU, among all known datagrams of a run.

    `covers` is the interval of sequences in which the EPU can add no more events, or None.
    """

    datagrams: tuple[int, int]
    opens: bool
    closes: bool
    covers: Interval | None


@dataclass(frozen=True)
class KnownDatagrams:
    """The datagrams listed by index lines, one for each (APID, number), in that order.

    Several lines with the same APID and number are one datagram. If these lines differ, the first in byte order counts.
    """

    lines: tuple[bytes, ...]
    rows: Datagrams

    @classmethod
    def of(cls, lines: Iterable[bytes], source: str = "datagram lines") -> Self:
        """Read DGM index lines (without line ends, in any order, repeats allowed).

        Raises
        ------
        FormatError
            If a line is not a DGM line; the message names `source`.
        """
        unique = sorted(set(lines))
        rows = parse_datagrams(unique, source)
        order = np.lexsort((rows.datagram, rows.apid))  # stable: keeps the order of the lines
        keys = cls((), rows.take(order)).keys
        kept = order[np.append(True, keys[1:] != keys[:-1])[: len(order)]]
        return cls(tuple(unique[i] for i in kept), rows.take(kept))

    @classmethod
    def together(cls, parts: "Iterable[KnownDatagrams]") -> "KnownDatagrams":
        """Join the datagrams of several downlinks."""
        every = [part for part in parts if part.lines]
        return every[0] if len(every) == 1 else cls.of(line for part in every for line in part.lines)

    @property
    def keys(self) -> NDArray[np.uint64]:
        """Each APID and number as one integer."""
        found: NDArray[np.uint64] = self.rows.apid.astype(np.uint64) << np.uint64(32) | self.rows.datagram
        return found

    def ranges(self) -> Ranges:
        """Return the known numbers of each APID as inclusive ranges."""
        return {
            apid: tuple(map(first_and_last, consecutive(of_apid))) for apid, of_apid in self.by_apid().items()
        }

    def by_apid(self) -> dict[int, Datagrams]:
        """Return the rows of each EPU in the order of their numbers, as views."""
        if not self.lines:
            return {}
        apids = self.rows.apid
        edges = np.flatnonzero(apids[1:] != apids[:-1]) + 1
        firsts = apids[np.append(0, edges)].tolist()
        return dict(zip(firsts, self.rows.split(edges), strict=True))

    def segments(self) -> dict[int, tuple[Segment, ...]]:
        """Return the segments of each EPU in order."""
        return {
            apid: tuple(_segment(rows) for rows in consecutive(of_apid))
            for apid, of_apid in self.by_apid().items()
        }


def contradictions(ours: KnownDatagrams, theirs: KnownDatagrams) -> list[tuple[int, int, Interval, Interval]]:
    """Return the datagrams that two downlinks contain with the same number of events and no sequence in common.

    A datagram may arrive in parts, which overlap or have different numbers of events. These datagrams contradict each
    other: one of the downlinks has another datagram under this number, and Level-1 may get events twice.

    Returns
    -------
    list of tuple
        APID, number, and the first and last sequence in `ours` and in `theirs`.
    """
    _, here, there = np.intersect1d(ours.keys, theirs.keys, assume_unique=True, return_indices=True)
    one = ours.rows[here]
    other = theirs.rows[there]
    apart = (one.evtseq1 < other.evtseq0) | (other.evtseq1 < one.evtseq0)
    events = one.nevts
    found = np.flatnonzero(apart & (events > 0) & (events == other.nevts))
    return [
        (int(one.apid[at]), int(one.datagram[at]), _sequences(one, at), _sequences(other, at))
        for at in found.tolist()
    ]


def _sequences(rows: Datagrams, at: int) -> Interval:
    return Interval(int(rows.evtseq0[at]), int(rows.evtseq1[at]))


def consecutive(rows: Datagrams) -> list[Datagrams]:
    """Split the datagrams of one EPU, ordered by number, wherever a number is missing."""
    jumps = np.flatnonzero(np.diff(rows.datagram.astype(np.int64)) != 1) + 1
    return rows.split(jumps)


def first_and_last(rows: Datagrams) -> tuple[int, int]:
    """Return the numbers of the first and the last of some datagrams."""
    first, last = rows.datagram[[0, -1]].tolist()
    return first, last


def with_events(rows: Datagrams) -> Datagrams:
    """Return the datagrams that announce events."""
    return rows[rows.nevts > 0]


def _segment(rows: Datagrams) -> Segment:
    opens = bytes(rows.oaction[0]) == OPENS
    closes = bytes(rows.caction[-1]) in CLOSES
    covers: Interval | None
    filled = with_events(rows)
    if len(filled):
        covers = Interval(
            LOWEST if opens else int(filled.evtseq0.min()),
            HIGHEST if closes else int(filled.evtseq1.max()),
        )
    else:
        covers = EVERYTHING if opens and closes else None
    return Segment(first_and_last(rows), opens, closes, covers)


def enough_epus(apids: Iterable[int], min_epus: int) -> bool:
    """Tell whether enough EPUs have been seen: `min_epus` for an LPA run, one for LCI."""
    seen = set(apids)
    return len(seen) >= (min_epus if RunKind.of(seen) is RunKind.LPA else 1) and bool(seen)


def settled(
    segments: Mapping[int, Sequence[Segment]],
    min_epus: int,
    own_spans: Iterable[tuple[int, int]] = (),
    *,
    settle_all: bool = False,
) -> tuple[Interval, ...]:
    """Return the settled intervals of a run.

    Parameters
    ----------
    segments
        The segments of each EPU that was seen.
    min_epus
        Number of EPUs that an LPA run needs before any place is settled.
    own_spans
        Spans that the downlink delivered when it was processed before. They count as settled, too.
    settle_all
        Whether every place counts as settled, because the run is abandoned and `retire.deliver_waiting` is set.
    """
    common: tuple[Interval, ...] = (EVERYTHING,) if settle_all or enough_epus(segments, min_epus) else ()
    for of_apid in segments.values() if common and not settle_all else ():
        common = intersect(common, join(s.covers for s in of_apid if s.covers is not None))
    return join([*common, *own_spans])


def is_complete(segments: Mapping[int, Sequence[Segment]], min_epus: int) -> bool:
    """Tell whether enough EPUs were seen, each with one segment from start to close."""
    return enough_epus(segments, min_epus) and all(
        len(of_apid) == 1 and of_apid[0].opens and of_apid[0].closes for of_apid in segments.values()
    )
