"""The hand-offs of a downlink: an append-only list that outlives its receipts.

A hand-off has a new number when a run was delivered anew; a receipt that is made again alone keeps its.
The latest line of a number counts. What the list lacks the copies of receipts say, and where these are gone too
the numbers go on from what journals and submissions say: Level-1 must never hear of one number twice.
"""

import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halfpipe.errors import HalfPipeError
from halfpipe.handoff.receipt_form import Text
from halfpipe.ids import DownlinkId, RunId
from halfpipe.runs.journal import Journal
from halfpipe.runs.receipt_file import copies
from halfpipe.storage import paths
from halfpipe.storage.durable import fsync_directory, make_directory, remove_file
from halfpipe.storage.json_files import read_json, write_json
from halfpipe.storage.json_lines import JsonLines

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HandOff:
    """One hand-off: which runs its texts name, and the texts' names, sizes and checksums."""

    number: int
    named: tuple[RunId, ...]
    texts: tuple[Text, ...]


def read(work: Path, downlink: DownlinkId) -> list[HandOff]:
    """Return the hand-offs of `downlink`: those that only a copy of their receipt knows, then those of the list.

    Raises
    ------
    StateError
        If a line of the list is damaged; a torn last one does not count.
    """
    found = listed(work, downlink)
    return [*unlisted(work, downlink, found), *found]


def unlisted(work: Path, downlink: DownlinkId, found: list[HandOff]) -> list[HandOff]:
    """Return the hand-offs that have a receipt and are not in the list."""
    numbers = {handoff.number for handoff in found}
    return [
        handoff
        for number, path in copies(work, downlink)
        if number not in numbers
        for handoff in _of_receipt(number, path)
    ]


def listed(work: Path, downlink: DownlinkId) -> list[HandOff]:
    """Return the hand-offs in the list, the oldest first."""
    lines = _lines(work, downlink)
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


def begin(work: Path, run: RunId, downlink: DownlinkId, journal: Journal) -> int:
    """Return the number of the hand-off to come, and keep that it has begun until its receipt is saved.

    One that died before its receipt is made again as itself. One that a journal names and that did not begin here
    was handed off, and what said so is lost.
    """
    last = last_number(work, downlink)
    known = max([last, *_submitted(work, downlink), *(number for number, _ in copies(work, downlink))])
    number = last if last == known and last and not has_ended(work, downlink, last) else known + 1
    begun = _begun(work, downlink)
    lines = journal.of(downlink)
    # Without a number in them, as the version before wrote them, there were no more hand-offs than lines.
    recorded = max((d.handoff for d in lines if d.handoff), default=0 if known else len(lines))
    recorded = max(recorded, _delivered_for(work, run, downlink))
    if recorded >= number:
        number = recorded if recorded in begun else recorded + 1
    number = max([number, *begun])
    if number not in begun:
        mark = Path(paths.begun_handoff(downlink, number))
        make_directory(work, str(mark.parent))
        (work / mark).touch()
        fsync_directory((work / mark).parent)
    write_json(work / paths.last_handoff(run, downlink), {"handoff": number})
    return number


def end(work: Path, downlink: DownlinkId) -> None:
    """Forget that a hand-off has begun: it has a receipt."""
    for number in _begun(work, downlink):
        remove_file(work / paths.begun_handoff(downlink, number))


def latest_receipt(work: Path, downlink: DownlinkId) -> dict[str, Any] | None:
    """Return the receipt of the last hand-off that has one, None without any that can be read."""
    for _, path in reversed(copies(work, downlink)):
        with suppress(HalfPipeError):
            content: dict[str, Any] = read_json(path)
            return content
    return None


def _delivered_for(work: Path, run: RunId, downlink: DownlinkId) -> int:
    """Return the number of the hand-off that a run was delivered for last, 0 if nothing says so."""
    path = work / paths.last_handoff(run, downlink)
    with suppress(HalfPipeError, KeyError, TypeError, ValueError):
        return int(read_json(path)["handoff"])
    return 0


def _begun(work: Path, downlink: DownlinkId) -> set[int]:
    home = (work / paths.begun_handoff(downlink, 0)).parent
    return {int(path.stem) for path in home.glob("*.begun") if path.stem.isdecimal()}


def _submitted(work: Path, downlink: DownlinkId) -> Iterator[int]:
    """Yield the numbers of hand-offs that were submitted, or were to be; what is damaged others complain of."""
    with suppress(HalfPipeError):
        for value in JsonLines(work / paths.submissions(downlink)).values:
            if isinstance(value, dict) and isinstance(value.get("handoff"), int):
                yield value["handoff"]


def _of_receipt(number: int, path: Path) -> Iterator[HandOff]:
    try:
        content: dict[str, Any] = read_json(path)
        named = tuple(RunId(run["run"]) for run in content["runs"] if run["named"])
        yield HandOff(number, named, tuple(content["texts"]))
    except (HalfPipeError, KeyError, TypeError) as error:
        log.warning("%s: cannot be read as a receipt: %s", path, error)


def has_ended(work: Path, downlink: DownlinkId, number: int) -> bool:
    """Tell whether a hand-off has a receipt; its copy that stays is written before the receipt itself."""
    return (work / paths.receipt_history(downlink, number)).exists()


def record(work: Path, downlink: DownlinkId, new: HandOff) -> None:
    """Append `new` to the list and flush it to disk."""
    value = {"handoff": new.number, "named": list(new.named), "texts": list(new.texts)}
    _lines(work, downlink).append(value)


def _lines(work: Path, downlink: DownlinkId) -> JsonLines:
    return JsonLines(
        work / paths.handoffs(downlink),
        "Which hand-offs Level-1 may have must be known before the next is made",
        "the downlink is not handed off",
        code="handoffs-damaged",
    )
