"""Submission of a downlink to Level-1: its stream is created once, and after that only rolled back.

Stream numbers are unique within Level-1's task (ground-chain §6). So a second hand-off of a downlink is a rollback of
its stream, which a person requests for this downlink, and never a second stream. Callers hold the lease of the
downlink.
"""

import logging
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from io import StringIO
from typing import IO

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.errors import ConfigError, HalfPipeError, LedgerError, Remedy, StageError
from halfpipe.files.pointers import point
from halfpipe.ids import DownlinkId
from halfpipe.notify.handoff_causes import (
    forgotten,
    overlapping,
    overlaps,
    simulated,
    unsettled,
)
from halfpipe.notify.submissions import submissions, submissions_to_extend
from halfpipe.process.command_words import filled_in
from halfpipe.settings import SUBMIT_CONTRACT, Settings
from halfpipe.staging import stage_mark
from halfpipe.staging.stage_look import differences, is_submitted, look, tokens_of
from halfpipe.state import halts
from halfpipe.state.attempts import (
    Action,
    Attempt,
    Attempts,
    By,
    Outcome,
    UnknownOutcomeError,
    ask,
)
from halfpipe.state.deliveries import Deliveries
from halfpipe.state.hand_offs import HandOff, current, runs_of, series

OUTCOMES = {
    Outcome.SUBMITTED: "submitted to Level-1",
    Outcome.WRITTEN: "NOT submitted, because submit.command is not set. Run this yourself",
    Outcome.OPEN: "not submitted, because it has no event files",
}
# Seconds before each check for a stream that a command reported as created: the pipeline may need some time.
ASKED_AGAIN = (0.0, 1.0, 2.0, 4.0, 8.0, 15.0)

log = logging.getLogger(__name__)


class SubmissionError(HalfPipeError):
    """A submission failed, or it is not known whether it reached Level-1."""

    code = "submission"


@dataclass(frozen=True)
class Submission:
    """A hand-off, and the attempts to give Level-1 a hand-off of its downlink."""

    handed: HandOff
    record: Attempts


def submit(settings: Settings, downlink: DownlinkId, output: IO[str]) -> Submission:
    """Submit the hand-off of a downlink to Level-1, unless Level-1 already has a hand-off of it.

    Returns
    -------
    Submission
        What came of it.

    Raises
    ------
    HeldError
        If a switch holds submission.
    SubmissionError
        If the data are simulated and the command is for production, the command failed, or it is not known whether an
        earlier one reached Level-1.
    StageError
        If the stage differs from the receipt.
    """
    work = settings.paths.work
    halts.refuse(work, halts.Switch.L1, downlink)
    last = current(work, downlink)
    record = submissions_to_extend(settings, downlink)
    if record.last_confirmed is None:
        if last.names_files:
            _refuse_simulated(settings, last, Action.SUBMIT)
        _settle_with_check(settings, record, output)
    if record.last_confirmed is None and last.names_files:
        if settings.submit.command is None:
            _ask_person(settings, record, last)
        else:
            _run(settings, record, Action.SUBMIT, last, output)
    return Submission(last, record)


def what_came_of_it(made: Submission) -> str:
    """Return one line that says what `submit` did."""
    last = made.handed
    record = made.record
    told = record.last_confirmed or (record.last if last.names_files else None)
    number = told.handoff if told and told.outcome is Outcome.SUBMITTED else last.number
    line = f": {shlex.join(told.command)}" if told and told.outcome is Outcome.WRITTEN else ""
    late = "" if number == last.number else f", and hand-off {last.number} is NOT"
    outcome = OUTCOMES[told.outcome if told else Outcome.OPEN]
    return f"downlink {last.receipt.downlink}, hand-off {number}: {outcome}{late}{line}"


