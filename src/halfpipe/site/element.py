"""An element of `halfpipe process`: neighbouring downlinks one after the other, each in a process of its own.

That process is a fork of this one, in which all programs are loaded, so a downlink costs no start of a program beside
those of decoders. What kills it costs no other downlink.
"""

import json
import os
import signal
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from halfpipe.downlink.halts import HeldError
from halfpipe.downlink.one_process import Process
from halfpipe.errors import HalfPipeError, LockedError
from halfpipe.files import leases
from halfpipe.files.advice import DISK_FULL
from halfpipe.ids import DownlinkId, RunId
from halfpipe.process.failure import Failure, by_signal
from halfpipe.process.rule_program import leave
from halfpipe.settings import Settings
from halfpipe.status.failures import failed_jobs

FULL_SECONDS = 60.0  # between two tries of a downlink that finds a disk full
ENDS = HANDED_OFF, FAILED, WAITS, LEFT, FULL = "handed-off", "failed", "waits", "left", "full"
TOLD = (signal.SIGTERM, signal.SIGINT)  # what tells a process to end
BEGINNING = '{"downlink": '  # of the lines of an element's log that say how a downlink has ended


@dataclass(frozen=True)
class End:
    """How a downlink has ended, as a line of its element's log says it.

    Attributes
    ----------
    downlink
        The downlink.
    end
        `HANDED_OFF`, `FAILED`, `WAITS` for other downlinks that deliver a run first, `LEFT` alone, or `FULL`: a
        disk was full, and it is tried again.
    code, text
        Why.
    """

    downlink: DownlinkId
    end: str
    code: str = ""
    text: str = ""

    @classmethod
    def read(cls, line: str) -> Self | None:
        """Read a line of a log; None if it says something else."""
        if not line.startswith(BEGINNING):
            return None
        try:
            found = cls(**json.loads(line))
            return replace(found, downlink=DownlinkId(found.downlink))
        except (ValueError, TypeError, HalfPipeError):
            return None

    @classmethod
    def failed(cls, downlink: DownlinkId, why: Failure) -> Self:
        """Say that it failed, and why."""
        return cls(downlink, FULL if why.code == DISK_FULL else FAILED, why.code, why.text)

    def say(self) -> None:
        """Print the line."""
        print(json.dumps(asdict(self)), flush=True)  # noqa: T201 - its log


def process_all(
    settings: Settings, written: Path, entries: Iterable[Mapping[str, Any]], since: float
) -> None:
    """Process the downlinks of an element, and say of each how it has ended; one that finds a disk full waits.

    Parameters
    ----------
    settings, written
        The settings, and their file.
    entries
        Each a ``downlink``, and ``after``: by run the downlinks that deliver it first.
    since
        Unix time: what was made before it is made anew.
    """
    child, failed = _Child(), set[str]()
    for entry in entries:
        for first in entry["after"].values():
            first[:] = [dl for dl in first if dl not in failed]  # for which nobody waits
        while (end := _in_a_child(child, settings, written, entry, since)) == FULL:
            time.sleep(FULL_SECONDS)
        failed |= {entry["downlink"]} if end == FAILED else set()


def _in_a_child(
    child: "_Child", settings: Settings, written: Path, entry: Mapping[str, Any], since: float
) -> str:
    """Process a downlink in a child, which says how that has ended; return how."""
    signal.pthread_sigmask(signal.SIG_BLOCK, TOLD)  # until it is known whom to tell
    child.pid = os.fork()
    if not child.pid:
        _be_the_child(settings, written, entry, since)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, TOLD)
    status = os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1])
    child.pid = 0
    if child.told:
        raise SystemExit(128 + signal.SIGTERM)
    if 0 <= status < len(ENDS):
        return ENDS[status]
    code, text = "defect", "its process ended without a word, which is a defect of the program"
    if status < 0:
        code, text = Failure.by_signal(-status).code, f"its process was {by_signal(-status)}"
    End(DownlinkId(entry["downlink"]), FAILED, code, text).say()
    return FAILED


class _Child:
    """The child of this process, if it has one, which ends before it when it is told to."""

    def __init__(self) -> None:
        self.pid, self.told = 0, False
        for number in TOLD:
            signal.signal(number, self._end)

    def _end(self, number: int, frame: object) -> None:
        if not self.pid:
            leave(number, frame)
        self.told = True
        os.kill(self.pid, signal.SIGTERM)


def _be_the_child(settings: Settings, written: Path, entry: Mapping[str, Any], since: float) -> None:
    """Process the downlink, say how it has ended, and end."""
    status = len(ENDS)
    try:
        try:
            for number in TOLD:
                signal.signal(number, leave)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, TOLD)
            ended = _process(settings, written, entry, since)
            ended.say()
            status = ENDS.index(ended.end)
        finally:
            for number in TOLD:
                signal.signal(number, signal.SIG_IGN)
    finally:  # whatever it is told meanwhile
        leases.give_back_downlinks()
        os._exit(status)


def _process(settings: Settings, written: Path, entry: Mapping[str, Any], since: float) -> End:
    downlink = DownlinkId(entry["downlink"])
    after = {RunId(run): [DownlinkId(dl) for dl in first] for run, first in entry["after"].items()}
    one = Process(settings, written, downlink, since, after)
    if who := leases.in_work(settings.paths.work, downlink):  # nobody waits to find out whether it lives
        return End(downlink, LEFT, LockedError.code, f"it is in work by {who}")
    try:
        one.run(lambda line: print(line, flush=True))  # noqa: T201 - its log
    except (LockedError, HeldError) as error:
        return End(downlink, LEFT, error.code, str(error))
    except Exception as error:
        return End.failed(downlink, Failure.of(error))
    if one.done:
        return End(downlink, HANDED_OFF)
    jobs = failed_jobs(settings.paths.work, downlink)
    if one.waits_for and not jobs:
        return End(downlink, WAITS, text=", ".join(sorted(one.waits_for)))
    return End.failed(downlink, jobs[0].why if jobs else Failure("killed", "it ended before it was done"))
