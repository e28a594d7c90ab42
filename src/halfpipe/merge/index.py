"""The merged index of one run within one downlink: the datagrams, the events and where they lie.

The datagram part is text and never deleted. The event part is an array, ordered by (sequence, APID)
without duplicates; it is large and can be made again from the chunk products.
"""

import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as format_
from numpy.typing import NDArray

from halfpipe import paths, progress
from halfpipe.errors import FormatError, StateError
from halfpipe.files import (
    advice,
    make_directory,
    open_regular,
    read_json,
    remove_file,
    replacing,
    write_bytes,
    write_json,
    write_whole,
)
from halfpipe.formats import evt, idx, placed
from halfpipe.formats.placed import PLACED, Placed
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.memory import give_back
from halfpipe.merge.aside import IN_MEMORY, Aside, Rows
from halfpipe.merge.deliver import in_order, merged
from halfpipe.merge.settle import KnownDatagrams
from halfpipe.tables import joined, put, taken

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
        ("row", "u4"),  # in the event part of its source
    ]
)
_BLOCK = 1 << 17  # rows read at a time


@dataclass(frozen=True)
class ChunkProducts:
    """The files of one run that the decoder made of one chunk, by name and size.

    `checksums` has the SHA-256 of each as well, where that is known.
    """

    chunk: ChunkId
    files: Mapping[str, int]
    whole: bool
    checksums: Mapping[str, str] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, entry: Mapping[str, Any], run: RunId) -> "ChunkProducts":
        """Read them from the content of a ``{chunk}.json``."""
        files = [file for file in entry["files"] if file["run"] == run]
        return cls(
            ChunkId(entry["chunk"]),
            {file["name"]: file["size"] for file in files},
            all(file.get("whole", True) for file in files),
            {file["name"]: file["sha256"] for file in files},
        )

    def as_json(self) -> dict[str, Any]:
        """Write them as JSON."""
        return {"chunk": str(self.chunk), "files": dict(sorted(self.files.items())), "whole": self.whole}

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "ChunkProducts":
        """Read what `as_json` wrote."""
        return cls(ChunkId(entry["chunk"]), dict(entry["files"]), entry["whole"])

    def lie_in(self, directory: Path) -> bool:
        """Tell whether all files lie in `directory` with the sizes that they had."""
        for name, size in self.files.items():
            try:
                if (directory / name).stat().st_size != size:
                    return False
            except FileNotFoundError:
                return False
        return True


def chunk_products(work: Path, downlink: DownlinkId, run: RunId, chunk: ChunkId) -> ChunkProducts:
    """Return what the decoder made of `chunk` for `run`, as its ``{chunk}.json`` vouches."""
    return ChunkProducts.of(read_json(work / paths.chunk(downlink, chunk)), run)


@dataclass(frozen=True)
class MergedIndex:
    """What a downlink brings of a run.

    `parts` are its events (dtype `PLACED`), index by index in file-name order, each part in order; their
    field ``file`` counts into `files`, the base names of the evt files. `chunks` are the products it was
    made from.
    """

    datagrams: KnownDatagrams
    parts: tuple[Rows, ...]
    files: tuple[str, ...]
    chunks: tuple[ChunkProducts, ...]

    @property
    def events(self) -> NDArray[np.void]:
        """All events in order, each once (dtype `PLACED`): a copy."""
        return joined([np.empty(0, PLACED), *merged(self.parts)])

    def as_json(self, events: int) -> dict[str, Any]:
        """Say what it holds, as its ``index.json`` does; `events` is what `save` counted."""
        return {
            "chunks": [chunk.as_json() for chunk in self.chunks],
            "datagrams": {
                str(apid): [list(pair) for pair in pairs] for apid, pairs in self.datagrams.ranges().items()
            },
            "events": events,
        }


