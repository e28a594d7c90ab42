"""The merged index of one run within one downlink: its datagrams, and the chunk products that contain its events.

A merged index is small and never deleted. It is an index without event lines, headed by the SHA-256 of the rest and the
list of chunks. The events are in the rows files of the chunks, and every merge reads them there.
"""

import hashlib
import json
import os
from collections.abc import Callable, Container, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np

from halfpipe import paths
from halfpipe.decisions import Decisions
from halfpipe.errors import FormatError, HalfPipeError, MissingInputError, rebuild, rerun
from halfpipe.files.advice import cannot_be_read, in_place_of
from halfpipe.files.durable import make_directory, replacing
from halfpipe.files.typed import convert, values
from halfpipe.formats import rows
from halfpipe.formats.idx import Events
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.merge.ordering import in_one
from halfpipe.merge.settle import KnownDatagrams
from halfpipe.process.environment import release_memory
from halfpipe.state.deliveries import Deliveries, DeliveryHistory
from halfpipe.state.downlinks_of_run import known_downlinks
from halfpipe.state.hand_offs import is_handed_off
from halfpipe.state.merged_chunks import MergedChunk, Placed

SEAL = b"# SHA-256 of all that follows: "  # the first line
CHUNKS = b"# chunks: "  # the second line
MOST_FILES = np.iinfo(Events.row["file"]).max + 1


@dataclass(frozen=True)
class MergedIndex:
    """One run in one downlink: its datagrams, and the chunk products that contain its events."""

    datagrams: KnownDatagrams
    chunks: tuple[MergedChunk, ...]

    @property
    def seal(self) -> str:
        """The SHA-256 of its content."""
        return hashlib.sha256(self._content).hexdigest()

    @property
    def _content(self) -> bytes:
        chunks = json.dumps(list(map(values, self.chunks)), sort_keys=True)
        return b"\n".join([CHUNKS + chunks.encode(), *self.datagrams.lines, b""])

    @classmethod
    def read(cls, work: Path, run: RunId, downlink: DownlinkId, seal: str | None = None) -> Self:
        """Read the file that `save` wrote; `seal`, if it is given, is that of the index to expect.

        Raises
        ------
        MissingInputError
            If the file does not exist.
        FormatError
            If the file cannot be read, is damaged, or is another index.
        """
        path = work / paths.datagrams(run, downlink)
        again = rebuild(downlink, "Rebuild it")
        try:
            head, _, content = path.read_bytes().partition(b"\n")
        except FileNotFoundError as error:
            raise MissingInputError(f"{path}: no such file") from error
        except OSError as error:
            raise FormatError(cannot_be_read(path, error), in_place_of(path, again)) from error
        found = hashlib.sha256(content).hexdigest()
        if head != SEAL + found.encode():
            raise FormatError(f"{path}: damaged (checksum mismatch).", again)
        if seal not in {None, found}:
            raise FormatError(f"{path}: not the merged index that the latest delivery was made of.", again)
        chunks, *lines = content.split(b"\n")[:-1]
        listed = convert(json.loads(chunks.removeprefix(CHUNKS)), tuple[MergedChunk, ...], path)
        return cls(KnownDatagrams.of(lines, str(path)), listed)

    def save(self, work: Path, run: RunId, downlink: DownlinkId) -> None:
        """Write the file, which publishes the downlink's part of the run; the caller holds the run's lease."""
        make_directory(work, f"{paths.run(run)}/{downlink}")
        content = self._content
        with replacing(work / paths.datagrams(run, downlink)) as out:
            out.write(SEAL + hashlib.sha256(content).hexdigest().encode() + b"\n")
            out.write(content)


