"""An element of `halfpipe process`: neighbouring downlinks one after the other, each in a process of its own.

That process is a fork of this one, in which all programs are loaded, and its jobs are forks of it, side by side: a
downlink costs no start of a program beside those of decoders. What kills a process costs no other downlink.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from halfpipe.downlink.halts import HeldError
from halfpipe.downlink.one_process import Process
from halfpipe.errors import LockedError
from halfpipe.files.advice import DISK_FULL
from halfpipe.files.leases import Say
from halfpipe.ids import DownlinkId, RunId
from halfpipe.process.failure import Failure
from halfpipe.process.forks import side_by_side
from halfpipe.settings import Settings
from halfpipe.status.failures import failed_jobs
from halfpipe.status.recap import recap

FULL_SECONDS = 60.0  # between two tries of a downlink that finds a disk full
ENDS = HANDED_OFF, FAILED, KILLED, WAITS, LEFT, FULL = (
    "handed-off",
    "failed",
    "killed",
    "waits",
    "left",
    "full",
)
MEMORY = frozenset({"killed", "memory"})  # codes of failures that more memory may mend
BEGINNING = '{"downlink": '  # of the lines of an element's log that say how a downlink has ended


@dataclass(frozen=True)
class End:
    """How a downlink has ended, as a line of its element's log says it.

    Attributes
    ----------
    downlink
        The downlink.
    end
        `HANDED_OFF`, `FAILED`, `KILLED`, which is tried again with more memory, `WAITS` for other downlinks that
        deliver a run first, `LEFT` alone, or `FULL`: a disk was full, and it is tried again.
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
            return cls(**json.loads(line))
        except (ValueError, TypeError):
            return None

    @classmethod
    def failed(cls, downlink: DownlinkId, why: Failure) -> Self:
        """Say that it failed, and why."""
        end = FULL if why.code == DISK_FULL else KILLED if why.code in MEMORY else FAILED
        return cls(downlink, end, why.code, why.text)


def process_all(
    settings: Settings,
    written: Path,
    entries: Iterable[Mapping[str, Any]],
    since: float,
    cores: int,
    *,
    submits: bool = False,
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
    cores
        How many jobs of a downlink there are at a time.
    submits
        Whether they are submitted, and nothing else is done.
    """
    failed = set[str]()
    for entry in entries:
        for first in entry["after"].values():
            first[:] = [dl for dl in first if dl not in failed]  # for which nobody waits
        downlink = DownlinkId(entry["downlink"])
        after = {RunId(run): [DownlinkId(dl) for dl in first] for run, first in entry["after"].items()}
        one = Process(settings, written, downlink, since, after, cores)
        act = one.submit if submits else one.run
        while (end := _in_a_fork(one, act)) == FULL:
            time.sleep(FULL_SECONDS)
        failed |= {downlink} if end == FAILED else set()


def _in_a_fork(one: Process, act: Callable[[Say], None]) -> str:
    """Process a downlink in a fork, which says how that has ended; return how."""
    (status,) = side_by_side([lambda: _say(_process(one, act))])
    if 0 <= status < len(ENDS):
        return ENDS[status]
    defect = Failure("defect", "its process ended without a word, which is a defect of the program")
    why = Failure.by_signal(-status) if status < 0 else defect
    return ENDS[_say(End.failed(one.downlink, why))]


def _say(ended: End) -> int:
    """Print the line that says how a downlink has ended; return the number of that end."""
    print(json.dumps(asdict(ended)), flush=True)  # noqa: T201 - its log
    return ENDS.index(ended.end)


def _process(one: Process, act: Callable[[Say], None]) -> End:
    work, downlink = one.settings.paths.work, one.downlink
    try:
        act(lambda line: print(line, flush=True))  # noqa: T201 - its log
    except (LockedError, HeldError) as error:
        return End(downlink, LEFT, error.code, str(error))
    except Exception as error:
        return End.failed(downlink, Failure.of(error))
    if one.done:
        return End(downlink, HANDED_OFF)
    if jobs := failed_jobs(work, downlink):
        print(recap(jobs, f"snakemake dl={downlink}", work), flush=True)  # noqa: T201
    if one.waits_for and not jobs:
        return End(downlink, WAITS, text=", ".join(sorted(one.waits_for)))
    return End.failed(downlink, jobs[0].why if jobs else Failure("killed", "it ended before it was done"))
