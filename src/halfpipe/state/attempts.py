"""Commands that another system, such as Level-1, must receive at most once, although any process may die at any time.

An attempt has two records in a series (`halfpipe.files.records`): its intent before the command starts, and its outcome
afterwards. If two processes decide on the same records, only one can publish its intent, and the other one runs
nothing. It is unknown whether the other system received the command until that is recorded, and also if the command
failed, because a command may fail after the other system accepted it. An unknown attempt is not repeated until a check
or a person finds out what happened. Unlike products, these records contain times and user names.

A killed process leaves its command running. So commands run under ``timeout``, and the intent contains the time after
which the command has certainly ended. Until then the attempt cannot be recorded as not submitted. The time runs from
the record of the intent, by the file server's clock, because the process that waits may run on another host.
"""

import dataclasses
import errno
import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from types import UnionType
from typing import IO, Annotated

from msgspec import Meta
from msgspec.structs import replace

from halfpipe.errors import FormatError, HalfPipeError
from halfpipe.files import typed
from halfpipe.files.heartbeat import file_server_time, whoami
from halfpipe.files.leases import Say
from halfpipe.files.reading import modified
from halfpipe.files.records import Record, Series, TakenError, file_of
from halfpipe.files.typed import Stored
from halfpipe.process.programs import Ending, Log, run
from halfpipe.settings import ROOT

# Multiples of the time that a command may take.
KILLED_AFTER = 1.1  # when it is killed
OVER_AFTER = 1.2  # when it has certainly ended
CLOCK_SECONDS = 0.05  # a file's time may lag behind the clock by this much, a tick of Linux
TIMED_OUT = 124  # exit status of timeout(1)


class Outcome(StrEnum):
    """What is recorded of an attempt. Only the first two tell whether the other system received the command.

    `OPEN`: no answer of the command is recorded. `WRITTEN`: a person must run the command.
    """

    SUBMITTED = "submitted"
    NOT_SUBMITTED = "not-submitted"
    FAILED = "failed"
    WRITTEN = "written"
    OPEN = ""


class Action(StrEnum):
    """What the command does."""

    SUBMIT = "submit"
    ROLLBACK = "rollback"
    START = "start"


class By(StrEnum):
    """The source of an outcome: the command's own answer, a check afterwards, a person, or another system's records."""

    ANSWER = "answer"
    CHECK = "check"
    PERSON = "person"
    OTHER_SYSTEM = "other-system"


class Signed(Stored, frozen=True, tag_field="kind", tag=str.lower):
    """Base of the records in a series with attempts: when one was written, and by whom."""

    when: Annotated[datetime, Meta(tz=True)]
    who: str


class Attempt(Signed, frozen=True):
    """One attempt: the record of its intent, and what is known of its outcome.

    Attributes
    ----------
    number
        Counted from 1.
    command
        The words of the command.
    seconds
        After this time the command has certainly ended.
    action, handoff, receipt
        What the command does; the hand-off concerned and the seal of its receipt, 0 and empty if it concerns none.
    outcome
        What is recorded. The record of the intent has the outcome of an attempt of another system or person.
    by
        The source of the outcome. An open attempt with a source was killed by a signal.
    """

    number: int
    command: tuple[str, ...]
    seconds: float
    action: Action
    handoff: int
    receipt: str
    outcome: Outcome
    by: By | None

    @property
    def since(self) -> float:
        """When the intent was recorded, Unix seconds."""
        return self.when.timestamp()

    @property
    def is_known(self) -> bool:
        """Whether it is known if the other system received the command."""
        return self.outcome in {Outcome.SUBMITTED, Outcome.NOT_SUBMITTED}

    @property
    def check_disagrees(self) -> bool:
        """Whether its command succeeded, but the check found nothing."""
        return self.outcome is Outcome.FAILED and self.by is By.CHECK

    def why_unknown(self, how: str = "") -> str:
        """Return the reason for an unknown outcome. `how` is how the command ended, if that was seen just now."""
        if self.check_disagrees:
            return "its command succeeded, but submit.check finds no stream"
        if self.outcome is Outcome.FAILED:
            return "its command failed, but may have been received"
        if self.outcome is Outcome.WRITTEN:
            return "its command must be run by hand"
        if how or self.by is not None:
            return f"its command {how or 'was killed by a signal'}"
        return "a process ended between its command and the record of its answer"


class Answer(Signed, frozen=True):
    """The record of an outcome.

    Attributes
    ----------
    attempt
        The number of the attempt.
    outcome, by
        The outcome and its source.
    status, said
        Exit status and last lines of the command, if it gave an answer. The lines contain the number or key of a
        stream, as the pipeline printed it.
    """

    attempt: int
    outcome: Outcome
    by: By
    status: int | None
    said: tuple[str, ...]


