"""The merged index of one run within one downlink, made of its chunks' indexes and saved: three files.

``chunks.json`` names the products that it was made of. The datagrams are text and never deleted. The events are an
array of numpy of one type, ordered by (sequence, APID) without duplicates: that is large, and can be made again from
the chunk products.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from halfpipe import paths
from halfpipe.decode.chunk_products import measure
from halfpipe.errors import FormatError, Remedy, StateError, mend
from halfpipe.files.durable import make_directory, remove_file, replacing, write_bytes, write_whole
from halfpipe.files.json_files import read_json, write_json
from halfpipe.files.reading import sha256
from halfpipe.formats import evt, idx, kept_index
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.merge.ordering import in_one
from halfpipe.merge.settle import KnownDatagrams
from halfpipe.process.environment import give_back
from halfpipe.run.downlinks_of_run import known_downlinks

FIRST_LINE = b"# SHA-256 of all that follows: "  # of the file of datagrams
MOST_FILES = np.iinfo(idx.EVENT["file"]).max + 1


@dataclass(frozen=True)
class ChunkProducts:
    """The files of one run that the decoder made of one chunk, by name and size.

    `checksums` has the SHA-256 of each as well, where that is known. If they were `taken_over`, their indexes have
    paths of the legacy's machine in each line: of these the size says nothing.
    """

    chunk: ChunkId
    files: Mapping[str, int]
    checksums: Mapping[str, str] = field(default_factory=dict, compare=False)
    taken_over: bool = False

    @classmethod
    def of(cls, entry: Mapping[str, Any], run: RunId) -> Self:
        """Read them from the content of a ``{chunk}.json``."""
        files = [file for file in entry["files"] if file["run"] == run]
        return cls(
            ChunkId(entry["chunk"]),
            {file["name"]: file["size"] for file in files},
            {file["name"]: file["sha256"] for file in files},
            entry.get("taken_over", False),
        )

    def as_json(self) -> dict[str, Any]:
        """Write them as JSON."""
        said = {"chunk": str(self.chunk), "files": self.files, "sha256": self.checksums}
        return said | ({"taken_over": True} if self.taken_over else {})

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Self:
        """Read what `as_json` wrote."""
        files, checksums = dict(entry["files"]), dict(entry["sha256"])
        return cls(ChunkId(entry["chunk"]), files, checksums, entry.get("taken_over", False))

    def lie_in(self, directory: Path) -> bool:
        """Tell whether all files lie in `directory` with the sizes that they had."""
        with suppress(FileNotFoundError):
            return all(
                (directory / name).stat().st_size == size or (self.taken_over and name.endswith(".idx"))
                for name, size in self.files.items()
            )
        return False


def damaged(path: Path, chunk: str, what: str) -> StateError:
    """Return the error of an evt file that is not what was decoded any more: `what` is wrong with it."""
    return StateError(
        f"{path}: damaged since chunk {chunk} was decoded: {what}. Nothing of it is delivered. Once the file is out of "
        "the way, its chunk is decoded again where it is needed.",
        Remedy(f"mv {path} {path}.damaged", first="To have it out of the way"),
    )


def load_chunks(work: Path, run: RunId, downlink: DownlinkId) -> tuple[ChunkProducts, ...]:
    """Read which chunk products a merged index was made from."""
    return tuple(ChunkProducts.from_json(entry) for entry in chunk_list(work, run, downlink)["chunks"])


def chunk_list(work: Path, run: RunId, downlink: DownlinkId) -> Mapping[str, Any]:
    """Read the `chunks` of a merged index, and the names of the evt `files` that its events count into."""
    again = mend(downlink, "To have it made again")
    content: Mapping[str, Any] = read_json(work / paths.chunk_list(run, downlink), again)
    return content


@dataclass(frozen=True, eq=False)
class EventTable:
    """The events of a merged index (dtype `EVENT`), in order, and the evt files they count into.

    They are held, or lie in a file that is mapped.
    """

    events: NDArray[np.void]
    files: tuple[str, ...]


@dataclass(frozen=True)
class MergedIndex:
    """What a downlink brings of a run.

    `table` has its events in order, each once. `chunks` are the products it was made from.
    """

    datagrams: KnownDatagrams
    table: EventTable
    chunks: tuple[ChunkProducts, ...]


def build(
    chunks: Iterable[tuple[ChunkProducts, Path]],
    threads: int = 1,
    kept: Callable[[str], Path] | None = None,
) -> MergedIndex:
    """Merge the chunk indexes of one run within one downlink.

    Parameters
    ----------
    chunks
        The products of each chunk and the directory where they lie.
    threads
        So many indexes are read at a time.
    kept
        Where was kept what `decode_chunk` read of the index of this name; None: nowhere. What is not there
        is read again.

    Raises
    ------
    MissingInputError, FormatError
        If an index or an evt file is gone or damaged, or there are too many evt files.
    StateError
        If an evt file is not what was decoded any more.
    """
    listed = list(chunks)
    names = [
        (chunk, directory, name)
        for chunk, directory in listed
        for name in chunk.files
        if name.endswith(".idx")
    ]
    files: dict[str, int] = {}
    parts: dict[str, NDArray[np.void]] = {}
    lines: list[bytes] = []
    with ThreadPoolExecutor(threads) as pool:
        read = pool.map(lambda at: _read_part(at[0], at[1], at[2], kept), names)
        for (_, directory, name), part in zip(names, read, strict=True):
            lines += part.lines
            codes = np.array([files.setdefault(file, len(files)) for file in part.files], np.int64)
            if len(files) > MOST_FILES:
                raise FormatError(
                    f"{directory / name}: with it a downlink brings {len(files)} event files of a run, but a merge "
                    f"can tell no more than {MOST_FILES} apart. Have the chunks decoded to fewer files."
                )
            if len(part.events):
                part.events["file"] = codes[part.events["file"]]
            parts[name] = part.events
    give_back()
    events = in_one([np.empty(0, idx.EVENT), *map(parts.pop, sorted(parts))])
    return MergedIndex(
        KnownDatagrams.of(lines), EventTable(events, tuple(files)), tuple(chunk for chunk, _ in listed)
    )


def _read_part(
    chunk: ChunkProducts, directory: Path, name: str, kept: Callable[[str], Path] | None
) -> idx.Rows:
    """Return what was kept of an index, or read it, and look at its records."""
    known = kept and kept_index.kept(kept(name), chunk.checksums)
    if known:
        return known
    index = idx.read_index(directory / name)
    for number, file in enumerate(index.files):
        evt.read_header(directory / file)  # it is there
        if file in chunk.checksums and sha256(directory / file) != chunk.checksums[file]:
            raise damaged(directory / file, chunk.chunk, "it has another SHA-256")
        measure(index, number)
    return index


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
        {"chunks": [chunk.as_json() for chunk in index.chunks], "files": list(index.table.files)},
    )
    with replacing(work / paths.events(run, downlink), buffering=0) as out:
        npy.write_array_header_1_0(out, npy.header_data_from_array_1_0(index.table.events))
        write_whole(out, index.table.events.view(np.uint8).data)
    write_bytes(work / paths.datagrams(run, downlink), dump_datagrams(index.datagrams.lines))


def load_events(work: Path, run: RunId, downlink: DownlinkId) -> EventTable:
    """Return the event part of a merged index: what `save` wrote, and nothing else.

    Raises
    ------
    StateError
        If the file is damaged or was written by another version.
    """
    path = work / paths.events(run, downlink)
    again = mend(downlink, "To have it made again")
    try:
        events = npy.open_memmap(path, mode="r")
    except FileNotFoundError:
        raise
    except Exception as error:  # its header is text of Python, and may be wrong in as many ways
        raise StateError(f"{path}: not an event array ({error}).", again) from error
    if events.dtype != idx.EVENT or events.ndim != 1 or events.offset + events.nbytes != path.stat().st_size:
        raise StateError(f"{path}: damaged, or made by another version.", again)
    return EventTable(np.asarray(events), tuple(chunk_list(work, run, downlink)["files"]))


def dump_datagrams(lines: Iterable[bytes]) -> bytes:
    """Return DGM lines as a file; its first line says whether it is whole."""
    content = b"\n".join([*lines, b""])
    return FIRST_LINE + hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def read_datagrams(path: Path, downlink: DownlinkId) -> tuple[bytes, KnownDatagrams]:
    """Return what `dump_datagrams` wrote: the bytes, and what they say.

    Raises
    ------
    FormatError
        If it is not what was written, or a line is no DGM line.
    """
    content = path.read_bytes()
    seal, _, rest = content.partition(b"\n")
    if seal != FIRST_LINE + hashlib.sha256(rest).hexdigest().encode():
        raise FormatError(
            f"{path}: not what was written (checksum mismatch).",
            mend(downlink, "To have it made again"),
        )
    return content, KnownDatagrams.of(rest.split(b"\n")[:-1], str(path))


def load_datagrams(work: Path, run: RunId, downlink: DownlinkId) -> KnownDatagrams:
    """Read those that one downlink has made known.

    Raises
    ------
    FormatError
        If they are damaged.
    """
    return read_datagrams(work / paths.datagrams(run, downlink), downlink)[1]


def known_datagrams(work: Path, run: RunId) -> KnownDatagrams:
    """Read those that any downlink has made known."""
    return KnownDatagrams.together(load_datagrams(work, run, dl) for dl in known_downlinks(work, run))
