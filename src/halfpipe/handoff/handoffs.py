"""The hand-offs of a downlink: an append-only list that outlives its receipts.

A hand-off has a new number when a run was delivered anew; a receipt that is made again alone keeps its.
The latest line of a number counts.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.files import JsonLines
from halfpipe.ids import DownlinkId, RunId


@dataclass(frozen=True)
class HandOff:
    """One hand-off: which runs its texts name, and the texts' names, sizes and checksums."""

    number: int
    named: tuple[RunId, ...]
    texts: tuple[dict[str, Any], ...]


def read(work: Path, downlink: DownlinkId) -> list[HandOff]:
    """Return the hand-offs of `downlink`, the oldest first; a torn last line does not count.

    Raises
    ------
    StateError
        If another line is damaged.
    """
    lines = JsonLines(work / paths.handoffs(downlink))
    found = []
    for number, value in enumerate(lines.values, 1):
        try:
            named = tuple(RunId(run) for run in value["named"])
            found.append(HandOff(value["handoff"], named, tuple(value["texts"])))
        except (ValueError, KeyError, TypeError) as error:
            raise lines.damaged(number, error) from error
    return found


def last_number(work: Path, downlink: DownlinkId) -> int:
    """Return the number of the latest hand-off of `downlink`, 0 before the first."""
    return max((handoff.number for handoff in read(work, downlink)), default=0)


def next_number(work: Path, downlink: DownlinkId) -> int:
    """Return the number of the hand-off to come: one that died before its receipt is made again as itself."""
    last = last_number(work, downlink)
    return last if last and not has_ended(work, downlink, last) else last + 1


def has_ended(work: Path, downlink: DownlinkId, number: int) -> bool:
    """Tell whether a hand-off has a receipt; its copy that stays is written before the receipt itself."""
    return (work / paths.receipt_history(downlink, number)).exists()


def record(work: Path, downlink: DownlinkId, new: HandOff) -> None:
    """Append `new` to the list and flush it to disk."""
    value = {"handoff": new.number, "named": list(new.named), "texts": list(new.texts)}
    JsonLines(work / paths.handoffs(downlink)).append(value)
