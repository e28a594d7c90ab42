"""What keeps a hand-off from Level-1, and what is said of that before and after a downlink is processed."""

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.downlink import halts, stage_mark
from halfpipe.downlink.stage_look import STRANGE, StageState, is_submitted, look, names_files, stage_state
from halfpipe.downlink.submissions import Kept, Record, how_to_roll_back, in_ledger, lost, unsettled
from halfpipe.errors import HalfPipeError, Remedy, StateError, rerun
from halfpipe.files import leases
from halfpipe.files.reading import modified
from halfpipe.ids import DownlinkId, RunId
from halfpipe.process.told_once import Outcome
from halfpipe.run.receipt_file import ReceiptError, hand_offs
from halfpipe.settings import Settings
from halfpipe.words import count, utc

HOUR = 3600.0


def troubles(
    settings: Settings,
    downlink: DownlinkId,
    receipt: Mapping[str, Any] | ReceiptError | None,
    record: Record | None = None,
    in_work: bool | None = None,
) -> Iterator[Cause]:
    """Find what keeps a hand-off from Level-1. Nothing is run and nothing changed; it is cheap where all is well.

    Parameters
    ----------
    settings, downlink
        The settings and the downlink.
    receipt
        Its receipt, or the error that `read_receipt` raised; None without one: only submissions are looked at.
    record
        Its submissions, if they are read already.
    in_work
        Whether somebody is at work on it, whose files are as they should be; None: its lock says so.

    Yields
    ------
    Cause
        ``receipt-damaged``, ``receipt-edited``, ``submission-damaged``, ``submission-open``, ``submission-failed``,
        ``written-for-person``, ``handoff-not-submitted``, ``stage-gone``, ``stage-partly-gone``, ``ledger-lacks``,
        ``not-submitted``, ``not-taken``.
    """
    if isinstance(receipt, ReceiptError):
        since = modified(str(receipt.path))
        yield Cause(receipt.code, Verdict.ACTION, receipt.text, receipt.remedy, since)
        receipt = None
    try:
        record = record or Record(settings.paths.work, downlink)
    except HalfPipeError as error:
        yield Cause("submission-damaged", Verdict.ACTION, str(error))
        return
    if in_work is None:
        in_work = leases.in_work(settings.paths.work, downlink) is not None
    unknown = _unsettled(settings, record, receipt, in_work=in_work)
    if unknown is not None:
        yield unknown
    if receipt is not None:
        yield from _never_taken(settings, record, receipt)
    if receipt is None or not names_files(receipt):
        return
    last, number = record.last, receipt["handoff"]
    if (known := lost(settings.paths.work, record)) is not None:
        yield Cause(
            "submission-damaged",
            Verdict.ACTION,
            f"{paths.submitted(downlink)} says that Level-1 has hand-off {known}, and no record in {record.path} does: "
            "both copies of it are lost",
            Remedy(f"halfpipe submit {downlink}"),
        )
        return
    if is_submitted(receipt, record):
        yield from _not_taken(settings, record, receipt)
        return
    told_of = unknown is not None and last is not None and last.handoff == number
    if told_of or in_work:
        return
    if last is None and (known_by := _witness(settings, record)):
        yield Cause(
            "submission-damaged",
            Verdict.ACTION,
            f"{known_by}, and there is none in {record.path}: both copies are lost. If the pipeline shows that Level-1 "
            "has the downlink, say so",
            Remedy(f"halfpipe submit {downlink} --settle submitted"),
        )
        return
    yield from _stage(settings, record, receipt)
    if record.last_confirmed is not None:
        yield Cause(
            "handoff-not-submitted",
            Verdict.ACTION,
            f"Level-1 still has hand-off {record.last_confirmed.handoff}: hand-off {number} ({_what(receipt)}) needs a "
            "manual roll-back",
            how_to_roll_back(settings, downlink),
            handed_off_at(settings, downlink, receipt),
        )
    elif unknown is None:
        yield from _not_submitted(settings, downlink, receipt)


