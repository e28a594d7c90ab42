"""The record of a downlink's submissions to Level-1, and of the roll-backs of its stream."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from halfpipe.programs import told_once
from halfpipe.storage import paths


class Action(StrEnum):
    """What was to be done."""

    SUBMIT = "submit"
    ROLLBACK = "rollback"


@dataclass(frozen=True, kw_only=True)
class Attempt(told_once.Attempt):
    """One attempt at hand-off number `handoff`."""

    action: Action
    handoff: int


class Record(told_once.Record[Attempt]):
    """What was attempted for one downlink; the last one that was told is the hand-off that Level-1 has."""

    COMMAND = "a submission command"
    HEARD = "submitted"
    place = staticmethod(paths.submissions)

    def attempt(self, value: Mapping[str, Any]) -> Attempt:
        """Return the attempt that a line of an intent is of."""
        return Attempt(
            number=value["attempt"],
            command=tuple(map(str, value["command"])),
            when=value["when"],
            action=Action(value["action"]),
            handoff=int(value["handoff"]),
        )

    def append(self, value: dict[str, Any]) -> None:
        """Record and flush a line, with the number of its attempt."""
        super().append({"attempt": self._number(value)} | value)

    def _take(self, value: Mapping[str, Any]) -> None:
        if value["attempt"] != self._number(value):
            raise ValueError(value["attempt"])
        super()._take(value)

    def _number(self, value: Mapping[str, Any]) -> int:
        return len(self.attempts) + ("outcome" not in value)
