"""Causes in the records of a downlink and its runs, and causes that keep its hand-off from Level-1.

Nothing here takes a lease, so records of a downlink in progress may look contradictory.
"""

import os
import shlex
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.downlink import halts, stage_mark
from halfpipe.downlink.stage_look import FOREIGN, GONE, differences, is_submitted, is_taken
from halfpipe.downlink.submissions import submissions
from halfpipe.errors import HalfPipeError, Remedy, StateError, rebuild, rerun
from halfpipe.files.advice import in_place_of
from halfpipe.files.pointers import resolves
from halfpipe.files.reading import modified
from halfpipe.ids import DownlinkId, RunId
from halfpipe.process.attempts import Action, Attempts, By, Outcome
from halfpipe.run.deliveries import DeliveryHistory
from halfpipe.run.downlinks_of_run import begun_downlinks, every_run
from halfpipe.run.hand_offs import HandedRun, HandOff, ReadDeliveries, hand_offs
from halfpipe.settings import Settings
from halfpipe.words import count, utc

HOUR = 3600.0


def unresolved(downlink: DownlinkId, last: HandOff | None, work: Path) -> Iterator[Cause]:
    """Yield a cause if the receipt, which Snakemake looks at, does not point to the last hand-off."""
    path = work / paths.receipt(downlink)
    if last is None or resolves(path, last.seal):
        return
    remedy = rerun(downlink, "receipt")
    text = f"{path}: does not point to the record of the last hand-off; it was edited, damaged or restored"
    yield Cause(
        "damaged",
        Verdict.ACTION,
        text,
        in_place_of(path, remedy) if path.is_dir() else remedy,
        modified(str(path)),
    )


def contradictions(
    settings: Settings,
    downlink: DownlinkId,
    runs: Iterable[RunId],
    last: HandOff | None,
    is_current: bool,
    read: ReadDeliveries,
) -> Iterator[Cause]:
    """Yield contradictions between the records of a downlink, and runs that were refused, shrunk or closed.

    Parameters
    ----------
    settings, downlink
        The settings and the downlink.
    runs
        Runs to check besides those of its last hand-off.
    last
        Its last hand-off; None before the first.
    is_current
        Whether the downlink has a receipt now. While it is in progress or outstanding, the record is not compared.
    read
        Reads the deliveries of a run.
    """
    work = settings.paths.work
    handed = {run.run: run for run in last.runs} if last else {}
    for run in sorted({*runs, *handed}):
        try:
            deliveries = read(run)
        except HalfPipeError as error:
            yield Cause("damaged", Verdict.ACTION, error.text, error.remedy)
            continue
        if unreadable := deliveries.unreadable.get(downlink):
            yield Cause("other-system", Verdict.ACTION, unreadable.text, unreadable.remedy)
        yield from overlaps(work, run, downlink, deliveries)
        if one := handed.get(run):
            if is_current:
                yield from _not_as_delivered(work, downlink, one)
            yield from _noted(downlink, one, deliveries)
        else:
            yield from _lost(work, run, downlink, deliveries)


def lost_downlinks(
    work: Path, names_there: Collection[str], since: float = 0.0
) -> dict[DownlinkId, list[RunId]]:
    """Return the downlinks that left traces only in run directories, each with these runs.

    `names_there` are the names in `work`. Runs without a change after `since` (Unix seconds) are skipped, and so are
    runs whose directory cannot be read, because the accounts of their downlinks report this.

    Raises
    ------
    StateError
        If the directory of all runs cannot be read.
    """
    found: dict[DownlinkId, list[RunId]] = {}
    for run in every_run(work):
        if since and (modified(f"{work}/{paths.run(run)}") or 0.0) < since:
            continue
        with suppress(HalfPipeError, OSError):
            for dl in begun_downlinks(work, run):
                if paths.receipt(dl) not in names_there and _is_gone(work, dl):
                    found.setdefault(dl, []).append(run)
    return found


