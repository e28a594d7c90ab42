"""What the world is told once, whatever dies: by a command whose intent is recorded before, and its answer after it.

A record is only appended to. Each attempt is a line of what is to be done, flushed before the command is started,
and lines of how it turned out, of which the latest counts. An attempt without such a line is open: it was cut off,
and whether it was heard is not known until a check or a person settles it. Unlike products these lines hold time
and person, for they say what was done in the world and are never made again.
"""

import errno
import fcntl
import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, ClassVar, Generic, Self, TypeVar

from halfpipe.errors import HalfPipeError
from halfpipe.programs.run import Log, run
from halfpipe.settings import ROOT
from halfpipe.storage.durable import make_directory
from halfpipe.storage.json_lines import JsonLines
from halfpipe.storage.leases import Say, whoami


class Outcome(StrEnum):
    """How an attempt turned out. `WRITTEN`: the command line was written down, for a person to give."""

    TOLD = "told"
    NOT_TOLD = "not-told"
    FAILED = "failed"
    WRITTEN = "written"


class By(StrEnum):
    """Who says so: the command's own answer, the command that was asked afterwards, a person, or the legacy's tree."""

    ANSWER = "answer"
    CHECK = "check"
    PERSON = "person"
    LEGACY = "legacy"


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt, counted from 1, whose intent was recorded `when`; `outcome` is None while it is open.

    `by` says who told the outcome.
    """

    number: int
    command: tuple[str, ...]
    when: str
    outcome: Outcome | None = None
    by: By | None = None


@dataclass(frozen=True)
class Answer:
    """How a command ended, in words and as its exit status, None if it was not started; and its last lines."""

    words: Sequence[str]
    how: str
    status: int | None
    said: tuple[str, ...]

    @property
    def shown(self) -> str:
        """The command and its last lines, for a message."""
        return (
            f"{shlex.join(self.words)}\nIts last lines were:\n" + "\n".join(self.said or ("(none)",)) + "\n"
        )


class OpenError(HalfPipeError):
    """A command of which nobody knows whether it was heard: how it ended, and what was `lost` of its answer."""

    def __init__(self, how: str, lost: str = "") -> None:
        super().__init__(how)
        self.lost = lost


def ask(words: Sequence[str], output: IO[str], hand_down: Sequence[int] = ()) -> Answer:
    """Run a command in the project's root, copy what it prints to `output`, and return its answer.

    It and its children keep the open files `hand_down` open as long as they live.
    """
    log = Log(output)
    ending = run(words, ROOT, log, pass_fds=hand_down)
    return Answer(words, ending.how, ending.status, log.said)


A = TypeVar("A", bound=Attempt)


class Record(Generic[A]):
    """What was attempted for one downlink or run, under a lock that its owner's callers hold.

    An owner says where the file lies, what an attempt that was heard is called in it, and what else its lines
    hold.

    Parameters
    ----------
    work, id
        `paths.work`, and the downlink or run; the file need not exist.
    handle
        The open file that is locked, for a command to keep open; see `opened`.

    Raises
    ------
    StateError
        If a line but the last, which may be torn, is damaged.
    """

    COMMAND: ClassVar[str]  # what it is called in messages, as in "a submission command"
    HEARD: ClassVar[str]  # as in "submitted", and so "not-submitted"

    def __init__(self, work: Path, id: str, handle: int | None = None) -> None:
        self.id = id
        self.path = work / self.place(id)
        self.attempts: list[A] = []
        self._outcomes = {self.word(outcome): outcome for outcome in Outcome}
        self._handle = handle
        self._lines = JsonLines(self.path)
        for number, value in enumerate(self._lines.values, 1):
            try:
                self._take(value)
            except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
                raise self._lines.damaged(number, repr(error)) from error

    @classmethod
    @contextmanager
    def opened(cls, work: Path, id: str, say: Say) -> Iterator[Self]:
        """Open the record for this process alone, and wait for a command that was left behind.

        A process that is killed leaves its command running: what became of it can be asked only once it has
        ended. Commands inherit the lock on the record, so that the kernel tells.
        """
        path = work / cls.place(id)
        make_directory(work, str(path.parent.relative_to(work)))
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o664)
        try:
            _lock(handle, f"{cls.COMMAND} that a killed process left behind; it keeps {path}", say)
            record = cls(work, id, handle)
            try:
                yield record
            finally:
                if not record.is_open:
                    # What a command has started and left keeps the file open, and nobody need wait for that.
                    with suppress(OSError):
                        fcntl.flock(handle, fcntl.LOCK_UN)
        finally:
            os.close(handle)

    @staticmethod
    def place(id: str, /) -> str:
        """Return where the file lies below `paths.work`."""
        raise NotImplementedError

    def attempt(self, value: Mapping[str, Any]) -> A:
        """Return the attempt that a line of an intent is of."""
        raise NotImplementedError

    def _take(self, value: Mapping[str, Any]) -> None:
        if "outcome" not in value:
            self.attempts.append(self.attempt(value))
        else:
            outcome = self._outcomes[value["outcome"]]
            by = By(value["by"]) if "by" in value else None
            self.attempts[-1] = replace(self.attempts[-1], outcome=outcome, by=by)

    @property
    def last(self) -> A | None:
        """The latest attempt."""
        return self.attempts[-1] if self.attempts else None

    @property
    def told(self) -> A | None:
        """The latest attempt that was heard; None if none was, or nobody knows."""
        return next((a for a in reversed(self.attempts) if a.outcome is Outcome.TOLD), None)

    @property
    def is_open(self) -> bool:
        """Whether nobody knows what became of the latest attempt."""
        return self.last is not None and self.last.outcome is None

    def word(self, outcome: Outcome | None) -> str:
        """Return what an outcome is called in the record, nothing if it is not known."""
        return (outcome or "").replace(Outcome.TOLD, self.HEARD)

    def intend(self, command: Sequence[str], **about: Any) -> A:
        """Record and flush what is about to be done; return the attempt, to be concluded."""
        self.append({"command": list(command), **about})
        return self.attempts[-1]

    def conclude(self, outcome: Outcome, by: By, status: int | None = None, said: Sequence[str] = ()) -> None:
        """Record and flush how the latest attempt turned out.

        Parameters
        ----------
        outcome, by
            How it turned out, and who says so.
        status, said
            Exit status and last lines of the command, if it gave an answer; the number or key of a stream is in
            them, as the pipeline printed it.
        """
        answer = {"status": status, "said": list(said)} if by is By.ANSWER or said else {}
        self.append({"outcome": self.word(outcome), "by": str(by)} | answer)

    def settle(self, told: bool, by: By) -> None:
        """Record what a check or a person has found out of the latest attempt."""
        self.conclude(Outcome.TOLD if told else Outcome.NOT_TOLD, by)

    def append(self, value: dict[str, Any]) -> None:
        """Record and flush a line, with time and person."""
        me = whoami()
        now = datetime.now(UTC).isoformat(timespec="seconds")
        who = f"{me.user}, process {me.pid} on {me.host}"
        line = {"when": now, "who": who} | value
        self._lines.append(line)
        self._take(line)

    def tell(
        self,
        words: Sequence[str],
        output: IO[str],
        doubted: Callable[[], Sequence[str]] | None = None,
        **about: Any,
    ) -> Answer:
        """Run a command between its intent and its answer in the record.

        Parameters
        ----------
        words, output
            The command, and what takes what it prints.
        doubted
            Asked of a command that ended well, before that is recorded: gives the words of a check that does not
            find what it should have done; then it is recorded as failed, by the check. None: it is believed.
        **about
            What else the owner's intent holds.

        Raises
        ------
        OpenError
            If nobody knows whether it was heard: a signal killed it, or its answer could not be recorded.
        """
        self.intend(words, **about)
        answer = ask(words, output, () if self._handle is None else (self._handle,))
        if answer.status is not None and answer.status < 0:
            raise OpenError(answer.how)
        outcome = {0: Outcome.TOLD, None: Outcome.NOT_TOLD}.get(answer.status, Outcome.FAILED)
        by, said = By.ANSWER, answer.said
        if outcome is Outcome.TOLD and doubted is not None and (doubts := doubted()):
            outcome, by, said = Outcome.FAILED, By.CHECK, (*said, *doubts)
        try:
            self.conclude(outcome, by, answer.status, said)
        except HalfPipeError as error:
            raise OpenError(answer.how, f"\nThe answer was lost: {error}") from error
        return answer


def _lock(handle: int, held_by: str, say: Say) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say(f"waiting for the end of {held_by}")
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        # A file system without such locks: then only the lock that its callers hold keeps processes apart.
        if error.errno not in {errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL}:
            raise
