"""The lines of a chunk's index as the original's decoder pads them (ground-chain, end of §6)."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from halfpipe.formats.structured import layout

# Every field of an EVT line but the file's name. `startedat` is MET, other times are Unix seconds; `dgmevt` counts the
# events of the datagram from 0.
EVENT_LINE = layout(
    "u4 startedat",
    "u8 sequence elapsed livetime",
    "f8 utc",
    "i4 scid",
    "u2 apid",
    "u4 datagram dgmevt",
    "S16 oaction caction",
    "f8 dgmutc",
    "i8 offset",
)
_EVT = "EVT: %10d %20d %20d %20d %19.6f %3d %4d %8d %8d %16s %16s %19.6f %20d "
_DGM = "DGM: %10d %19.6f %3d %4d %7d %8d %3d" + 8 * " %16s" + 2 * " %19.6f %20d" + 3 * " %10d" + "\n"


def evt_lines(events: NDArray[np.void], file: str) -> Iterator[str]:
    """Yield the EVT lines of events (dtype `EVENT_LINE`) that lie in one event file, named as the lines name it."""
    tail = f"{file}\n"
    return (_EVT % row + tail for row in _rows(events))


def dgm_lines(datagrams: NDArray[np.void]) -> Iterator[str]:
    """Yield the DGM lines, of 23 fields, of `datagrams` (dtype `halfpipe.formats.idx.DATAGRAM`)."""
    return (_DGM % row for row in _rows(datagrams))


def _rows(table: NDArray[np.void]) -> Iterator[tuple[object, ...]]:
    columns = (table[name] for name in table.dtype.names or ())
    return zip(*((c.astype(str) if c.dtype.kind == "S" else c).tolist() for c in columns), strict=True)
