"""What the world is told once, whatever dies: by a command whose intent is recorded before, and its answer after it.

A series of records says so for each downlink or run (`halfpipe.files.records`): what is to be done, before the
command is started, and how it turned out, of which the latest counts. An attempt of which nothing more is recorded is
open: it was cut off, and whether it was heard is not known until a check or a person settles it. Unlike products these
records hold time and person, for they say what was done in the world and are never made again.

A killed process leaves its command running. So a command runs below ``timeout``, which ends it whatever became of us,
and the intent says how long that can take. Until then it is not known that it was not heard. Another host may ask, so
that time is counted by the file server's clock, from when the record of the intent was written.
"""

import errno
import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, ClassVar

from halfpipe.errors import HalfPipeError
from halfpipe.files.heartbeat import file_server_time, whoami
from halfpipe.files.lease import Say
from halfpipe.files.reading import modified
from halfpipe.files.records import Record as Published
from halfpipe.files.records import Series, TakenError, file_of
from halfpipe.process.programs import Ending, Log, run
from halfpipe.settings import ROOT

KILLED_AFTER, OVER_AFTER = 1.1, 1.2  # of the time that a command may take: when it is killed, and surely gone
CLOCK_SECONDS = 0.05  # by so much a time of a file may be behind the clock: of Linux, a tick
TIMED_OUT = 124  # as timeout(1) has it


class Outcome(StrEnum):
    """How an attempt turned out. `WRITTEN`: the command line was written down, for a person to give."""

    TOLD = "told"
    NOT_SUBMITTED = "not-told"
    FAILED = "failed"
    WRITTEN = "written"


class Action(StrEnum):
    """What was to be done."""

    SUBMIT = "submit"
    ROLLBACK = "rollback"
    START = "start"


class By(StrEnum):
    """Who says so: the command's own answer, the command that was asked afterwards, a person, or the legacy's tree."""

    ANSWER = "answer"
    CHECK = "check"
    PERSON = "person"
    LEGACY = "legacy"


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt, counted from 1, whose intent was recorded `when`; `outcome` is None while it is open.

    `seconds` after that its command has surely ended. `by` says who told the outcome; or, of an open one, that the
    command has ended. `handoff` is the number of what was to be submitted.
    """

    number: int
    command: tuple[str, ...]
    when: str
    seconds: float = 0.0
    outcome: Outcome | None = None
    by: By | None = None
    action: Action = Action.START
    handoff: int = 0

    @property
    def is_known(self) -> bool:
        """Whether it is known that it was heard, or that it was not: a command may fail after it was heard."""
        return self.outcome in {Outcome.TOLD, Outcome.NOT_SUBMITTED}

    @property
    def since(self) -> float:
        """When it was made, Unix seconds."""
        return datetime.fromisoformat(self.when).timestamp()

    @property
    def check_disagrees(self) -> bool:
        """Whether its command ended well, and its stream was not found."""
        return self.outcome is Outcome.FAILED and self.by is By.CHECK

    def why_unknown(self, how: str = "") -> str:
        """Say why it is not known; `how` its command has ended, if that was seen just now."""
        if self.check_disagrees:
            return "its command ended well, and submit.check finds no stream"
        if self.outcome is Outcome.FAILED:
            return "its command failed, and may have been heard all the same"
        if self.outcome is Outcome.WRITTEN:
            return "its command has to be run by hand"
        if how or self.by is not None:
            return f"its command {how or 'was killed by a signal'}"
        return "a process ended between its command and the record of its answer"


class OpenError(HalfPipeError):
    """A command of which nobody knows whether it was heard: how it ended, or that it may still run."""


def ask(words: Sequence[str], output: IO[str]) -> Ending:
    """Run a command in the project's root, copy what it prints to `output`, and return how it ended."""
    return run(words, ROOT, Log(output))


def _ask_in_time(words: Sequence[str], output: IO[str], seconds: float, late: float) -> Ending:
    """Ask for `seconds` at most, less those that have passed before it could be started."""
    program = ROOT / words[0] if "/" in words[0] else words[0]
    if shutil.which(program) is None:
        return Ending(f"cannot be started: {os.strerror(errno.ENOENT)}", None, words=words)
    if late >= seconds:
        return Ending(f"was not started: {late:.0f} s had passed before it could be", None, words=words)
    grace = (KILLED_AFTER - 1) * seconds
    answer = ask(["timeout", f"--kill-after={grace}", f"{seconds - late}", *words], output)
    how = f"took more than {seconds:g} s, and was ended" if answer.status == TIMED_OUT else answer.how
    return replace(answer, words=words, how=how)


