"""What people decided: the series of records in `decisions/`, made by `halfpipe accept` and `ack` (docs/deciding.md).

The last record about a subject counts. A decision covers the number that a person looked at: if the number has grown
since, the problem is back. That a person has seen a problem is a decision about its facts, and ends when they change.
"""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Self

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.errors import HalfPipeError
from halfpipe.files.heartbeat import whoami
from halfpipe.files.records import Series, TakenError
from halfpipe.files.typed import Stored, values
from halfpipe.ids import ChunkId, DownlinkId, RunId

SITE = "site"  # in place of a downlink: what is seen of the whole site
_TRIES = 10  # two people decide at the same moment; more is a defect


class What(StrEnum):
    """What a person may decide."""

    LEFT_OUT = "left-out"
    EVENTS = "events"
    LEVEL0 = "level0"
    LATE = "late"
    SHRUNK = "shrunk"
    ABANDONED = "abandoned"
    SEEN = "seen"

    @property
    def is_counted(self) -> bool:
        """Whether a decision covers a number."""
        return self not in {What.LEFT_OUT, What.ABANDONED}


# What each decision of `halfpipe accept` is about.
DECIDED_OF: Mapping[str, str] = {
    What.LEFT_OUT: "a chunk",
    What.EVENTS: "a chunk",
    What.LEVEL0: "a chunk",
    What.LATE: "a run of a downlink",
    What.SHRUNK: "a run of a downlink",
    What.ABANDONED: "a run",
}


class UndecidedError(HalfPipeError):
    """A decision is not possible: nothing of this kind is open, or the number is another one."""

    code = "undecided"


@dataclass(frozen=True)
class Subject:
    """What a decision is about: a chunk or a run of a downlink, or a run.

    Its text is as in ``230401001/00003``, ``230401001/29d7d35d`` and ``29d7d35d``.
    """

    downlink: DownlinkId | None
    chunk: ChunkId | None = None
    run: RunId | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the text of a subject.

        Raises
        ------
        IdError
            If it is not one.
        """
        downlink, slash, of = text.rpartition("/")
        if not slash:
            return cls(None, run=RunId.parse(of))
        if ChunkId.matches(of):
            return cls(DownlinkId(downlink), chunk=ChunkId(of))
        return cls(DownlinkId(downlink), run=RunId.parse(of))

    @property
    def kind(self) -> str:
        """What the subject is, for messages."""
        if self.chunk is not None:
            return "a chunk"
        return "a run" if self.downlink is None else "a run of a downlink"

    def __str__(self) -> str:
        return "/".join(part for part in (self.downlink, self.chunk, self.run) if part is not None)


def offer(what: What, subject: Subject, number: int | None = None) -> str:
    """Return what a cause offers to accept, as `halfpipe accept` reads it: ``230401001/00003 events=12``."""
    return f"{subject} {what}" if number is None else f"{subject} {what}={number}"


class Decision(Stored, frozen=True):
    """One decision.

    Attributes
    ----------
    what, subject
        What was decided, and about what, as the text of a `Subject`.
    number
        The number that a person looked at; None if nothing is counted.
    reason, who, host, when
        Why; the login name and the host; UTC in ISO 8601.
    undone
        Whether this takes back the decision before.
    """

    what: What
    subject: str
    number: int | None
    reason: str
    who: str
    host: str
    when: str
    undone: bool = False

    @property
    def time(self) -> float:
        """When, Unix seconds."""
        return datetime.fromisoformat(self.when).timestamp()

    @property
    def why(self) -> str:
        """The reason, who decided, and when."""
        return f"{self.reason} ({self.who}, {self.when[:10]})"


@dataclass(frozen=True)
class Decisions:
    """The decisions in force, by what was decided and the text of the subject."""

    in_force: Mapping[tuple[What, str], Decision] = field(default_factory=dict)

    @classmethod
    def read(cls, work: Path) -> Self:
        """Read the decisions in a working directory.

        Raises
        ------
        DamagedError
            If a record is lost or damaged: then it is unknown what was decided.
        """
        return cls.of(Series(work, paths.DECISIONS))

    @classmethod
    def of(cls, series: Series) -> Self:
        """Return the decisions in force after the records of a series, which this reads."""
        last = dict[tuple[What, str], Decision]()
        for record in series.read():
            one = series.typed(record, Decision)
            last[one.what, one.subject] = one
        return cls({key: one for key, one in last.items() if not one.undone})

    def why(self, what: What, subject: Subject | str, number: int = 0) -> str | None:
        """Return why a person does without `number` of `subject`; None if nobody decided so."""
        one = self.in_force.get((what, str(subject)))
        is_covered = one is not None and (one.number is None or number <= one.number)
        return one.why if one is not None and is_covered else None

    def of_kind(self, *kinds: What) -> list[Decision]:
        """Return the decisions of some kinds, the oldest subject first."""
        return [one for one in self.in_force.values() if one.what in kinds]

    def seen(self, of: str, causes: Iterable[Cause]) -> tuple[Cause, ...]:
        """Return the causes of a downlink, or those of the `SITE`, with who works on them."""
        found = [(of, cause) for cause in causes]
        whys = {key: self.why(What.SEEN, key, number) for key, number in open_problems(found).items()}
        return tuple(replace(cause, seen=whys.get(problem(of, cause)) or "") for _, cause in found)

    def left_out(self, downlink: DownlinkId) -> Mapping[ChunkId, str]:
        """Return the chunks of a downlink that are left out, and why."""
        return self._left_out.get(downlink, {})

    @cached_property
    def _left_out(self) -> Mapping[DownlinkId, dict[ChunkId, str]]:
        found = dict[DownlinkId, dict[ChunkId, str]]()
        for (what, text), one in self.in_force.items():
            if what is What.LEFT_OUT:
                downlink, chunk = text.split("/")
                found.setdefault(DownlinkId(downlink), {})[ChunkId(chunk)] = one.why
        return found

    def is_abandoned(self, run: RunId) -> bool:
        """Tell whether a person decided not to wait for the missing data of a run."""
        return (What.ABANDONED, str(run)) in self.in_force


def problem(subject: str, cause: Cause) -> str:
    """Return what a person can work on, as ``230401001 level0-missing 230401001/00003 level0=2``.

    `subject` is a downlink, or a text that begins with `SITE`.
    """
    return f"{subject.split(maxsplit=1)[0]} {cause.facts}"


def open_problems(found: Iterable[tuple[str, Cause]]) -> Counter[str]:
    """Return the problems that need action, and how many causes each has; arguments as for `problem`."""
    return Counter(problem(*each) for each in found if each[1].verdict is Verdict.ACTION)


def decide(
    work: Path, what: What, subject: Subject | str, number: int | None, reason: str, *, undone: bool = False
) -> bool:
    """Publish a decision; return whether this changes anything.

    Raises
    ------
    UndecidedError
        If there is no decision to undo.
    HalfPipeError
        If the record cannot be written.
    """
    me = whoami()
    now = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds")
    decision = Decision(what, str(subject), number, reason, me.user, me.host, now, undone)
    for _ in range(_TRIES):
        series = Series(work, paths.DECISIONS)
        before = Decisions.of(series).in_force.get((what, str(subject)))
        if undone and before is None:
            raise UndecidedError(f"{what} of {subject} is not decided, so there is nothing to undo")
        if before is not None and not undone and (before.number, before.reason) == (number, reason):
            return False
        try:
            series.publish(values(decision))
        except TakenError:
            continue
        return True
    raise HalfPipeError(f"{work / paths.DECISIONS}: other processes publish all the time. Try again")
