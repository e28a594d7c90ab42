"""The merged index of one run within one downlink: its datagrams, and the chunk products that contain its events.

A merged index is small and never deleted. It is an index without event lines, headed by the SHA-256 of the rest and the
list of chunks. The events are in the rows files of the chunks, and every merge reads them there.
"""

import hashlib
import json
import os
from collections.abc import Callable, Container, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np

from halfpipe import paths
from halfpipe.errors import FormatError, HalfPipeError, MissingInputError, Remedy, rebuild
from halfpipe.files.advice import cannot_be_read, in_place_of
from halfpipe.files.durable import make_directory, replacing
from halfpipe.files.records import DamagedError
from halfpipe.formats import idx, rows
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.merge.late_events import Events
from halfpipe.merge.ordering import in_one
from halfpipe.merge.settle import KnownDatagrams
from halfpipe.process.environment import release_memory
from halfpipe.run.downlinks_of_run import known_downlinks
from halfpipe.run.receipt_file import last_hand_off
from halfpipe.settings import Settings

SEAL, CHUNKS = b"# SHA-256 of all that follows: ", b"# chunks: "  # the first two lines
MOST_FILES = np.iinfo(idx.EVENT["file"]).max + 1


@dataclass(frozen=True)
class ChunkProducts:
    """The files of one run in one chunk that merges read (evt files and rows), with their names and sizes.

    The sizes distinguish these products from those of another decoding: the size of the rows depends on the number of
    events and datagrams.
    """

    chunk: ChunkId
    files: Mapping[str, int]

    @classmethod
    def of(cls, entry: Mapping[str, Any], run: RunId) -> Self:
        """Read them from the content of a ``{chunk}.json``."""
        files = [file for file in entry["files"] if file["run"] == run and file["kind"] != "idx"]
        return cls(ChunkId(entry["chunk"]), {file["name"]: file["size"] for file in files})

    def are_in(self, directory: Path) -> bool:
        """Tell whether `directory` has all files, with the same sizes."""
        with suppress(FileNotFoundError):
            return all((directory / name).stat().st_size == size for name, size in self.files.items())
        return False

    def place(self, work: Path, downlink: DownlinkId) -> Path | None:
        """Return the directory that has all of them, new or kept; None if they are gone."""
        places = (work / paths.chunks(downlink), work / paths.replaced(downlink))
        return next(filter(self.are_in, places), None)


@dataclass(frozen=True)
class MergedIndex:
    """One run in one downlink: its datagrams, and the chunk products that contain its events."""

    datagrams: KnownDatagrams
    chunks: tuple[ChunkProducts, ...]

    @classmethod
    def read(cls, work: Path, run: RunId, downlink: DownlinkId) -> Self:
        """Read the file that `save` wrote.

        Raises
        ------
        MissingInputError
            If the file does not exist.
        FormatError
            If the file cannot be read or is damaged.
        """
        path, again = work / paths.datagrams(run, downlink), rebuild(downlink, "Rebuild it")
        try:
            seal, _, content = path.read_bytes().partition(b"\n")
        except FileNotFoundError as error:
            raise MissingInputError(f"{path}: no such file") from error
        except OSError as error:
            raise FormatError(cannot_be_read(path, error), in_place_of(path, again)) from error
        if seal != SEAL + hashlib.sha256(content).hexdigest().encode():
            raise FormatError(f"{path}: damaged (checksum mismatch).", again)
        chunks, *lines = content.split(b"\n")[:-1]
        listed = json.loads(chunks.removeprefix(CHUNKS)).items()
        return cls(
            KnownDatagrams.of(lines, str(path)),
            tuple(ChunkProducts(ChunkId(chunk), files) for chunk, files in listed),
        )

    def save(self, work: Path, run: RunId, downlink: DownlinkId) -> None:
        """Write the file, which publishes the downlink's part of the run; the caller holds the run's lease."""
        make_directory(work, f"{paths.run(run)}/{downlink}")
        chunks = json.dumps({chunk.chunk: chunk.files for chunk in self.chunks}, sort_keys=True)
        content = b"\n".join([CHUNKS + chunks.encode(), *self.datagrams.lines, b""])
        with replacing(work / paths.datagrams(run, downlink)) as out:
            out.write(SEAL + hashlib.sha256(content).hexdigest().encode() + b"\n")
            out.write(content)


def merge_chunks(
    chunks: Iterable[tuple[ChunkProducts, Path]], files: dict[Path, int], threads: int = 1
) -> tuple[MergedIndex, Events]:
    """Read the rows of the chunks of one run within one downlink, and merge them.

    Parameters
    ----------
    chunks
        The products of each chunk, and the directory that has them.
    files
        The evt files of the run that were read so far, and their numbers; the files of these chunks are added.
    threads
        Number of rows files that are read at the same time.

    Returns
    -------
    MergedIndex, NDArray
        The merged index; the events (dtype `EVENT`) in order, each once.

    Raises
    ------
    FormatError
        If rows cannot be read or are damaged, or if there are too many evt files.
    """
    listed = list(chunks)
    paths_of_rows = sorted(
        (
            directory / name
            for chunk, directory in listed
            for name in chunk.files
            if name.endswith(rows.SUFFIX)
        ),
        key=lambda path: path.name,
    )
    parts: list[Events] = [np.empty(0, idx.EVENT)]
    lines: list[bytes] = []
    with ThreadPoolExecutor(threads) as pool:
        for path, part in zip(paths_of_rows, pool.map(rows.read_rows, paths_of_rows), strict=True):
            lines += part.lines
            codes = np.array(
                [files.setdefault(path.parent / file, len(files)) for file in part.files], np.int64
            )
            if len(files) > MOST_FILES:
                raise FormatError(
                    f"{path}: with this chunk the run has {len(files)} evt files; a merge takes at most {MOST_FILES}. "
                    "Set up the decoder to write fewer files per chunk."
                )
            part.events["file"] = codes[part.events["file"]]
            parts.append(part.events)
            del part
    release_memory()
    return MergedIndex(KnownDatagrams.of(lines), tuple(chunk for chunk, _ in listed)), in_one(parts)


