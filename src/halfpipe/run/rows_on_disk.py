"""Rows that are too many for the memory: written to a temporary file, and read again in pieces."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from halfpipe.errors import HalfPipeError
from halfpipe.files.advice import advice
from halfpipe.files.durable import write_whole


class RowsOnDisk:
    """A file without a name below the directory `home`, which goes with its last user."""

    def __init__(self, home: Path) -> None:
        self._home = home
        try:
            home.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=home, buffering=0)  # noqa: SIM115 - closed by __del__
        except OSError as error:
            raise self._error(error) from error

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()

    def _error(self, error: OSError) -> HalfPipeError:
        return HalfPipeError(f"{self._home}: events cannot be kept there: {error.strerror}. {advice(error)}")

    def put(self, rows: NDArray[np.void]) -> "StoredRows":
        """Write `rows` to the file and return them as they lie there.

        Raises
        ------
        HalfPipeError
            If they cannot be written; names the directory.
        """
        try:
            start = self._file.seek(0, 2)
            write_whole(self._file, rows.view(np.uint8).data)
        except OSError as error:
            raise self._error(error) from error
        return StoredRows(self, start, len(rows), rows.dtype)

    def read(self, start: int, count: int, dtype: np.dtype[np.void]) -> NDArray[np.void]:
        """Return `count` rows from byte `start` on."""
        try:
            self._file.seek(start)
            rows = np.fromfile(self._file, dtype, count)
        except OSError as error:
            raise self._error(error) from error
        if len(rows) < count:
            raise HalfPipeError(f"{self._home}: events that were kept there are gone")
        return rows


@dataclass(frozen=True)
class StoredRows:
    """Rows that lie in a file: slices of them are read when they are asked for."""

    file: RowsOnDisk
    start: int
    count: int
    dtype: np.dtype[np.void]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, rows: slice) -> NDArray[np.void]:
        first, last, step = rows.indices(self.count)
        if step != 1:
            raise ValueError("only rows that follow each other")
        return self.file.read(self.start + first * self.dtype.itemsize, max(0, last - first), self.dtype)