def save(settings: Settings, made: Submission) -> None:
    """Point to the record that says what came of the submission, and note it in the ledger.

    A hand-off without event files is not submitted; its product points to its receipt. If the ledger fails, only log a
    warning.
    """
    record = made.record
    downlink = made.handed.receipt.downlink
    known = record.series.records or series(settings.paths.work, downlink).records
    point(settings.paths.work / paths.submitted(downlink), known[-1])
    if settings.ledger.url is not None and record.last_confirmed:
        from halfpipe.ledger.load import note_submitted  # noqa: PLC0415 - the library of the database

        try:
            note_submitted(settings, downlink, record.last_confirmed.receipt)
        except HalfPipeError as error:
            log.warning("%s", error)


def roll_back(settings: Settings, downlink: DownlinkId, output: IO[str]) -> None:
    """Roll the stream of a downlink back, so that Level-1 takes the present hand-off instead of an earlier one.

    Raises
    ------
    ConfigError
        If the config has no command for a rollback.
    HeldError
        If a switch holds submission.
    SubmissionError
        If the data are simulated and the command is for production, Level-1 has no hand-off of the downlink, the
        command failed, or the result of an attempt is not known.
    StageError
        If the stage differs from the receipt. Level-1 has moved files away, and would look for them again
        (ground-chain §6).
    """
    if settings.submit.rollback is None:
        raise ConfigError(
            "submit.rollback is not set.",
            Remedy(
                f"halfpipe submit {downlink} --settle submitted",
                first=f"Set it, or roll stream {downlink} back in the pipeline by hand, then confirm",
            ),
        )
    halts.refuse(settings.paths.work, halts.Switch.L1, downlink)
    last = current(settings.paths.work, downlink)
    _refuse_simulated(settings, last, Action.ROLLBACK)
    record = submissions_to_extend(settings, downlink)
    if record.last_confirmed is None:
        raise SubmissionError(
            f"downlink {downlink}: no hand-off was submitted ({record.path}), so there is no stream to roll "
            "back.",
            Remedy(f"snakemake submit={downlink}", first="To submit it"),
        )
    if record.is_open:
        raise _unknown(settings, record)
    _run(settings, record, Action.ROLLBACK, last, output)


def settle(settings: Settings, downlink: DownlinkId, submitted: bool) -> Attempt:
    """Record what a person found out: whether the latest attempt reached Level-1.

    If the result of the latest attempt is known, and Level-1 does not have the present hand-off, a person can record
    that it was submitted, or the stream rolled back, in another way.

    Returns
    -------
    Attempt
        The attempt that was settled.

    Raises
    ------
    SubmissionError
        If there is nothing to settle.
    UnknownOutcomeError
        As for `Attempts.settle`.
    """
    record = submissions_to_extend(settings, downlink)
    last = record.last
    if last is not None and not last.is_known:
        record.settle(submitted, By.PERSON)
        return last
    handed = current(settings.paths.work, downlink)  # so a mistyped downlink gets no record
    if not submitted or is_submitted(handed, record):
        how = f"the last attempt is known: {last.outcome}" if last else "nothing was attempted"
        raise SubmissionError(f"downlink {downlink}: there is nothing to settle, {how} ({record.path}).")
    action = Action.SUBMIT if record.last_confirmed is None else Action.ROLLBACK
    return record.intend(
        (), outcome=Outcome.SUBMITTED, by=By.PERSON, action=action, handoff=handed.number, receipt=handed.seal
    )


def _refuse_simulated(settings: Settings, handed: HandOff, action: Action) -> None:
    if cause := simulated(settings, handed, action):
        named = replace(cause, text=f"downlink {handed.receipt.downlink}: {cause.text}")
        raise named.refused("Nothing was submitted.", SubmissionError)


def _words(settings: Settings, command: str, downlink: str) -> list[str]:
    # Level-1 does not accept a slash at the end (ground-chain §6).
    rawdir = settings.paths.stage / paths.staged(downlink)
    return filled_in(command, {"dl": downlink, "rawdir": str(rawdir)})


