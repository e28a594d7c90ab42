"""What vouches for the deliveries of a run beside its journal: manifests and receipts.

They say the same thing as the journal, so that each can veto the others: a journal that lacks what one of them
vouches for is not believed, for what it lacks could be delivered a second time.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halfpipe.errors import HalfPipeError, MissingInputError, StateError
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.intervals import Interval, subtract
from halfpipe.runs.downlinks import begun_downlinks
from halfpipe.runs.journal import Delivery, Journal
from halfpipe.runs.receipt_file import copies, read_receipt
from halfpipe.storage import paths
from halfpipe.storage.json_files import read_json

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Voucher:
    """A file that vouches for a delivery, and what it says of it."""

    path: Path
    downlink: DownlinkId
    entry: Mapping[str, Any]

    @property
    def spans(self) -> tuple[Interval, ...]:
        """What was delivered."""
        return tuple(Interval(*span) for span in self.entry["spans"])

    @property
    def events(self) -> int:
        """How many events were."""
        return self.delivery.events

    @property
    def delivery(self) -> Delivery:
        """The delivery; of a receipt, which does not say so, no datagram was known then."""
        of_receipt = {"downlink": self.downlink, "datagrams": {}, "window": self.entry["times"]}
        return Delivery.of(of_receipt | dict(self.entry))

    def __str__(self) -> str:
        first, last = self.spans[0].first, self.spans[-1].last
        return f"{self.path} ({self.events} events of downlink {self.downlink}, sequences {first} to {last})"


Receipt = tuple[Path, Mapping[str, Any]]


def believed(work: Path, downlink: DownlinkId, *, history: bool = False) -> list[Receipt]:
    """Return the newest copy of a downlink's receipts that can be believed, or with `history` all, the newest last.

    Without a copy it is the receipt itself. What is damaged or was edited is told, and vouches for nothing.
    """
    found: list[Receipt] = []
    for _, path in reversed(copies(work, downlink)):
        found += _believed(work, downlink, path)
        if found and not history:
            break
    return found[::-1] or _believed(work, downlink, work / paths.receipt(downlink))


def _believed(work: Path, downlink: DownlinkId, path: Path) -> list[Receipt]:
    try:
        return [(path, read_receipt(work, downlink, path))]
    except MissingInputError:
        return []
    except HalfPipeError as error:
        log.warning("%s", error)
        return []


def vouchers(
    work: Path,
    run: RunId,
    downlink: DownlinkId,
    *,
    history: bool = False,
    receipts: Sequence[Receipt] | None = None,
) -> list[Voucher]:
    """Return what vouches for deliveries of one downlink, the newest last.

    Parameters
    ----------
    work, run, downlink
        `paths.work`, and whose deliveries are meant.
    history
        Read the receipts of all hand-offs, and not only the last.
    receipts
        These receipts, if they are read already: as `believed`.
    """
    if receipts is None:
        receipts = believed(work, downlink, history=history)
    found = [
        Voucher(path, downlink, entry)
        for path, receipt in receipts
        for entry in receipt["runs"]
        if entry["run"] == run
    ]
    manifest = work / paths.manifest(run, downlink)
    if content := _read(manifest):
        found.append(Voucher(manifest, downlink, content))
    return [
        voucher
        for voucher in found
        if voucher.spans and (voucher.entry["files"] or voucher.entry.get("legacy"))
    ]


def lacking(work: Path, run: RunId, journal: Journal, *, history: bool = False) -> list[Voucher]:
    """Return the vouchers for what `journal` lacks, by downlink, each downlink's newest last."""
    downlinks = sorted({*begun_downlinks(work, run), *journal.latest()})
    return [
        voucher
        for downlink in downlinks
        for voucher in vouchers(work, run, downlink, history=history)
        if subtract(voucher.spans, journal.covered(downlink))
    ]


def check(work: Path, run: RunId, journal: Journal) -> None:
    """Refuse a journal that lacks what something else vouches for, or what the legacy recorded and cannot be read.

    Raises
    ------
    StateError
        If it does; names what vouches.
    """
    for downlink in begun_downlinks(work, run):
        if (said := work / paths.unread(run, downlink)).exists():
            raise StateError(f"{read_json(said)['text']}. Nothing was delivered")
    if found := lacking(work, run, journal):
        raise StateError(complaint(journal, run, found), how_to_rebuild(run), code="journal-lacks")


def complaint(journal: Journal, run: RunId, found: list[Voucher]) -> str:
    """Say in words what vouches for what a journal lacks."""
    what = "lacks" if journal.path.exists() else "is gone, and with it"
    return (
        f"{journal.path} {what} deliveries of run {run} for which others vouch: {'; '.join(map(str, found))}. "
        "Nothing was delivered, because the same events could go to Level-1 twice."
    )


def how_to_rebuild(run: RunId) -> str:
    """Say what to do about a journal that lacks something."""
    return f"To see what can be rebuilt: halfpipe repair {run}; to do it: halfpipe repair {run} --do"


def _read(path: Path) -> Mapping[str, Any]:
    """Read a file; nothing if it is not there, or is damaged: then it vouches for nothing."""
    try:
        content = read_json(path)
    except MissingInputError:
        return {}
    except HalfPipeError as error:
        log.warning("%s", error)
        return {}
    return content if isinstance(content, dict) else {}
