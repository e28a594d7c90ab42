"""The chunk products that a merge reads, by name, size and checksum."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from halfpipe import paths
from halfpipe.decode.chunk import INDEX, ROWS, Chunk
from halfpipe.files.reading import sha256
from halfpipe.files.typed import Stored
from halfpipe.ids import ChunkId, DownlinkId, RunId


class File(Stored, frozen=True):
    """A file of a record: its size in bytes and its SHA-256."""

    size: int
    sha256: str


class MergedChunk(Stored, frozen=True):
    """The products of one run in one chunk that merges read (evt files and rows), by name."""

    chunk: ChunkId
    files: dict[str, File]

    def rows(self) -> Iterator[tuple[str, str]]:
        """Yield the name and the SHA-256 of each rows file."""
        return ((name, file.sha256) for name, file in self.files.items() if name.endswith(ROWS))

    def are_in(self, directory: Path) -> bool:
        """Tell whether `directory` has all files, with these sizes."""
        with suppress(FileNotFoundError):
            return all((directory / name).stat().st_size == file.size for name, file in self.files.items())
        return False

    def place(self, work: Path, downlink: DownlinkId) -> "Placed | None":
        """Return itself and the directory that has all of its files, new or kept; None if they are gone.

        Another decoding may have made files of the same sizes. Then the rows decide.
        """
        places = (work / paths.chunks(downlink), work / paths.replaced(downlink))
        found = [place for place in places if self.are_in(place)]
        if len(found) > 1:
            found.sort(key=lambda place: any(sha256(place / name) != of for name, of in self.rows()))
        return (self, found[0]) if found else None


Placed = tuple[MergedChunk, Path]  # the products, and the directory that has them


def merged(chunk: Chunk, run: RunId) -> MergedChunk:
    """Return the products of `run` in a chunk."""
    files = [file for file in chunk.files if file.run == run and file.suffix != INDEX]
    return MergedChunk(chunk.chunk, {file.name: File(file.size, file.sha256) for file in files})