def _settle_with_check(settings: Settings, record: Attempts, output: IO[str]) -> None:
    """Find out whether Level-1 has the stream, if an earlier attempt or a person may have created it.

    Running a command again might create a second stream. So it depends on the latest attempt and on what submit.check
    finds whether a submission goes on:

    ====================================  ==============  ==================  =========
    latest attempt                        a stream        no stream           no check
    ====================================  ==============  ==================  =========
    none                                  refuse          go on               go on
    not received, or left to a person     record, end     go on               go on
    perhaps received                      record, end     record, go on       ask a person
    succeeded, but the check denied it    record, end     ask a person        ask a person
    ====================================  ==============  ==================  =========
    """
    is_there = _ask_check(settings, record, output)
    while not is_there and record.may_run:
        # The earlier command may still create a stream: too early to run another, or for a person to look.
        record.wait(log.warning)
        if record.last_confirmed is not None:
            return
        is_there = _ask_check(settings, record, output)
    last = record.last
    if is_there and last is None:
        raise SubmissionError(
            f"downlink {record.id}: submit.check finds stream {record.id} in Level-1, but no submission is "
            f"recorded in {record.path}. Nothing was submitted.",
            Remedy(
                f"halfpipe submit {record.id} --settle submitted",
                f"halfpipe submit {record.id} --rollback",
                first="If it was created by hand for the present hand-off, confirm it. If it was for an earlier "
                "one, roll it back after that",
            ),
        )
    if is_there:
        record.settle(True, By.CHECK)
    if is_there or last is None or last.is_known:
        return
    if last.outcome is Outcome.WRITTEN and settings.submit.command is None:
        return  # its command is still left to a person
    if is_there is None or last.check_disagrees:
        raise _unknown(settings, record)
    record.settle(False, By.CHECK)


def _ask_check(settings: Settings, record: Attempts, output: IO[str]) -> bool | None:
    """Return whether submit.check finds the stream in Level-1; None if there is no check.

    Raises
    ------
    SubmissionError
        If it does not say whether Level-1 has the stream.
    """
    if settings.submit.check is None:
        return None
    answer = ask(_words(settings, settings.submit.check, record.id), output)
    if answer.status not in {0, 1}:
        raise SubmissionError(
            f"downlink {record.id}: submit.check {answer.how}; 0 means that Level-1 has the stream, and 1 that it does "
            f"not: {answer.shown}Nothing was submitted. Fix this, then rerun the command.",
            text=f"submit.check {answer.saying}",
        )
    return answer.status == 0


def _doubts(check: Sequence[str], output: IO[str]) -> list[str]:
    """Check several times for the stream that a command reported; return the last answer if it does not appear."""
    for wait in ASKED_AGAIN:
        time.sleep(wait)
        answer = ask(check, output)
        if answer.status == 0:
            return []
    return [f"submit.check {answer.how}: {shlex.join(check)}", *answer.said]


def _ask_person(settings: Settings, record: Attempts, handed: HandOff) -> None:
    """Record that a person must run the command line."""
    _look(settings, record, Action.SUBMIT, handed)
    words = _words(settings, SUBMIT_CONTRACT, record.id)
    last = record.last
    written = Outcome.WRITTEN, handed.number, tuple(words)
    if last is None or (last.outcome, last.handoff, last.command) != written:
        record.intend(
            words,
            outcome=Outcome.WRITTEN,
            by=By.ANSWER,
            action=Action.SUBMIT,
            handoff=handed.number,
            receipt=handed.seal,
        )


