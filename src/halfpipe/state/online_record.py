"""The records of the hand-off of a run to Online.

Each step has two records in a series (`halfpipe.files.records`): its intent, and its result. They distinguish a file of
a process that died from a file of another program, and a command with an unknown outcome from one that never started.
"""

import shlex
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.errors import Remedy
from halfpipe.files.records import Record
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.intervals import Ranges
from halfpipe.state.attempts import Answer, Attempt, Attempts, Signed
from halfpipe.state.deliveries import EventFile


class OnlineState(StrEnum):
    """How far the hand-off of a run is. `NOT_STARTED`: its command must still run; `OPEN`: the outcome is unknown."""

    NOTHING = "nothing"
    MAKING = "making"
    NOT_STARTED = "not-started"
    OPEN = "open"
    DONE = "done"


class Making(Signed, frozen=True):
    """The record before a file is written: its name."""

    name: str


class Made(Signed, frozen=True):
    """The record after a file was written.

    Attributes
    ----------
    file
        The file, as in a delivery.
    ground_id, key, alias
        The ground id, and the MOOT key and alias of the run.
    datagrams
        The numbers of its datagrams, by APID.
    brought
        Bytes of datagram lines of each downlink.
    missing
        What was missing; empty if nothing.
    tell
        Whether a command follows.
    """

    file: EventFile
    ground_id: int
    key: int
    alias: str
    datagrams: Ranges
    brought: dict[DownlinkId, int]
    missing: str
    tell: bool


class OnlineRecord:
    """What was done for one run. Only the attempts to run the command after the last file count.

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
            work,
            paths.online_record(run),
            run,
            kinds=Attempt | Answer | Making | Made,
            begins=Made,
            after=note,
            only_look=only_look,
        )

    @property
    def names(self) -> frozenset[str]:
        """The names of all files that were begun."""
        return frozenset(each.name for each in self.attempts.others if isinstance(each, Making))

    @property
    def made(self) -> Made | None:
        """The record of the latest file; None without one."""
        return next((each for each in reversed(self.attempts.others) if isinstance(each, Made)), None)

    @property
    def state(self) -> OnlineState:
        """How far the hand-off is."""
        if self.attempts.others and isinstance(self.attempts.others[-1], Making):
            return OnlineState.MAKING
        if self.made is None:
            return OnlineState.NOTHING
        if not self.made.tell or self.attempts.last_confirmed:
            return OnlineState.DONE
        return OnlineState.OPEN if self.attempts.is_open else OnlineState.NOT_STARTED

    def unknown(self, how: str = "") -> Cause:
        """Return the cause of an open attempt; `how` is how the command ended, if this is known from running it."""
        run = self.attempts.id
        last = self.attempts.every[-1]
        return Cause(
            "online",
            Verdict.ACTION,
            f"it is not known whether Online has the file of run {run}: {last.why_unknown(how)} "
            f"({self.attempts.path}): {shlex.join(last.command)}",
            Remedy(
                f"halfpipe online {run} --settle started",
                first="See whether Online has the file, and record that; if not, as not-started",
            ),
            last.since,
        )