def _is_gone(work: Path, downlink: DownlinkId) -> bool:
    """Return whether a downlink has no receipt and no chunks. An interrupted one still has chunks."""
    has_receipt = (work / paths.receipt(downlink)).exists() or any(
        (work / paths.receipts(downlink)).glob("*.json")
    )
    return not has_receipt and not (work / paths.chunks(downlink)).is_dir()


def overlaps(work: Path, run: RunId, downlink: DownlinkId, deliveries: DeliveryHistory) -> Iterator[Cause]:
    """Yield a cause for each other downlink that has delivered the same sequences."""
    for one, other, (first, last) in deliveries.overlaps():
        if downlink not in (one, other):
            continue
        # Only a downlink that was processed here can be reprocessed, preferably one that Level-1 does not have.
        ours = [dl for dl in (other, one) if not deliveries.latest()[dl].origin]
        remedy = Remedy(f"halfpipe show {run}")
        if ours:
            again = min(ours, key=lambda dl: _may_be_submitted(work, dl))
            left = one if again == other else other
            accept = f'shrink: {{accept: [{{dl: "{again}", run: "{run}", reason: "{left} delivered it"}}]}}'
            first_of_all = f"in the config, {accept}"
            if _may_be_submitted(work, again):
                first_of_all = f"if Level-1 has downlink {again}, have it rolled back; then {first_of_all}"
            remedy = Remedy(f"snakemake dl={again} -R {paths.manifest(run, again)}", first=first_of_all)
        yield Cause(
            "deliveries-overlap",
            Verdict.ACTION,
            f"downlinks {one} and {other} both delivered sequences {first} to {last} of run {run}: Level-1 refuses the "
            "run, or has these events twice",
            remedy,
        )


def _may_be_submitted(work: Path, downlink: DownlinkId) -> bool:
    with suppress(HalfPipeError):
        every = submissions(work, downlink, only_look=True).every
        return any(attempt.outcome is not Outcome.NOT_SUBMITTED for attempt in every)
    return True  # its records are damaged, which another cause reports


def _lost(work: Path, run: RunId, downlink: DownlinkId, deliveries: DeliveryHistory) -> Iterator[Cause]:
    """Yield a cause if a downlink brought or delivered events of a run, and all its own files are gone."""
    delivered = deliveries.latest().get(downlink)
    events = delivered.events if delivered is not None else 0
    is_known = events or (work / paths.datagrams(run, downlink)).exists()
    if is_known and _is_gone(work, downlink):
        yield Cause(
            "damaged",
            Verdict.ACTION,
            f"this downlink contains a part of run {run} and delivered {count(events, 'event')} of it, which Level-1 "
            "may have, but its receipt and all its other files are gone",
            Remedy(f"snakemake dl={downlink}"),
        )


def _not_as_delivered(work: Path, downlink: DownlinkId, one: HandedRun) -> Iterator[Cause]:
    """Yield why a run is not as it was handed off: a newer delivery, a lost pointer, or a lost merged index."""
    run = one.run
    manifest = work / paths.manifest(run, downlink)
    if not one.is_latest:
        text = (
            f"the latest delivery of this downlink in the records of run {run} is not the one in the receipt"
        )
        yield Cause("damaged", Verdict.ACTION, text, rerun(downlink, paths.manifest(run, downlink)))
    elif not one.delivery.origin and not resolves(manifest, one.seal):
        text = f"{manifest}: does not point to the delivery of run {run}"
        yield Cause("damaged", Verdict.ACTION, text, rerun(downlink, paths.manifest(run, downlink)))
    if one.delivery.index and not os.path.isfile(f"{work}/{paths.datagrams(run, downlink)}"):  # noqa: PTH113
        yield Cause(
            "damaged",
            Verdict.ACTION,
            f"{work / paths.datagrams(run, downlink)}, the merged index of run {run}, is gone: other downlinks deliver "
            "fewer events of the run without it",
            rebuild(downlink),
        )


