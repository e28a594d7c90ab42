"""Receipts as pandas frames, with the columns of `halfpipe.tables.columns`; reports select, sum and merge them."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfpipe import paths
from halfpipe.downlink.receipt import state_word
from halfpipe.downlink.submissions import submissions
from halfpipe.errors import HalfPipeError, MissingInputError, Remedy
from halfpipe.files.reading import modified
from halfpipe.formats.met import met_to_unix
from halfpipe.ids import DownlinkId, RunId
from halfpipe.run.receipt_file import last_hand_off, receipt_copy
from halfpipe.tables import columns

if TYPE_CHECKING:
    import pandas as pd

Receipt = Mapping[str, Any]
Failed = Callable[[DownlinkId, HalfPipeError], object]
Submitted = Callable[[DownlinkId], int | None]


def read_receipts(
    work: Path, downlinks: Iterable[DownlinkId], failed: Failed, *, named: bool = False
) -> Iterator[Receipt]:
    """Yield the receipt of the latest hand-off of each downlink.

    If the downlinks were `named`, their records are read, otherwise first their copies in ``dl=<id>``. `failed` is
    called with the errors of those that cannot be read and, if they were named, of those that were not handed off.
    """
    for downlink in downlinks:
        try:
            if not named and (copy := receipt_copy(work, downlink)):
                yield copy.values
            elif made := last_hand_off(work, downlink, only_look=True):
                yield made.receipt
            elif named:
                remedy = Remedy(f"snakemake dl={downlink}", first="Process it first")
                raise MissingInputError(f"downlink {downlink} was not handed off.", remedy)
        except HalfPipeError as error:
            failed(downlink, error)


def downlinks(
    work: Path,
    receipts: Iterable[Receipt],
    broken: Mapping[DownlinkId, HalfPipeError],
    submitted: Submitted,
) -> "pd.DataFrame":
    """Return one row for each receipt, and one for each downlink that is `broken`, with the problem.

    `submitted` returns the number of the hand-off that Level-1 has.
    """

    def rows() -> Iterator[tuple[Any, ...]]:
        for receipt in receipts:
            downlink, problem, told = DownlinkId(receipt["downlink"]), None, None
            try:
                told = submitted(downlink)
            except HalfPipeError as error:
                problem = error.text
            yield downlink_row(work, receipt, told, problem)
        unknown = [None] * (len(columns.DOWNLINKS.data) - 1)
        yield from ((downlink, *unknown, error.text) for downlink, error in broken.items())

    return columns.DOWNLINKS.frame(rows())


def downlink_row(
    work: Path, receipt: Receipt, told: int | None, problem: str | None = None
) -> tuple[Any, ...]:
    """Return the values of `halfpipe.tables.columns.DOWNLINKS` for a receipt; Level-1 has hand-off `told`."""
    downlink, runs, times = DownlinkId(receipt["downlink"]), receipt["runs"], _times(receipt["runs"])
    handed_off, end = first_handed_off(work, downlink), times[1]
    return (
        downlink,
        receipt["handoff"],
        told,
        handed_off,
        len(receipt["chunks"]),
        len(runs),
        *(sum(run[key] for run in runs) for key in ("delivered", "waiting", "late")),
        *times,
        None if handed_off is None or end is None else handed_off - end,
        bool(receipt.get("simulated")),
        bool(receipt.get("taken_over")),
        problem,
    )


def first_handed_off(work: Path, downlink: DownlinkId) -> float | None:
    """Return the time of the first hand-off of a downlink, Unix seconds; None if it is unknown."""
    return modified(f"{work}/{paths.receipts(downlink)}/000001.json")


def submitted_number(work: Path, downlink: DownlinkId) -> int | None:
    """Return the number of the hand-off that Level-1 has.

    Raises
    ------
    HalfPipeError
        If the records of the submissions are damaged.
    """
    confirmed = submissions(work, downlink, only_look=True).last_confirmed
    return confirmed.handoff if confirmed else None


def runs(receipts: Iterable[Receipt], submitted: Submitted = lambda _: None) -> "pd.DataFrame":
    """Return one row for each run and downlink: what the downlink delivered of the run, and its state at that time.

    `submitted` returns the number of the hand-off that Level-1 has.
    """
    return columns.RUNS.frame(
        row for receipt in receipts for row in run_rows(receipt, submitted(DownlinkId(receipt["downlink"])))
    )


def run_rows(receipt: Receipt, told: int | None) -> Iterator[tuple[Any, ...]]:
    """Return the values of `halfpipe.tables.columns.RUNS` for each run of a receipt; Level-1 has hand-off `told`."""
    return (
        (
            *(run["run"], receipt["downlink"], run["l1_run"], run["kind"], receipt["handoff"]),
            *(told, met_to_unix(RunId(run["run"]).met), RunId(run["run"]).met),
            *(len(run["files"]), run["delivered"], run["waiting"], run["late"], state_word(run)),
            *_times([run]),
        )
        for run in receipt["runs"]
    )


def _times(runs: Iterable[Receipt]) -> tuple[float | None, ...]:
    """Return the first and the last time of delivered events, twice (Unix seconds); None without events."""
    times = [run["times"] for run in runs if run.get("times")]
    if not times:
        return None, None, None, None
    edges = min(first for first, _ in times), max(last for _, last in times)
    return (*edges, *edges)


def event_files(receipts: Iterable[Receipt]) -> "pd.DataFrame":
    """Return one row for each delivered event file."""
    rows = (
        (
            *(run["run"], receipt["downlink"], file["name"], file["events"], file["size"]),
            *(*file["sequences"], first, last + 1, first, last + 1, file["sha256"]),
        )
        for receipt in receipts
        for run in receipt["runs"]
        for file in run["files"]
        for first, last in (file["seconds"],)
    )
    return columns.FILES.frame(rows, times="met")


def chunks(receipts: Iterable[Receipt]) -> "pd.DataFrame":
    """Return one row for each chunk in a receipt."""
    return columns.CHUNKS.frame(
        (receipt["downlink"], *chunk_row(chunk)) for receipt in receipts for chunk in receipt["chunks"]
    )


def chunk_row(chunk: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the values of `halfpipe.tables.columns.CHUNKS`, without the downlink, for an entry of a receipt."""
    indexes = [file for file in chunk["files"] if file["kind"] == "idx"]
    counts = (sum(file.get(key, 0) for file in indexes) for key in ("events", "datagrams", "missing_events"))
    size = sum(file["size"] for file in chunk["files"] if file["kind"] == "evt")
    level0, exceptions = chunk.get("level0") or {}, (chunk.get("said") or {}).get("exceptions") or {}
    missing = level0.get("missing")  # null if the archive was not visible
    hours = (level0.get("needed"), None if missing is None else len(missing))
    return (chunk["chunk"], " ".join(chunk["runs"]), *counts, size, sum(exceptions.values()), *hours)
