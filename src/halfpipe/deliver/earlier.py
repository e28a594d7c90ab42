"""The order in which downlinks that share a run deliver it, while each of them is a Slurm job of its own.

The downlink that delivers first gets the events that several contain, so the order of the ids gives the products that
single commands would make, one after another. A merge waits only for downlinks that have living jobs, so it cannot
wait for a downlink that has failed, or that Slurm has not started.
"""

import logging
import os
import time

from halfpipe import paths
from halfpipe.files import leases
from halfpipe.files.reading import names_in
from halfpipe.ids import DownlinkId, RunId
from halfpipe.plan.plan import Plan
from halfpipe.settings import Settings

MOST_SECONDS = 600.0  # of all waiting: a third of the shortest time limit of a Slurm job (profiles/s3df)
QUIET_SECONDS = 30.0  # without a living job of the other downlink: more than between two of its jobs

log = logging.getLogger(__name__)


def wait_for_earlier(settings: Settings, downlink: DownlinkId, run: RunId) -> None:
    """Wait until the downlinks with smaller ids that are in progress in other Slurm jobs have delivered `run`.

    Jobs of one host do not wait: they share its cores, so the other downlink might need those of this job.
    """
    if leases.SIDE_BY_SIDE not in os.environ:
        return
    work = settings.paths.work
    plan = Plan(settings)
    names = (name.removeprefix("downlink-") for name in names_in(work / paths.LEASES))
    first = sorted(DownlinkId(name) for name in names if DownlinkId.matches(name) and name < downlink)
    begun = time.monotonic()
    for each in [dl for dl in first if run in plan.of(dl).runs]:
        heard = now = time.monotonic()
        manifest = work / paths.manifest(run, each)
        while not manifest.exists() and (found := leases.look(work, paths.downlink_lease(each))):
            now = time.monotonic()
            heard = now if found.jobs else heard
            if not found.lives or now - heard > QUIET_SECONDS or now - begun > MOST_SECONDS:
                break
            time.sleep(leases.POLL_SECONDS)
        outcome = "has delivered it" if manifest.exists() else "has not delivered it"
        log.info("run %s: downlink %s %s; waited %.0f s", run, each, outcome, now - begun)