class Record:
    """What was attempted for one downlink or run, in the order of the records that say so.

    An owner says where the series lies, what an attempt that was heard is called in it, and what else its records
    hold. Two processes that decide on the same records are told apart by `TakenError`: one has published nothing.

    Parameters
    ----------
    work, id
        `paths.work`, and the downlink or run; nothing need be there.
    note
        Is given the place of each record that is published here, and the record.
    only_look
        As for `Series`.

    Attributes
    ----------
    attempts
        All of them, in order.
    series
        The records that say so.

    Raises
    ------
    StateError
        If a record is damaged in both copies.
    """

    HEARD: ClassVar[str]  # as in "submitted", and so "not-submitted"

    def __init__(
        self,
        work: Path,
        id: str,
        note: Callable[[str, Published], object] | None = None,
        *,
        only_look: bool = False,
    ) -> None:
        self.id, self._work, self._note = id, work, note
        self.series = Series(work, self.place(id), "nobody is told anything for it", only_look=only_look)
        self.path = self.series.home
        self._waited_for = 0  # the record of an intent whose command has had all its time
        self.read()

    def read(self) -> None:
        """Read all records, again."""
        self.attempts: list[Attempt] = []
        self._since = self._intent = 0
        for record in self.series.read():
            try:
                self._add(record)
            except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
                raise self.series.damaged(record.number, repr(error)) from error

    @staticmethod
    def place(id: str, /) -> str:
        """Return where the series lies below `paths.work`."""
        raise NotImplementedError

    def _add(self, record: Published) -> None:
        known = len(self.attempts)
        self._take(record.values)
        if len(self.attempts) > known:
            self._intent = record.number

    def _take(self, value: Mapping[str, Any]) -> None:
        if "command" in value:
            self.attempts.append(
                Attempt(
                    number=len(self.attempts) + 1,
                    command=tuple(map(str, value["command"])),
                    when=str(value["when"]),
                    seconds=float(value["seconds"]),
                    action=Action(value.get("action", Action.START)),
                    handoff=int(value.get("handoff", 0)),
                )
            )
        at = int(value["attempt"]) - 1
        if at not in range(len(self.attempts)):
            raise ValueError(value["attempt"])
        if "outcome" in value:
            outcomes = {self.word(each): each for each in (None, *Outcome)}
            outcome = outcomes[value["outcome"]]
            self.attempts[at] = replace(self.attempts[at], outcome=outcome, by=By(value["by"]))

    @property
    def last(self) -> Attempt | None:
        """The latest attempt."""
        return self.attempts[-1] if self.attempts[self._since :] else None

    @property
    def last_confirmed(self) -> Attempt | None:
        """The latest attempt that was heard; None if none was, or nobody knows."""
        mine = self.attempts[self._since :]
        return next((a for a in reversed(mine) if a.outcome is Outcome.TOLD), None)

    @property
    def is_open(self) -> bool:
        """Whether nobody knows what became of the latest attempt."""
        return self.last is not None and self.last.outcome is None

    @property
    def may_run(self) -> float:
        """For how many seconds the command of the latest attempt may still run, left behind by a killed process.

        At most as long as it may take at all, if the record of its intent was written in the future or is gone.
        """
        if self.last is None or self.last.by is not None or self._intent == self._waited_for:
            return 0.0
        now, begun = file_server_time(self._work), modified(str(file_of(self.path, self._intent)))
        end = (now if begun is None else begun) + self.last.seconds
        return min(max(0.0, end - now), self.last.seconds)

    def wait(self, say: Say) -> None:
        """Wait until the command of the latest attempt has surely ended, and read what was recorded meanwhile."""
        if seconds := self.may_run:
            until = datetime.fromtimestamp(time.time() + seconds, UTC)
            say(
                f"waiting until {until:%H:%M:%S} UTC: a command for {self.id} may run that a killed process left behind"
            )
            time.sleep(seconds + CLOCK_SECONDS)
            self._waited_for = self._intent
            self.read()

    def word(self, outcome: Outcome | None) -> str:
        """Return what an outcome is called in the record, nothing if it is not known."""
        return (outcome or "").replace(Outcome.TOLD, self.HEARD)

    def intend(self, command: Sequence[str], *, seconds: float = 0.0, **about: Any) -> Attempt:
        """Record what is about to be done; return the attempt, to be concluded.

        Parameters
        ----------
        command, seconds
            The command, and after how many seconds it has surely ended.
        **about
            What else the owner's intent holds.

        Raises
        ------
        TakenError
            If another process has recorded something meanwhile: then it must not be done.
        """
        number = len(self.attempts) + 1
        self.append({"attempt": number, "command": list(command), "seconds": seconds, **about})
        return self.attempts[-1]

    def conclude(
        self,
        outcome: Outcome | None,
        by: By,
        status: int | None = None,
        said: Sequence[str] = (),
        *,
        attempt: int | None = None,
    ) -> None:
        """Record how an attempt turned out.

        Parameters
        ----------
        outcome, by
            How it turned out, and who says so; None, it has ended, and nobody knows.
        status, said
            Exit status and last lines of the command, if it gave an answer; the number or key of a stream is in
            them, as the pipeline printed it.
        attempt
            Its number; None, the latest.
        """
        answer = {"status": status, "said": list(said)} if by is By.ANSWER or said else {}
        number = attempt or len(self.attempts)
        self.append({"attempt": number, "outcome": self.word(outcome), "by": str(by)} | answer)

    def settle(self, told: bool, by: By) -> None:
        """Record what a check or a person has found out of the latest attempt, or has done where there was none.

        Raises
        ------
        OpenError
            If it is said that it was not heard, and its command may still run and so be heard.
        """
        if not told and (seconds := self.may_run):
            raise OpenError(
                f"the command of attempt {len(self.attempts)} for {self.id} may run for {seconds:.0f} s yet, and be "
                "heard then. Look again after that, and re-run the command."
            )
        outcome = Outcome.TOLD if told else Outcome.NOT_SUBMITTED
        if self.last is None:
            self.done(outcome, by)
        else:
            self.conclude(outcome, by)

    def done(self, outcome: Outcome, by: By, command: Sequence[str] = (), **about: Any) -> Attempt:
        """Record an attempt that was none of ours, and how it turned out, at once."""
        return self.intend(command, outcome=self.word(outcome), by=str(by), **about)

    def append(self, value: Mapping[str, Any]) -> None:
        """Publish a record, with time and person."""
        me = whoami()
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        values = {"when": now, "who": f"{me.user}, process {me.pid} on {me.host}", **value}
        record = self.series.publish(values)
        self._add(record)
        if self._note is not None:
            self._note(self.place(self.id), record)

    def tell(
        self,
        words: Sequence[str],
        output: IO[str],
        seconds: float,
        doubted: Callable[[], Sequence[str]] | None = None,
        **about: Any,
    ) -> Ending:
        """Run a command between its intent and its answer in the record.

        Parameters
        ----------
        words, output
            The command, and what takes what it prints.
        seconds
            After which it is ended, whatever becomes of us.
        doubted
            Asked of a command that ended well, before that is recorded: gives the words of a check that does not
            find what it should have done; then it is recorded as failed, by the check. None: it is believed.
        **about
            What else the owner's intent holds.

        Raises
        ------
        TakenError
            If another process tells it; nothing was run.
        OpenError
            If nobody knows whether it was heard: a signal killed it, or its answer could not be recorded.
        """
        begun = time.clock_gettime(time.CLOCK_BOOTTIME)  # it goes on while the machine sleeps
        attempt = self.intend(words, seconds=OVER_AFTER * seconds, **about).number
        answer = _ask_in_time(words, output, seconds, time.clock_gettime(time.CLOCK_BOOTTIME) - begun)
        if answer.status == -signal.SIGKILL:  # perhaps ``timeout`` alone: then the command runs on
            raise OpenError(answer.how)
        outcome = {0: Outcome.TOLD, None: Outcome.NOT_SUBMITTED}.get(
            answer.status, Outcome.FAILED if (answer.status or 0) > 0 else None
        )
        by, said = By.ANSWER, answer.said
        if outcome is Outcome.TOLD and doubted is not None and (doubts := doubted()):
            outcome, by, said = Outcome.FAILED, By.CHECK, (*said, *doubts)
        while True:  # whatever others have recorded meanwhile: what a command said is a fact
            try:
                self.conclude(outcome, by, answer.status, said, attempt=attempt)
                break
            except TakenError:
                self.read()
            except HalfPipeError as error:
                raise OpenError(f"{answer.how}, which could not be recorded: {error}") from error
        if outcome is None:
            raise OpenError(answer.how)
        return answer
