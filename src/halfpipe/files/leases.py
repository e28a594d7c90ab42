"""The leases on downlinks and runs. Several people, jobs on several hosts, and cron may work at the same time.

A *head*, the Snakemake that a person or a timer started, holds the lease of each downlink that it processes. Its jobs
register under this lease. A new head waits for registered jobs of a head that was killed. `Lease.check` stops late
writes of these jobs, but it cannot stop Snakemake: inside a Slurm job of several rules, Snakemake removes the outputs
of each job right before the job starts (``Job.prepare`` in Snakemake 9.27), and runs `check_head` only once, when it
reads the workflow.

The lease of a run protects the state of the run, from its merge to its delivery.
"""

import atexit
import logging
import os
import time
from contextlib import AbstractContextManager
from pathlib import Path

from halfpipe import paths
from halfpipe.errors import LockedError
from halfpipe.files import heartbeat
from halfpipe.files.heartbeat import BEATS
from halfpipe.files.lease import Found, Lease, Say, look
from halfpipe.files.reading import names_in
from halfpipe.ids import DownlinkId, RunId
from halfpipe.settings import Settings

HEAD_VARIABLE = "HALFPIPE_HEAD"  # name of the heartbeat of the process that started this job

log = logging.getLogger(__name__)
_downlinks: dict[Path, Lease] = {}  # that this process holds as a head


def run_lease(settings: Settings, run: RunId, say: Say) -> Lease:
    """Wait for the lease of `run`, and take it."""
    return Lease.of(settings, paths.run_lease(run)).take(f"run {run}", say)


def hold_downlink(settings: Settings, downlink: DownlinkId, say: Say) -> Lease:
    """Take the lease of `downlink` until this process ends, unless this process has it. Its jobs work under this lease.

    Raises
    ------
    LockedError
        If another process works on the downlink.
    """
    lease = Lease.of(settings, paths.downlink_lease(downlink))
    if lease.home in _downlinks:
        return _downlinks[lease.home]
    if not _downlinks:
        atexit.register(release_downlinks)
    _downlinks[lease.home] = lease  # first, because a signal may end this process at any moment
    try:
        lease.take(f"downlink {downlink}", say, refuse=True)
    finally:
        if not lease.is_of_this_process:
            del _downlinks[lease.home]
    heart = heartbeat.hearts[lease.work]
    heart.ends_process = True
    os.environ[HEAD_VARIABLE] = heart.me.heart
    return lease


def release_downlinks() -> None:
    """Release the leases of `hold_downlink`. Jobs that are silent for three beats count as killed and are removed."""
    mine = [lease for lease in _downlinks.values() if lease.is_of_this_process]
    _downlinks.clear()
    silence = max((3 * lease.lifetime / BEATS for lease in mine), default=0.0)
    if any(found.jobs for lease in mine if (found := lease.look())):
        time.sleep(silence)
    for lease in mine:
        lease.remove_dead_jobs(silence)
        lease.release()
    heartbeat.end_all({lease.work for lease in mine})


def check_head(work: Path) -> None:
    """Make sure that the process that started this one, if any, still exists and was not replaced.

    Raises
    ------
    LockedError
        If it is gone, or another process has taken over.
    """
    head = os.environ.get(HEAD_VARIABLE, "")
    if head and heartbeat.touched(work, head) is None:
        raise LockedError(
            f"the process that started this job is gone ({work / paths.HEARTBEATS / head}): the job started too late "
            "and did nothing."
        )


def downlink_job(settings: Settings, downlink: DownlinkId) -> AbstractContextManager[Lease]:
    """Run a job of `downlink`: under the lease of the head that started this process, otherwise under its own.

    Raises
    ------
    LockedError
        If another process works on the downlink, or the head is gone.
    """
    lease, head = Lease.of(settings, paths.downlink_lease(downlink)), os.environ.get(HEAD_VARIABLE, "")
    return lease.under_head(head) if head else lease.take(f"downlink {downlink}", log.warning, refuse=True)


def in_progress(work: Path, downlink: DownlinkId) -> str | None:
    """Describe the other living process that works on `downlink`; None if there is none."""
    found = look(work, paths.downlink_lease(downlink))
    return str(found) if found is not None and found.lives and not found.ours else None


def all_leases(work: Path) -> list[Found]:
    """Return all leases that exist."""
    every = (look(work, f"{paths.LEASES}/{name}") for name in sorted(names_in(work / paths.LEASES)))
    return [each for each in every if each is not None]