def warnings_before(settings: Settings, downlink: DownlinkId, *, removes: bool = False) -> list[str]:
    """Say before a downlink is processed again that Level-1 has a hand-off of it already; mostly nothing.

    If this process may `removes` what says how it was submitted, what no record says of that is recorded before.
    """
    try:
        told = (Kept(settings, downlink) if removes else Record(settings.paths.work, downlink)).last_confirmed
    except StateError as error:
        return [str(error)]
    if told is None:
        return []
    return [
        f"downlink {downlink}: Level-1 has hand-off {told.handoff} of it (submitted {told.when}). What is handed off "
        f"of it from now on gets there only by a roll-back: {how_to_roll_back(settings, downlink)}"
    ]


def handed_off_at(settings: Settings, downlink: DownlinkId, receipt: Mapping[str, Any]) -> float | None:
    """Return when a hand-off was made, in Unix seconds: its copy stays when the receipt is written again."""
    work = settings.paths.work
    try:
        made = {handoff.number: handoff.made for handoff in hand_offs(work, downlink)}
    except HalfPipeError:  # another cause tells of it
        made = {}
    return made.get(receipt["handoff"]) or modified(f"{work}/{paths.receipt(downlink)}")


def _what(receipt: Mapping[str, Any]) -> str:
    named = [run for run in receipt["runs"] if run["named"] and run["files"]]
    events = sum(file["events"] for run in named for file in run["files"])
    runs = ", ".join(run["run"] for run in named)
    return f"{count(events, 'event')} of {'run' if len(named) == 1 else 'runs'} {runs}"


def _unsettled(
    settings: Settings, record: Record, receipt: Mapping[str, Any] | None, *, in_work: bool
) -> Cause | None:
    """Return the cause that the latest attempt is not known to have been heard."""
    last, downlink = record.last, DownlinkId(record.id)
    if last is None or (last.outcome is None and in_work):
        return None  # it runs
    taken = ""
    if receipt is not None and last.handoff == receipt["handoff"] and names_files(receipt):
        state = stage_state(settings, downlink, receipt, record)
        if state is not StageState.WHOLE:
            how = "gone" if state is StageState.GONE else "partly gone"
            taken = f"; its files are {how} from the stage, so it may have been"
    return unsettled(settings, record, taken=taken)


def _not_taken(settings: Settings, record: Record, receipt: Mapping[str, Any]) -> Iterator[Cause]:
    """Say that Level-1 was told of a hand-off long ago and it still lies in the stage, which Level-1 clears."""
    downlink, told = DownlinkId(record.id), record.last_confirmed
    if told is None or time.time() - told.since < settings.alarm.late_hours * HOUR:
        return
    if stage_state(settings, downlink, receipt, record) is not StageState.TAKEN:
        back = how_to_roll_back(settings, downlink)
        look_there = f"look in the pipeline what became of stream {downlink}; if it is to be rolled back"
        yield Cause(
            "not-taken",
            Verdict.ACTION,
            f"hand-off {receipt['handoff']} was submitted {utc(told.since)}, and is still in the stage",
            back.but(first=": ".join(filter(None, [look_there, back.first]))),
            told.since,
        )


def _witness(settings: Settings, record: Record) -> str:
    """Name what says that Level-1 was told, though no record does; the ledger is asked of what was entered only."""
    if number := stage_mark.last_noted(settings, record.place(record.id)):
        return f"the stage's mark names record {number}"
    if modified(f"{settings.paths.work}/{paths.loaded(record.id)}") is not None:
        with suppress(HalfPipeError):  # that it is down is another cause
            if number := in_ledger(settings, record) or 0:
                return f"the ledger has hand-off {number} as submitted"
    return ""


