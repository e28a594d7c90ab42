"""A simulated and processed month of downlinks, for the tests of frames and the notebook in the documentation.

``python -m tests.support.month DIRECTORY WEEKS`` makes one.
"""

import os
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from halfpipe import paths
from halfpipe_simulator.scenario import Scenario, Simulation
from tests.support.workflow import Site

START = datetime(2023, 4, 1, 2, 50, tzinfo=UTC)
MEDIAN_LATENCY = 2.5 * 3600  # seconds, SIMULATED


def simulated_month(
    home: Path, weeks: int = 4, start: datetime = START, events: int = 400
) -> tuple[Site, list[Simulation]]:
    """Simulate two downlinks in each week, process them, and set the times of hand-offs to SIMULATED ones.

    Each week has a run in both downlinks with a lost and a repeated datagram, a run in the second downlink that stays
    open every other week, and an LCI run.
    """
    site = Site(home, {"submit": {"command": "true {dl}"}})
    made = []
    latency = np.random.default_rng(1).lognormal(np.log(MEDIAN_LATENCY), 0.5, 2 * weeks)
    for week in range(weeks):
        begin = start + timedelta(days=7 * week)
        names = [f"{begin:%y%m%d}00{n}" for n in (1, 2)]
        scenario = Scenario(seed=week, downlinks=names, start=begin)
        scenario.lpa_run(events=events, parts=2, lost_datagrams=1, repeated_datagrams=1)
        scenario.lpa_run(events=events, first=1, no_stop=week % 2 == 0)
        scenario.lci_run(events=100, first=0)
        simulation = scenario.write(home / "simulated" / f"{week}")
        shutil.copytree(simulation.level0, home / "level0", dirs_exist_ok=True)
        site.use(simulation)
        site.configure(paths={"level0": str(home / "level0")})
        site.add_retdefs(simulation.path / "downlinks", *names)
        site.process(*names)
        for name, seconds in zip(names, latency[2 * week :], strict=False):
            last = max(run.delivery.times[1] for run in site.receipt(name).runs if run.delivery.times)
            os.utime(site.work / paths.receipts(name) / "000001.json", (last + seconds,) * 2)
        made.append(simulation)
    return site, made


if __name__ == "__main__":
    simulated_month(Path(sys.argv[1]), int(sys.argv[2]))