def _look(settings: Settings, record: Attempts, action: Action, handed: HandOff) -> None:
    """Check that no submission was forgotten, and that Level-1 will find everything; otherwise Level-1 would fail."""
    downlink = DownlinkId(record.id)
    first = action is Action.SUBMIT
    nothing = "Nothing was submitted."
    work = settings.paths.work
    stage = settings.paths.stage
    stage_mark.refuse(settings, paths.submissions(downlink), paths.receipts(downlink))
    if first and (lost := forgotten(settings, record)):
        raise lost.refused(nothing, SubmissionError)
    # Checked before the stage, which shows overlaps as well: staging again does not fix them.
    for run in runs_of(handed):
        deliveries = Deliveries(work, run)
        for cause in overlaps(run, downlink, deliveries, overlapping(work, downlink, deliveries)):
            raise cause.refused(nothing)
    # Before a rollback, Level-1 may have removed tokens.
    tokens = tokens_of(stage, handed) if first else None
    for wrong in differences(look(stage, downlink, checksums=True), handed, tokens):
        raise StageError(
            f"{wrong.text}: the stage differs from hand-off {handed.number}, and Level-1 would fail. {nothing}",
            wrong.remedy,
        )
    if settings.ledger.url is not None:
        # Imported here, because the library of the database loads slowly.
        from halfpipe.ledger.check import lacks  # noqa: PLC0415

        if lost := lacks(settings, handed):
            raise lost.refused(nothing, LedgerError)


def _run(settings: Settings, record: Attempts, action: Action, handed: HandOff, output: IO[str]) -> None:
    """Record the intent, run the command, and record its answer."""
    downlink = DownlinkId(record.id)
    _look(settings, record, action, handed)
    key = "command" if action is Action.SUBMIT else "rollback"
    words = _words(settings, getattr(settings.submit, key), downlink)
    check = settings.submit.check if action is Action.SUBMIT else None
    doubts = partial(_doubts, _words(settings, check, downlink), output) if check is not None else tuple
    try:
        answer = record.run(
            words,
            output,
            settings.submit.seconds,
            doubts,
            action=action,
            handoff=handed.number,
            receipt=handed.seal,
        )
    except UnknownOutcomeError as error:
        raise _unknown(settings, record, str(error)) from error
    last = record.every[-1]
    if last.check_disagrees:
        raise _unknown(settings, record)
    if answer.status != 0:
        raise SubmissionError(
            f"downlink {downlink}: submit.{key} {answer.how}: {answer.shown}Recorded as {last.outcome} in "
            f"{record.path}.",
            Remedy(first="Fix this, then rerun the command.")
            if last.outcome is Outcome.NOT_SUBMITTED
            else Remedy(
                f"halfpipe submit {downlink} --settle submitted",
                first="Fix this, then rerun the command. If Level-1 has the stream nevertheless, first confirm it "
                "(else not-submitted)",
            ),
            text=f"submit.{key} {answer.saying}",
        )


def _unknown(settings: Settings, record: Attempts, how: str = "") -> SubmissionError:
    """Return the error that asks a person to find out whether the latest attempt reached Level-1."""
    cause = unsettled(settings, record, how=how)
    attempt = record.every[-1]
    assert cause is not None
    return SubmissionError(
        f"downlink {record.id}: {cause.text}, attempt {attempt.number} in {record.path}: "
        f"{shlex.join(attempt.command)}\nNothing more was done.",
        cause.remedy,
        text=cause.text,
    )


def stream(settings: Settings, downlink: DownlinkId) -> Iterator[Cause]:
    """Yield the state of Level-1's stream of a downlink that was submitted: the last line that submit.check prints.

    The client takes seconds to start, so call this for a single downlink, never for many.
    """
    told = None
    with suppress(HalfPipeError):  # the account reports a damaged record
        told = submissions(settings.paths.work, downlink, only_look=True).last_confirmed
    if told is None or settings.submit.check is None:
        return
    answer = ask(_words(settings, settings.submit.check, downlink), StringIO())
    said = answer.said[-1] if answer.said else f"submit.check {answer.how}"
    yield Cause("level1-stream", Verdict.NOTE, f"the stream of hand-off {told.handoff}: {said}")
