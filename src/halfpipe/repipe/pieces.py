"""Dividing the level-0 packets of a run into chunks: contiguous packets of one APID (ground-chain §4).

Pure functions on the packets of one APID, in order and each once, from `halfpipe.formats.level0`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from halfpipe.formats.level0 import COUNTER, Flags
from halfpipe.formats.met import MICROSECONDS
from halfpipe.formats.retdef import Span
from halfpipe.ids import RunId

LARGE = 128 << 20  # bytes of a piece; an average chunk has 105 to 135 MB (ground-chain, Scale)
# A datagram without a known run belongs to the run next to it, if it is at most so far away. There is one every second.
REACH = 60 * MICROSECONDS


@dataclass(frozen=True, order=True)
class Stretch:
    """A time span, `begin` to `end` (Unix UTC microseconds), in which all datagrams of an APID belong to one run.

    A ground id of -1 means unknown.
    """

    begin: int
    end: int
    run: RunId
    gndid: int


def stretches(found: Iterable[Stretch]) -> tuple[Stretch, ...]:
    """Sort stretches, and join consecutive ones of the same run."""
    joined: list[Stretch] = []
    for each in sorted(found):
        if joined and joined[-1].run == each.run:
            joined[-1] = replace(joined[-1], end=max(joined[-1].end, each.end))
        else:
            joined.append(each)
    return tuple(joined)


def stretch_of(unix: NDArray[np.int64], known: Sequence[Stretch]) -> NDArray[np.int64]:
    """Return the number of the stretch that contains each time or is within `REACH` of it; -1 if none is."""
    if not known:
        return np.full(unix.shape, -1, np.int64)
    begins, ends = (np.array([getattr(each, edge) for each in known], np.int64) for edge in ("begin", "end"))
    before = np.clip(np.searchsorted(begins, unix, side="right") - 1, 0, None)
    after = np.clip(before + 1, None, len(known) - 1)
    away = [np.maximum(0, np.maximum(begins[at] - unix, unix - ends[at])) for at in (before, after)]
    nearest = np.where(away[0] <= away[1], before, after)
    return np.where(np.minimum(*away) <= REACH, nearest, -1)


def pieces(rows: NDArray[np.void], apid: int, known: Sequence[Stretch], run: RunId) -> list[tuple[int, Span]]:
    """Divide the packets of one APID and one run into contiguous pieces.

    A piece ends with the run, where whole datagrams are missing, or between two datagrams once it is `LARGE`. Missing
    packets inside a datagram do not end a piece, because the decoder needs both sides to report the loss.

    Parameters
    ----------
    rows
        The packets of the APID (dtype `halfpipe.formats.level0.PACKET`).
    apid, run
        The APID and the run.
    known
        The stretches of all runs, in order.

    Returns
    -------
    list
        The ground id of each piece, and its span from the first to the last packet.
    """
    of = stretch_of(rows["unix"], known)
    at = np.flatnonzero(np.isin(of, [number for number, each in enumerate(known) if each.run == run]))
    if not at.size:
        return []
    of, rows = of[at], rows[at]
    flags, count, unix = rows["flags"], rows["count"].astype(np.int64), rows["unix"]
    closed = np.isin(flags[:-1], (Flags.LAST, Flags.ALONE)) & np.isin(flags[1:], (Flags.FIRST, Flags.ALONE))
    breaks = (np.diff(of) != 0) | ((np.diff(count) % COUNTER != 1) & closed)
    # Packets of equal time stay together, because a RetDef selects them by time.
    between = np.flatnonzero(closed & (np.diff(unix) > 0))
    filled = np.cumsum(rows["size"], dtype=np.int64)[between] // LARGE
    breaks[between[1:][np.diff(filled) > 0]] = True
    return [
        (
            known[of[part[0]]].gndid,
            Span(apid, int(unix[part[0]]) / MICROSECONDS, int(unix[part[-1]]) / MICROSECONDS),
        )
        for part in np.split(np.arange(at.size), np.flatnonzero(breaks) + 1)
    ]
