"""When each step of a downlink was done: what latency is told from. Nothing else depends on it.

Products hold no clock, so this is a file of its own, a line of JSON a step. What cannot be written or read of it is
passed over.
"""

import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from halfpipe.ids import DownlinkId
from halfpipe.storage import paths

MOST = 1 << 22  # bytes of a file that are read, from its end


class Step(StrEnum):
    """A step; `START` and `DECODED` come once a chunk, the others once a hand-off."""

    LAST_EVENT = "last_event"
    RETDEF = "retdef"
    START = "start"
    DECODED = "decoded"
    HANDED_OFF = "handed_off"
    SUBMITTED = "submitted"


def note(work: Path, downlink: DownlinkId, step: Step, at: float | None = None, **more: object) -> None:
    """Append a line: the step, when it was (Unix seconds; now without `at`), and what else is said of it.

    A full disk is no fault. One call of the system writes the line, so that jobs side by side do not mix theirs.
    """
    value = {"step": str(step), "at": round(time.time() if at is None else at, 3), **more}
    line = json.dumps(value, sort_keys=True).encode() + b"\n"
    with suppress(OSError):
        handle = os.open(work / paths.times(downlink), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(handle, line)
        finally:
            os.close(handle)


@dataclass(frozen=True)
class Latency:
    """When the steps of one hand-off were done, Unix seconds; None what is not known.

    Attributes
    ----------
    handoff
        Its number.
    last_event
        Of the events that it delivered, UTC.
    retdef
        When the youngest RetDef came.
    start, decoded
        When the first chunk was begun, and when the last one was decoded; of a hand-off for which none was, None.
    handed_off, submitted
        When its receipt was written, and when it was submitted, the first time.
    """

    handoff: int
    last_event: float | None = None
    retdef: float | None = None
    start: float | None = None
    decoded: float | None = None
    handed_off: float | None = None
    submitted: float | None = None

    @property
    def seconds(self) -> float | None:
        """From the youngest RetDef to the hand-off."""
        return _between(self.retdef, self.handed_off)

    @property
    def since_event(self) -> float | None:
        """From the last event to the submission, or to the hand-off where it was not submitted."""
        return _between(self.last_event, self.handed_off if self.submitted is None else self.submitted)


def _between(first: float | None, last: float | None) -> float | None:
    return None if first is None or last is None else last - first


def latencies(work: Path, downlink: DownlinkId) -> list[Latency]:
    """Return the times of each hand-off of a downlink in order."""
    found: dict[int, dict[str, float]] = {}
    begun: dict[str, float] = {}
    for line in _lines(work / paths.times(downlink)):
        with suppress(ValueError, TypeError, KeyError, RecursionError):
            value = json.loads(line)
            step, at = Step(value["step"]), float(value["at"])
            if step is Step.START:
                begun.setdefault(step, at)
            elif step is Step.DECODED:
                begun[step] = at
            else:
                of_handoff = found.setdefault(int(value["handoff"]), {})
                of_handoff.setdefault(step, at)
                if step is Step.HANDED_OFF:
                    for each, when in begun.items():
                        of_handoff.setdefault(each, when)
                    begun = {}
    return [Latency(number, **found[number]) for number in sorted(found)]


def latency(work: Path, downlink: DownlinkId) -> Latency | None:
    """Return the times of the first hand-off of a downlink: later ones come when somebody wants them."""
    return next(iter(latencies(work, downlink)), None)


def _lines(path: Path) -> list[Any]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - MOST))
            return file.read(MOST).split(b"\n")
    except OSError:
        return []
