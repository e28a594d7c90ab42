"""Receipts: the records of a downlink's hand-offs, and ``dl=<id>``, the last once more: for Snakemake and people."""

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
    """A hand-off: its number, which runs its texts name, the texts, and all that its latest record says.

    `first` is the file of its first record, `content` what is in the latest.
    """

    number: int
    named: tuple[RunId, ...]
    texts: tuple[Mapping[str, Any], ...]
    receipt: Mapping[str, Any]
    first: Path
    content: bytes = field(repr=False)

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
        found[number] = HandOff(number, named, texts, receipt, first, record.content)
    return [found[number] for number in sorted(found)]


def last_hand_off(work: Path, downlink: DownlinkId, *, only_look: bool = False) -> HandOff | None:
    """Return the hand-off that was made last, None before the first; `only_look` as for `Series`.

    Raises
    ------
    DamagedError
        As `hand_offs`; and if there is a receipt, and no record of it.
    """
    made = hand_offs(work, downlink, only_look=only_look)
    if not made and (work / paths.receipt(downlink)).is_file():
        raise series(work, downlink).damaged(1)
    return made[-1] if made else None


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
    """Return the receipt of a downlink: what is recorded of its last hand-off, whatever somebody made of ``dl=<id>``.

    Raises
    ------
    MissingInputError
        If there is no ``dl=<id>``: the downlink was not handed off, or is in work again.
    DamagedError
        As `last_hand_off`.
    """
    path, last = work / paths.receipt(downlink), last_hand_off(work, downlink)
    if last is None or not path.exists():
        remedy = Remedy(f"snakemake dl={downlink}", first="Process the downlink first")
        raise MissingInputError(f"{path}: no such file.", remedy)
    return last.receipt


def withdraw(work: Path, downlink: DownlinkId) -> None:
    """Remove the receipt of `downlink` before anything that it vouches for changes; its copy stays.

    Flushed, for after a crash of the machine it must not be back over products that are gone. What says how it
    was submitted goes with it: of a hand-off without files that is that nothing was, and the next may have some.
    """
    for path in (work / paths.submitted(downlink), work / paths.receipt(downlink)):
        remove_file(path)
