"""Compare receipts, manifests and files: what should be there and is not, or is something else."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.errors import HalfPipeError
from halfpipe.files import dump_json, read_json, sha256
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.journal import EventFile, Journal

RECEIPT_ONLY = {"held", "l1", "named"}  # what a receipt says of a run in words of its own


@dataclass(frozen=True)
class Finding:
    """Something about one file; a `note` is worth knowing and no fault."""

    what: str
    path: Path
    detail: str = ""
    note: bool = False

    def __str__(self) -> str:
        return f"{self.what}: {self.path}" + (f" ({self.detail})" if self.detail else "")


def downlinks(work: Path) -> list[DownlinkId]:
    """Return all downlinks that have a receipt, or something that a receipt would vouch for."""
    prefix = paths.receipt("")
    names = {path.name.removeprefix(prefix) for path in work.glob("*")}
    return sorted(DownlinkId(name) for name in names if DownlinkId.matches(name))


def check(work: Path, stage: Path, downlink: DownlinkId, *, checksums: bool = True) -> list[Finding]:
    """Compare everything that the receipt of `downlink` vouches for with the files.

    Parameters
    ----------
    work, stage
        `paths.work` and `paths.stage`.
    downlink
        The downlink.
    checksums
        Read the files and compare checksums, not only sizes.
    """
    path = work / paths.receipt(downlink)
    history = sorted((work / paths.receipt_history(downlink, 0)).parent.glob("*.json"))
    found = [] if path.exists() else [Finding("missing", path, "the downlink is outstanding")]
    if found and not history:
        return found
    path = history[-1] if found else path
    try:
        receipt = read_json(path)
    except HalfPipeError as error:
        return [*found, Finding("damaged", path, str(error))]
    checker = _Checker(work, stage, downlink, checksums)
    found += checker.receipt(receipt)
    for chunk in receipt["chunks"]:
        found += checker.chunk(chunk)
    for run in receipt["runs"]:
        found += checker.run(run)
    found += checker.staged(receipt)
    return found


def _cleaned_up(path: Path) -> Finding:
    return Finding("missing", path, "cleaned up or lost; it is made again when it is needed", note=True)


@dataclass(frozen=True)
class _Checker:
    work: Path
    stage: Path
    downlink: DownlinkId
    checksums: bool

    def receipt(self, receipt: Mapping[str, Any]) -> Iterator[Finding]:
        copy = self.work / paths.receipt_history(self.downlink, receipt["handoff"])
        if not copy.exists():
            yield Finding("missing", copy, "the receipt's copy; make the receipt again to have it")
        elif copy.read_bytes() != dump_json(receipt).encode():
            yield Finding("differs", copy, "from the receipt")
        for number in range(1, receipt["handoff"]):
            earlier = self.work / paths.receipt_history(self.downlink, number)
            if not earlier.exists():
                # No fault: a hand-off that was interrupted and then processed again has none.
                yield Finding(
                    "missing", earlier, f"the receipt of hand-off {number}, which is history", note=True
                )
        yield from self._exist([self.work / paths.handoffs(self.downlink)])

    def chunk(self, chunk: Mapping[str, Any]) -> Iterator[Finding]:
        yield from self._file(
            self.work / paths.retdef(self.downlink, chunk["chunk"]), {"sha256": chunk["retdef"]}
        )
        yield from self._agrees(self.work / paths.chunk(self.downlink, chunk["chunk"]), chunk)
        for file in chunk["files"]:
            path = self.work / paths.chunks(self.downlink) / file["name"]
            yield from self._file(path, file) if path.exists() else [_cleaned_up(path)]

    def run(self, run: Mapping[str, Any]) -> Iterator[Finding]:
        run_id = RunId(run["run"])
        made = (paths.index, paths.datagrams, paths.chunk_list)
        yield from self._exist(self.work / path(run_id, self.downlink) for path in made)
        events = self.work / paths.events(run_id, self.downlink)
        if not events.exists():
            yield _cleaned_up(events)
        said = {key: value for key, value in run.items() if key not in RECEIPT_ONLY}
        yield from self._agrees(self.work / paths.manifest(run_id, self.downlink), said)
        journal = self.work / paths.journal(run_id)
        files = [EventFile.of(entry) for entry in run["files"]]
        if not files:
            return
        if not journal.exists():
            yield Finding("missing", journal, "it is rebuilt from the manifests when the run is merged next")
            return
        try:
            recorded = Journal(journal).latest().get(self.downlink)
        except HalfPipeError as error:
            yield Finding("damaged", journal, str(error))
            return
        if recorded is None or list(recorded.files) != files:
            yield Finding(
                "differs",
                journal,
                f"what it records of downlink {self.downlink} is not what the receipt says",
            )

    def staged(self, receipt: Mapping[str, Any]) -> Iterator[Finding]:
        home = self.stage / paths.staged(self.downlink)
        for run in receipt["runs"]:
            halt = self.stage / paths.halt_cleanup(self.downlink, run["l1_run"])
            if halt.exists():
                yield Finding("left behind", halt, "Level-1 cannot retire the run; make the receipt again")
        if not home.is_dir():
            yield Finding("not in the stage", home, "Level-1 has taken the hand-off", note=True)
            return
        for run in receipt["runs"]:
            if run["named"]:
                for file in run["files"]:
                    yield from self._file(
                        self.stage / paths.staged_run(self.downlink, run["l1_run"]) / file["name"], file
                    )
        for text in receipt["texts"]:
            yield from self._file(home / text["name"], text)

    def _exist(self, wanted: Iterable[Path]) -> Iterator[Finding]:
        for path in wanted:
            if not path.exists():
                yield Finding("missing", path)

    def _agrees(self, path: Path, said: Mapping[str, Any]) -> Iterator[Finding]:
        if not path.exists():
            yield Finding("missing", path)
            return
        try:
            content = read_json(path)
            other = [key for key, value in said.items() if content[key] != value]
        except (HalfPipeError, KeyError, TypeError) as error:
            yield Finding("damaged", path, str(error))
            return
        if other:
            yield Finding("differs", path, f"from what the receipt says: {', '.join(other)}")

    def _file(self, path: Path, said: Mapping[str, Any]) -> Iterator[Finding]:
        if not path.exists():
            yield Finding("missing", path)
        elif "size" in said and path.stat().st_size != said["size"]:
            yield Finding("differs", path, f"{path.stat().st_size} bytes, {said['size']} expected")
        elif self.checksums and sha256(path) != said["sha256"]:
            yield Finding("differs", path, "its checksum is another one")
