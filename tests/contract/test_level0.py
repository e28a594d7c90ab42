"""Level-0 that is fetched, through the workflow: the same hand-off as from the archive, and no other inputs."""

import shutil
from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe_simulator.scenario import Scenario
from tests.support.workflow import Site

FIRST, SECOND = "230401001", "230401002"


@pytest.fixture
def made(site: Site) -> Site:
    """A site with a run of two downlinks, and a copy of its archive beside the archive."""
    scenario = Scenario(seed=2, downlinks=[FIRST, SECOND])
    simulation = site.simulate(scenario.lpa_run(events=400, parts=2, rate=0.5))
    shutil.copytree(simulation.level0, site.home / "copy")
    site.configure(
        level0={
            "fetch": f"sh -c 'cp {site.home}/copy/{{hour}}/s* {{out}}'",
            "cache": str(site.home / "cache"),
        },
    )
    return site


def hand_off(site: Site) -> dict[str, bytes]:
    return {name: content for name, content in site.tree().items() if name.startswith(("stage/", "work/dl="))}


def test_the_hand_off_is_the_same_and_nothing_is_outstanding_by_it(made: Site, tmp_path: Path) -> None:
    gone = made.clone(tmp_path / "gone")
    shutil.rmtree(gone.home / "simulated" / "level0" / "src0077")
    for site in (made, gone):
        site.process(FIRST)
        if site is gone:
            # What a merge needs of another downlink is decoded again, from the cache as well.
            for path in (site.work / paths.chunks(FIRST)).glob("*.evt"):
                path.unlink()
        site.process(SECOND)
    assert not (made.home / "cache").exists()
    assert list((gone.home / "cache").glob("src0077/*/*/*/utc*"))
    assert hand_off(gone) == hand_off(made)
    shutil.rmtree(gone.home / "cache")
    assert gone.outstanding(FIRST, SECOND) == frozenset()
