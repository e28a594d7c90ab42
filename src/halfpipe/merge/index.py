"""The merged index of one run within one downlink: the datagrams, the events and where they lie.

The datagram part is text and never deleted. The event part is an array, ordered by (sequence, APID)
without duplicates; it is large and can be made again from the chunk products.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as format_
from numpy.typing import NDArray

from halfpipe import paths
from halfpipe.errors import StateError
from halfpipe.files import (
    make_directory,
    open_regular,
    read_json,
    remove_file,
    replacing,
    write_bytes,
    write_json,
)
from halfpipe.formats import evt, idx
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.merge.deliver import merge_chunks
from halfpipe.merge.settle import KnownDatagrams

_SHAPE = b"'shape'"
PLACED = np.dtype([*((name, idx.EVENT[name]) for name in idx.EVENT.names or ()), ("size", np.uint32)])


@dataclass(frozen=True)
class ChunkProducts:
    """The files of one run that the decoder made of one chunk, by name and size."""

    chunk: ChunkId
    files: Mapping[str, int]
    whole: bool

    @classmethod
    def of(cls, entry: Mapping[str, Any], run: RunId) -> "ChunkProducts":
        """Read them from the content of a ``{chunk}.json``."""
        files = [file for file in entry["files"] if file["run"] == run]
        return cls(
            ChunkId(entry["chunk"]),
            {file["name"]: file["size"] for file in files},
            all(file.get("whole", True) for file in files),
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

    `events` has the fields of `PLACED`; its field ``file`` counts into `files`, the base names of the
    evt files. `chunks` are the products it was made from.
    """

    datagrams: KnownDatagrams
    events: NDArray[np.void]
    files: tuple[str, ...]
    chunks: tuple[ChunkProducts, ...]

    def as_json(self) -> dict[str, Any]:
        """Say what it holds, as its ``index.json`` does."""
        return {
            "chunks": [chunk.as_json() for chunk in self.chunks],
            "datagrams": {
                str(apid): [list(pair) for pair in pairs] for apid, pairs in self.datagrams.ranges().items()
            },
            "events": len(self.events),
        }


def build(chunks: Iterable[tuple[ChunkProducts, Path]]) -> MergedIndex:
    """Merge the chunk indexes of one run within one downlink.

    Parameters
    ----------
    chunks
        The products of each chunk and the directory where they lie.
    """
    files: dict[str, int] = {}
    parts: list[tuple[str, NDArray[np.void]]] = []
    lines: list[bytes] = []
    products = []
    for chunk, directory in chunks:
        products.append(chunk)
        for name in chunk.files:
            if name.endswith(".idx"):
                index = idx.read_index(directory / name)
                lines += index.lines
                parts.append((name, _place(index, chunk, directory, files)))
    events = merge_chunks(parts) if parts else np.empty(0, PLACED)
    return MergedIndex(KnownDatagrams.of(lines), events, tuple(files), tuple(products))


def _place(
    index: idx.Index, chunk: ChunkProducts, directory: Path, files: dict[str, int]
) -> NDArray[np.void]:
    """Add to the events of an index the sizes of their records; `files` counts the evt files."""
    placed = np.empty(len(index.events), PLACED)
    for name in idx.EVENT.names or ():
        placed[name] = index.events[name]
    for number, name in enumerate(index.files):
        here = np.flatnonzero(index.events["file"] == number)
        offsets = index.events["offset"][here]
        order = np.argsort(offsets, kind="stable")
        if chunk.whole:
            ends = np.append(offsets[order][1:], chunk.files[name])
            placed["size"][here[order]] = ends - offsets[order]
        else:
            opened = evt.open_evt(directory / name)
            placed["size"][here] = evt.record_layout(opened.data, offsets, str(directory / name)).sizes
        placed["file"][here] = files.setdefault(name, len(files))
    return placed


def save(index: MergedIndex, work: Path, run: RunId, downlink: DownlinkId) -> None:
    """Write the parts of a merged index, each whole or not at all; the caller holds the run's lock.

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
    with replacing(work / paths.events(run, downlink)) as out:
        np.save(out, index.events, allow_pickle=False)
    write_bytes(
        work / paths.datagrams(run, downlink), b"".join(line + b"\n" for line in index.datagrams.lines)
    )


def load_datagrams(work: Path, run: RunId, downlink: DownlinkId) -> KnownDatagrams:
    """Read the datagram part of a merged index."""
    path = work / paths.datagrams(run, downlink)
    return KnownDatagrams.of(path.read_bytes().split(b"\n")[:-1], str(path))


def load_chunks(work: Path, run: RunId, downlink: DownlinkId) -> tuple[ChunkProducts, ...]:
    """Read which chunk products a merged index was made from."""
    content = read_json(work / paths.chunk_list(run, downlink))
    return tuple(ChunkProducts.from_json(entry) for entry in content["chunks"])


def load_events(work: Path, run: RunId, downlink: DownlinkId) -> tuple[NDArray[np.void], tuple[str, ...]]:
    """Read the event part of a merged index and the names of the evt files that it counts into.

    Raises
    ------
    StateError
        If the file is damaged.
    """
    path = work / paths.events(run, downlink)
    try:
        events = _read_array(path)
    except (ValueError, EOFError) as error:
        raise StateError(
            f"{path}: not an event array ({error}). Remove it: it will be made again."
        ) from error
    files: Sequence[str] = read_json(work / paths.chunk_list(run, downlink))["files"]
    return events, tuple(files)


def _read_array(path: Path) -> NDArray[np.void]:
    """Read what `save` wrote, and nothing else: no other type, no more items than the file has.

    Raises
    ------
    ValueError
        If it is no array.
    StateError
        If it is one of something else.
    """
    with open_regular(path) as file:
        if format_.read_magic(file) != (1, 0):
            raise ValueError("not of the format that is written here")
        length = int.from_bytes(file.read(2), "little")
        header = file.read(length)
        if len(header) < length:
            raise ValueError("it is cut inside its header")
        count, rest = divmod(path.stat().st_size - file.tell(), PLACED.itemsize)
        if header.partition(_SHAPE)[0] != _header(count).partition(_SHAPE)[0]:
            raise StateError(f"{path}: made by another version. Remove it: it will be made again.")
        if rest or header != _header(count):
            raise ValueError("its size is not what it says")
        events: NDArray[np.void] = np.fromfile(file, PLACED, count)
    return events


def _header(count: int) -> bytes:
    """Return the header of an array of `count` events, which is compared and never interpreted."""
    out = io.BytesIO()
    described = format_.header_data_from_array_1_0(np.empty(0, PLACED)) | {"shape": (count,)}
    format_.write_array_header_1_0(out, described)
    return out.getvalue()[format_.MAGIC_LEN + 2 :]
