"""Where journals, manifests, receipts and lists of hand-offs contradict each other, as causes of the account.

It takes no locks, so that it can be asked at any time: what is in work just now may look contradictory.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from halfpipe.causes import Cause, Verdict
from halfpipe.errors import HalfPipeError
from halfpipe.handoff import handoffs
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.intervals import subtract
from halfpipe.runs import vouchers
from halfpipe.runs.downlinks import begun_downlinks
from halfpipe.runs.journal import Journal
from halfpipe.settings import Settings
from halfpipe.storage import paths
from halfpipe.storage.json_files import read_json
from halfpipe.storage.reading import modified
from halfpipe.words import count


def troubles(
    settings: Settings,
    downlink: DownlinkId,
    runs: Iterable[RunId] = (),
    receipt: Mapping[str, Any] | None = None,
    journal: Callable[[Path], Journal] = Journal,
) -> Iterator[Cause]:
    """Yield what is contradictory of one downlink, refused, held or closed.

    Parameters
    ----------
    settings, downlink
        The settings and the downlink.
    runs
        Its runs as the plan knows them; those of its receipts are looked at in any case.
    receipt
        Its receipt, if that is read already and can be believed; else the newest that can be is looked for.
    journal
        Reads a journal, or has read it.
    """
    work = settings.paths.work
    yield from _handoffs(work, downlink)
    receipts = vouchers.believed(work, downlink)
    if receipt is None and receipts:
        receipt = receipts[-1][1]
    of_receipt = {RunId(run["run"]): run for run in receipt["runs"]} if receipt else {}
    for run in sorted({*runs, *of_receipt}):
        yield from _unread(work, run, downlink)
        yield from _refused(work, run, downlink)
        yield from _journal(work, run, downlink, of_receipt.get(run), receipts, journal)
        if said := of_receipt.get(run):
            yield from _said(run, downlink, said)


def lost_downlinks(work: Path, since: float = 0.0) -> dict[DownlinkId, list[RunId]]:
    """Return downlinks that runs know and that have no receipt, and no copy of one: with those runs.

    Runs that no downlink has brought anything of after `since`, Unix seconds, are passed over, and so are those whose
    directory cannot be read: the accounts of their downlinks tell it.

    Raises
    ------
    OSError
        If the directory of all runs cannot be read.
    """
    found: dict[DownlinkId, list[RunId]] = {}
    there: dict[str, bool] = {}
    prefix = paths.receipt("")
    with suppress(OSError):
        names = os.listdir(work)  # noqa: PTH208 - one look for all that have a receipt
        there = {name.removeprefix(prefix): True for name in names if name.startswith(prefix)}
    try:
        with os.scandir(work / paths.runs()) as entries:
            names = sorted(entry.name for entry in entries if _changed_since(entry, since))
    except FileNotFoundError:
        names = []
    for run in (RunId(name) for name in names if RunId.matches(name)):
        with suppress(OSError):
            for dl in begun_downlinks(work, run):
                if dl not in there:
                    there[dl] = not _is_gone(work, dl)
                if not there[dl]:
                    found.setdefault(dl, []).append(run)
    return found


def _changed_since(entry: "os.DirEntry[str]", since: float) -> bool:
    try:
        return entry.stat().st_mtime >= since
    except OSError:
        return False


def _has_receipt(work: Path, downlink: DownlinkId) -> bool:
    copies = (work / paths.receipt_history(downlink, 0)).parent
    return (work / paths.receipt(downlink)).exists() or any(copies.glob("*.json"))


def _is_gone(work: Path, downlink: DownlinkId) -> bool:
    """Tell whether nothing is left of a downlink: one that was cut off on its way to its receipt has chunks."""
    return not _has_receipt(work, downlink) and not (work / paths.chunks(downlink)).is_dir()


def _handoffs(work: Path, downlink: DownlinkId) -> Iterator[Cause]:
    try:
        missing = handoffs.unlisted(work, downlink, handoffs.listed(work, downlink))
    except HalfPipeError as error:
        yield Cause("handoffs-damaged", Verdict.PERSON, error.text, error.do)
        return
    if missing:
        numbers = ", ".join(str(handoff.number) for handoff in missing)
        yield Cause(
            "handoffs-lacks",
            Verdict.TOLD,
            f"the list of hand-offs lacks hand-off {numbers}, of which there is a receipt; numbers go on from that",
            f"halfpipe repair {downlink} --do",
        )


def _unread(work: Path, run: RunId, downlink: DownlinkId) -> Iterator[Cause]:
    path = work / paths.unread(run, downlink)
    with suppress(HalfPipeError, KeyError, TypeError):
        if path.exists():
            said = read_json(path)
            yield Cause("takeover-refused", Verdict.PERSON, said["text"], said["do"], path.stat().st_mtime)


def _refused(work: Path, run: RunId, downlink: DownlinkId) -> Iterator[Cause]:
    path = work / paths.refused(run, downlink)
    since = modified(str(path))
    if since is None:
        return
    try:
        said = read_json(path)
        events, (first, last), chunks = said["events"], said["sequences"], said["chunks"]
    except (HalfPipeError, KeyError, TypeError, ValueError):
        return
    where = f", lost in chunk {', '.join(chunks)}" if chunks else ""
    yield Cause(
        "shrunk-refused",
        Verdict.PERSON,
        f"run {run} would lose {count(events, 'event')} that Level-1 may have, between sequences {first} and {last}"
        f"{where}: refused, nothing is handed off. Bring the input back, or accept the loss (shrink.accept)",
        f"snakemake dl={downlink} -R decode_chunk",
        since,
    )


def _journal(
    work: Path,
    run: RunId,
    downlink: DownlinkId,
    of_receipt: Mapping[str, Any] | None,
    receipts: Sequence[vouchers.Receipt],
    read: Callable[[Path], Journal],
) -> Iterator[Cause]:
    repair = f"halfpipe repair {run}"
    try:
        journal = read(work / paths.journal(run))
    except HalfPipeError as error:
        yield Cause("journal-damaged", Verdict.PERSON, error.text, repair)
        return
    found = [
        voucher
        for voucher in vouchers.vouchers(work, run, downlink, receipts=receipts)
        if subtract(voucher.spans, journal.covered(downlink))
    ]
    if found:
        what = f"{journal.path} lacks deliveries of run {run} for which others vouch: {'; '.join(map(str, found))}"
        yield Cause("journal-lacks", Verdict.PERSON, what, repair)
        return
    delivered = journal.latest().get(downlink)
    if delivered is not None and delivered.files and of_receipt is None and _is_gone(work, downlink):
        yield Cause(
            "receipt-lost",
            Verdict.PERSON,
            f"the journal of run {run} knows {count(delivered.events, 'event')} of this downlink that Level-1 may "
            "have, but its receipt and all its other files are gone",
            f"snakemake dl={downlink}",
        )


def _said(run: RunId, downlink: DownlinkId, said: Mapping[str, Any]) -> Iterator[Cause]:
    """Yield what a receipt itself says of a run."""
    if said["held"]:
        events = said.get("held_events")
        what = "it" if events is None else f"{count(events, 'event')} of it"
        yield Cause(
            "run-held",
            Verdict.PERSON,
            f"run {run} is held, {what} not staged, because Level-1 would refuse it: {'; '.join(said['l1']['why'])}",
            f"halfpipe show {run}",
        )
    if said.get("accepted"):
        yield Cause(
            "shrunk-accepted",
            Verdict.TOLD,
            f"run {run} was delivered with fewer events than before, as was accepted: {said['accepted']}",
        )
    if said.get("closed"):
        spans = ", ".join(f"{first} to {last}" for first, last in said["closed"])
        yield Cause(
            "closed-spans",
            Verdict.TOLD,
            f"sequences {spans} of run {run}, delivered before and not now, stay closed to other downlinks",
            f'halfpipe release {run} {downlink} --reason "…"',
        )
