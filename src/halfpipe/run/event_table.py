"""The events of a run that one downlink brings, as they lie in a file of their own: where each record is.

They are in order by (sequence, APID), each once. The file is large and can be made again from the chunk
products. It is an array of numpy, of one type.
"""

import io
import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as format_
from numpy.typing import NDArray

from halfpipe import paths
from halfpipe.errors import StateError
from halfpipe.files.advice import advice
from halfpipe.files.durable import replacing, write_whole
from halfpipe.files.reading import open_regular
from halfpipe.formats.kept_index import SIZED
from halfpipe.formats.row_copies import put, taken
from halfpipe.ids import DownlinkId, RunId
from halfpipe.run.chunk_files import load_files

_SHAPE = b"'shape'"

# What a merge has to hold of every event of a run at once: 26 bytes.
KEY = np.dtype(
    [
        ("sequence", "u8"),
        ("apid", "u2"),
        ("datagram", "u4"),
        ("size", "u4"),  # bytes, of the record
        ("file", "u2"),  # counts into the names of the evt files of its source
        ("source", "u2"),  # counts into the downlinks that are merged
        ("row", "u4"),  # in the table of its source
    ]
)
_BLOCK = 1 << 17  # rows read at a time


@dataclass(frozen=True)
class EventTable:
    """The events of a merged index as they lie in their file, in order, and the evt files they count into.

    Nothing is held of them: `keys` and `rows` read what is asked for.
    """

    path: Path
    start: int
    count: int
    files: tuple[str, ...]

    def keys(self, source: int, without: Collection[int] = ()) -> NDArray[np.void]:
        """Return the keys of the events (dtype `KEY`), but for those in the files of the numbers `without`.

        `source` is the number of this table among others.

        Raises
        ------
        StateError
            If the file cannot be read, or a key has no room for so large numbers.
        """
        if source > highest("source") or self.count > highest("row") + 1:
            raise StateError(
                f"{self.path}: {self.count} events of downlink {source + 1} of a run, but a merge can tell no more "
                f"than {highest('row') + 1} events and {highest('source') + 1} downlinks apart."
            )
        keys = np.empty(self.count, KEY)
        keys["source"] = source
        for first in range(0, self.count, _BLOCK):
            rows = self._read(first, min(first + _BLOCK, self.count))
            block = keys[first : first + len(rows)]
            for name in ("sequence", "apid", "datagram", "size", "file"):
                block[name] = rows[name]
            block["row"] = np.arange(first, first + len(rows))
        return keys[~np.isin(keys["file"], list(without))] if without else keys

    def rows(self, numbers: NDArray[np.integer[Any]]) -> NDArray[np.void]:
        """Return the rows of the given numbers (dtype `SIZED`), which ascend; what lies between is read too."""
        if not len(numbers):
            return np.empty(0, SIZED)
        low, high = int(numbers[0]), int(numbers[-1]) + 1
        if high - low == len(numbers):
            return self._read(low, high)
        found = np.empty(len(numbers), SIZED)
        # Block by block, for rows that lie far apart.
        edges = np.arange(low, high + _BLOCK, _BLOCK)
        for first, a, b in zip(
            edges[:-1].tolist(), *np.searchsorted(numbers, [edges[:-1], edges[1:]]).tolist(), strict=True
        ):
            if b > a:
                block = self._read(first, int(numbers[b - 1]) + 1)
                put(found, a, taken(block, numbers[a:b] - numbers.dtype.type(first)))
        return found

    def _read(self, first: int, last: int) -> NDArray[np.void]:
        try:
            rows = np.fromfile(self.path, SIZED, last - first, offset=self.start + first * SIZED.itemsize)
        except OSError as error:
            # Not as it is: while an event file is written it would be told as an error of that one.
            raise StateError(f"{self.path}: cannot be read: {error.strerror}. {advice(error)}") from error
        if len(rows) != last - first:
            raise StateError(f"{self.path}: became shorter while it was read. Re-run the command.")
        return rows


def highest(field: str) -> int:
    """Return the highest number for which a field of a key has room."""
    return int(np.iinfo(KEY[field]).max)


def write_events(path: Path, windows: Iterable[NDArray[np.void]]) -> int:
    """Write the rows (dtype `SIZED`) of `windows`, which come in order, to `path`; return their number."""
    count = 0
    with replacing(path, buffering=0) as out:
        write_whole(out, _preamble(0))
        for window in windows:
            write_whole(out, window.view(np.uint8).data)
            count += len(window)
        out.seek(0)
        write_whole(out, _preamble(count))
    return count


def load_events(work: Path, run: RunId, downlink: DownlinkId) -> EventTable:
    """Return the event part of a merged index.

    Raises
    ------
    StateError
        If the file is damaged.
    """
    return open_events(work / paths.events(run, downlink), load_files(work, run, downlink))


def open_events(path: Path, files: tuple[str, ...]) -> EventTable:
    """Return what `write_events` wrote, and nothing else: no other type, no more items than the file has.

    Raises
    ------
    StateError
        If the file is damaged or was written by another version.
    """
    try:
        with open_regular(path) as file:
            if format_.read_magic(file) != (1, 0):
                raise ValueError("not of the format that is written here")
            length = int.from_bytes(file.read(2), "little")
            header = file.read(length)
            if len(header) < length:
                raise ValueError("it is cut inside its header")
            start = file.tell()
            count, rest = divmod(os.fstat(file.fileno()).st_size - start, SIZED.itemsize)
            if header.partition(_SHAPE)[0] != _header(count).partition(_SHAPE)[0]:
                raise StateError(f"{path}: made by another version. Remove it: it will be made again.")
            if rest or header != _header(count):
                raise ValueError("its size is not what it says")
    except (ValueError, EOFError) as error:
        raise StateError(
            f"{path}: not an event array ({error}). Remove it: it will be made again."
        ) from error
    return EventTable(path, start, count, files)


def _preamble(count: int) -> bytes:
    """Return what stands before an array of `count` events; of the same length whatever the count."""
    out = io.BytesIO()
    described = format_.header_data_from_array_1_0(np.empty(0, SIZED)) | {"shape": (count,)}
    format_.write_array_header_1_0(out, described)
    return out.getvalue()


def _header(count: int) -> bytes:
    """Return the header of an array of `count` events, which is compared and never interpreted."""
    return _preamble(count)[format_.MAGIC_LEN + 2 :]
