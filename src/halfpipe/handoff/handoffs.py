"""The hand-offs of a downlink: an append-only list that outlives its receipts.

A hand-off has a new number when a run was delivered anew; a receipt that is made again alone keeps its.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.errors import HalfPipeError, StateError
from halfpipe.files import advice, fsync_directory
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
    path = work / paths.handoffs(downlink)
    try:
        *lines, _torn = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    found = []
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            found.append(
                HandOff(entry["handoff"], tuple(RunId(r) for r in entry["named"]), tuple(entry["texts"]))
            )
        except (ValueError, KeyError, TypeError) as error:
            raise StateError(
                f"{path}, line {number}: not a hand-off ({error}). Restore the file from a backup; its history "
                f"also stands in {path.parent}/receipts."
            ) from error
    return found


def last_number(work: Path, downlink: DownlinkId) -> int:
    """Return the number of the latest hand-off of `downlink`, 0 before the first."""
    return max((handoff.number for handoff in read(work, downlink)), default=0)


def record(work: Path, downlink: DownlinkId, handoffs: Sequence[HandOff], new: HandOff) -> None:
    """Append `new` to the list, which holds `handoffs`, and flush it to disk."""
    path = work / paths.handoffs(downlink)
    lines = [
        json.dumps({"handoff": h.number, "named": list(h.named), "texts": list(h.texts)}, sort_keys=True)
        + "\n"
        for h in (*handoffs, new)
    ]
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o664)
        try:
            at = sum(len(line.encode()) for line in lines[:-1])
            os.ftruncate(handle, at)  # a torn last line goes
            os.pwrite(handle, lines[-1].encode(), at)
            os.fsync(handle)
        finally:
            os.close(handle)
        fsync_directory(path.parent)
    except OSError as error:
        raise HalfPipeError(f"{path}: cannot be written: {error.strerror}. {advice(error)}") from error
