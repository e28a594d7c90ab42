"""The merged index of one run within one downlink, made of its chunks' indexes and saved.

The datagram part is text and never deleted. The event part is an array, ordered by (sequence, APID)
without duplicates; it is large and can be made again from the chunk products.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from halfpipe import paths
from halfpipe.errors import FormatError
from halfpipe.files.durable import make_directory, remove_file, write_bytes
from halfpipe.files.json_files import write_json
from halfpipe.files.reading import sha256
from halfpipe.formats import evt, idx, kept_index
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.ordering import in_one
from halfpipe.merge.settle import KnownDatagrams
from halfpipe.process.environment import give_back
from halfpipe.process.progress import Progress
from halfpipe.run.chunk_files import ChunkProducts, damaged
from halfpipe.run.datagrams import dump_datagrams
from halfpipe.run.event_table import EventTable, write_events

MOST_FILES = np.iinfo(idx.EVENT["file"]).max + 1


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
    total = sum(chunk.files[name] for chunk, _, name in names)
    with Progress("reading indexes", total_bytes=total) as bar, ThreadPoolExecutor(threads) as pool:
        read = pool.map(lambda at: _read_part(at[0], at[1], at[2], kept), names)
        for (chunk, directory, name), part in zip(names, read, strict=True):
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
            bar.add(events=len(part.events), size=chunk.files[name])
    events = in_one([np.empty(0, idx.EVENT), *map(parts.pop, sorted(parts))])
    give_back()
    return MergedIndex(
        KnownDatagrams.of(lines), EventTable(events, tuple(files)), tuple(chunk for chunk, _ in listed)
    )


def _read_part(
    chunk: ChunkProducts, directory: Path, name: str, kept: Callable[[str], Path] | None
) -> idx.Rows:
    """Return what was kept of an index, or read it, and look at its records."""
    if kept is not None and name in chunk.checksums:
        known = kept_index.kept(kept(name), name, chunk.checksums)
        if known is not None:
            return known
    index = idx.read_index(directory / name)
    for number, file in enumerate(index.files):
        path, of_file = directory / file, np.flatnonzero(index.events["file"] == number)
        opened, offsets = evt.open_evt(path), index.events["offset"][of_file]
        if file in chunk.checksums and sha256(path) != chunk.checksums[file]:
            raise damaged(path, chunk.chunk, "it has another SHA-256")
        sizes = evt.record_layout(opened.data, offsets, str(path)).sizes
        checks = evt.record_checks(opened.data, offsets, sizes)
        index.events["size"][of_file], index.events["check"][of_file] = sizes, checks
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
    write_events(work / paths.events(run, downlink), index.table.events)
    write_bytes(work / paths.datagrams(run, downlink), dump_datagrams(index.datagrams.lines))
