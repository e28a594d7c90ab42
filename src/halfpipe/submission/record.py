"""The record of a downlink's submissions to Level-1, and of the roll-backs of its stream."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from halfpipe.errors import HalfPipeError
from halfpipe.ids import DownlinkId
from halfpipe.programs import told_once
from halfpipe.programs.told_once import By, Outcome
from halfpipe.storage import paths
from halfpipe.storage.json_files import read_json


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
        """Return the attempt whose intent a record is."""
        return Attempt(
            number=len(self.attempts) + 1,
            command=tuple(map(str, value["command"])),
            when=str(value["when"]),
            seconds=float(value["seconds"]),
            action=Action(value["action"]),
            handoff=int(value["handoff"]),
        )


def lost(work: Path, record: Record) -> int | None:
    """Return the hand-off that ``submit=<id>`` says was submitted and no record does: both copies of it are gone."""
    with suppress(HalfPipeError, OSError, KeyError, TypeError, ValueError):
        number = int(read_json(work / paths.submitted(record.id))["submitted"])
        if number > (record.told.handoff if record.told else 0):
            return number
    return None


def keep(work: Path, downlink: DownlinkId) -> Record:
    """Return the record of a downlink; what only ``submit=<id>`` says is recorded again, before that goes.

    Whoever may remove that product calls this before, and whoever submits.
    """
    record = Record(work, downlink)
    if (number := lost(work, record)) is not None:
        action = Action.ROLLBACK if record.told else Action.SUBMIT
        record.done(Outcome.TOLD, By.PRODUCT, action=action, handoff=number)
    return record
