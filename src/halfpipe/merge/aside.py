"""Rows put aside in a file while there are too many of them for the memory, and read again in pieces."""

import os
import tempfile
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from halfpipe.errors import HalfPipeError
from halfpipe.files import MOST_AT_ONCE, advice

IN_MEMORY = 1 << 21  # rows that are held before others are put aside: 75 MB of events


class Rows(Protocol):
    """Rows of a table, of which slices can be had as arrays: an array itself, or rows put aside."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> NDArray[np.void]: ...


class Aside:
    """A file without a name, which goes with its last user, whatever happens to the process.

    Parameters
    ----------
    home
        The directory on whose file system it lies.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._size = 0
        try:
            home.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=home, buffering=0)  # noqa: SIM115 - closed by __del__
        except OSError as error:
            raise self._error(error) from error

    def __del__(self) -> None:
        file = getattr(self, "_file", None)
        if file is not None:
            file.close()

    def _error(self, error: OSError) -> HalfPipeError:
        return HalfPipeError(
            f"{self._home}: events cannot be put aside there: {error.strerror}. {advice(error)}"
        )

    def put(self, rows: NDArray[np.void]) -> "StoredRows":
        """Write `rows` to the file and return them as they lie there.

        Raises
        ------
        HalfPipeError
            If they cannot be written; names the directory.
        """
        start = self._size
        rest = rows.view(np.uint8).data
        try:
            while rest:
                done = os.pwrite(self._file.fileno(), rest[:MOST_AT_ONCE], self._size)
                self._size += done
                rest = rest[done:]
        except OSError as error:
            raise self._error(error) from error
        return StoredRows(self, start, len(rows), rows.dtype)

    def read(self, rows: NDArray[np.void], at: int) -> None:
        """Fill `rows` with what lies from byte `at` on."""
        rest = rows.view(np.uint8).data
        try:
            while rest:
                got = os.preadv(self._file.fileno(), [rest], at)
                if not got:
                    raise HalfPipeError(f"{self._home}: what was put aside there is gone")
                at += got
                rest = rest[got:]
        except OSError as error:
            raise self._error(error) from error


class StoredRows:
    """Rows that were put aside: slices of them are read when they are asked for."""

    def __init__(self, aside: Aside, start: int, count: int, dtype: np.dtype[np.void]) -> None:
        self._aside, self._start, self._count, self.dtype = aside, start, count, dtype

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, rows: slice) -> NDArray[np.void]:
        first, last, step = rows.indices(self._count)
        if step != 1:
            raise ValueError("only rows that follow each other")
        found = np.empty(max(0, last - first), self.dtype)
        self._aside.read(found, self._start + first * self.dtype.itemsize)
        return found