@dataclass(frozen=True)
class EventPart:
    """The events of a merged index as they lie in their file, in order, and the evt files they count into.

    Nothing is held of them: `keys` and `rows` read what is asked for.
    """

    path: Path
    start: int
    count: int
    files: tuple[str, ...]

    def keys(self, source: int) -> NDArray[np.void]:
        """Return the key of every event (dtype `KEY`); `source` is the number of this part among others.

        Raises
        ------
        StateError
            If the file cannot be read, or a key has no room for so large numbers.
        """
        if source > _highest("source") or self.count > _highest("row") + 1:
            raise StateError(
                f"{self.path}: {self.count} events of downlink {source + 1} of a run, but a merge can tell no more "
                f"than {_highest('row') + 1} events and {_highest('source') + 1} downlinks apart."
            )
        keys = np.empty(self.count, KEY)
        keys["source"] = source
        for first in range(0, self.count, _BLOCK):
            rows = self._read(first, min(first + _BLOCK, self.count))
            block = keys[first : first + len(rows)]
            for name in ("sequence", "apid", "datagram", "size", "file"):
                block[name] = rows[name]
            block["row"] = np.arange(first, first + len(rows))
        return keys

    def rows(self, numbers: NDArray[np.integer[Any]]) -> NDArray[np.void]:
        """Return the rows of the given numbers (dtype `PLACED`), which ascend; what lies between is read too."""
        if not len(numbers):
            return np.empty(0, PLACED)
        low, high = int(numbers[0]), int(numbers[-1]) + 1
        if high - low == len(numbers):
            return self._read(low, high)
        found = np.empty(len(numbers), PLACED)
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
            rows = np.fromfile(self.path, PLACED, last - first, offset=self.start + first * PLACED.itemsize)
        except OSError as error:
            # Not as it is: while an event file is written it would be told as an error of that one.
            raise StateError(f"{self.path}: cannot be read: {error.strerror}. {advice(error)}") from error
        if len(rows) != last - first:
            raise StateError(f"{self.path}: became shorter while it was read. Give the same command again.")
        return rows


def _highest(field: str) -> int:
    return int(np.iinfo(KEY[field]).max)


def build(
    chunks: Iterable[tuple[ChunkProducts, Path]],
    threads: int = 1,
    aside: Path | None = None,
    kept: Callable[[str], Path] | None = None,
) -> MergedIndex:
    """Merge the chunk indexes of one run within one downlink.

    Parameters
    ----------
    chunks
        The products of each chunk and the directory where they lie.
    threads
        So many indexes are read at a time.
    aside
        Directory to put events aside that are too many for the memory; None: all are held.
    kept
        Where was kept what `decode_chunk` read of the index of this name; None: nowhere. What is not there
        is read again.

    Raises
    ------
    MissingInputError, FormatError
        If an index or an evt file is gone or damaged, or there are too many evt files.
    """
    listed = list(chunks)
    names = [
        (chunk, directory, name)
        for chunk, directory in listed
        for name in chunk.files
        if name.endswith(".idx")
    ]
    files: dict[str, int] = {}
    parts: list[tuple[str, Rows]] = []
    held, put_aside = 0, None
    lines: list[bytes] = []
    total = sum(chunk.files[name] for chunk, _, name in names)
    with progress.of("reading indexes", total_bytes=total) as bar, ThreadPoolExecutor(threads) as pool:
        read = pool.map(lambda at: _read_part(at[0], at[1], at[2], kept), names)
        for (chunk, directory, name), part in zip(names, read, strict=True):
            lines += part.lines
            codes = np.array([files.setdefault(file, len(files)) for file in part.files], np.int64)
            if len(files) > _highest("file") + 1:
                raise FormatError(
                    f"{directory / name}: with it a downlink brings {len(files)} event files of a run, but a merge "
                    f"can tell no more than {_highest('file') + 1} apart. Have the chunks decoded to fewer files."
                )
            if len(part.events):
                part.events["file"] = codes[part.events["file"]]
            held += len(part.events)
            if aside is not None and held > IN_MEMORY:
                put_aside = put_aside or Aside(aside)
                parts.append((name, put_aside.put(part.events)))
            else:
                parts.append((name, part.events))
            bar.add(events=len(part.events), size=chunk.files[name])
    give_back()
    parts.sort(key=lambda part: part[0])
    return MergedIndex(
        KnownDatagrams.of(lines),
        tuple(part for _, part in parts),
        tuple(files),
        tuple(chunk for chunk, _ in listed),
    )


def _read_part(
    chunk: ChunkProducts, directory: Path, name: str, kept: Callable[[str], Path] | None
) -> Placed:
    """Return what was kept of an index or read it, its events in order."""
    known = None
    if kept is not None and name in chunk.checksums:
        known = placed.kept(kept(name), chunk.checksums[name], chunk.files)
    if known is None:
        index = idx.read_index(directory / name)
        known = placed.place(index, [*_sizes(chunk, directory, index)])
    return Placed(known.lines, in_order(known.events), known.files)


