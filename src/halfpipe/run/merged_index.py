"""The merged index of one run within one downlink: its datagrams, and the chunk products that have its events.

It is small and never deleted: an index without event lines, headed by the SHA-256 of all that follows and the list of
chunks. The events lie in the rows of the chunks, which every merge reads where they are.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from halfpipe import paths
from halfpipe.errors import FormatError, HalfPipeError, MissingInputError, mend
from halfpipe.files.advice import cannot_be_read, in_place_of
from halfpipe.files.durable import make_directory, replacing
from halfpipe.formats import idx, rows
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.merge.late import Events
from halfpipe.merge.ordering import in_one
from halfpipe.merge.settle import KnownDatagrams
from halfpipe.process.environment import give_back
from halfpipe.run.downlinks_of_run import known_downlinks

SEAL, CHUNKS = b"# SHA-256 of all that follows: ", b"# chunks: "  # its first lines
MOST_FILES = np.iinfo(idx.EVENT["file"]).max + 1


@dataclass(frozen=True)
class ChunkProducts:
    """What merges read of one run in one chunk, its evt files and rows: their names and sizes.

    By the sizes they are told from those of another decoding: the rows say how many events and datagrams it brought.
    """

    chunk: ChunkId
    files: Mapping[str, int]

    @classmethod
    def of(cls, entry: Mapping[str, Any], run: RunId) -> Self:
        """Read them from the content of a ``{chunk}.json``."""
        files = [file for file in entry["files"] if file["run"] == run and file["kind"] != "idx"]
        return cls(ChunkId(entry["chunk"]), {file["name"]: file["size"] for file in files})

    def lie_in(self, directory: Path) -> bool:
        """Tell whether all files lie in `directory` with the sizes that they had."""
        with suppress(FileNotFoundError):
            return all((directory / name).stat().st_size == size for name, size in self.files.items())
        return False

    def place(self, work: Path, downlink: DownlinkId) -> Path | None:
        """Return the directory in which all of them lie: where they were made, or kept since; None if they are gone."""
        places = (work / paths.chunks(downlink), work / paths.replaced(downlink))
        return next(filter(self.lie_in, places), None)


@dataclass(frozen=True)
class MergedIndex:
    """What a downlink brings of a run: its datagrams, and the chunk products that have its events."""

    datagrams: KnownDatagrams
    chunks: tuple[ChunkProducts, ...]

    @classmethod
    def read(cls, work: Path, run: RunId, downlink: DownlinkId) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        MissingInputError
            If it is not there.
        FormatError
            If it cannot be read or is damaged.
        """
        path, again = work / paths.datagrams(run, downlink), mend(downlink, "To have it made again")
        try:
            seal, _, content = path.read_bytes().partition(b"\n")
        except FileNotFoundError as error:
            raise MissingInputError(f"{path}: no such file") from error
        except OSError as error:
            raise FormatError(cannot_be_read(path, error), in_place_of(path, again)) from error
        if seal != SEAL + hashlib.sha256(content).hexdigest().encode():
            raise FormatError(f"{path}: not what was written (checksum mismatch).", again)
        chunks, *lines = content.split(b"\n")[:-1]
        listed = json.loads(chunks.removeprefix(CHUNKS)).items()
        return cls(
            KnownDatagrams.of(lines, str(path)),
            tuple(ChunkProducts(ChunkId(chunk), files) for chunk, files in listed),
        )

    def save(self, work: Path, run: RunId, downlink: DownlinkId) -> None:
        """Write it, which makes the downlink known to others; the caller holds the run's lease."""
        make_directory(work, f"{paths.run(run)}/{downlink}")
        chunks = json.dumps({chunk.chunk: chunk.files for chunk in self.chunks}, sort_keys=True)
        content = b"\n".join([CHUNKS + chunks.encode(), *self.datagrams.lines, b""])
        with replacing(work / paths.datagrams(run, downlink)) as out:
            out.write(SEAL + hashlib.sha256(content).hexdigest().encode() + b"\n")
            out.write(content)


def merge_chunks(
    chunks: Iterable[tuple[ChunkProducts, Path]], files: dict[Path, int], threads: int = 1
) -> tuple[MergedIndex, Events]:
    """Merge the chunks of one run within one downlink; parameters, events and errors as for `merge_rows`."""
    listed = list(chunks)
    lines, events = merge_rows(listed, files, threads)
    return MergedIndex(KnownDatagrams.of(lines), tuple(chunk for chunk, _ in listed)), events


def merge_rows(
    chunks: Iterable[tuple[ChunkProducts, Path]], files: dict[Path, int], threads: int = 1
) -> tuple[list[bytes], Events]:
    """Read the rows of the chunks of one run within one downlink, and merge their events.

    Parameters
    ----------
    chunks
        The products of each chunk and the directory where they lie.
    files
        The evt files of the run that were read so far, and their numbers; gets those of these chunks.
    threads
        The rows of so many indexes are read at a time.

    Returns
    -------
    list of bytes, NDArray
        The lines of the datagrams; the events (dtype `EVENT`) in order, each once.

    Raises
    ------
    FormatError
        If rows cannot be read or are damaged, or there are too many evt files.
    """
    paths_of_rows = sorted(
        (
            directory / name
            for chunk, directory in chunks
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
                    f"{path}: with it a run has {len(files)} evt files, but a merge can tell no more than "
                    f"{MOST_FILES} apart. Have the chunks decoded to fewer files."
                )
            part.events["file"] = codes[part.events["file"]]
            parts.append(part.events)
            del part
    give_back()
    return lines, in_one(parts)


def events_there(
    work: Path, downlink: DownlinkId, index: MergedIndex, files: dict[Path, int] | None = None
) -> Events | None:
    """Return the events that a downlink brought of a run, by its `index`; None if they were cleaned up.

    Raises
    ------
    FormatError
        As `merge_rows`, which has the same `files`.
    """
    placed = [(chunk, place) for chunk in index.chunks if (place := chunk.place(work, downlink))]
    return merge_rows(placed, {} if files is None else files)[1] if len(placed) == len(index.chunks) else None


def keep_known(work: Path, downlink: DownlinkId, chunk: ChunkId, runs: Iterable[RunId]) -> None:
    """Keep the products of `chunk` that others know of by a second name, before others take their place.

    Those that are kept already stay, unless the downlink has brought others since. What cannot be kept is no fault: a
    merge that needs it has the chunk decoded again, or says that it cannot.

    Parameters
    ----------
    work, downlink, chunk
        `paths.work`, and the chunk that was decoded anew.
    runs
        Those that it brought before.
    """
    home, kept = work / paths.chunks(downlink), work / paths.replaced(downlink)
    for run in runs:
        with suppress(HalfPipeError, OSError):
            known = [one for one in MergedIndex.read(work, run, downlink).chunks if one.chunk == chunk]
            for name in (name for one in known if one.lie_in(home) for name in one.files):
                kept.mkdir(exist_ok=True)
                (kept / name).unlink(missing_ok=True)
                os.link(home / name, kept / name, follow_symlinks=False)  # what was taken over is a link


def known_datagrams(work: Path, run: RunId) -> KnownDatagrams:
    """Read those that any downlink has made known."""
    return KnownDatagrams.together(
        MergedIndex.read(work, run, dl).datagrams for dl in known_downlinks(work, run)
    )