def merge_chunks(
    chunks: Iterable[Placed], files: dict[Path, int], threads: int = 1
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
    MergedIndex, Events
        The merged index; the events in order, each once.

    Raises
    ------
    FormatError
        If rows cannot be read, are damaged or of another decoding, or if there are too many evt files.
    """
    listed = list(chunks)
    every = sorted(
        (name, directory / name, checksum) for chunk, directory in listed for name, checksum in chunk.rows()
    )
    parts: list[Events] = [Events.zeros(0)]
    lines: list[bytes] = []
    with ThreadPoolExecutor(threads) as pool:
        read = pool.map(lambda one: rows.read_rows(one[1], one[2]), every)
        for (_, path, _), part in zip(every, read, strict=True):
            lines += part.lines
            codes = np.array(
                [files.setdefault(path.parent / file, len(files)) for file in part.files], np.int64
            )
            if len(files) > MOST_FILES:
                raise FormatError(
                    f"{path}: with this chunk the run has {len(files)} evt files; a merge takes at most {MOST_FILES}. "
                    "Set up the decoder to write fewer files per chunk."
                )
            part.events.file[:] = codes[part.events.file]
            parts.append(part.events)
            del part
    release_memory()
    return MergedIndex(KnownDatagrams.of(lines), tuple(chunk for chunk, _ in listed)), in_one(parts)


def without_chunks(
    index: MergedIndex, ignored: Container[ChunkId], place: Callable[[MergedChunk], Placed | None]
) -> MergedIndex:
    """Return the index without the chunks that are `ignored`.

    `place` returns the directory that has the products of a chunk. The datagrams of the other chunks are read there. If
    one of them is gone, all datagrams stay.
    """
    left = tuple(chunk for chunk in index.chunks if chunk.chunk not in ignored)
    if len(left) == len(index.chunks):
        return index
    placed = list(filter(None, map(place, left)))
    if len(placed) < len(left):
        return MergedIndex(index.datagrams, left)
    return merge_chunks(placed, {})[0]


def events_in(
    index: MergedIndex,
    run: RunId,
    downlink: DownlinkId,
    place: Callable[[MergedChunk], Placed | None],
    files: dict[Path, int],
) -> Events:
    """Return the events of a run in a downlink, from the products of its chunks, without those that have no place.

    Raises
    ------
    FormatError
        As `merge_chunks`, which uses the same `files`; and if a chunk was decoded again with other datagrams.
    """
    placed = list(filter(None, map(place, index.chunks)))
    found, events = merge_chunks(placed, files)
    if placed and len(placed) == len(index.chunks) and found.datagrams.lines != index.datagrams.lines:
        raise FormatError(
            f"run {run} of downlink {downlink}: decoded again, its chunks have other datagrams than its merged index.",
            rerun(downlink, "decode_chunk", "Process the downlink again with this decoder"),
        )
    return events


def events_there(
    work: Path, run: RunId, downlink: DownlinkId, index: MergedIndex, files: dict[Path, int]
) -> Events | None:
    """Return the same if no product was cleaned up; otherwise None."""
    placed = {chunk.chunk: place for chunk in index.chunks if (place := chunk.place(work, downlink))}
    if len(placed) < len(index.chunks):
        return None
    return events_in(index, run, downlink, lambda chunk: placed[chunk.chunk], files)


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
    home = work / paths.chunks(downlink)
    kept = work / paths.replaced(downlink)
    for run in runs:
        with suppress(HalfPipeError, OSError):
            known = [one for one in MergedIndex.read(work, run, downlink).chunks if one.chunk == chunk]
            for name in (name for one in known if one.are_in(home) for name in one.files):
                kept.mkdir(exist_ok=True)
                (kept / name).unlink(missing_ok=True)
                os.link(
                    home / name, kept / name, follow_symlinks=False
                )  # products of another system are links


def read_published(work: Path, run: RunId, downlink: DownlinkId, recorded: DeliveryHistory) -> MergedIndex:
    """Read the merged index of a downlink; `recorded` are the deliveries of the run.

    Raises
    ------
    HalfPipeError
        As `MergedIndex.read`, and if the downlink is handed off with another index, for example a newer one.
    """
    delivered = recorded.latest().get(downlink)
    if delivered is None or not delivered.index or not is_handed_off(work, downlink):
        return MergedIndex.read(work, run, downlink)
    return MergedIndex.read(work, run, downlink, delivered.index)


def known_indexes(work: Path, decisions: Decisions, run: RunId) -> dict[DownlinkId, MergedIndex]:
    """Read the merged indexes of `run` in order of downlinks, without the chunks that are left out."""
    recorded = Deliveries(work, run, only_look=True)
    found = {}
    for downlink in known_downlinks(work, run):
        index = read_published(work, run, downlink, recorded)
        left_out = decisions.left_out(downlink)
        place = partial(MergedChunk.place, work=work, downlink=downlink)
        found[downlink] = without_chunks(index, left_out, place) if left_out else index
    return found


def known_datagrams(work: Path, decisions: Decisions, run: RunId) -> KnownDatagrams:
    """Read the datagrams of `run` that any downlink has published, without the chunks that are left out."""
    return KnownDatagrams.together(index.datagrams for index in known_indexes(work, decisions, run).values())
