"""The books of a downlink: each step must account for everything of the step before.

They are derived from RetDefs, chunks and deliveries. Nothing is stored here, and no arrays are read.
"""

from collections.abc import Collection, Iterator, Sequence

from halfpipe.causes import Cause, Verdict
from halfpipe.decode.chunk import Chunk
from halfpipe.errors import Remedy, rerun
from halfpipe.ids import ChunkId, DownlinkId
from halfpipe.state.hand_offs import HandedRun
from halfpipe.state.merged_chunks import merged
from halfpipe.words import count


def findings(
    downlink: DownlinkId, chunks: Sequence[Chunk], runs: Sequence[HandedRun], retdefs: Collection[int] = ()
) -> Iterator[Cause]:
    """Yield the steps of a downlink that do not balance; `retdefs` are the numbers of the chunks with RetDefs now."""
    again = Remedy(f"snakemake dl={downlink}")
    if new := sorted({*retdefs} - {chunk.chunk.number for chunk in chunks}):
        named = ", ".join(map(ChunkId.of, new))
        text = f"{len(chunks)} chunks are decoded, and there are RetDefs of others: chunk {named}"
        yield _finding("RetDefs, decoded", text, again)
    delivered = {(chunk.chunk, one.run): chunk for one in runs for chunk in one.delivery.chunks}
    left_out = []
    other = []
    for chunk in chunks:
        for run in chunk.runs:
            made = delivered.pop((chunk.chunk, run), None)
            if made is None:
                events = count(chunk.events(run), "event")
                left_out.append(f"run {run} ({run.l1}) of chunk {chunk.chunk}, {events}")
            elif made != merged(chunk, run):
                other.append(f"run {run} of chunk {chunk.chunk}")
    other += [f"run {run} of chunk {number}, which no longer has it" for number, run in delivered]
    if left_out:
        yield _finding("decoded, merged", f"decoded and not merged: {'; '.join(left_out)}", again)
    if other:
        text = f"merged from products that the decoder has replaced since: {'; '.join(other)}"
        yield _finding("decoded, merged", text, rerun(downlink, "deliver_run"))
    for one in runs:
        books = one.delivery.books
        if books.lost:
            text = f"run {one.run} has {books.known} known events, and {books.parts} are accounted for"
            yield _finding("known, accounted for", text, rerun(downlink, "decode_chunk"))


def _finding(step: str, text: str, remedy: Remedy) -> Cause:
    return Cause("books", Verdict.ACTION, f"the books do not balance at {step}: {text}", remedy)