def _noted(downlink: DownlinkId, one: HandedRun, deliveries: DeliveryHistory) -> Iterator[Cause]:
    """Yield notes and problems of a delivery; a release since then opens closed sequences."""
    run, made = one.run, one.delivery
    if made.refused:
        yield Cause(
            "level1-refuses",
            Verdict.ACTION,
            f"{count(made.books.refused, 'event')} of run {run} are not staged, because Level-1 would refuse the "
            f"run: {'; '.join(made.refused)}",
            rerun(downlink, paths.manifest(run, downlink), "Fix this in the config or the data"),
        )
    if made.accepted:
        yield Cause(
            "shrunk",
            Verdict.NOTE,
            f"run {run} was delivered with fewer events than before. This was accepted: {made.accepted}",
        )
    if closed := deliveries.closed(downlink):
        spans = ", ".join(f"{span.first} to {span.last}" for span in closed)
        yield Cause(
            "closed",
            Verdict.NOTE,
            f"sequences {spans} of run {run} were delivered before and not now, and stay closed to other downlinks",
            Remedy(f'halfpipe force {run} --reopen {downlink} --reason "…"'),
        )


def at_level1(
    settings: Settings,
    downlink: DownlinkId,
    last: HandOff | None,
    record: Attempts | None = None,
    in_progress: bool = False,
    *,
    sees_stage: bool = True,
) -> Iterator[Cause]:
    """Find the causes that keep a hand-off from Level-1. No command is run, and nothing is changed.

    Parameters
    ----------
    settings, downlink
        The settings and the downlink.
    last
        Its last hand-off, if it is handed off. Without one, only submissions are checked.
    record
        Its submissions, if they were read already.
    in_progress
        Whether a process works on the downlink, so that its files may change.
    sees_stage
        Whether the stage is mounted; otherwise its content is not checked.

    Yields
    ------
    Cause
        ``damaged``, ``submission``, ``written-for-person``, ``handoff-not-submitted``, ``stage-gone``,
        ``stage-foreign``, ``not-submitted``, ``not-taken``.
    """
    try:
        record = record or submissions(settings.paths.work, downlink)
    except HalfPipeError as error:
        yield Cause("damaged", Verdict.ACTION, error.text, error.remedy)
        return
    seen = last if sees_stage else None
    unknown = None if in_progress and record.is_open else unsettled(settings, record, seen)
    yield from filter(None, [unknown])
    if last is not None:
        yield from _never_taken(settings, record, last)
    if last is None or not last.names_files:
        return
    if is_submitted(last, record):
        if sees_stage:
            yield from _not_taken(settings, record, last)
        return
    is_unknown = unknown is not None and record.last is not None and record.last.handoff == last.number
    if in_progress or is_unknown:
        return
    if cause := forgotten(settings, record):
        yield cause
        return
    lacks = list(_stage(settings, record, last)) if sees_stage else []
    yield from lacks
    if record.last_confirmed is not None:
        yield Cause(
            "handoff-not-submitted",
            Verdict.ACTION,
            f"Level-1 still has hand-off {record.last_confirmed.handoff}: hand-off {last.number} ({_what(last)}) needs "
            "a manual rollback",
            how_to_roll_back(settings, downlink),
            modified(f"{settings.paths.work}/{paths.receipt(downlink)}"),
        )
    elif unknown is None and not lacks:
        yield from _not_submitted(settings, record, last)


def warnings_before(settings: Settings, downlink: DownlinkId) -> list[str]:
    """Return a warning, before a downlink is processed again, if Level-1 already has a hand-off of it."""
    try:
        last = submissions(settings.paths.work, downlink).last_confirmed
    except StateError as error:
        return [str(error)]
    if last is None:
        return []
    return [
        f"downlink {downlink}: Level-1 has hand-off {last.handoff} (submitted {utc(last.since)}), and takes later "
        f"hand-offs only after a rollback: {how_to_roll_back(settings, downlink)}"
    ]


