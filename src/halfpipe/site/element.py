"""An element of `halfpipe process`: neighbouring downlinks one after the other, each in a process of its own.

That process is a fork of this one, in which all programs are loaded, and its jobs are forks of it, side by side: a
downlink costs no start of a program beside those of decoders. What kills a process costs no other downlink.

That a downlink was handed off its receipt says. Why it was not, a record beside the logs of its jobs says, until it is
begun again.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.downlink.halts import HeldError
from halfpipe.downlink.one_process import Process
from halfpipe.errors import LockedError
from halfpipe.files.advice import DISK_FULL
from halfpipe.files.leases import Say
from halfpipe.ids import DownlinkId, RunId
from halfpipe.process import failure
from halfpipe.process.failure import Failure
from halfpipe.process.forks import side_by_side
from halfpipe.settings import Settings
from halfpipe.status.failures import failed_jobs
from halfpipe.status.recap import recap

# Codes of why a downlink was not handed off.
WAITS = "waits"  # for others that deliver a run first
LEFT = frozenset({HeldError.code, LockedError.code})  # it was left alone
LATER = frozenset({WAITS, DISK_FULL})  # it is given again,
MEMORY = frozenset({"killed", "memory"})  # and with more memory, which may mend it
_say: Say = partial(print, flush=True)  # into the log of the element


def process_all(
    settings: Settings,
    written: Path,
    entries: Iterable[Mapping[str, Any]],
    since: float,
    cores: int,
    *,
    submits: bool = False,
) -> None:
    """Process the downlinks of an element, and record of each that is not handed off why.

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
        why = _in_a_fork(one, one.submit if submits else one.run)
        _say(f"downlink {downlink}: {why.text if why else 'done'}")
        failed |= {downlink} if why and why.code not in LEFT | LATER | MEMORY else set()


def record(downlink: DownlinkId) -> str:
    """Return the log whose failure says why a downlink was not handed off, relative to `paths.work`."""
    return paths.log("process", downlink)


def _in_a_fork(one: Process, act: Callable[[Say], None]) -> Failure | None:
    """Process a downlink in a fork; return why it is not done, which is recorded then; None, it is done."""
    log = one.settings.paths.work / record(one.downlink)
    failure.forget(log)
    (status,) = side_by_side([partial(_process, one, act, log)])
    if not status:
        return None
    defect = Failure("defect", "its process ended without a word, which is a defect of the program")
    why = Failure.read(log) or (Failure.by_signal(-status) if status < 0 else defect)
    why.write(log)
    return why


def _process(one: Process, act: Callable[[Say], None], log: Path) -> int:
    """Process a downlink; return 0 if it is done, else record why it is not."""
    jobs = []
    try:
        act(_say)
        if one.done:
            return 0
        jobs = failed_jobs(one.settings.paths.work, one.downlink)
        why = jobs[0].why if jobs else Failure("killed", "it ended before it was done")
        if one.waits_for and not jobs:
            why = Failure(WAITS, f"it waits for {', '.join(sorted(one.waits_for))}")
    except Exception as error:
        why = Failure.of(error)
    why.write(log)
    if jobs:
        _say(recap(jobs, f"snakemake dl={one.downlink}", one.settings.paths.work))
    return 1
