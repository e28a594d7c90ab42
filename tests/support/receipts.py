"""Receipts and deliveries made by hand, with the fields that a test needs."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from msgspec.structs import replace

from halfpipe import paths
from halfpipe.files.pointers import point
from halfpipe.files.typed import values
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.books import Books
from halfpipe.merge.intervals import Interval
from halfpipe.run.deliveries import Deliveries, Delivery, EventFile
from halfpipe.run.hand_offs import HandOff, NamedRun, Receipt, last_hand_off, series


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
        named.append(NamedRun(run, record.seal, named=True))
    receipt = Receipt(DownlinkId(downlink), handoff, "0", {}, (), (), tuple(named), ())
    return publish(work, receipt)


def publish(work: Path, receipt: Receipt) -> HandOff:
    """Record a hand-off unless the last one is equal; return it. The receipt points to it."""
    known = series(work, receipt.downlink)
    if not known.records or known.records[-1].values != values(receipt):
        known.publish(values(receipt))
    point(work / paths.receipt(receipt.downlink), known.records[-1])
    last = last_hand_off(work, receipt.downlink)
    assert last is not None
    return last
