"""The books of a downlink: each step must account for everything of the step before.

They are derived from RetDefs, ``{chunk}.json``, manifests and receipts. Nothing is stored here, and no arrays are read.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from halfpipe.causes import Cause, Verdict
from halfpipe.downlink.plan import Plan
from halfpipe.errors import Remedy, StateError, rerun
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.run.books import of_entry
from halfpipe.settings import Settings
from halfpipe.words import count

CODE = "books"


@dataclass(frozen=True)
class Line:
    """One step of the books of a run, or of a downlink where `run` is None.

    `before` is what the step before gives, `after` what the step accounts for, both in `unit`.
    """

    run: RunId | None
    step: str
    unit: str
    before: int
    after: int
    balances: bool


@dataclass(frozen=True)
class Finding:
    """What does not balance: the step, in words what is wrong, and what to do."""

    downlink: DownlinkId
    step: str
    text: str
    remedy: Remedy

    @property
    def cause(self) -> Cause:
        """The same for an account."""
        return Cause(
            CODE, Verdict.ACTION, f"the books do not balance at {self.step}: {self.text}", self.remedy
        )


def retdefs_now(settings: Settings, downlink: DownlinkId) -> frozenset[int]:
    """Return the numbers of the chunks whose RetDefs lie in ``{dl}/`` or on the search path now, but the ignored."""
    return frozenset(Plan(settings).of(downlink).numbers)


def lines(chunks: Sequence[Mapping[str, Any]], runs: Iterable[Mapping[str, Any]]) -> Iterator[Line]:
    """Yield the books of the runs of a downlink, step by step, from its chunks and the entries of its runs.

    The entries are those of manifests or of a receipt; of runs that were taken over there are no books.
    """
    of_runs = Counter[str]()
    for file in (file for chunk in chunks for file in chunk["files"]):
        of_runs[file["run"]] += file.get("events", 0)
    for run in runs:
        if "taken_over" in run:
            continue
        of, books = RunId(run["run"]), of_entry(run)
        decoded = of_runs[of]
        yield Line(of, "decoded, merged", "events", decoded, run["brought"], run["brought"] <= decoded)
        yield Line(of, "known, accounted for", "events", books.known, books.parts, books.lost == 0)
        in_files = sum(file["events"] for file in run["files"])
        yield Line(
            of, "delivered, in files", "events", run["delivered"], in_files, run["delivered"] == in_files
        )


def decoded_events(chunks: Iterable[Mapping[str, Any]], run: str) -> int:
    """Return how many events the indexes of a run have, those that several chunks contain counted several times."""
    files = (file for chunk in chunks for file in chunk["files"])
    return sum(file.get("events", 0) for file in files if file["run"] == run and file["kind"] == "idx")


def findings(
    downlink: DownlinkId,
    chunks: Sequence[Mapping[str, Any]],
    runs: Sequence[Mapping[str, Any]],
    retdefs: Collection[int] = (),
) -> Iterator[Finding]:
    """Yield where the books of a downlink do not balance.

    Parameters
    ----------
    downlink
        The downlink.
    chunks
        The content of each ``{chunk}.json``, or the chunks of a receipt.
    runs
        The manifests of its runs, or the runs of a receipt.
    retdefs
        Numbers of the chunks that have a RetDef now.
    """
    again = Remedy(f"snakemake dl={downlink}")
    if new := sorted({*retdefs} - {int(chunk["chunk"]) for chunk in chunks}):
        named = ", ".join(map(ChunkId.of, new))
        text = f"{len(chunks)} chunks are decoded, and there are RetDefs of others: chunk {named}"
        yield Finding(downlink, "RetDefs, decoded", text, again)
    contained = {(str(chunk["chunk"]), str(run)) for chunk in chunks for run in chunk["runs"]}
    if any("chunks" in run for run in runs):
        merged = {(str(chunk), str(run["run"])) for run in runs for chunk in run["chunks"]}
    else:  # a receipt says of no run from which chunks it was merged
        entered = {str(run["run"]) for run in runs}
        merged = {pair for pair in contained if pair[1] in entered}
    if left_out := sorted(contained - merged):
        named = "; ".join(
            f"run {run} ({RunId(run).l1}) of chunk {chunk}, {count(_events_of(chunks, chunk, run), 'event')}"
            for chunk, run in left_out
        )
        yield Finding(downlink, "decoded, merged", f"decoded and not merged: {named}", again)
    if gone := sorted(merged - contained):
        named = "; ".join(f"run {run} of chunk {chunk}" for chunk, run in gone)
        text = f"merged and no longer decoded: {named}"
        yield Finding(downlink, "decoded, merged", text, rerun(downlink, "deliver_run"))
    for line in lines(chunks, runs):
        if not line.balances:
            text = f"run {line.run} has {line.before} {line.unit} in the first and {line.after} in the second"
            yield Finding(downlink, line.step, text, rerun(downlink, "decode_chunk"))


def _events_of(chunks: Iterable[Mapping[str, Any]], chunk: str, run: str) -> int:
    return decoded_events([one for one in chunks if str(one["chunk"]) == chunk], run)


def refuse(found: Iterable[Finding]) -> None:
    """Refuse a hand-off over books that do not balance.

    Raises
    ------
    StateError
        Names the first step that does not balance. Nothing was handed off.
    """
    for one in found:
        text = f"downlink {one.downlink}: {one.cause.text}. Nothing was handed off."
        raise StateError(text, one.remedy, code=CODE)
