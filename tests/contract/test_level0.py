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
    out = Scenario(seed=2, downlinks=[FIRST, SECOND], magic7=False).lpa_run(events=400, parts=2, rate=0.5)
    simulation = out.write(site.home / "simulated")
    shutil.copytree(simulation.level0, site.home / "copy")
    site.add_retdefs(simulation.path / "downlinks", FIRST, SECOND)
    site.configure(
        paths={"level0": str(simulation.level0)},
        magic7={"command": None},
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


def test_what_cannot_be_fetched_fails_the_job_and_says_why(made: Site) -> None:
    shutil.rmtree(made.home / "simulated" / "level0" / "src0077")
    (made.home / "copy").rename(made.home / "away")
    made.snakemake(f"dl={FIRST}").bad(
        "is not in the archive and cannot be fetched: the command of level0.fetch ended with exit status 1",
        "Nothing of this chunk was decoded.",
    )
    assert not made.has_receipt(FIRST)
    (made.home / "away").rename(made.home / "copy")
    made.process(FIRST)
    assert [cause for cause in made.receipt(FIRST)["chunks"] if cause["level0"]["missing"]] == []


def test_a_command_without_a_cache_is_refused(made: Site) -> None:
    made.configure(level0={"cache": None})
    made.snakemake("-n").bad("level0.fetch: it needs a cache. Name a directory")
