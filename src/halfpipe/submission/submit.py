"""Submission of a downlink to Level-1: its stream is created once, and only ever rolled back after that.

Stream numbers are unique within Level-1's task (ground-chain §6): a second hand-off of a downlink is a
roll-back of its stream, which a person asks for by name, and never a second stream.
"""

import logging
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from halfpipe import halts, paths
from halfpipe.decoder import how_it_ended
from halfpipe.errors import ConfigError, HalfPipeError, MissingInputError, StageError
from halfpipe.files import read_json, remove_file, write_json, write_text
from halfpipe.handoff import stage
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.journal import EventFile
from halfpipe.submission import command
from halfpipe.submission.command import CONTRACT, Template
from halfpipe.submission.record import Action, Attempt, By, Outcome, Record, opened

log = logging.getLogger(__name__)


class SubmissionError(HalfPipeError):
    """A submission that failed, or of which nobody knows whether it reached Level-1."""


@dataclass(frozen=True)
class Job:
    """A downlink and the commands of the config, each None if there is none; `root` is where they start."""

    work: Path
    stage: Path
    root: Path
    downlink: DownlinkId
    command: Template | None
    check: Template | None = None
    rollback: Template | None = None

    @property
    def rawdir(self) -> Path:
        """What Level-1 is told to take."""
        return self.stage / paths.staged(self.downlink)


def submit(job: Job, output: IO[str]) -> dict[str, Any]:
    """Submit the downlink's hand-off to Level-1, unless it has one of the downlink already.

    Returns
    -------
    dict
        What the product says: ``downlink``; ``handoff``, the number that the receipt has now; ``state``
        (``submitted``, ``written`` for a person, or ``nothing to submit``); ``submitted``, the number of
        the hand-off that Level-1 has, or None; ``command``, the line that was given or written, or None.

    Raises
    ------
    HeldError
        If a switch holds submission.
    SubmissionError
        If the command failed, or nobody knows whether an earlier one reached Level-1.
    StageError
        If the stage does not hold what the receipt says.
    """
    halts.refuse(job.work, halts.Switch.L1, job.downlink)
    receipt = _receipt(job)
    with opened(job.work, job.downlink, log.warning) as record:
        if record.submitted is None:
            _settle_with_check(job, record, output)
        if record.submitted is None and _names_files(receipt):
            if job.command is None:
                _write_down(job, record, receipt["handoff"])
            else:
                _run(job, record, Action.SUBMIT, job.command, receipt, output)
        _warn(record, receipt)
        return _product(record, receipt)


def save(job: Job, content: Mapping[str, Any]) -> None:
    """Write the product."""
    write_json(job.work / paths.submitted(job.downlink), content)


def roll_back(job: Job, output: IO[str]) -> None:
    """Have Level-1 take the present hand-off in place of the one that it has: a roll-back of its stream.

    Raises
    ------
    ConfigError
        If the config has no command for it.
    HeldError
        If a switch holds submission.
    SubmissionError
        If Level-1 has no hand-off of the downlink, the command failed, or an attempt is open.
    StageError
        If the stage does not hold what the receipt says: Level-1 moves files away, and takes them from
        there again (ground-chain §6).
    """
    if job.rollback is None:
        raise ConfigError(
            "submit.rollback: there is no command for a roll-back in the config. Set it, or roll stream "
            f"{job.downlink} back in the pipeline by hand."
        )
    halts.refuse(job.work, halts.Switch.L1, job.downlink)
    receipt = _receipt(job)
    with opened(job.work, job.downlink, log.warning) as record:
        if record.submitted is None:
            raise SubmissionError(
                f"downlink {job.downlink}: no hand-off was submitted ({record.path}), so there is no stream to roll "
                f"back. To submit it: snakemake submit={job.downlink}"
            )
        if record.last is not None and record.last.outcome is None:
            raise _unknown(job, record, record.last)
        _run(job, record, Action.ROLLBACK, job.rollback, receipt, output)
        _withdraw(job)


def settle(job: Job, submitted: bool) -> Attempt:
    """Record what a person has found out: whether the latest attempt reached Level-1.

    Where nothing was attempted, a person may have submitted the downlink otherwise, and can say so.

    Returns
    -------
    Attempt
        The attempt that was settled.

    Raises
    ------
    SubmissionError
        If there is nothing to settle.
    """
    if not (job.work / paths.submissions(job.downlink)).exists():
        _receipt(job)  # a misspelt downlink gets no record
    with opened(job.work, job.downlink, log.warning) as record:
        last = record.last
        if last is None and submitted:
            last = record.intend(Action.SUBMIT, _receipt(job)["handoff"], ())
        if last is None or last.outcome in {Outcome.SUBMITTED, Outcome.NOT_SUBMITTED}:
            how = "nothing was attempted" if last is None else f"the last attempt is known: {last.outcome}"
            raise SubmissionError(
                f"downlink {job.downlink}: there is nothing to settle, {how} ({record.path}). "
                "scripts/submit.py --open lists what is open."
            )
        record.conclude(last, Outcome.SUBMITTED if submitted else Outcome.NOT_SUBMITTED, By.PERSON)
        _withdraw(job)
        return last