def _sizes(chunk: ChunkProducts, directory: Path, index: idx.Index) -> Iterator[NDArray[np.int64]]:
    """Yield the sizes of the records in each event file of an index, in the order of their lines."""
    for number, file in enumerate(index.files):
        offsets = index.events["offset"][index.events["file"] == number]
        if chunk.whole:
            order = np.argsort(offsets, kind="stable")
            sizes = np.empty(len(offsets), np.int64)
            sizes[order] = np.diff(offsets[order], append=chunk.files[file])
            yield sizes
        else:
            opened = evt.open_evt(directory / file)
            yield evt.record_layout(opened.data, offsets, str(directory / file)).sizes


def save(index: MergedIndex, work: Path, run: RunId, downlink: DownlinkId) -> int:
    """Write the parts of a merged index, each whole or not at all; the caller holds the run's lock.

    Returns the number of its events.

    In an order in which other downlinks can go on with what a death in between leaves: the events never
    lie beside a list of files that they do not count into (they are made again where they are missing),
    and the datagrams, which make the downlink known, come last.
    """
    make_directory(work, f"{paths.run(run)}/{downlink}")
    remove_file(work / paths.events(run, downlink))
    write_json(
        work / paths.chunk_list(run, downlink),
        {"chunks": [chunk.as_json() for chunk in index.chunks], "files": list(index.files)},
    )
    count = write_events(index, work / paths.events(run, downlink))
    write_bytes(
        work / paths.datagrams(run, downlink), b"".join(line + b"\n" for line in index.datagrams.lines)
    )
    return count


def write_events(index: MergedIndex, path: Path) -> int:
    """Write the events of a merged index to `path`, in order and each once; return their number."""
    count = 0
    with replacing(path, buffering=0) as out:
        write_whole(out, _preamble(0))
        for window in merged(index.parts):
            write_whole(out, window.view(np.uint8).data)
            count += len(window)
        out.seek(0)
        write_whole(out, _preamble(count))
    return count


def load_datagrams(work: Path, run: RunId, downlink: DownlinkId) -> KnownDatagrams:
    """Read the datagram part of a merged index."""
    path = work / paths.datagrams(run, downlink)
    return KnownDatagrams.of(path.read_bytes().split(b"\n")[:-1], str(path))


def load_chunks(work: Path, run: RunId, downlink: DownlinkId) -> tuple[ChunkProducts, ...]:
    """Read which chunk products a merged index was made from."""
    content = read_json(work / paths.chunk_list(run, downlink))
    return tuple(ChunkProducts.from_json(entry) for entry in content["chunks"])


def load_events(work: Path, run: RunId, downlink: DownlinkId) -> EventPart:
    """Return the event part of a merged index.

    Raises
    ------
    StateError
        If the file is damaged.
    """
    files: Sequence[str] = read_json(work / paths.chunk_list(run, downlink))["files"]
    return open_events(work / paths.events(run, downlink), tuple(files))


def open_events(path: Path, files: tuple[str, ...]) -> EventPart:
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
            count, rest = divmod(os.fstat(file.fileno()).st_size - start, PLACED.itemsize)
            if header.partition(_SHAPE)[0] != _header(count).partition(_SHAPE)[0]:
                raise StateError(f"{path}: made by another version. Remove it: it will be made again.")
            if rest or header != _header(count):
                raise ValueError("its size is not what it says")
    except (ValueError, EOFError) as error:
        raise StateError(
            f"{path}: not an event array ({error}). Remove it: it will be made again."
        ) from error
    return EventPart(path, start, count, files)


def _preamble(count: int) -> bytes:
    """Return what stands before an array of `count` events; of the same length whatever the count."""
    out = io.BytesIO()
    described = format_.header_data_from_array_1_0(np.empty(0, PLACED)) | {"shape": (count,)}
    format_.write_array_header_1_0(out, described)
    return out.getvalue()


def _header(count: int) -> bytes:
    """Return the header of an array of `count` events, which is compared and never interpreted."""
    return _preamble(count)[format_.MAGIC_LEN + 2 :]