def signature() -> tuple[datetime, str]:
    """Return the time and this process, with which a record begins."""
    me = whoami()
    return datetime.fromtimestamp(time.time(), UTC), f"{me.user}, process {me.pid} on {me.host}"


class UnknownOutcomeError(HalfPipeError):
    """It is unknown whether a command was received: it was killed, or it may still run."""


def ask(words: Sequence[str], output: IO[str]) -> Ending:
    """Run a command in the project's root, and copy its output to `output`."""
    return run(words, ROOT, Log(output))


def _run_in_time(words: Sequence[str], output: IO[str], seconds: float, late: float) -> Ending:
    """Run a command for at most `seconds` minus the time `late` that passed before it could start."""
    program = ROOT / words[0] if "/" in words[0] else words[0]
    if shutil.which(program) is None:
        return Ending(f"cannot be started: {os.strerror(errno.ENOENT)}", None, words=words)
    if late >= seconds:
        return Ending(f"was not started: {late:.0f} s had passed before it could be", None, words=words)
    grace = (KILLED_AFTER - 1) * seconds
    answer = ask(["timeout", f"--kill-after={grace}", f"{seconds - late}", *words], output)
    how = f"took more than {seconds:g} s, and was ended" if answer.status == TIMED_OUT else answer.how
    return dataclasses.replace(answer, words=words, how=how)


