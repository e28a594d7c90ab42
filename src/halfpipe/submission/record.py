"""The record of a downlink's submissions: append-only, the intent before the command and the answer after it.

Each attempt is a line of what is to be done, flushed before the command is started, and lines of how it
turned out, of which the latest counts. An attempt without such a line was cut off: whether Level-1 has the
stream is not known. Unlike products these lines hold time and person, for they record what was done in
the world and are never made again.
"""

import errno
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.files import JsonLines, make_directory
from halfpipe.ids import DownlinkId
from halfpipe.locks import Holder

Say = Callable[[str], None]


class Action(StrEnum):
    """What was to be done."""

    SUBMIT = "submit"
    ROLLBACK = "rollback"


class Outcome(StrEnum):
    """How it turned out. `WRITTEN`: the command line was written down, for a person to give."""

    SUBMITTED = "submitted"
    NOT_SUBMITTED = "not-submitted"
    FAILED = "failed"
    WRITTEN = "written"


class By(StrEnum):
    """Who says so: the command's own answer, the command that was asked afterwards, or a person."""

    ANSWER = "answer"
    CHECK = "check"
    PERSON = "person"


@dataclass(frozen=True)
class Attempt:
    """One attempt at hand-off number `handoff`; `outcome` is None if nobody knows it."""

    number: int
    action: Action
    handoff: int
    command: tuple[str, ...]
    when: str
    who: str
    outcome: Outcome | None = None


class Record:
    """What was attempted for one downlink.

    Parameters
    ----------
    work, downlink
        `paths.work` and the downlink; the file need not exist.
    handle
        The open file that is locked, for a command to keep open; see `opened`.

    Raises
    ------
    StateError
        If a line but the last, which may be torn, is damaged.
    """

    def __init__(self, work: Path, downlink: DownlinkId, handle: int | None = None) -> None:
        self.path = work / paths.submissions(downlink)
        self.downlink = downlink
        self.handle = handle
        self._lines = JsonLines(self.path)
        self.attempts: list[Attempt] = []
        for number, value in enumerate(self._lines.values, 1):
            try:
                self._take(value)
            except (ValueError, KeyError, TypeError, IndexError) as error:
                raise self._lines.damaged(number, repr(error)) from error

    def _take(self, value: dict[str, Any]) -> None:
        if "outcome" in value:
            if value["attempt"] < 1:
                raise ValueError(value["attempt"])
            self.attempts[value["attempt"] - 1] = replace(
                self.attempts[value["attempt"] - 1], outcome=Outcome(value["outcome"])
            )
            return
        if value["attempt"] != len(self.attempts) + 1:
            raise ValueError(value["attempt"])
        command = tuple(map(str, value["command"]))
        self.attempts.append(
            Attempt(
                value["attempt"],
                Action(value["action"]),
                int(value["handoff"]),
                command,
                value["when"],
                value["who"],
            )
        )

    @property
    def last(self) -> Attempt | None:
        """The latest attempt."""
        return self.attempts[-1] if self.attempts else None

    @property
    def submitted(self) -> Attempt | None:
        """The attempt that gave Level-1 the hand-off that it has; None if it has none of the downlink."""
        return next((a for a in reversed(self.attempts) if a.outcome is Outcome.SUBMITTED), None)

    def intend(self, action: Action, handoff: int, command: Sequence[str]) -> Attempt:
        """Record and flush what is about to be done; return the attempt, to be concluded."""
        value = {
            "attempt": len(self.attempts) + 1,
            "action": str(action),
            "handoff": handoff,
            "command": list(command),
        }
        self._append(value)
        return self.attempts[-1]

    def conclude(
        self, attempt: Attempt, outcome: Outcome, by: By, status: int | None = None, said: Sequence[str] = ()
    ) -> None:
        """Record and flush how an attempt turned out.

        Parameters
        ----------
        attempt, outcome, by
            The attempt, how it turned out, and who says so.
        status, said
            Exit status and last lines of the command, if it gave an answer; the number or key of the
            stream is in them, as the pipeline printed it.
        """
        value: dict[str, Any] = {"attempt": attempt.number, "outcome": str(outcome), "by": str(by)}
        if by is By.ANSWER:
            value |= {"status": status, "said": list(said)}
        self._append(value)

    def _append(self, value: dict[str, Any]) -> None:
        me = Holder.myself()
        now = datetime.now(UTC).isoformat(timespec="seconds")
        value |= {"when": now, "who": f"{me.user}, process {me.pid} on {me.host}"}
        self._lines.append(value)
        self._take(value)


@contextmanager
def opened(work: Path, downlink: DownlinkId, say: Say) -> Iterator[Record]:
    """Open the record of `downlink` for this process alone, and wait for a command that was left behind.

    A process that is killed leaves its command running: whether it reaches Level-1 can be asked only once
    it has ended. Commands inherit the lock on the record, so that the kernel tells.
    """
    path = make_directory(work, downlink) / Path(paths.submissions(downlink)).name
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o664)
    try:
        _lock(handle, path, say)
        yield Record(work, downlink, handle)
    finally:
        os.close(handle)


def _lock(handle: int, path: Path, say: Say) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say(f"waiting for the end of a submission command that a killed process left behind; it keeps {path}")
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        # A file system without such locks: then only the lock on the downlink keeps processes apart.
        if error.errno not in {errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL}:
            raise
