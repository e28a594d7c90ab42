"""What the decoder made of one chunk for one run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from halfpipe import paths
from halfpipe.errors import Remedy, StateError, mend
from halfpipe.files.json_files import read_json
from halfpipe.ids import ChunkId, DownlinkId, RunId


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
        for name, size in self.files.items():
            any_size = self.taken_over and name.endswith(".idx")
            try:
                if (directory / name).stat().st_size != size and not any_size:
                    return False
            except FileNotFoundError:
                return False
        return True


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
