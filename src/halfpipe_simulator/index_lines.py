"""The lines of a chunk's index, padded as by the flight decoder (ground-chain, end of §6)."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from halfpipe.formats.idx import Datagrams
from halfpipe.formats.structured import layout

# All fields of an EVT line except the file name. `startedat` is MET, other times are Unix seconds; `dgmevt` counts the
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
_WIDTHS = (10, 20, 20, 20, 19, 3, 4, 8, 8, 16, 16, 19, 20)  # widths of the columns of an EVT line
_DECIMALS = 6  # decimals of seconds
_DGM = "DGM: %10d %19.6f %3d %4d %7d %8d %3d" + 8 * " %16s" + 2 * " %19.6f %20d" + 3 * " %10d" + "\n"


# The four digits of each number below 10,000, packed into one 32-bit word.
_FOUR_DIGITS = np.frombuffer("".join(f"{n:04d}" for n in range(10_000)).encode(), "<u4")
_BLANK = ord(" ")


def evt_lines(events: NDArray[np.void], file: str) -> NDArray[np.uint8]:
    """Return the EVT lines of events in one event file, one line per row.

    Parameters
    ----------
    events
        dtype `EVENT_LINE`, at least one; numbers must fit their columns, and seconds be between 2^22 and 2^32.
    file
        The name of the event file in the lines.
    """
    tag = b"EVT:"
    tail = f" {file}\n".encode()
    text = np.full((events.size, len(tag) + sum(_WIDTHS) + len(_WIDTHS) + len(tail)), _BLANK, np.uint8)
    text[:, : len(tag)] = np.frombuffer(tag, np.uint8)
    text[:, -len(tail) :] = np.frombuffer(tail, np.uint8)
    end = len(tag)
    for width, name in zip(_WIDTHS, EVENT_LINE.names or (), strict=True):
        end += 1 + width
        column = np.ascontiguousarray(events[name])
        cells = text[:, end - width : end]
        if column.dtype.kind == "S":
            cells[:] = np.strings.rjust(column, width).view(np.uint8).reshape(-1, width)
        elif column.dtype.kind == "f":
            seconds = np.floor(column)  # the rest has at most 30 bits, so its product is exact
            parts = np.rint((column - seconds) * 10**_DECIMALS).astype(np.uint64)
            carried, parts = np.divmod(parts, np.uint64(10**_DECIMALS))
            _put_digits(cells, parts, _DECIMALS)
            cells[:, -_DECIMALS - 1] = ord(".")
            _put_number(cells[:, : -_DECIMALS - 1], seconds.astype(np.uint64) + carried)
        else:
            _put_number(cells, column.astype(np.uint64))
    return text


def _put_number(cells: NDArray[np.uint8], numbers: NDArray[np.uint64]) -> None:
    """Put numbers, right-justified, into blank cells, shape (n, width)."""
    shortest = len(str(numbers.min()))
    longest = len(str(numbers.max()))
    _put_digits(cells, numbers, longest)
    for digits in range(shortest, longest):
        cells[numbers < np.uint64(10**digits), -1 - digits] = _BLANK


def _put_digits(cells: NDArray[np.uint8], numbers: NDArray[np.uint64], digits: int) -> None:
    """Put a fixed number of digits of each number at the end of its cell, with leading zeros."""
    width = cells.shape[1]
    for end in range(width, width - digits, -4):
        above = numbers // np.uint64(10_000)
        four = _FOUR_DIGITS[(numbers - above * np.uint64(10_000)).astype(np.intp)]
        left = digits - (width - end)
        if left >= 4:
            cells[:, end - 4 : end].view("<u4")[:, 0] = four
        else:
            cells[:, end - left : end] = four.view(np.uint8).reshape(-1, 4)[:, 4 - left :]
        numbers = above


def dgm_lines(datagrams: Datagrams) -> Iterator[str]:
    """Yield the DGM lines, of 23 fields, of `datagrams`."""
    return (_DGM % row for row in _rows(datagrams))


def _rows(table: NDArray[np.void]) -> Iterator[tuple[object, ...]]:
    columns = (table[name] for name in table.dtype.names or ())
    return zip(*((c.astype(str) if c.dtype.kind == "S" else c).tolist() for c in columns), strict=True)
