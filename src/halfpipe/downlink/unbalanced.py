"""The books of a downlink: each step must account for everything of the step before.

They are derived from RetDefs, ``{chunk}.json``, manifests and receipts. Nothing is stored here, and no arrays are read.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from halfpipe.causes import Cause, Verdict
from halfpipe.errors import Remedy, rerun
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.run.manifest_books import of_entry
from halfpipe.words import count

Chunks = Sequence[Mapping[str, Any]]  # contents of {chunk}.json, or the chunks of a receipt
Runs = Sequence[Mapping[str, Any]]  # manifests, or the runs of a receipt


def decoded_events(chunks: Iterable[Mapping[str, Any]], run: str) -> int:
    """Return the number of events of a run in the indexes; events in several chunks count several times."""
    files = (file for chunk in chunks for file in chunk["files"])
    return sum(file.get("events", 0) for file in files if file["run"] == run and file["kind"] == "idx")


def findings(
    downlink: DownlinkId, chunks: Chunks, runs: Runs, retdefs: Collection[int] = ()
) -> Iterator[Cause]:
    """Yield the steps of a downlink that do not balance; `retdefs` are the numbers of the chunks with RetDefs now."""
    again = Remedy(f"snakemake dl={downlink}")
    if new := sorted({*retdefs} - {int(chunk["chunk"]) for chunk in chunks}):
        named = ", ".join(map(ChunkId.of, new))
        text = f"{len(chunks)} chunks are decoded, and there are RetDefs of others: chunk {named}"
        yield _finding("RetDefs, decoded", text, again)
    contained = {(str(chunk["chunk"]), str(run)) for chunk in chunks for run in chunk["runs"]}
    if any("chunks" in run for run in runs):
        merged = {(str(chunk), str(run["run"])) for run in runs for chunk in run["chunks"]}
    else:  # a receipt does not list the chunks from which a run was merged
        entered = {str(run["run"]) for run in runs}
        merged = {pair for pair in contained if pair[1] in entered}
    if left_out := sorted(contained - merged):
        named = "; ".join(
            f"run {run} ({RunId(run).l1}) of chunk {chunk}, "
            + count(decoded_events([one for one in chunks if str(one["chunk"]) == chunk], run), "event")
            for chunk, run in left_out
        )
        yield _finding("decoded, merged", f"decoded and not merged: {named}", again)
    if gone := sorted(merged - contained):
        named = "; ".join(f"run {run} of chunk {chunk}" for chunk, run in gone)
        text = f"merged and no longer decoded: {named}"
        yield _finding("decoded, merged", text, rerun(downlink, "deliver_run"))
    for run in runs:
        if "taken_over" not in run:
            yield from _of_run(downlink, chunks, run)


def _of_run(downlink: DownlinkId, chunks: Chunks, run: Mapping[str, Any]) -> Iterator[Cause]:
    """Yield the steps of a run that do not balance."""
    decoded, books = decoded_events(chunks, run["run"]), of_entry(run)
    in_files = sum(file["events"] for file in run["files"])
    for step, before, after, balances in (
        ("decoded, merged", decoded, run["brought"], run["brought"] <= decoded),
        ("known, accounted for", books.known, books.parts, books.lost == 0),
        ("delivered, in files", run["delivered"], in_files, run["delivered"] == in_files),
    ):
        if not balances:
            text = f"run {run['run']} has {before} events in the first and {after} in the second"
            yield _finding(step, text, rerun(downlink, "decode_chunk"))


def _finding(step: str, text: str, remedy: Remedy) -> Cause:
    return Cause("books", Verdict.ACTION, f"the books do not balance at {step}: {text}", remedy)
