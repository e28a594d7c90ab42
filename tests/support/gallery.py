"""The pictures in docs/pictures: SIMULATED examples of runs, each on its own site.

``python -m tests.support.gallery DIRECTORY [NAME...]`` draws them.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from halfpipe.ids import DownlinkId, RunId
from halfpipe.pages.pictures import run_picture
from halfpipe.status.explanation import State
from halfpipe.status.survey import Survey
from halfpipe_simulator.scenario import Scenario
from tests.support.in_process import SIMULATE, as_in_a_process, module
from tests.support.workflow import Site

FIRST, SECOND, THIRD = (DownlinkId(f"23040100{n}") for n in (1, 2, 3))
NOW = 1680480000.0  # Unix seconds, 2023-04-03, so that pictures are the same on any day


def site_of(home: Path, made: Scenario, *downlinks: DownlinkId) -> Site:
    """Return a site with the RetDefs and level-0 of a scenario, and with some downlinks processed."""
    site = Site(home)
    site.simulate(made)
    for downlink in downlinks:
        site.by_hand(downlink)
    return site


def scenario(*downlinks: str) -> Scenario:
    """Return a scenario without runs yet."""
    return Scenario(seed=3, downlinks=downlinks or (FIRST,))


def clean_run(home: Path) -> Site:
    """A run that arrived completely."""
    return site_of(home, scenario().lpa_run(events=4000), FIRST)


def demo(home: Path) -> Site:
    """The downlink of `make demo`; one of its runs is open."""
    simulate = module(SIMULATE)
    words = ["--out", str(home), "--seed", "1", "--downlinks", FIRST]
    made: Scenario = simulate.scenario_of(simulate.parser().parse_args(words))
    return site_of(home, made, FIRST)


def gap(home: Path) -> Site:
    """Datagrams of one EPU that never arrived."""
    return site_of(home, scenario().lpa_run(events=4000, lost_datagrams=2), FIRST)


def waiting_tail(home: Path) -> Site:
    """A run with more data in the next downlink, which is not processed yet."""
    return site_of(home, scenario(FIRST, SECOND).lpa_run(events=4000, parts=2), FIRST)


def late_epu(home: Path) -> Site:
    """An EPU that arrived after the others were delivered."""
    made = scenario(FIRST, SECOND).lpa_run(events=4000, epus=(955, 956, 957), late_epu=957)
    return site_of(home, made, FIRST, SECOND)


def duplicate_chunk(home: Path) -> Site:
    """Datagrams that arrived with two downlinks."""
    made = scenario(FIRST, SECOND).lpa_run(events=4000, parts=2, repeated_datagrams=12)
    return site_of(home, made, FIRST, SECOND)


def lci_run(home: Path) -> Site:
    """A calibration run of one EPU."""
    return site_of(home, scenario().lci_run(events=2000), FIRST)


def refused_run(home: Path) -> Site:
    """A run that Level-1 would refuse: its last file would have a single event."""
    site = site_of(home, scenario().lpa_run(events=2001))
    site.configure(merge={"min_events": 1, "max_events": 1000, "chunk_scale": 1.0})
    site.by_hand(FIRST)
    return site


def missing_hour(home: Path) -> Site:
    """A level-0 hour of one EPU that was missing in the archive."""
    site = site_of(home, scenario().lpa_run(events=9000))
    max((home / "simulated" / "level0").glob("src0077/*/*/*/utc*/*0957*")).unlink()
    site.by_hand(FIRST)
    return site


CASES = (demo, clean_run, gap, waiting_tail, late_epu, duplicate_chunk, lci_run, refused_run, missing_hour)


def picture(site: Site) -> bytes:
    """Return the picture of a site's first run with undelivered events, or else of its first run."""
    survey = Survey(site.settings, NOW)
    runs = sorted(RunId(path.name) for path in (site.work / "runs").iterdir())
    return run_picture(survey, next((run for run in runs if State(survey, run).groups), runs[0]))


def main(out: Path, names: Sequence[str]) -> None:
    """Draw all cases, or those in `names`."""
    out.mkdir(exist_ok=True)
    for case in (case for case in CASES if not names or case.__name__ in names):
        with tempfile.TemporaryDirectory() as home, as_in_a_process(Path(home)):
            site = case(Path(home))
            name = f"run-{case.__name__}.svg".replace("_", "-")
            content = picture(site)
            (out / name).write_bytes(content)
            print(f"{name}: {len(content)} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), sys.argv[2:])