def _stage(settings: Settings, record: Record, receipt: Mapping[str, Any]) -> Iterator[Cause]:
    """Find what is gone from the stage of a hand-off that was not submitted."""
    downlink, number = DownlinkId(record.id), receipt["handoff"]
    stage = settings.paths.stage
    home = stage / paths.staged(downlink)
    otherwise = "--settle submitted" if record.last_confirmed is None else "--record-rollback"
    otherwise = f"if Level-1 got it in another way, say so: halfpipe submit {downlink} {otherwise}"
    what = f"hand-off {number} ({_what(receipt)})"
    if not home.is_dir():
        text = f"{what} is gone from the stage ({home}), and was not submitted; {otherwise}"
        yield Cause("stage-gone", Verdict.ACTION, text, rerun(downlink, "deliver_run"))
        return
    if wrong := next(look(stage, downlink, receipt, untouched=record.last is None), None):
        code = wrong.code if wrong.code == STRANGE else "stage-partly-gone"
        text = f"{what} is not whole in the stage, and was not submitted: {wrong.path}, "
        yield Cause(code, Verdict.ACTION, f"{text}{wrong.what}; {otherwise}", wrong.remedy)


def _never_taken(settings: Settings, record: Record, receipt: Mapping[str, Any]) -> Iterator[Cause]:
    """Find runs of earlier hand-offs that left the stage though nobody was told of them: no later one names them."""
    gone = [run for run in receipt["runs"] if run["files"] and not run["named"] and not run["held"]]
    if not gone:
        return
    downlink = DownlinkId(record.id)
    told = {attempt.handoff for attempt in record.attempts if attempt.outcome is Outcome.TOLD}
    heard = [handoff for handoff in hand_offs(settings.paths.work, downlink) if handoff.number in told]
    for run in gone:
        if any(h.number >= run["handoff"] and RunId(run["run"]) in h.named for h in heard):
            continue
        yield Cause(
            "stage-partly-gone",
            Verdict.ACTION,
            f"{count(sum(file['events'] for file in run['files']), 'event')} of run {run['run']} left the stage before "
            f"hand-off {receipt['handoff']}, and no hand-off with them was submitted",
            rerun(downlink, "deliver_run"),
            handed_off_at(settings, downlink, receipt),
        )


def _not_submitted(settings: Settings, downlink: DownlinkId, receipt: Mapping[str, Any]) -> Iterator[Cause]:
    """Say that a hand-off waits for its submission: for a while that is as it should be."""
    work, since = settings.paths.work, handed_off_at(settings, downlink, receipt)
    if file := halts.holding(work, halts.Switch.L1, downlink):
        yield Cause(
            "not-submitted",
            Verdict.NOTE,
            f"hand-off {receipt['handoff']} is held by {halts.with_reason(file)}",
            halts.offered(halts.Switch.L1, file, downlink),
            since,
        )
        return
    yield from _ledger(settings, downlink, receipt)
    late = since is not None and time.time() - since > settings.alarm.late_hours * HOUR
    who = ": the next turn submits it" if settings.submit.automatic else ""
    yield Cause(
        "not-submitted",
        Verdict.ACTION if late else Verdict.NOTE,
        f"hand-off {receipt['handoff']} ({_what(receipt)}) is not submitted yet{who}",
        Remedy(f"snakemake submit={downlink}"),
        since,
    )


def _ledger(settings: Settings, downlink: DownlinkId, receipt: Mapping[str, Any]) -> Iterator[Cause]:
    """Look into the ledger for what was entered and is to be submitted: few downlinks at any time.

    What was handed off after it was entered is entered again before it is submitted.
    """
    work = settings.paths.work
    entered = modified(f"{work}/{paths.loaded(downlink)}")
    if settings.ledger.url is None or entered is None:
        return
    if entered < (modified(f"{work}/{paths.receipt(downlink)}") or 0.0):
        return
    from halfpipe.ledger.lacks import lacks  # noqa: PLC0415 - the library of the database

    try:
        if cause := lacks(settings, downlink, receipt, waits=()):
            yield cause
    except HalfPipeError as error:
        yield Cause("ledger-lacks", Verdict.ACTION, str(error))