def forgotten(settings: Settings, record: Attempts) -> Cause | None:
    """Return a cause if the stage's mark or the ledger shows a submission that has no record."""
    downlink = DownlinkId(record.id)
    known_by = ""
    if (number := stage_mark.last_noted(settings, record.place)) > len(record.series.records):
        known_by = f"the stage's mark names record {number}"
    elif record.last_confirmed is None and settings.ledger.url is not None:
        from halfpipe.ledger.load import submitted  # noqa: PLC0415 - the library of the database

        with suppress(HalfPipeError):  # another cause reports this
            if seal := submitted(settings, downlink):
                known_by = f"the ledger has receipt {seal[:16]} as submitted"
    if not known_by:
        return None
    return Cause(
        "damaged",
        Verdict.ACTION,
        f"{known_by}, but {record.path} has no such record: both copies are lost",
        Remedy(
            f"halfpipe submit {downlink} --settle submitted",
            first="If the pipeline shows that Level-1 has the downlink, confirm it",
        ),
    )


def _what(last: HandOff) -> str:
    named = [run for run in last.runs if run.named and run.delivery.files]
    events = sum(run.delivery.events for run in named)
    runs = ", ".join(run.run for run in named)
    return f"{count(events, 'event')} of {'run' if len(named) == 1 else 'runs'} {runs}"


def how_to_roll_back(settings: Settings, downlink: str) -> Remedy:
    """Return the remedy that gives Level-1 a later hand-off: a rollback, with the command in the config or by hand."""
    load = f"halfpipe ledger load {downlink}" if settings.ledger.url is not None else ""
    if settings.submit.rollback is not None:
        return Remedy(*filter(None, [load]), f"halfpipe submit {downlink} --rollback")
    by_hand = f"roll stream {downlink} back in the pipeline by hand"
    return Remedy(
        f"halfpipe submit {downlink} --settle submitted",
        first=f"run {load}, then {by_hand}" if load else by_hand,
    )


def unsettled(
    settings: Settings, record: Attempts, handed: HandOff | None = None, how: str = ""
) -> Cause | None:
    """Return a cause if it is not known whether the latest attempt reached Level-1.

    Parameters
    ----------
    settings, record
        The settings, and the submissions of a downlink.
    handed
        Its last hand-off, to check whether the submitted files have left the stage; None to skip this.
    how
        How the command ended, if this is known from running it.
    """
    last, downlink = record.last, DownlinkId(record.id)
    if last is None or last.is_known:
        return None
    what = f"hand-off {last.handoff}" + (" by a rollback" if last.action is Action.ROLLBACK else "")
    confirm, taken = f"halfpipe submit {downlink} --settle submitted", ""
    has_files = handed is not None and last.handoff == handed.number and handed.names_files
    if has_files and not (settings.paths.stage / paths.staged(downlink)).is_dir():
        taken = "; its files are gone from the stage, so Level-1 may have taken it"
    if last.outcome is Outcome.WRITTEN:
        text = f"{what} is not confirmed: a person must run its command{taken}"
        remedy = Remedy(shlex.join(last.command), confirm, first="Run the command, then confirm it")
        return Cause("written-for-person", Verdict.ACTION, text, remedy, last.since)
    # A rerun runs submit.check, unless the check has already found no stream. It cannot detect rollbacks.
    asks = settings.submit.check is not None and last.action is Action.SUBMIT and not last.check_disagrees
    see = "Check the pipeline, and record what it shows (submitted or not-submitted)"
    return Cause(
        "submission",
        Verdict.ACTION,
        f"it is not known whether Level-1 has {what}: {last.why_unknown(how)}{taken}",
        Remedy(f"snakemake submit={downlink}") if asks else Remedy(confirm, first=see),
        last.since,
    )


