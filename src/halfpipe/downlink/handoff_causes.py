"""What the records of a downlink and its runs say that needs action or a note, and what keeps it from Level-1.

It takes no leases, so that it can be asked at any time: what is in work just now may look contradictory.
"""

import os
import shlex
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.downlink import halts, stage_mark
from halfpipe.downlink.stage_look import FOREIGN, GONE, is_submitted, is_taken, look, names_files
from halfpipe.downlink.submissions import submissions
from halfpipe.errors import FormatError, HalfPipeError, MissingInputError, Remedy, StateError, rebuild, rerun
from halfpipe.files.advice import advice, in_place_of
from halfpipe.files.json_files import read_json
from halfpipe.files.reading import modified, read_whole
from halfpipe.ids import DownlinkId, RunId
from halfpipe.process.attempts import Action, Attempts, By, Outcome
from halfpipe.run.deliveries import Deliveries
from halfpipe.run.downlinks_of_run import begun_downlinks, every_run
from halfpipe.run.receipt_file import hand_offs
from halfpipe.settings import Settings
from halfpipe.words import count, utc

HOUR = 3600.0


def not_as_recorded(work: Path, downlink: DownlinkId, recorded: bytes | None) -> Iterator[Cause]:
    """Yield that ``dl=<id>`` is not what is `recorded` of the last hand-off: nothing goes by it, but people read it."""
    path, remedy = work / paths.receipt(downlink), rerun(downlink, "receipt")
    try:
        if read_whole(str(path)) == recorded:
            return
        why = "it is not what was recorded of the last hand-off: it was edited or damaged"
    except FileNotFoundError:  # it is in work again
        return
    except OSError as error:
        why = f"{error.strerror}. {advice(error)}".rstrip(".")
        remedy = in_place_of(path, remedy) if path.is_dir() else remedy
    yield Cause("damaged", Verdict.ACTION, f"{path}: {why}", remedy, modified(str(path)))


