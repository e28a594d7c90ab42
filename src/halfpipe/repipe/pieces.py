"""Packets of a run in level-0 divided into chunks: by APID, where they are contiguous (ground-chain §4).

Pure functions on the packets of one APID, in order and each once, as `halfpipe.formats.level0` gives them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from halfpipe.formats.level0 import COUNTER, Flags
from halfpipe.formats.met import MICROSECONDS
from halfpipe.ids import RunId

MOST_CHUNKS = 20  # of a downlink, as the maker of the site's RetDefs has it (ground-chain §4)
LARGE = 128 << 20  # bytes; a mean chunk has 105 to 135 MB (ground-chain, Scale)
# A datagram that says nothing is of the run beside it if that is as near as this. They come every second.
REACH = 60 * MICROSECONDS


@dataclass(frozen=True, order=True)
class Stretch:
    """All datagrams of an APID from `begin` to `end` (Unix UTC microseconds) are of one run.

    A ground id of -1: it is not known.
    """

    begin: int
    end: int
    run: RunId
    gndid: int


@dataclass(frozen=True)
class Piece:
    """Contiguous packets of one APID: ``rows[first:last + 1]`` of those of the APID.

    Times of the first and the last packet in Unix UTC microseconds; `size` in bytes.
    """

    apid: int
    gndid: int
    first: int
    last: int
    begin: int
    end: int
    size: int


def stretches(found: Iterable[Stretch]) -> tuple[Stretch, ...]:
    """Return stretches in order, those that follow on each other and are of one run made one."""
    joined: list[Stretch] = []
    for each in sorted(found):
        if joined and joined[-1].run == each.run:
            joined[-1] = replace(joined[-1], end=max(joined[-1].end, each.end))
        else:
            joined.append(each)
    return tuple(joined)


def stretch_of(unix: NDArray[np.int64], known: Sequence[Stretch]) -> NDArray[np.int64]:
    """Return which stretch each time lies in, or is as near to as `REACH`; -1 for none."""
    if not known:
        return np.full(unix.shape, -1, np.int64)
    begins, ends = (np.array([getattr(each, edge) for each in known], np.int64) for edge in ("begin", "end"))
    before = np.clip(np.searchsorted(begins, unix, side="right") - 1, 0, None)
    after = np.clip(before + 1, None, len(known) - 1)
    away = [np.maximum(0, np.maximum(begins[at] - unix, unix - ends[at])) for at in (before, after)]
    nearest = np.where(away[0] <= away[1], before, after)
    return np.where(np.minimum(*away) <= REACH, nearest, -1)


def pieces(rows: NDArray[np.void], apid: int, known: Sequence[Stretch], run: RunId) -> list[Piece]:
    """Divide packets of one APID (dtype `halfpipe.formats.level0.PACKET`) and one run into contiguous pieces.

    A piece ends where the run does, and where whole datagrams are missing. Where packets of a datagram are missing
    it goes on: the decoder has to see both sides to say what is not there. The `known` stretches are in order.
    """
    of = stretch_of(rows["unix"], known)
    at = np.flatnonzero(np.isin(of, [number for number, each in enumerate(known) if each.run == run]))
    if not at.size:
        return []
    of = of[at]
    flags, count = rows["flags"][at], rows["count"][at].astype(np.int64)
    closed = np.isin(flags[:-1], (Flags.LAST, Flags.ALONE)) & np.isin(flags[1:], (Flags.FIRST, Flags.ALONE))
    breaks = (np.diff(of) != 0) | ((np.diff(count) % COUNTER != 1) & closed)
    sizes = np.concatenate([[0], np.cumsum(rows["size"], dtype=np.int64)])
    found = []
    for part in np.split(np.arange(at.size), np.flatnonzero(breaks) + 1):
        first, last = (int(at[edge]) for edge in (part[0], part[-1]))
        begin, end = (int(rows["unix"][edge]) for edge in (first, last))
        size = int(sizes[last + 1] - sizes[first])
        found.append(Piece(apid, known[of[part[0]]].gndid, first, last, begin, end, size))
    return found


def chunks(every: Iterable[Piece], rows: dict[int, NDArray[np.void]]) -> list[tuple[Piece, ...]]:
    """Return the pieces of a run as chunks, at most `MOST_CHUNKS`, in the order of APID and time.

    Where there are more, pieces of one APID come into one chunk, those that have least time between them
    first; where there are fewer, a piece that is `LARGE` is divided between two datagrams.
    """
    found: list[tuple[Piece, ...]] = [
        (piece,) for piece in sorted(every, key=lambda each: (each.apid, each.begin))
    ]
    while len(found) > MOST_CHUNKS:
        near = [
            (after[0].begin - before[-1].end, at)
            for at, (before, after) in enumerate(pairwise(found))
            if before[0].apid == after[0].apid
        ]
        at = min(near)[1]
        found[at : at + 2] = [found[at] + found[at + 1]]
    whole: list[Piece] = []  # that cannot be divided
    while len(found) < MOST_CHUNKS:
        large = [piece for (piece, *more) in found if piece.size > LARGE and not more and piece not in whole]
        if not large:
            break
        piece = max(large, key=lambda each: each.size)
        if halves := _halves(piece, rows[piece.apid]):
            at = found.index((piece,))
            found[at : at + 1] = [(half,) for half in halves]
        else:
            whole.append(piece)
    return found


def _halves(piece: Piece, rows: NDArray[np.void]) -> tuple[Piece, Piece] | None:
    """Divide a piece before the datagram that begins nearest to its middle; None if there is none."""
    part = rows[piece.first : piece.last + 1]
    flags = part["flags"]
    starts = 1 + np.flatnonzero(
        np.isin(flags[1:], (Flags.FIRST, Flags.ALONE)) & np.isin(flags[:-1], (Flags.LAST, Flags.ALONE))
        & (part["unix"][1:] > part["unix"][:-1])
    )  # fmt: skip
    if not starts.size:
        return None
    size = np.cumsum(part["size"], dtype=np.int64)
    at = int(starts[np.argmin(np.abs(size[starts - 1] - piece.size // 2))])
    first = replace(piece, last=piece.first + at - 1, end=int(part["unix"][at - 1]), size=int(size[at - 1]))
    return first, replace(
        piece, first=piece.first + at, begin=int(part["unix"][at]), size=piece.size - first.size
    )
