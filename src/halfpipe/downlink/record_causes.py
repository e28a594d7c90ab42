"""What the records of a downlink and its runs say that needs action or a note, as causes of the account.

It takes no leases, so that it can be asked at any time: what is in work just now may look contradictory.
"""

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.downlink.submissions import Record
from halfpipe.errors import HalfPipeError, Remedy, mend, rerun
from halfpipe.files.advice import in_place_of
from halfpipe.ids import DownlinkId, RunId
from halfpipe.run.deliveries import Deliveries
from halfpipe.run.downlinks_of_run import begun_downlinks
from halfpipe.run.receipt_file import hand_offs
from halfpipe.settings import Settings
from halfpipe.words import count


def troubles(
    settings: Settings,
    downlink: DownlinkId,
    runs: Iterable[RunId] = (),
    receipt: Mapping[str, Any] | None = None,
    read: Callable[[Path, RunId], Deliveries] = Deliveries,
) -> Iterator[Cause]:
    """Yield what is contradictory of one downlink, refused, held or closed.

    Parameters
    ----------
    settings, downlink
        The settings and the downlink.
    runs
        Its runs as the plan knows them; those of its receipts are looked at in any case.
    receipt
        Its receipt, if it has one that can be used; else that of its last hand-off is looked for.
    read
        Reads what was delivered of a run, or has read it.
    """
    work = settings.paths.work
    try:
        made = hand_offs(work, downlink, only_look=True)
    except HalfPipeError as error:
        yield Cause("record-damaged", Verdict.ACTION, error.text, error.remedy)
        made = []
    of_last = receipt is None and bool(made)
    receipt = made[-1].receipt if of_last else receipt
    of_receipt = {RunId(run["run"]): run for run in receipt["runs"]} if receipt else {}
    for run in sorted({*runs, *of_receipt}):
        try:
            deliveries = read(work, run)
        except HalfPipeError as error:
            yield Cause("record-damaged", Verdict.ACTION, error.text, error.remedy)
            continue
        if unreadable := deliveries.unreadable.get(downlink):
            yield Cause("takeover-refused", Verdict.ACTION, unreadable.text, unreadable.remedy)
        yield from overlaps(work, run, downlink, deliveries)
        if entry := of_receipt.get(run):
            if not of_last:
                yield from _differs(run, downlink, entry, deliveries.seal(downlink))
                yield from _files_gone(work, run, downlink, entry)
            yield from _noted(run, downlink, entry)
        else:
            yield from _lost(work, run, downlink, deliveries)


def lost_downlinks(
    work: Path, names_there: Collection[str], since: float = 0.0
) -> dict[DownlinkId, list[RunId]]:
    """Return downlinks that runs know and that have no receipt, and no copy of one: with those runs.

    `names_there` are the names in `work`. Runs that no downlink has brought anything of after `since`, Unix seconds,
    are passed over, and so are those whose directory cannot be read: the accounts of their downlinks tell it.

    Raises
    ------
    OSError
        If the directory of all runs cannot be read.
    """
    found: dict[DownlinkId, list[RunId]] = {}
    there: dict[str, bool] = {}
    try:
        with os.scandir(work / paths.runs()) as entries:
            names = sorted(entry.name for entry in entries if not since or _changed_since(entry, since))
    except FileNotFoundError:
        names = []
    for run in (RunId(name) for name in names if RunId.matches(name)):
        with suppress(OSError):
            for dl in begun_downlinks(work, run):
                if dl not in there:
                    there[dl] = paths.receipt(dl) in names_there or not _is_gone(work, dl)
                if not there[dl]:
                    found.setdefault(dl, []).append(run)
    return found


def _changed_since(entry: "os.DirEntry[str]", since: float) -> bool:
    try:
        return entry.stat().st_mtime >= since
    except OSError:
        return False


def _is_gone(work: Path, downlink: DownlinkId) -> bool:
    """Tell whether nothing is left of a downlink: one that was cut off on its way to its receipt has chunks."""
    has_receipt = (work / paths.receipt(downlink)).exists() or any(
        (work / paths.receipts(downlink)).glob("*.json")
    )
    return not has_receipt and not (work / paths.chunks(downlink)).is_dir()


