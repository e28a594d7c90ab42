"""What was done to hand a run to Online: append-only, each step a line that is flushed.

The intent stands before the file and before the command, what came of it after. So a process that died
can be told from a file that somebody else put there, and a command whose end nobody saw from one that was
never started. As in the record of submissions the lines hold time and person, for they say what was done in
the world.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from halfpipe import paths
from halfpipe.files import JsonLines
from halfpipe.ids import RunId
from halfpipe.locks import Holder
from halfpipe.merge.journal import EventFile
from halfpipe.merge.settle import Ranges
from halfpipe.moot import Moot
from halfpipe.submission.record import By

FILE = re.compile(rf"[0-9a-f]{{8}}-({RunId.PATTERN})\.evt")  # as `paths.online_file` names them


class Step(StrEnum):
    """What a line says. `TELLING`: the command is about to be run."""

    MAKING = "making"
    MADE = "made"
    TELLING = "telling"
    TOLD = "told"


class Outcome(StrEnum):
    """How a command turned out."""

    STARTED = "started"
    NOT_STARTED = "not-started"
    FAILED = "failed"


class State(StrEnum):
    """How far the hand-off of a run is. `UNTOLD`: its command is still to be run; `OPEN`: nobody knows."""

    NOTHING = "nothing"
    MAKING = "making"
    UNTOLD = "untold"
    OPEN = "open"
    DONE = "done"


@dataclass(frozen=True)
class Made:
    """A file that was made.

    `brought` is how many bytes of datagram lines each downlink had brought, by its id; `missing` says what
    the run lacked, empty if nothing; `tell`, whether a command follows.
    """

    file: EventFile
    ground_id: int
    moot: Moot
    datagrams: Ranges
    brought: Mapping[str, int]
    missing: str
    tell: bool

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Self:
        """Read one from JSON."""
        return cls(
            EventFile.of(entry["file"]),
            int(entry["ground_id"]),
            Moot(entry["moot"]["key"], entry["moot"]["alias"]),
            {int(apid): tuple((a, b) for a, b in ranges) for apid, ranges in entry["datagrams"].items()},
            {str(downlink): int(size) for downlink, size in entry["brought"].items()},
            str(entry["missing"]),
            bool(entry["tell"]),
        )

    def as_json(self) -> dict[str, Any]:
        """Write it as JSON."""
        return {
            "file": self.file.as_json(),
            "ground_id": self.ground_id,
            "moot": {"key": self.moot.key, "alias": self.moot.alias},
            "datagrams": {str(apid): [list(pair) for pair in r] for apid, r in self.datagrams.items()},
            "brought": dict(self.brought),
            "missing": self.missing,
            "tell": self.tell,
        }


class Record:
    """What was done for one run; callers hold the lock of the hand-off.

    Parameters
    ----------
    work, run
        `paths.work` and the run; the file need not exist.

    Raises
    ------
    StateError
        If a line but the last, which may be torn, is damaged.
    """

    def __init__(self, work: Path, run: RunId) -> None:
        self.path = work / paths.online_record(run)
        self._lines = JsonLines(self.path)
        self.state = State.NOTHING
        self.names: set[str] = set()  # of all files that were begun
        self.made: Made | None = None  # the latest
        self.command: tuple[str, ...] = ()  # the latest that was to be run
        for number, value in enumerate(self._lines.values, 1):
            try:
                self._take(value)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise self._lines.damaged(number, repr(error)) from error

    def _take(self, value: Mapping[str, Any]) -> None:
        step = Step(value["step"])
        if step is Step.MAKING:
            self.names.add(str(value["name"]))
            self.state = State.MAKING
        elif step is Step.MADE:
            self.made = Made.of(value)
            self.state = State.UNTOLD if self.made.tell else State.DONE
        elif step is Step.TELLING:
            self.command = tuple(map(str, value["command"]))
            self.state = State.OPEN
        else:
            started = Outcome(value["outcome"]) is Outcome.STARTED
            self.state = State.DONE if started else State.UNTOLD

    def making(self, name: str) -> None:
        """Record that the file `name` is about to be written."""
        self._append(Step.MAKING, {"name": name})

    def has_made(self, made: Made) -> None:
        """Record that a file is in its place."""
        self._append(Step.MADE, made.as_json())

    def telling(self, command: Sequence[str]) -> None:
        """Record that a command is about to be run."""
        self._append(Step.TELLING, {"command": list(command)})

    def told(self, outcome: Outcome, by: By, status: int | None = None, said: Sequence[str] = ()) -> None:
        """Record how the command turned out, by its own answer or as a person says."""
        answer = {"status": status, "said": list(said)} if by is By.ANSWER else {}
        self._append(Step.TOLD, {"outcome": str(outcome), "by": str(by)} | answer)

    def _append(self, step: Step, value: dict[str, Any]) -> None:
        me = Holder.myself()
        now = datetime.now(UTC).isoformat(timespec="seconds")
        who = f"{me.user}, process {me.pid} on {me.host}"
        line = {"step": str(step), "when": now, "who": who} | value
        self._lines.append(line)
        self._take(line)


def files_there(home: Path) -> dict[RunId, str]:
    """Return the files of runs in the directory for Online, whoever made them."""
    if not home.is_dir():
        return {}
    names = sorted(path.name for path in home.iterdir())
    matches = [FILE.fullmatch(name) for name in names]
    return {RunId(match[1]): match[0] for match in matches if match}


def is_handed_off(work: Path, home: Path, run: RunId) -> bool:
    """Tell whether Online has got its file of a run: from us, or before us from somebody else.

    Raises
    ------
    StateError
        If the record is damaged.
    """
    record = Record(work, run)
    return run in files_there(home) if record.state is State.NOTHING else record.made is not None
