"""Causes that keep a hand-off from Level-1."""

from collections.abc import Iterator
from dataclasses import replace

from halfpipe.causes import Cause, Verdict
from halfpipe.errors import NOTHING, HalfPipeError, Remedy, rerun
from halfpipe.notify.handoff_causes import HOUR, how_to_roll_back, simulated, unsettled
from halfpipe.staging.stage_look import DIFFERS, FOREIGN, GONE, differences
from halfpipe.state.attempts import Attempts, By, Outcome
from halfpipe.state.halts import Switch
from halfpipe.state.hand_offs import HandOff
from halfpipe.status.failed_jobs import failures
from halfpipe.status.survey import DownlinkFacts
from halfpipe.words import count, utc


def level1_causes(of: DownlinkFacts) -> Iterator[Cause]:
    """Yield what keeps a hand-off from Level-1, and the jobs after the receipt that failed."""
    found = list(_of_hand_off(of))
    if of.handed_off is not None and not of.in_progress and of.confirmed is None:
        # The present state of the stage explains a submission that was refused because of the stage.
        explains = {cause.code for cause in found} & {FOREIGN, GONE}
        late = failures(of.id, of.jobs, of.lease, of.receipt_time)
        for cause in late:
            if cause.code == "ledger" and of.survey.is_ledger_down:
                # The site has the cause, with the commands of all downlinks.
                text = "its rows wait for the ledger, which does not answer"
                yield replace(cause, verdict=Verdict.NOTE, text=text, remedy=NOTHING, log="")
            elif not (explains and cause.code == DIFFERS):
                yield cause
    yield from found


def _of_hand_off(of: DownlinkFacts) -> Iterator[Cause]:
    record = of.record
    last = of.handed_off
    if isinstance(record, HalfPipeError):
        yield Cause.of(record)
    if not isinstance(record, Attempts):
        return
    is_gone = of.survey.plan.sees_stage and not of.staged.is_there
    gone = last.number if last is not None and last.names_files and is_gone else None
    unknown = None if of.in_progress and record.is_open else unsettled(of.settings, record, gone=gone)
    if unknown is not None:
        yield unknown
    if last is not None:
        yield from _never_taken(of, record, last)
    if last is None or not last.names_files:
        return
    if of.is_submitted:
        yield from _not_taken(of, record, last)
        return
    is_unknown = unknown is not None and record.last is not None and record.last.handoff == last.number
    if of.in_progress or is_unknown:
        return
    if of.forgotten is not None:
        yield of.forgotten
        return
    lacks = list(_stage(of, record, last)) if of.survey.plan.sees_stage else []
    yield from lacks
    if record.last_confirmed is not None:
        yield Cause(
            "handoff-not-submitted",
            Verdict.ACTION,
            f"Level-1 still has hand-off {record.last_confirmed.handoff}: hand-off {last.number} ({_what(last)}) needs "
            "a manual rollback",
            how_to_roll_back(of.settings, of.id),
            of.receipt_time,
        )
    elif unknown is None and not lacks:
        yield _not_submitted(of, record, last)


def _what(last: HandOff) -> str:
    named = [run for run in last.runs if run.named and run.delivery.files]
    events = sum(run.delivery.events for run in named)
    runs = ", ".join(run.run for run in named)
    return f"{count(events, 'event')} of {'run' if len(named) == 1 else 'runs'} {runs}"


def _not_taken(of: DownlinkFacts, record: Attempts, handed: HandOff) -> Iterator[Cause]:
    """Yield a cause if a hand-off was submitted long ago and is still in the stage, which Level-1 clears."""
    last = record.last_confirmed
    if last is None or of.is_taken or not of.survey.plan.sees_stage:
        return
    if of.survey.now - last.since >= of.settings.alarm.late_hours * HOUR:
        back = how_to_roll_back(of.settings, of.id)
        see = f"Check in the pipeline what became of stream {of.id}. If it must be rolled back"
        text = f"hand-off {handed.number} was submitted {utc(last.since)}, and is still in the stage"
        remedy = back.but(first=": ".join(filter(None, [see, back.first])))
        yield Cause("not-taken", Verdict.ACTION, text, remedy, last.since)


def _stage(of: DownlinkFacts, record: Attempts, last: HandOff) -> Iterator[Cause]:
    """Yield a cause if the stage differs from a hand-off that was not submitted."""
    otherwise = f"if Level-1 got it in another way, confirm it: halfpipe submit {of.id} --settle submitted"
    what = f"hand-off {last.number} ({_what(last)})"
    if not of.staged.is_there:
        text = f"{what} is gone from the stage ({of.staged.home}), and was not submitted; {otherwise}"
        yield Cause(GONE, Verdict.ACTION, text, rerun(of.id, "deliver_run"))
        return
    if wrong := next(differences(of.staged, last, None if record.last else of.tokens), None):
        if wrong.code != FOREIGN:
            text = f"{what} is not complete in the stage, and was not submitted: {wrong.text}; {otherwise}"
            wrong = replace(wrong, code=GONE, text=text)
        yield wrong


def _never_taken(of: DownlinkFacts, record: Attempts, last: HandOff) -> Iterator[Cause]:
    """Yield a cause for each run of an earlier hand-off that left the stage, if no submitted hand-off names it."""
    numbers = {attempt.handoff for attempt in record.every if attempt.outcome is Outcome.SUBMITTED}
    submitted = [each for each in of.hand_offs if each.number in numbers]
    for one in last.runs:
        made = one.delivery
        if one.named or not made.files or made.refused:
            continue
        if not any(each.number >= made.handoff and one.run in each.named for each in submitted):
            text = (
                f"{count(made.events, 'event')} of run {one.run} left the stage before hand-off {last.number}, and no "
                "submitted hand-off names them"
            )
            yield Cause(GONE, Verdict.ACTION, text, rerun(of.id, "deliver_run"), of.receipt_time)


def _not_submitted(of: DownlinkFacts, record: Attempts, handed: HandOff) -> Cause:
    """Return the cause that a hand-off is not submitted: a note at first, and a problem later."""
    if never := simulated(of.settings, handed):
        text = f"hand-off {handed.number} ({_what(handed)}) is not submitted: {never.text}"
        return replace(never, text=text, since=of.receipt_time)
    if held := of.plan.held.get(Switch.L1):
        text = f"hand-off {handed.number}: {held.text}"
        return replace(held, code="not-submitted", text=text, since=of.receipt_time)
    what = f"hand-off {handed.number} ({_what(handed)}) is not submitted"
    last = record.last
    if last is not None and last.by is By.ANSWER:  # not started: if it had run, the result would not be known
        text = f"{what}: submit.command could not be started ({last.command[0]})"
        remedy = Remedy(f"snakemake submit={of.id}", first="Correct submit.command in the config")
        return Cause("not-submitted", Verdict.ACTION, text, remedy, last.since)
    is_late = of.survey.now - (of.receipt_time or 0.0) > of.settings.alarm.late_hours * HOUR
    who = ": the next turn submits it" if of.settings.submit.automatic else ""
    verdict = Verdict.ACTION if is_late else Verdict.NOTE
    remedy = Remedy(f"snakemake submit={of.id}")
    return Cause("not-submitted", verdict, f"{what} yet{who}", remedy, of.receipt_time)