class Attempts:
    """The attempts of one series of records.

    Parameters
    ----------
    work, place, id
        `paths.work`, the directory of the series, and the downlink or run.
    kinds
        The classes of all records in the series.
    begins
        The class of records after which earlier attempts do not count.
    before, after
        Called before and after a record is published, `after` with the directory of the series and the record.
    only_look
        As for `Series`.

    Attributes
    ----------
    every
        All attempts, in order.
    others
        The other records, in order.

    Raises
    ------
    StateError
        If both copies of a record are damaged.
    """

    def __init__(
        self,
        work: Path,
        place: str,
        id: str,
        *,
        kinds: type[Signed] | UnionType = Attempt | Answer,
        begins: type[Signed] | None = None,
        before: Callable[[], object] = lambda: None,
        after: Callable[[str, Record], object] = lambda *_: None,
        only_look: bool = False,
    ) -> None:
        self.id = id
        self.place = place
        self._work = work
        self._kinds = kinds
        self._begins = begins
        self._before = before
        self._after = after
        self.series = Series(work, place, only_look=only_look)
        self.path = self.series.home
        self._waited_for = 0  # number of the intent whose command has certainly ended
        self.read()

    def read(self) -> None:
        """Read all records again."""
        self.every: list[Attempt] = []
        self.others: list[Signed] = []
        self._first = 0  # number of attempts that do not count
        self._intent = 0  # number of the record of the latest attempt
        for record in self.series.read():
            self._add(record)

    def _add(self, record: Record) -> None:
        file = file_of(self.path, record.number)
        try:
            found: Signed = typed.convert(record.values, self._kinds, file)
        except FormatError as error:
            raise self.series.damaged(record.number, error) from error
        if isinstance(found, Attempt) and found.number == len(self.every) + 1:
            self._intent = record.number
            self.every.append(found)
        elif isinstance(found, Answer) and 0 < found.attempt <= len(self.every):
            before = self.every[found.attempt - 1]
            self.every[found.attempt - 1] = replace(before, outcome=found.outcome, by=found.by)
        elif isinstance(found, Attempt | Answer):
            raise self.series.damaged(record.number, "the number of its attempt is wrong")
        else:
            self.others.append(found)
            if self._begins is not None and isinstance(found, self._begins):
                self._first = len(self.every)

    @property
    def last(self) -> Attempt | None:
        """The latest attempt that counts."""
        return self.every[-1] if self.every[self._first :] else None

    @property
    def last_confirmed(self) -> Attempt | None:
        """The latest attempt that is known to be submitted, or None."""
        mine = self.every[self._first :]
        return next((a for a in reversed(mine) if a.outcome is Outcome.SUBMITTED), None)

    @property
    def is_open(self) -> bool:
        """Whether no answer to the latest attempt is recorded."""
        return self.last is not None and self.last.outcome is Outcome.OPEN

    @property
    def may_run(self) -> float:
        """How many seconds the command of the latest attempt may still run if its process was killed.

        If the record of its intent is lost or has a time in the future, this is the whole time that it may take.
        """
        if self.last is None or self.last.by is not None or self._intent == self._waited_for:
            return 0.0
        now = file_server_time(self._work)
        begun = modified(str(file_of(self.path, self._intent)))
        end = (now if begun is None else begun) + self.last.seconds
        return min(max(0.0, end - now), self.last.seconds)

    def wait(self, say: Say) -> None:
        """Wait until the command of the latest attempt has certainly ended, and read the records again."""
        if seconds := self.may_run:
            until = datetime.fromtimestamp(time.time() + seconds, UTC)
            say(
                f"waiting until {until:%H:%M:%S} UTC, because a command for {self.id}, which a killed process "
                "left behind, may still be running"
            )
            time.sleep(seconds + CLOCK_SECONDS)
            self._waited_for = self._intent
            self.read()

    def intend(
        self,
        command: Sequence[str],
        *,
        seconds: float = 0.0,
        action: Action = Action.START,
        handoff: int = 0,
        receipt: str = "",
        outcome: Outcome = Outcome.OPEN,
        by: By | None = None,
        signed: tuple[datetime, str] | None = None,
    ) -> Attempt:
        """Record what will be done now; return the attempt.

        Parameters
        ----------
        command, seconds
            The command, and the time after which it has certainly ended.
        action, handoff, receipt
            What the command does, the hand-off concerned, and the seal of its receipt.
        outcome, by, signed
            Of an attempt of another system or person: its outcome, the source, and when and by whom it was made.

        Raises
        ------
        TakenError
            If another process has published a record meanwhile. Then do not run the command.
        """
        when, who = signed or signature()
        self.publish(
            Attempt(
                when=when,
                who=who,
                number=len(self.every) + 1,
                command=tuple(command),
                seconds=seconds,
                action=action,
                handoff=handoff,
                receipt=receipt,
                outcome=outcome,
                by=by,
            )
        )
        return self.every[-1]

    def conclude(
        self,
        outcome: Outcome,
        by: By,
        status: int | None = None,
        said: Sequence[str] = (),
        *,
        attempt: int | None = None,
    ) -> None:
        """Record the outcome of an attempt; the parameters are as for `Answer`. Without a number, of the latest."""
        self.publish(Answer(*signature(), attempt or len(self.every), outcome, by, status, tuple(said)))

    def settle(self, submitted: bool, by: By) -> None:
        """Record what a check or a person found out about the latest attempt, or did if there was none.

        Raises
        ------
        UnknownOutcomeError
            If `submitted` is false and the command may still run.
        """
        if not submitted and (seconds := self.may_run):
            raise UnknownOutcomeError(
                f"the command of attempt {len(self.every)} for {self.id} may run for another {seconds:.0f} s. Look "
                "again after that, and rerun the command."
            )
        outcome = Outcome.SUBMITTED if submitted else Outcome.NOT_SUBMITTED
        if self.last is None:
            self.intend((), outcome=outcome, by=by)
        else:
            self.conclude(outcome, by)

    def publish(self, one: Signed) -> None:
        """Publish a record."""
        self._before()
        record = self.series.publish(typed.values(one))
        self._add(record)
        self._after(self.place, record)

    def run(
        self,
        words: Sequence[str],
        output: IO[str],
        seconds: float,
        doubts: Callable[[], Sequence[str]] = lambda: (),
        *,
        action: Action = Action.START,
        handoff: int = 0,
        receipt: str = "",
    ) -> Ending:
        """Run a command between the records of its intent and its outcome.

        Parameters
        ----------
        words, output
            The command, and the file for its output.
        seconds
            The command is ended after this time, even if this process dies.
        doubts
            Called if the command succeeded, before that is recorded. It returns the output of a check that does not
            find the result. Then the attempt is recorded as failed.
        action, handoff, receipt
            What the command does, the hand-off concerned, and the seal of its receipt.

        Raises
        ------
        TakenError
            If another process runs the command. Nothing was run here.
        UnknownOutcomeError
            If a signal killed the command, or its answer could not be recorded.
        """
        begun = time.clock_gettime(time.CLOCK_BOOTTIME)  # includes the time that the machine sleeps
        most = OVER_AFTER * seconds
        intent = self.intend(words, seconds=most, action=action, handoff=handoff, receipt=receipt)
        answer = _run_in_time(words, output, seconds, time.clock_gettime(time.CLOCK_BOOTTIME) - begun)
        if answer.status == -signal.SIGKILL:
            # Perhaps only ``timeout`` was killed, and the command still runs.
            raise UnknownOutcomeError(answer.how)
        outcome = Outcome.OPEN
        by = By.ANSWER
        said = answer.said
        if answer.status is None:
            outcome = Outcome.NOT_SUBMITTED
        elif answer.status > 0:
            outcome = Outcome.FAILED
        elif answer.status == 0:
            doubted = doubts()
            outcome = Outcome.SUBMITTED
            if doubted:
                outcome = Outcome.FAILED
                by = By.CHECK
            said = (*said, *doubted)
        while True:  # an answer is a fact, so it is recorded whatever other processes have recorded meanwhile
            try:
                self.conclude(outcome, by, answer.status, said, attempt=intent.number)
                break
            except TakenError:
                self.read()
            except HalfPipeError as error:
                raise UnknownOutcomeError(f"{answer.how}, which could not be recorded: {error}") from error
        if answer.status is not None and answer.status < 0:
            raise UnknownOutcomeError(answer.how)
        return answer
