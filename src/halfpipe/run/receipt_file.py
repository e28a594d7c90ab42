"""Receipts: the records of a downlink's hand-offs, and ``dl=<id>``, a copy of the last for Snakemake and people."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.errors import MissingInputError, Remedy
from halfpipe.files.durable import remove_file
from halfpipe.files.reading import modified
from halfpipe.files.records import Record, Series, file_of
from halfpipe.ids import DownlinkId, RunId
from halfpipe.run.deliveries import Deliveries


@dataclass(frozen=True)
class HandOff:
    """A hand-off: its number, the runs named in its texts, the texts, and the receipt in its latest record.

    `first` is the file of its first record, `content` the bytes of the latest.
    """

    number: int
    named: tuple[RunId, ...]
    texts: tuple[Mapping[str, Any], ...]
    receipt: Mapping[str, Any]
    first: Path
    content: bytes = field(repr=False)

    @property
    def made(self) -> float | None:
        """Time of the first record, Unix seconds; None if it is unknown."""
        return modified(str(self.first))


def series(work: Path, downlink: DownlinkId, *, only_look: bool = False) -> Series:
    """Read the records of the hand-offs of `downlink`; `only_look` as for `Series`.

    Raises
    ------
    DamagedError
        If both copies of a record are gone or damaged.
    """
    found = Series(work, paths.receipts(downlink), only_look=only_look)
    found.read()
    return found


def hand_offs(work: Path, downlink: DownlinkId, *, only_look: bool = False) -> list[HandOff]:
    """Return the hand-offs of `downlink` in order; `only_look` as for `Series`.

    Raises
    ------
    DamagedError
        If both copies of a record are gone or damaged, also that of the only hand-off.
    """
    has_receipt = (work / paths.receipt(downlink)).is_file()  # first, because it appears after its record
    of_series = series(work, downlink, only_look=only_look)
    if has_receipt and not of_series.records:
        raise of_series.damaged(1)
    found: dict[int, HandOff] = {}
    for record in of_series.records:
        receipt = record.values
        try:
            number = int(receipt["handoff"])
            named = tuple(RunId(run["run"]) for run in receipt["runs"] if run["named"])
            texts = tuple(receipt["texts"])
        except (ValueError, KeyError, TypeError) as error:
            raise of_series.damaged(record.number, f"not a receipt: {error!r}") from error
        first = found[number].first if number in found else file_of(of_series.home, record.number)
        found[number] = HandOff(number, named, texts, receipt, first, record.content)
    return [found[number] for number in sorted(found)]


def last_hand_off(work: Path, downlink: DownlinkId, *, only_look: bool = False) -> HandOff | None:
    """Return the last hand-off, None before the first; arguments and errors as for `hand_offs`."""
    made = hand_offs(work, downlink, only_look=only_look)
    return made[-1] if made else None


def next_number(work: Path, downlink: DownlinkId, deliveries: Deliveries) -> int:
    """Return the number for the hand-off in progress: one more than the highest number that was used.

    `deliveries` are the deliveries of one of its runs. Level-1 must never get the same number twice.
    """
    submitted = Series(work, paths.submissions(downlink)).read()
    handed_off = [handoff.number for handoff in hand_offs(work, downlink)]
    known = [0, *handed_off, *(int(record.values.get("handoff", 0)) for record in submitted)]
    delivered_for = (delivery.handoff or 0 for delivery in deliveries.of(downlink))
    return max(max(known) + 1, *delivered_for, 0)


def publish_receipt(
    work: Path, downlink: DownlinkId, content: Mapping[str, Any], known: Series | None = None
) -> Record:
    """Publish the record of a hand-off, unless the last record is equal; return it. ``dl=<id>`` gets its bytes.

    `known` are the records on which `content` is based; None: the present ones.

    Raises
    ------
    TakenError
        If another process published a record after they were read.
    HalfPipeError
        If the record cannot be written. Then the downlink is not handed off.
    """
    known = known or series(work, downlink)
    last = known.records[-1] if known.records else None
    if last is None or last.values != content:
        last = known.publish(content)
    return last


def read_receipt(work: Path, downlink: DownlinkId) -> Mapping[str, Any]:
    """Return the receipt of a downlink from the record of its last hand-off, even if ``dl=<id>`` was edited.

    Raises
    ------
    MissingInputError
        If there is no ``dl=<id>``: the downlink was not handed off, or is in progress again.
    DamagedError
        As `last_hand_off`.
    """
    path, last = work / paths.receipt(downlink), last_hand_off(work, downlink)
    if last is None or not path.exists():
        remedy = Remedy(f"snakemake dl={downlink}", first="Process the downlink first")
        raise MissingInputError(f"{path}: no such file.", remedy)
    return last.receipt


def withdraw(work: Path, downlink: DownlinkId) -> None:
    """Remove the receipt of `downlink` before the products that it lists change; the records stay.

    The removal is flushed, because after a crash of the machine the receipt must not reappear without its products.
    The mark of the submission is removed too: a hand-off without files has a mark that nothing was submitted, and the
    next hand-off may have files.
    """
    for path in (work / paths.submitted(downlink), work / paths.receipt(downlink)):
        remove_file(path)
