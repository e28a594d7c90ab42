"""Receipts: the records of a downlink's hand-offs, and ``dl=<id>``, which is the last of them once more."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.errors import FormatError, MissingInputError, Remedy, rerun
from halfpipe.files.advice import advice, in_place_of
from halfpipe.files.durable import remove_file
from halfpipe.files.reading import modified, read_whole
from halfpipe.files.records import Record, Series, file_of, opened
from halfpipe.ids import DownlinkId, RunId
from halfpipe.run.deliveries import Deliveries

DAMAGED, EDITED = "receipt-damaged", "receipt-edited"


class ReceiptError(FormatError):
    """A receipt that cannot be used: the `code` of its cause, and what is wrong with it."""

    def __init__(self, code: str, path: Path, what: str, remedy: Remedy) -> None:
        text = f"{path}: {what}"
        super().__init__(f"{text}. To have it rewritten:", remedy, code=code, text=text)
        self.path = path


@dataclass(frozen=True)
class HandOff:
    """A hand-off: its number, which runs its texts name, the texts, and all that its latest record says.

    `first` is the file of its first record.
    """

    number: int
    named: tuple[RunId, ...]
    texts: tuple[Mapping[str, Any], ...]
    receipt: Mapping[str, Any]
    first: Path

    @property
    def made(self) -> float | None:
        """When it was handed off first, Unix seconds; None if that cannot be told."""
        return modified(str(self.first))


def series(work: Path, downlink: DownlinkId, *, only_look: bool = False) -> Series:
    """Read the records of the hand-offs of `downlink`; `only_look` as for `Series`.

    Raises
    ------
    DamagedError
        If a record is gone or damaged in both copies.
    """
    at_stake = f"downlink {downlink} is not handed off"
    found = Series(work, paths.receipts(downlink), at_stake, only_look=only_look)
    found.read()
    return found


def hand_offs(work: Path, downlink: DownlinkId, *, only_look: bool = False) -> list[HandOff]:
    """Return the hand-offs of `downlink` in order; `only_look` as for `Series`.

    Raises
    ------
    DamagedError
        If a record is gone or damaged in both copies.
    """
    of_series = series(work, downlink, only_look=only_look)
    found: dict[int, HandOff] = {}
    for record in of_series.records:
        receipt = record.values
        try:
            number = int(receipt["handoff"])
            named = tuple(RunId(run["run"]) for run in receipt["runs"] if run["named"])
            texts = tuple(receipt["texts"])
        except (ValueError, KeyError, TypeError) as error:
            raise of_series.damaged(record.number, f"no receipt: {error!r}") from error
        first = found[number].first if number in found else file_of(of_series.home, record.number)
        found[number] = HandOff(number, named, texts, receipt, first)
    return [found[number] for number in sorted(found)]


def last_number(work: Path, downlink: DownlinkId) -> int:
    """Return the number of the latest hand-off of `downlink`, 0 before the first."""
    return max((handoff.number for handoff in hand_offs(work, downlink)), default=0)


def next_number(work: Path, downlink: DownlinkId, deliveries: Deliveries) -> int:
    """Return the number of the hand-off in work: one more than the highest of which anything was handed off.

    `deliveries` are those of one of its runs. Level-1 must never hear of one number twice.
    """
    submitted = Series(work, paths.submissions(downlink), f"downlink {downlink} is not handed off").read()
    known = [last_number(work, downlink), *(int(record.values.get("handoff", 0)) for record in submitted)]
    delivered_for = (delivery.handoff or 0 for delivery in deliveries.of(downlink))
    return max(max(known) + 1, *delivered_for, 0)


def publish(
    work: Path, downlink: DownlinkId, content: Mapping[str, Any], known: Series | None = None
) -> Record:
    """Publish the record of a hand-off, unless the last one says the same; return it. ``dl=<id>`` gets its bytes.

    `known` are the records that were there when it was decided what this one is; None: those of now.

    Raises
    ------
    TakenError
        If another process has published one since they were read.
    HalfPipeError
        If it cannot be written: then the downlink is not handed off.
    """
    known = known or series(work, downlink)
    last = known.records[-1] if known.records else None
    if last is None or last.values != content:
        last = known.publish(content)
    return last


def read_receipt(work: Path, downlink: DownlinkId) -> Mapping[str, Any]:
    """Read the receipt of a downlink.

    Raises
    ------
    MissingInputError
        If there is none.
    ReceiptError
        If it cannot be read, is no receipt, or is not what was written.
    """
    path = work / paths.receipt(downlink)
    try:
        written = read_whole(str(path))
    except FileNotFoundError as error:
        remedy = Remedy(f"snakemake dl={downlink}", first="Process the downlink first")
        raise MissingInputError(f"{path}: no such file.", remedy) from error
    except OSError as error:
        remedy = rerun(downlink, "receipt")
        remedy = in_place_of(path, remedy) if path.is_dir() else remedy
        raise ReceiptError(DAMAGED, path, f"{error.strerror}. {advice(error)}".rstrip("."), remedy) from error
    record = opened(written)
    if record is not None:
        return record.values
    try:
        json.loads(written)
    except (ValueError, RecursionError) as error:
        raise ReceiptError(DAMAGED, path, f"not JSON ({error})", rerun(downlink, "receipt")) from error
    raise ReceiptError(
        EDITED, path, "edited after it was written (checksum mismatch)", rerun(downlink, "receipt")
    )


def withdraw(work: Path, downlink: DownlinkId) -> None:
    """Remove the receipt of `downlink` before anything that it vouches for changes; its copy stays.

    Flushed, for after a crash of the machine it must not be back over products that are gone. What says how it
    was submitted goes with it: of a hand-off without files that is that nothing was, and the next may have some.
    """
    for path in (work / paths.submitted(downlink), work / paths.receipt(downlink)):
        remove_file(path)