def open_attempts(work: Path) -> list[tuple[DownlinkId, Attempt]]:
    """Return the attempts of which nobody knows whether they reached Level-1.

    Those that were written down for a person and those that failed are among them: a command may fail
    after it was heard.
    """
    found = []
    for path in sorted(work.glob(paths.submissions("*"))):
        if DownlinkId.matches(path.parent.name):
            downlink = DownlinkId(path.parent.name)
            last = Record(work, downlink).last
            if last is not None and last.outcome in {None, Outcome.WRITTEN, Outcome.FAILED}:
                found.append((downlink, last))
    return found


def _receipt(job: Job) -> dict[str, Any]:
    path = job.work / paths.receipt(job.downlink)
    try:
        content: dict[str, Any] = read_json(path)
    except MissingInputError as error:
        raise MissingInputError(
            f"{path}: no such file. Only what was handed off can be submitted: process the downlink first, "
            f"snakemake dl={job.downlink}"
        ) from error
    return content


def _names_files(receipt: Mapping[str, Any]) -> bool:
    """Tell whether there is anything to take: without event files there is no magic-7, and Level-1 fails."""
    return any(run["named"] and run["files"] for run in receipt["runs"])


def _withdraw(job: Job) -> None:
    """Remove the product, which does not say any more what is recorded; asked for again, it is made anew."""
    remove_file(job.work / paths.submitted(job.downlink))


def _settle_with_check(job: Job, record: Record, output: IO[str]) -> None:
    """Find out whether Level-1 has the stream, where an earlier attempt or a person may have created it."""
    last = record.last
    open_ = last is not None and (
        last.outcome in {None, Outcome.FAILED}
        or (last.outcome is Outcome.WRITTEN and job.command is not None)
    )
    if job.check is None:
        if last is not None and open_:
            raise _unknown(job, record, last)
        return
    exists = _exists(job, job.check, output)
    if last is None:
        if exists:
            raise SubmissionError(
                f"downlink {job.downlink}: Level-1 has stream {job.downlink} (submit.check says so), though no "
                f"submission is recorded in {record.path}. Nothing was submitted. If it was created by hand for the "
                f"hand-off of now, say so: {_settle_line(job, 'submitted')}; if for an earlier one, roll it back "
                f"after that: scripts/submit.py --rollback --downlink {job.downlink}"
            )
    elif exists:
        record.conclude(last, Outcome.SUBMITTED, By.CHECK)
        log.info("Level-1 has the stream of attempt %d: it is not submitted again", last.number)
    elif open_:
        record.conclude(last, Outcome.NOT_SUBMITTED, By.CHECK)


def _exists(job: Job, check: Template, output: IO[str]) -> bool:
    words = check.words(job.downlink, job.rawdir)
    said: tuple[str, ...] = ()
    try:
        answer = command.run(words, job.root, output)
        how, said = how_it_ended(answer.status), answer.said
    except OSError as error:
        how = f"cannot be started: {error.strerror}"
    else:
        if answer.status in {0, 1}:
            return answer.status == 0
    raise SubmissionError(
        f"downlink {job.downlink}: submit.check {how}, where 0 means that Level-1 has the stream and 1 that it has "
        f"not: {shlex.join(words)}\n{_lines(said)}Nothing was submitted. Mend the cause, then give the same command "
        "again."
    )


def _write_down(job: Job, record: Record, handoff: int) -> None:
    """Write the command line for a person to give, and record that it was written."""
    words = Template(CONTRACT, "submit.command").words(job.downlink, job.rawdir)
    last = record.last
    write_text(job.work / paths.submit_line(job.downlink), shlex.join(words) + "\n")
    if (
        last is None
        or last.outcome is not Outcome.WRITTEN
        or (last.handoff, last.command) != (handoff, tuple(words))
    ):
        record.conclude(record.intend(Action.SUBMIT, handoff, words), Outcome.WRITTEN, By.ANSWER)


def _check_stage(job: Job, receipt: Mapping[str, Any]) -> None:
    """See that Level-1 will find what the receipt says: without it the whole delivery fails there."""
    for run in receipt["runs"]:
        files = [EventFile.of(entry) for entry in run["files"]]
        if run["named"] and not stage.is_whole(job.stage, job.downlink, RunId(run["run"]), files):
            raise StageError(
                f"{job.stage / paths.staged_run(job.downlink, run['l1_run'])}: files of hand-off "
                f"{receipt['handoff']} are gone, and Level-1 would fail. Nothing was submitted. To stage them again: "
                f"snakemake dl={job.downlink} -R deliver_run"
            )


