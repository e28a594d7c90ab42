"""Receipts as pandas frames; reports select, sum and merge them."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from halfpipe.downlink.receipt import state_word
from halfpipe.downlink.submissions import submissions
from halfpipe.errors import HalfPipeError
from halfpipe.ids import DownlinkId
from halfpipe.run.receipt_file import read_receipt

Receipt = Mapping[str, Any]


def read_receipts(
    work: Path, downlinks: Iterable[DownlinkId], failed: Callable[[HalfPipeError], object]
) -> list[Receipt]:
    """Read the receipts of downlinks; call `failed` with the error of each that is missing or damaged."""
    found = []
    for downlink in downlinks:
        try:
            found.append(read_receipt(work, downlink))
        except HalfPipeError as error:
            failed(error)
    return found


def runs(receipts: Iterable[Receipt]) -> pd.DataFrame:
    """Return one row for each downlink and run: the delivery of the run, and its state at that time."""
    rows = [
        (
            receipt["downlink"],
            receipt["handoff"],
            run["run"],
            run["l1_run"],
            run["kind"],
            len(run["files"]),
            run["delivered"],
            run["orphans"],
            run["late"],
            state_word(run),
        )
        for receipt in receipts
        for run in receipt["runs"]
    ]
    columns = ["downlink", "handoff", "run", "l1_run", "kind", "files", "events", "orphans", "late", "state"]
    return pd.DataFrame(rows, columns=columns)


def with_submitted(work: Path, runs: pd.DataFrame, failed: Callable[[HalfPipeError], object]) -> pd.DataFrame:
    """Return `runs` with a column ``submitted``: the number of the downlink's hand-off at Level-1, if any."""
    numbers: dict[str, int] = {}
    for downlink in map(DownlinkId, runs["downlink"].unique()):
        try:
            if confirmed := submissions(work, downlink).last_confirmed:
                numbers[downlink] = confirmed.handoff
        except HalfPipeError as error:
            failed(error)
    found = runs.copy()
    found.insert(2, "submitted", found["downlink"].map(numbers).astype("Int64"))
    return found


def event_files(receipts: Iterable[Receipt]) -> pd.DataFrame:
    """Return one row for each event file: the number of its events, and the MET of the first and the last."""
    rows = [
        (receipt["downlink"], run["run"], file["name"], file["events"], *file["seconds"], file["sha256"])
        for receipt in receipts
        for run in receipt["runs"]
        for file in run["files"]
    ]
    return pd.DataFrame(rows, columns=["downlink", "run", "name", "events", "begin", "end", "sha256"])