def overlaps(work: Path, run: RunId, downlink: DownlinkId, deliveries: Deliveries) -> Iterator[Cause]:
    """Yield what this downlink and another one have both delivered; what to do is said of one processed here."""
    latest = deliveries.latest()
    for one, other, (first, last) in deliveries.overlaps():
        if downlink not in (one, other):
            continue
        told = {dl: _confirmed(work, dl) for dl in (other, one)}
        ours = sorted((dl for dl in told if latest[dl].legacy is None), key=lambda dl: told[dl])
        remedy = Remedy(f"halfpipe show {run}")
        if ours:
            again, left = ours[0], one if ours[0] == other else other
            first_of_all = f"have Level-1 roll {again} back; then " if told[again] else ""
            remedy = rerun(
                again,
                paths.manifest(run, again),
                f'{first_of_all}in the config, shrink: {{accept: [{{dl: "{again}", run: "{run}", reason: "{left} '
                'delivered it"}]}',
            )
        yield Cause(
            "deliveries-overlap",
            Verdict.ACTION,
            f"sequences {first} to {last} of run {run} are in the deliveries of downlinks {one} and {other}: Level-1 "
            "refuses the run for it, or has these events twice",
            remedy,
        )


def _confirmed(work: Path, downlink: DownlinkId) -> bool:
    with suppress(HalfPipeError):
        return Record(work, downlink).last_confirmed is not None
    return True  # its records are damaged, which another cause tells


def _lost(work: Path, run: RunId, downlink: DownlinkId, deliveries: Deliveries) -> Iterator[Cause]:
    """Yield that a downlink has delivered something of a run, and nothing else of it is left."""
    delivered = deliveries.latest().get(downlink)
    if delivered is not None and delivered.files and _is_gone(work, downlink):
        yield Cause(
            "receipt-lost",
            Verdict.ACTION,
            f"{count(delivered.events, 'event')} of run {run} were delivered by this downlink, and Level-1 may have "
            "them, but its receipt and all its other files are gone",
            Remedy(f"snakemake dl={downlink}"),
        )


def _differs(run: RunId, downlink: DownlinkId, entry: Mapping[str, Any], seal: str | None) -> Iterator[Cause]:
    """Yield that what a receipt names is not what is recorded: a run's records were put back from a backup."""
    if entry["delivery"] != seal:
        yield Cause(
            "delivery-differs",
            Verdict.ACTION,
            f"the receipt names a delivery of run {run} that is not the latest one of this downlink in the run's "
            "records",
            rerun(downlink, paths.manifest(run, downlink)),
        )


def _files_gone(work: Path, run: RunId, downlink: DownlinkId, entry: Mapping[str, Any]) -> Iterator[Cause]:
    """Yield that the manifest of a run is gone, or what others decide by: which datagrams a downlink brought of it."""
    if entry.get("taken_over", "whole") != "whole":
        return
    manifest = work / paths.manifest(run, downlink)
    if not os.path.isfile(manifest):  # noqa: PTH113 - asked of all downlinks
        again = rerun(downlink, paths.manifest(run, downlink))
        what, remedy = (
            ("is a directory", in_place_of(manifest, again)) if manifest.is_dir() else ("is gone", again)
        )
        text = f"{manifest}, which says what was delivered of run {run}, {what}"
        yield Cause("manifest-gone", Verdict.ACTION, text, remedy)
    if not os.path.isfile(f"{work}/{paths.datagrams(run, downlink)}"):  # noqa: PTH113
        yield Cause(
            "datagrams-gone",
            Verdict.ACTION,
            f"which datagrams this downlink brought of run {run} is not known any more: "
            f"{paths.datagrams(run, downlink)} is gone. Other downlinks of the run deliver less without it",
            mend(downlink),
        )


def _noted(run: RunId, downlink: DownlinkId, entry: Mapping[str, Any]) -> Iterator[Cause]:
    """Yield what a receipt itself says of a run."""
    if entry["held"]:
        events = entry.get("held_events")
        what = "it" if events is None else f"{count(events, 'event')} of it"
        yield Cause(
            "run-held",
            Verdict.ACTION,
            f"run {run} is held, {what} not staged, because Level-1 would refuse it: {'; '.join(entry['l1']['why'])}",
            rerun(
                downlink, paths.manifest(run, downlink), "mend what makes it so, in the config or in the data"
            ),
        )
    if events := entry.get("unaccounted"):
        yield Cause(
            "events-unaccounted",
            Verdict.ACTION,
            f"{count(events, 'known event')} of run {run} in no count: neither delivered nor waiting, held or late. "
            "HalfPipe has a defect there: report it with the run's records",
            Remedy(f"halfpipe show {run}"),
        )
    if entry.get("accepted"):
        yield Cause(
            "shrunk-accepted",
            Verdict.NOTE,
            f"run {run} was delivered with fewer events than before, as was accepted: {entry['accepted']}",
        )
    if entry.get("closed"):
        spans = ", ".join(f"{first} to {last}" for first, last in entry["closed"])
        yield Cause(
            "closed-spans",
            Verdict.NOTE,
            f"sequences {spans} of run {run}, delivered before and not now, stay closed to other downlinks",
            Remedy(f'halfpipe force {run} --reopen {downlink} --reason "…"'),
        )
