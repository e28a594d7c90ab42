"""The records of the hand-off of a run to Online.

Each step has two records in a series (`halfpipe.files.records`): its intent, and its result. They distinguish a file of
a process that died from a file of another program, and a command with an unknown outcome from one that never started.
"""

import shlex
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.errors import Remedy
from halfpipe.files.records import Record
from halfpipe.ids import RunId
from halfpipe.process.attempts import Attempts


class OnlineState(StrEnum):
    """How far the hand-off of a run is. `NOT_STARTED`: its command must still run; `OPEN`: the outcome is unknown."""

    NOTHING = "nothing"
    MAKING = "making"
    NOT_STARTED = "not-started"
    OPEN = "open"
    DONE = "done"


class OnlineRecord:
    """What was done for one run.

    The name of a file is recorded as ``making`` before the file is written, and its description as ``made`` afterwards:
    the ``file`` as in a delivery, its ``ground_id`` and ``moot`` key and alias; the numbers of its ``datagrams`` by
    APID; the bytes of datagram lines of each downlink (``brought``); what was ``missing``, empty if nothing; and
    whether a command follows (``tell``). Only the attempts to run the command after the last ``made`` count.

    Attributes
    ----------
    attempts
        The attempts to run the command.
    """

    def __init__(
        self,
        work: Path,
        run: RunId,
        note: Callable[[str, Record], object] = lambda *_: None,
        *,
        only_look: bool = False,
    ) -> None:
        self.attempts = Attempts(
            work, paths.online_record(run), run, other=_is_made, after=note, only_look=only_look
        )

    @property
    def names(self) -> frozenset[str]:
        """The names of all files that were begun."""
        return frozenset(str(each["making"]) for each in self.attempts.others if "making" in each)

    @property
    def made(self) -> Mapping[str, Any] | None:
        """The description of the latest file; None without one."""
        return next((each["made"] for each in reversed(self.attempts.others) if "made" in each), None)

    @property
    def state(self) -> OnlineState:
        """How far the hand-off is."""
        if self.attempts.others and "making" in self.attempts.others[-1]:
            return OnlineState.MAKING
        if self.made is None:
            return OnlineState.NOTHING
        if not self.made["tell"] or self.attempts.last_confirmed:
            return OnlineState.DONE
        return OnlineState.OPEN if self.attempts.is_open else OnlineState.NOT_STARTED

    def unknown(self, how: str = "") -> Cause:
        """Return the cause of an open attempt; `how` is how the command ended, if this is known from running it."""
        run, last = self.attempts.id, self.attempts.every[-1]
        return Cause(
            "online",
            Verdict.ACTION,
            f"it is not known whether Online has the file of run {run}: {last.why_unknown(how)} "
            f"({self.attempts.path}): {shlex.join(last.command)}",
            Remedy(
                f"halfpipe online --started {run}",
                first="See whether Online has the file, and record that; if not, with --not-started",
            ),
            last.since,
        )


def _is_made(value: Mapping[str, Any]) -> bool:
    """Check a record of a file; return whether it is finished, so that earlier attempts do not count."""
    name = value["making"] if "making" in value else value["made"]["file"]["name"]
    if not isinstance(name, str):
        raise TypeError(name)
    return "made" in value