def _not_taken(settings: Settings, record: Attempts, handed: HandOff) -> Iterator[Cause]:
    """Yield a cause if a hand-off was submitted long ago and is still in the stage, which Level-1 clears."""
    downlink, last = DownlinkId(record.id), record.last_confirmed
    if last is None or time.time() - last.since < settings.alarm.late_hours * HOUR:
        return
    if not is_taken(settings, handed, record):
        back = how_to_roll_back(settings, downlink)
        see = f"Check in the pipeline what became of stream {downlink}. If it must be rolled back"
        yield Cause(
            "not-taken",
            Verdict.ACTION,
            f"hand-off {handed.number} was submitted {utc(last.since)}, and is still in the stage",
            back.but(first=": ".join(filter(None, [see, back.first]))),
            last.since,
        )


def _stage(settings: Settings, record: Attempts, last: HandOff) -> Iterator[Cause]:
    """Yield a cause if the stage differs from a hand-off that was not submitted."""
    downlink = last.receipt.downlink
    home = settings.paths.stage / paths.staged(downlink)
    otherwise = f"if Level-1 got it in another way, confirm it: halfpipe submit {downlink} --settle submitted"
    what = f"hand-off {last.number} ({_what(last)})"
    if not home.is_dir():
        text = f"{what} is gone from the stage ({home}), and was not submitted; {otherwise}"
        yield Cause(GONE, Verdict.ACTION, text, rerun(downlink, "deliver_run"))
        return
    if wrong := next(differences(settings.paths.stage, last, untouched=record.last is None), None):
        if wrong.code != FOREIGN:
            text = f"{what} is not complete in the stage, and was not submitted: {wrong.text}; {otherwise}"
            wrong = replace(wrong, code=GONE, text=text)
        yield wrong


def _never_taken(settings: Settings, record: Attempts, last: HandOff) -> Iterator[Cause]:
    """Yield a cause for each run of an earlier hand-off that left the stage, if no submitted hand-off names it."""
    gone = [one for one in last.runs if one.delivery.files and not one.named and not one.delivery.refused]
    if not gone:
        return
    downlink = last.receipt.downlink
    numbers = {attempt.handoff for attempt in record.every if attempt.outcome is Outcome.SUBMITTED}
    submitted = [each for each in hand_offs(settings.paths.work, downlink) if each.number in numbers]
    for one in gone:
        if any(each.number >= one.delivery.handoff and one.run in each.named for each in submitted):
            continue
        yield Cause(
            GONE,
            Verdict.ACTION,
            f"{count(one.delivery.events, 'event')} of run {one.run} left the stage before "
            f"hand-off {last.number}, and no submitted hand-off names them",
            rerun(downlink, "deliver_run"),
            modified(f"{settings.paths.work}/{paths.receipt(downlink)}"),
        )


def _not_submitted(settings: Settings, record: Attempts, handed: HandOff) -> Iterator[Cause]:
    """Yield the cause that a hand-off is not submitted: a note at first, and a problem later."""
    downlink, last = DownlinkId(record.id), record.last
    since = modified(f"{settings.paths.work}/{paths.receipt(downlink)}")
    if held := halts.cause(settings.paths.work, halts.Switch.L1, downlink):
        text = f"hand-off {handed.number}: {held.text}"
        yield replace(held, code="not-submitted", text=text, since=since)
        return
    what = f"hand-off {handed.number} ({_what(handed)}) is not submitted"
    if last is not None and last.by is By.ANSWER:  # not started: if it had run, the result would not be known
        text = f"{what}: submit.command could not be started ({last.command[0]})"
        remedy = Remedy(f"snakemake submit={downlink}", first="Correct submit.command in the config")
        yield Cause("not-submitted", Verdict.ACTION, text, remedy, last.since)
        return
    late = since is not None and time.time() - since > settings.alarm.late_hours * HOUR
    who = ": the next turn submits it" if settings.submit.automatic else ""
    yield Cause(
        "not-submitted",
        Verdict.ACTION if late else Verdict.NOTE,
        f"{what} yet{who}",
        Remedy(f"snakemake submit={downlink}"),
        since,
    )