def _run(
    job: Job,
    record: Record,
    action: Action,
    template: Template,
    receipt: Mapping[str, Any],
    output: IO[str],
) -> None:
    """Run a command between its intent and its answer in the record."""
    _check_stage(job, receipt)
    words = template.words(job.downlink, job.rawdir)
    # Else a person might give it besides.
    remove_file(job.work / paths.submit_line(job.downlink))
    attempt = record.intend(action, receipt["handoff"], words)
    status: int | None = None
    said: tuple[str, ...] = ()
    try:
        answer = command.run(words, job.root, output, () if record.handle is None else (record.handle,))
        status, said = answer.status, answer.said
        how = how_it_ended(status)
    except OSError as error:
        how = f"cannot be started: {error.strerror}"
    if status is not None and status < 0:
        raise _unknown(job, record, attempt, how)
    failed = Outcome.NOT_SUBMITTED if status is None else Outcome.FAILED
    outcome = Outcome.SUBMITTED if status == 0 else failed
    try:
        record.conclude(attempt, outcome, By.ANSWER, status, said)
    except HalfPipeError as error:
        raise SubmissionError(
            f"{_unknown(job, record, attempt, how)}\nThe answer was lost: {error}"
        ) from error
    if outcome is not Outcome.SUBMITTED:
        raise SubmissionError(
            f"downlink {job.downlink}: {template.key} {how}: {shlex.join(words)}\n{_lines(said)}"
            f"Recorded as {outcome} in {record.path}. Mend the cause, then {_how_to_go_on(job, action, outcome)}"
        )


def _how_to_go_on(job: Job, action: Action, outcome: Outcome) -> str:
    """Say what follows on a command that did not end well: it may have been heard all the same."""
    settle_line = _settle_line(job, "submitted")
    if outcome is Outcome.NOT_SUBMITTED:
        return "give the same command again."
    if job.check is None and action is Action.SUBMIT:
        return (
            f"look whether Level-1 has the stream all the same, say so with {settle_line} (or not-submitted), and "
            "give the same command again."
        )
    return f"give the same command again; if Level-1 has the stream all the same, say so first: {settle_line}"


def _lines(said: tuple[str, ...]) -> str:
    return "Its last lines were:\n" + "\n".join(said or ("(none)",)) + "\n"


def _settle_line(job: Job, outcome: str) -> str:
    return f"scripts/submit.py --settle {outcome} --downlink {job.downlink}"


def _unknown(job: Job, record: Record, attempt: Attempt, how: str = "") -> SubmissionError:
    """Return the error that asks a person to find out whether an attempt reached Level-1."""
    if attempt.outcome is Outcome.WRITTEN:
        why = f"the command line was written down at {attempt.when} for a person to give"
    elif attempt.outcome is Outcome.FAILED:
        why = "its command failed, and may have been heard all the same"
    else:
        why = (
            f"its command {how}"
            if how
            else "a process ended between its command and the record of its answer"
        )
    what = "submitted to" if attempt.action is Action.SUBMIT else "rolled back in"
    asked = ""
    if how and job.check is not None and attempt.action is Action.SUBMIT:
        asked = " Given the same command again, submit.check is asked; without waiting for that:"
    return SubmissionError(
        f"downlink {job.downlink}: whether hand-off {attempt.handoff} was {what} Level-1 is not known: {why}, "
        f"attempt {attempt.number} in {record.path}: {shlex.join(attempt.command)}\n"
        f"Nothing more was done.{asked} Look whether Level-1 has it, say so with "
        f"{_settle_line(job, 'submitted')} (or not-submitted), and give the same command again."
    )


def _warn(record: Record, receipt: Mapping[str, Any]) -> None:
    """Say what a person may want to do that is never done by itself."""
    known, last, downlink = record.submitted, record.last, record.downlink
    if known is not None and known.handoff < receipt["handoff"]:
        log.warning(
            "downlink %s: Level-1 has hand-off %d, now there is %d. It is not submitted by itself, for it is a "
            "roll-back of the same stream; to ask for that: scripts/submit.py --rollback --downlink %s",
            downlink,
            known.handoff,
            receipt["handoff"],
            downlink,
        )
    if known is not None and last is not None and last.outcome is None:
        log.warning(
            "downlink %s: whether hand-off %d was rolled back in Level-1 is not known, attempt %d in %s; "
            "settle it: scripts/submit.py --settle submitted (or not-submitted) --downlink %s",
            downlink,
            last.handoff,
            last.number,
            record.path,
            downlink,
        )


def _product(record: Record, receipt: Mapping[str, Any]) -> dict[str, Any]:
    known = record.submitted or (record.last if _names_files(receipt) else None)
    state = "nothing to submit" if known is None else str(known.outcome)
    return {
        "downlink": str(record.downlink),
        "handoff": receipt["handoff"],
        "state": state,
        "submitted": record.submitted.handoff if record.submitted else None,
        "command": shlex.join(known.command) if known and known.command else None,
    }