def without_chunks(
    index: MergedIndex, ignored: Container[ChunkId], place: Callable[[ChunkProducts], Path | None]
) -> MergedIndex:
    """Return the index without the chunks that are `ignored`.

    `place` returns the directory that has the products of a chunk. The datagrams of the other chunks are read there. If
    one of them is gone, all datagrams stay.
    """
    left = tuple(chunk for chunk in index.chunks if chunk.chunk not in ignored)
    if len(left) == len(index.chunks):
        return index
    placed = [(chunk, where) for chunk in left if (where := place(chunk))]
    if len(placed) < len(left):
        return MergedIndex(index.datagrams, left)
    return merge_chunks(placed, {})[0]


def events_in(
    index: MergedIndex,
    downlink: DownlinkId,
    place: Callable[[ChunkProducts], Path | None],
    files: dict[Path, int],
) -> Events:
    """Return the events of a run in a downlink, from the products of its chunks, without those that have no place.

    The names of products do not contain the downlink, so products of another downlink can be in their place, and even
    have the same sizes. Then the datagrams differ from those of the `index`.

    Raises
    ------
    FormatError
        If the datagrams differ; or as `merge_chunks`, which uses the same `files`.
    """
    placed = [(chunk, where) for chunk in index.chunks if (where := place(chunk))]
    found, events = merge_chunks(placed, files)
    if placed and len(placed) == len(index.chunks) and found.datagrams.lines != index.datagrams.lines:
        raise FormatError(
            f"downlink {downlink}: the products of its chunks have other datagrams than its merged index. Some of "
            "them are damaged, or belong to another downlink.",
            Remedy(f"halfpipe status --check {downlink}", first="See which, and move them away as it says"),
        )
    return events


def events_there(
    work: Path, downlink: DownlinkId, index: MergedIndex, files: dict[Path, int]
) -> Events | None:
    """Return the same if no product was cleaned up; otherwise None."""
    placed = {chunk.chunk: place for chunk in index.chunks if (place := chunk.place(work, downlink))}
    if len(placed) < len(index.chunks):
        return None
    return events_in(index, downlink, lambda chunk: placed[chunk.chunk], files)


def keep_known(work: Path, downlink: DownlinkId, chunk: ChunkId, runs: Iterable[RunId]) -> None:
    """Give published products of `chunk` a second name, before new ones replace them.

    Products that are kept already stay, unless the downlink published others later. Failing to keep a file is not an
    error: a merge that needs the file decodes the chunk again, or reports that it cannot.

    Parameters
    ----------
    work, downlink, chunk
        `paths.work`, and the chunk that was decoded again.
    runs
        The runs that the chunk contained before.
    """
    home, kept = work / paths.chunks(downlink), work / paths.replaced(downlink)
    for run in runs:
        with suppress(HalfPipeError, OSError):
            known = [one for one in MergedIndex.read(work, run, downlink).chunks if one.chunk == chunk]
            for name in (name for one in known if one.are_in(home) for name in one.files):
                kept.mkdir(exist_ok=True)
                (kept / name).unlink(missing_ok=True)
                os.link(home / name, kept / name, follow_symlinks=False)  # the legacy's are links


def handed_off_chunks(work: Path, run: RunId, downlink: DownlinkId) -> tuple[ChunkProducts, ...]:
    """Return the chunks of a run in the last hand-off of a downlink; none without one, or if it was taken over."""
    last = last_hand_off(work, downlink)
    if last is None or last.receipt.get("taken_over"):
        return ()
    return tuple(ChunkProducts.of(chunk, run) for chunk in last.receipt["chunks"] if run in chunk["runs"])


def read_published(work: Path, run: RunId, downlink: DownlinkId) -> MergedIndex:
    """Read the merged index of a downlink.

    Raises
    ------
    HalfPipeError
        As `MergedIndex.read`, and if the index is not the one of the downlink's hand-off, for example an older one.
    """
    index, chunks = MergedIndex.read(work, run, downlink), tuple[ChunkProducts, ...]()
    if (work / paths.receipt(downlink)).exists():
        with suppress(DamagedError):  # it stops the work on this downlink, not the merges of others
            chunks = handed_off_chunks(work, run, downlink)
    if chunks and chunks != index.chunks:
        raise FormatError(
            f"{work / paths.datagrams(run, downlink)}: was merged from other chunks than the receipt lists.",
            rebuild(downlink, "Rebuild it"),
        )
    return index


def known_indexes(settings: Settings, run: RunId) -> dict[DownlinkId, MergedIndex]:
    """Read the merged indexes of `run` in order of downlinks, without the chunks that the config ignores."""
    work, found = settings.paths.work, {}
    for downlink in known_downlinks(work, run):
        index, ignored = read_published(work, run, downlink), settings.ignored(downlink)
        place = partial(ChunkProducts.place, work=work, downlink=downlink)
        found[downlink] = without_chunks(index, ignored, place) if ignored else index
    return found


def known_datagrams(settings: Settings, run: RunId) -> KnownDatagrams:
    """Read the datagrams of `run` that any downlink has published and the config does not ignore."""
    return KnownDatagrams.together(index.datagrams for index in known_indexes(settings, run).values())
