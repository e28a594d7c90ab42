"""Receipts and deliveries made by hand, with the fields that a test needs."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from msgspec.structs import replace

from halfpipe import paths
from halfpipe.decode.chunk import INDEX, Chunk, Product
from halfpipe.files.pointers import point
from halfpipe.files.typed import values
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.merge.books import Books
from halfpipe.merge.intervals import Interval
from halfpipe.state.deliveries import Deliveries, Delivery, EventFile
from halfpipe.state.hand_offs import HandOff, NamedRun, Receipt, last_hand_off, series


def delivery(downlink: str, files: Sequence[EventFile] = (), handoff: int = 1) -> Delivery:
    """Return the delivery of some event files."""
    spans = tuple(Interval(*file.sequences) for file in files)
    events = sum(file.events for file in files)
    return Delivery(
        DownlinkId(downlink), handoff, spans, {}, tuple(files), books=Books(known=events, delivered=events)
    )


def receive(work: Path, downlink: str, runs: Iterable[tuple[RunId, Delivery]], handoff: int = 1) -> HandOff:
    """Record deliveries and a hand-off that names their runs; return it."""
    named = []
    for run, one in runs:
        record = Deliveries(work, run).publish(replace(one, handoff=handoff))
        manifest = work / paths.manifest(run, downlink)
        manifest.parent.mkdir(parents=True, exist_ok=True)
        point(manifest, record)
        named.append(NamedRun(run, record.seal, named=True))
    receipt = Receipt(DownlinkId(downlink), handoff, "0", {}, (), (), tuple(named), ())
    return publish(work, receipt)


def publish(work: Path, receipt: Receipt) -> HandOff:
    """Record a hand-off unless the last one is equal; return it. The receipt points to it."""
    known = series(work, receipt.downlink)
    if not known.records or known.typed(known.records[-1], Receipt) != receipt:
        known.publish(values(receipt))
    point(work / paths.receipt(receipt.downlink), known.records[-1])
    last = last_hand_off(work, receipt.downlink)
    assert last is not None
    return last


def chunk_of(downlink: str, number: int, *runs: str, events: int = 0) -> Chunk:
    """Return a decoded chunk, with an index of each of its runs."""
    ids = [RunId(run) for run in runs]
    files = [Product(f"{run}-{number:05d}{INDEX}", "0" * 8, run, 956, 1, "", events=events) for run in ids]
    return Chunk(DownlinkId(downlink), ChunkId.of(number), "", tuple(ids), tuple(files))


def receive_chunks(work: Path, downlink: str, *numbers: int) -> HandOff:
    """Record a hand-off of these chunks, without runs; return it."""
    chunks = tuple(chunk_of(downlink, number) for number in numbers)
    return publish(work, Receipt(DownlinkId(downlink), 1, "0", {}, chunks, (), (), ()))
