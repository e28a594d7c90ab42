"""Structured arrays: layout of their rows, and fast copies of rows.

Rows are copied as plain bytes. numpy would copy them field by field, which is ten times slower.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


def layout(*parts: str) -> np.dtype[np.void]:
    """Return a packed dtype; each part has a type and the names of fields of that type."""
    return np.dtype([(name, kind) for kind, *names in map(str.split, parts) for name in names])


def joined(parts: Sequence[NDArray[np.void]]) -> NDArray[np.void]:
    """Return the rows of one or more contiguous tables of one type, one table after the other."""
    table = np.empty(sum(map(len, parts)), parts[0].dtype)
    begin = 0
    for part in parts:
        put(table[begin : begin + len(part)], part)
        begin += len(part)
    return table


def put(room: NDArray[np.void], table: NDArray[np.void]) -> None:
    """Copy the rows of a contiguous table into `room`, which must have the same dtype."""
    whole = f"V{room.dtype.itemsize}"
    room.view(whole)[:] = table.view(whole)


def at_every_byte(data: Any, dtype: DTypeLike) -> NDArray[np.generic]:
    """View the bytes `data` as overlapping items, one starting at each byte; index with offsets to gather items."""
    item = np.dtype(dtype)
    view = memoryview(data)
    return np.ndarray(max(0, view.nbytes - item.itemsize + 1), item, buffer=view, strides=(1,))
