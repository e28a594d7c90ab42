"""What was delivered, over many downlinks."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halfpipe.downlink.receipt import state_of
from halfpipe.errors import HalfPipeError
from halfpipe.ids import DownlinkId
from halfpipe.run.receipt_file import read_receipt


@dataclass(frozen=True)
class Delivered:
    """What the receipt of a downlink says of one run."""

    downlink: str
    handoff: int
    run: str
    l1_run: str
    kind: str
    files: int
    events: int
    orphans: int
    late: int
    state: str


def delivered(
    work: Path, downlinks: Iterable[DownlinkId], failed: Callable[[HalfPipeError], object] | None = None
) -> list[Delivered]:
    """Return what the receipts of `downlinks` say, in the order of downlinks, then runs.

    Parameters
    ----------
    work, downlinks
        `paths.work`, and the downlinks.
    failed
        Takes the error of a receipt that cannot be believed, or is not there; then the others go on. None: it
        is raised.

    Raises
    ------
    MissingInputError, ReceiptError
        As `read_receipt`.
    """
    found: list[Delivered] = []
    for downlink in downlinks:
        try:
            found += _said_by(read_receipt(work, downlink))
        except HalfPipeError as error:
            if failed is None:
                raise
            failed(error)
    return found


def _said_by(receipt: Mapping[str, Any]) -> Iterator[Delivered]:
    for run in receipt["runs"]:
        yield Delivered(
            receipt["downlink"],
            receipt["handoff"],
            run["run"],
            run["l1_run"],
            run["kind"],
            len(run["files"]),
            run["delivered"],
            run["orphans"],
            run["late"],
            state_of(run),
        )