def contradictions(
    settings: Settings,
    downlink: DownlinkId,
    runs: Iterable[RunId],
    receipt: Mapping[str, Any] | None,
    vouches: bool,
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
        What is recorded of its last hand-off, None before the first.
    vouches
        Whether it is its receipt now: while it is in work, or outstanding, that vouches for nothing.
    read
        Reads what was delivered of a run, or has read it.
    """
    work = settings.paths.work
    of_receipt = {RunId(run["run"]): run for run in receipt["runs"]} if receipt else {}
    for run in sorted({*runs, *of_receipt}):
        try:
            deliveries = read(work, run)
        except HalfPipeError as error:
            yield Cause("damaged", Verdict.ACTION, error.text, error.remedy)
            continue
        if unreadable := deliveries.unreadable.get(downlink):
            yield Cause("takeover", Verdict.ACTION, unreadable.text, unreadable.remedy)
        yield from overlaps(work, run, downlink, deliveries)
        if entry := of_receipt.get(run):
            if vouches:
                yield from _vouched(work, run, downlink, entry, deliveries.seal(downlink))
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
    for run in every_run(work):
        if since and (modified(f"{work}/{paths.run(run)}") or 0.0) < since:
            continue
        with suppress(OSError):
            for dl in begun_downlinks(work, run):
                if paths.receipt(dl) not in names_there and _is_gone(work, dl):
                    found.setdefault(dl, []).append(run)
    return found


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
        return submissions(work, downlink).last_confirmed is not None
    return True  # its records are damaged, which another cause tells


def _lost(work: Path, run: RunId, downlink: DownlinkId, deliveries: Deliveries) -> Iterator[Cause]:
    """Yield that a downlink has delivered something of a run, and nothing else of it is left."""
    delivered = deliveries.latest().get(downlink)
    if delivered is not None and delivered.files and _is_gone(work, downlink):
        yield Cause(
            "damaged",
            Verdict.ACTION,
            f"{count(delivered.events, 'event')} of run {run} were delivered by this downlink, and Level-1 may have "
            "them, but its receipt and all its other files are gone",
            Remedy(f"snakemake dl={downlink}"),
        )


def _vouched(
    work: Path, run: RunId, downlink: DownlinkId, entry: Mapping[str, Any], seal: str | None
) -> Iterator[Cause]:
    """Yield what a receipt vouches for and is not so.

    The delivery is not the one that is recorded, if a run's records were put back from a backup. Or the manifest of
    the run is gone, or what others decide by: which datagrams the downlink brought of it.
    """
    if entry["delivery"] != seal:
        yield Cause(
            "damaged",
            Verdict.ACTION,
            f"the receipt names a delivery of run {run} that is not the latest one of this downlink in the run's "
            "records",
            rerun(downlink, paths.manifest(run, downlink)),
        )
    if entry.get("taken_over", "whole") != "whole":
        return
    manifest = work / paths.manifest(run, downlink)
    if not os.path.isfile(manifest):  # noqa: PTH113 - asked of all downlinks
        text = f"{manifest}, which says what was delivered of run {run}, is gone"
        yield Cause("damaged", Verdict.ACTION, text, rerun(downlink, paths.manifest(run, downlink)))
    if not os.path.isfile(f"{work}/{paths.datagrams(run, downlink)}"):  # noqa: PTH113
        yield Cause(
            "damaged",
            Verdict.ACTION,
            f"which datagrams this downlink brought of run {run} is not known any more: "
            f"{paths.datagrams(run, downlink)} is gone. Other downlinks of the run deliver less without it",
            rebuild(downlink),
        )


def _noted(run: RunId, downlink: DownlinkId, entry: Mapping[str, Any]) -> Iterator[Cause]:
    """Yield what a receipt itself says of a run."""
    if entry["held"]:
        yield Cause(
            "level1-refuses",
            Verdict.ACTION,
            f"run {run} is held, {count(entry['held_events'], 'event')} of it not staged, because Level-1 would "
            f"refuse it: {'; '.join(entry['l1']['why'])}",
            rerun(
                downlink, paths.manifest(run, downlink), "mend what makes it so, in the config or in the data"
            ),
        )
    if entry.get("accepted"):
        yield Cause(
            "shrunk",
            Verdict.NOTE,
            f"run {run} was delivered with fewer events than before, as was accepted: {entry['accepted']}",
        )
    if entry.get("closed"):
        spans = ", ".join(f"{first} to {last}" for first, last in entry["closed"])
        yield Cause(
            "closed",
            Verdict.NOTE,
            f"sequences {spans} of run {run}, delivered before and not now, stay closed to other downlinks",
            Remedy(f'halfpipe force {run} --reopen {downlink} --reason "…"'),
        )


def at_level1(
    settings: Settings,
    downlink: DownlinkId,
    receipt: Mapping[str, Any] | None,
    record: Attempts | None = None,
    in_work: bool = False,
    *,
    sees_stage: bool = True,
) -> Iterator[Cause]:
    """Find what keeps a hand-off from Level-1. Nothing is run and nothing changed; it is cheap where all is well.

    Parameters
    ----------
    settings, downlink
        The settings and the downlink.
    receipt
        Its receipt; None without one: only submissions are looked at.
    record
        Its submissions, if they are read already.
    in_work
        Whether somebody is at work on it, whose files are as they should be.
    sees_stage
        Whether the stage is there; if it is not mounted, nothing is said of what lies in it.

    Yields
    ------
    Cause
        ``damaged``, ``submission``, ``written-for-person``, ``handoff-not-submitted``, ``stage-gone``,
        ``stage-foreign``, ``not-submitted``, ``not-taken``.
    """
    try:
        record = record or submissions(settings.paths.work, downlink)
    except HalfPipeError as error:
        yield Cause("damaged", Verdict.ACTION, str(error))
        return
    seen = receipt if sees_stage else None
    unknown = None if in_work and record.is_open else unsettled(settings, record, seen)
    yield from filter(None, [unknown])
    if receipt is not None:
        yield from _never_taken(settings, record, receipt)
    if receipt is None or not names_files(receipt):
        return
    last, number = record.last, receipt["handoff"]
    if is_submitted(receipt, record):
        if sees_stage:
            yield from _not_taken(settings, record, receipt)
        return
    if in_work or (unknown is not None and last is not None and last.handoff == number):
        return
    if cause := forgotten(settings, record):
        yield cause
        return
    lacks = list(_stage(settings, record, receipt)) if sees_stage else []
    yield from lacks
    if record.last_confirmed is not None:
        yield Cause(
            "handoff-not-submitted",
            Verdict.ACTION,
            f"Level-1 still has hand-off {record.last_confirmed.handoff}: hand-off {number} ({_what(receipt)}) needs a "
            "manual roll-back",
            how_to_roll_back(settings, downlink),
            modified(f"{settings.paths.work}/{paths.receipt(downlink)}"),
        )
    elif unknown is None and not lacks:
        yield from _not_submitted(settings, record, receipt)


def warnings_before(settings: Settings, downlink: DownlinkId) -> list[str]:
    """Say before a downlink is processed again that Level-1 has a hand-off of it already; mostly nothing."""
    try:
        told = submissions(settings.paths.work, downlink).last_confirmed
    except StateError as error:
        return [str(error)]
    if told is None:
        return []
    return [
        f"downlink {downlink}: Level-1 has hand-off {told.handoff} of it (submitted {told.when}). What is handed off "
        f"of it from now on gets there only by a roll-back: {how_to_roll_back(settings, downlink)}"
    ]


def forgotten(settings: Settings, record: Attempts) -> Cause | None:
    """Return that the stage's mark, the ledger or the product says that Level-1 was told, and no record does."""
    work, downlink, known_by = settings.paths.work, DownlinkId(record.id), ""
    if (number := stage_mark.last_noted(settings, record.place)) > len(record.series.records):
        known_by = f"the stage's mark names record {number}"
    elif record.last_confirmed is None:
        with suppress(MissingInputError, FormatError, KeyError, TypeError):
            if handoff := read_json(work / paths.submitted(downlink))["submitted"]:
                known_by = f"{paths.submitted(downlink)} has hand-off {handoff} as submitted"
        if settings.ledger.url is not None and modified(f"{work}/{paths.loaded(downlink)}") is not None:
            from halfpipe.ledger.load import submitted  # noqa: PLC0415 - the library of the database

            with suppress(HalfPipeError):  # that it is down is another cause
                if handoff := submitted(settings, downlink):
                    known_by = f"the ledger has hand-off {handoff} as submitted"
    if not known_by:
        return None
    return Cause(
        "damaged",
        Verdict.ACTION,
        f"{known_by}, and there is none in {record.path}: both copies are lost. If the pipeline shows that Level-1 "
        "has the downlink, say so",
        Remedy(f"halfpipe submit {downlink} --settle submitted"),
    )


def _what(receipt: Mapping[str, Any]) -> str:
    named = [run for run in receipt["runs"] if run["named"] and run["files"]]
    events = sum(file["events"] for run in named for file in run["files"])
    runs = ", ".join(run["run"] for run in named)
    return f"{count(events, 'event')} of {'run' if len(named) == 1 else 'runs'} {runs}"


def how_to_roll_back(settings: Settings, downlink: str) -> Remedy:
    """Say how a later hand-off gets to Level-1: by the config's command, or by hand."""
    if settings.submit.rollback is not None:
        return Remedy(f"halfpipe submit {downlink} --rollback")
    return Remedy(
        f"halfpipe submit {downlink} --settle submitted",
        first=f"roll stream {downlink} back in the pipeline by hand",
    )


def unsettled(
    settings: Settings, record: Attempts, receipt: Mapping[str, Any] | None = None, how: str = ""
) -> Cause | None:
    """Return that nobody knows whether the latest attempt was heard.

    Parameters
    ----------
    settings, record
        The settings, and the submissions of a downlink.
    receipt
        Its receipt, where it is to be told that the files are gone which were to be submitted.
    how
        How the command has ended, if that was seen just now.
    """
    last, downlink = record.last, DownlinkId(record.id)
    if last is None or last.is_known:
        return None
    what = f"hand-off {last.handoff}" + (" by a roll-back" if last.action is Action.ROLLBACK else "")
    say, taken = f"halfpipe submit {downlink} --settle submitted", ""
    has_files = receipt is not None and last.handoff == receipt["handoff"] and names_files(receipt)
    if has_files and not (settings.paths.stage / paths.staged(downlink)).is_dir():
        taken = "; its files are gone from the stage, so it may have been"
    if last.is_written:
        line = settings.paths.work / paths.submit_line(downlink)
        text = f"{what} is not confirmed: a person gives its command, which is in {line}{taken}"
        remedy = Remedy(shlex.join(last.command), say)
        return Cause("written-for-person", Verdict.ACTION, text, remedy, last.since)
    # Given again the command asks the check by itself; of a roll-back, or where it found nothing, it knows nothing.
    asks = settings.submit.check is not None and last.action is Action.SUBMIT and not last.check_disagrees
    look_there = "look in the pipeline, and say what it shows (submitted or not-submitted)"
    return Cause(
        "submission",
        Verdict.ACTION,
        f"whether Level-1 has {what} is not known: {last.why_unknown(how)}{taken}",
        Remedy(f"snakemake submit={downlink}") if asks else Remedy(say, first=look_there),
        last.since,
    )


def _not_taken(settings: Settings, record: Attempts, receipt: Mapping[str, Any]) -> Iterator[Cause]:
    """Say that Level-1 was told of a hand-off long ago and it still lies in the stage, which Level-1 clears."""
    downlink, told = DownlinkId(record.id), record.last_confirmed
    if told is None or time.time() - told.since < settings.alarm.late_hours * HOUR:
        return
    if not is_taken(settings, downlink, receipt, record):
        back = how_to_roll_back(settings, downlink)
        look_there = f"look in the pipeline what became of stream {downlink}; if it is to be rolled back"
        yield Cause(
            "not-taken",
            Verdict.ACTION,
            f"hand-off {receipt['handoff']} was submitted {utc(told.since)}, and is still in the stage",
            back.but(first=": ".join(filter(None, [look_there, back.first]))),
            told.since,
        )


def _stage(settings: Settings, record: Attempts, receipt: Mapping[str, Any]) -> Iterator[Cause]:
    """Find what is gone from the stage of a hand-off that was not submitted."""
    downlink, number = DownlinkId(record.id), receipt["handoff"]
    home = settings.paths.stage / paths.staged(downlink)
    otherwise = f"if Level-1 got it in another way, say so: halfpipe submit {downlink} --settle submitted"
    what = f"hand-off {number} ({_what(receipt)})"
    if not home.is_dir():
        text = f"{what} is gone from the stage ({home}), and was not submitted; {otherwise}"
        yield Cause("stage-gone", Verdict.ACTION, text, rerun(downlink, "deliver_run"))
        return
    if wrong := next(look(settings.paths.stage, downlink, receipt, untouched=record.last is None), None):
        if wrong.code != FOREIGN:
            text = f"{what} is not whole in the stage, and was not submitted: {wrong.text}; {otherwise}"
            wrong = replace(wrong, code=GONE, text=text)
        yield wrong


def _never_taken(settings: Settings, record: Attempts, receipt: Mapping[str, Any]) -> Iterator[Cause]:
    """Find runs of earlier hand-offs that left the stage though nobody was told of them: no later one names them."""
    gone = [run for run in receipt["runs"] if run["files"] and not run["named"] and not run["held"]]
    if not gone:
        return
    downlink = DownlinkId(record.id)
    told = {attempt.handoff for attempt in record.every if attempt.outcome is Outcome.SUBMITTED}
    heard = [handoff for handoff in hand_offs(settings.paths.work, downlink) if handoff.number in told]
    for run in gone:
        if any(h.number >= run["handoff"] and RunId(run["run"]) in h.named for h in heard):
            continue
        yield Cause(
            "stage-gone",
            Verdict.ACTION,
            f"{count(sum(file['events'] for file in run['files']), 'event')} of run {run['run']} left the stage before "
            f"hand-off {receipt['handoff']}, and no hand-off with them was submitted",
            rerun(downlink, "deliver_run"),
            modified(f"{settings.paths.work}/{paths.receipt(downlink)}"),
        )


def _not_submitted(settings: Settings, record: Attempts, receipt: Mapping[str, Any]) -> Iterator[Cause]:
    """Say that a hand-off waits for its submission: for a while that is as it should be, if it was not attempted."""
    downlink, last = DownlinkId(record.id), record.last
    since = modified(f"{settings.paths.work}/{paths.receipt(downlink)}")
    if held := halts.cause(settings.paths.work, halts.Switch.L1, downlink):
        text = f"hand-off {receipt['handoff']}: {held.text}"
        yield replace(held, code="not-submitted", text=text, since=since)
        return
    what = f"hand-off {receipt['handoff']} ({_what(receipt)}) is not submitted"
    if last is not None and last.by is By.ANSWER:  # where the command had run, it would not be known
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
