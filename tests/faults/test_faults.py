"""Harm at any moment of a downlink: the same command again leaves the tree of an undisturbed run."""

import re
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest

from halfpipe.ids import RunId
from halfpipe.state.deliveries import Deliveries
from tests.support.crashes import (
    CRASHES,
    DEATHS,
    DISKS,
    FIRST,
    RUN,
    SECOND,
    STILL,
    Crash,
    Crashes,
    everything_flushed,
    sweep,
)
from tests.support.forks import ended, started
from tests.support.harness import differing, event_records
from tests.support.leases import leases as left
from tests.support.leases import time_passes
from tests.support.workflow import Job, Site

AGAIN = pytest.mark.parametrize("again", [False, True], ids=["first", "again"])
WAYS = [CRASHES, DEATHS, STILL, DISKS]
OFTEN = [pytest.param(16, marks=pytest.mark.workflow), pytest.param(1, marks=pytest.mark.faults)]


@pytest.mark.parametrize("every", OFTEN, ids=["some", "all"])
@pytest.mark.parametrize("ways", WAYS, ids=["crash", "death", "still", "disk"])
@AGAIN
def test_after_harm_the_same_command_leaves_the_same_tree(
    ways: Sequence[str], again: bool, every: int, tmp_path: Path
) -> None:
    assert sweep(tmp_path, again, every, ways) >= 10


@pytest.mark.parametrize("rules", [("decode_chunk",), ("decode_chunk", "deliver_run"), ()])
def test_a_machine_that_crashes_after_a_job_loses_nothing_of_it(rules: Sequence[str], tmp_path: Path) -> None:
    crashes = Crashes(Site(tmp_path / "site"), not rules, tmp_path)
    site, crashes.jobs = crashes.site, [each for each in crashes.jobs if not rules or each.job.rule in rules]
    held = everything_flushed(site, crashes.shadow)
    assert ended(started(crashes.process, site.home, shadow=crashes.shadow)) == 0
    done = site.tree()
    Crash(crashes.shadow, "nothing", Random()).happen(site)
    held.close()
    assert differing(site.tree(), done) == []


@pytest.mark.faults
@AGAIN
def test_after_harm_to_the_head_the_same_command_leaves_the_same_tree(again: bool, tmp_path: Path) -> None:
    assert sweep(tmp_path, again, 40, ("kill", "nothing", "chance"), head=True) >= 5


@pytest.mark.workflow
@pytest.mark.parametrize("late", [False, True], ids=["dead", "late"])
@AGAIN
def test_another_downlink_continues_after_an_interrupted_merge(
    again: bool, late: bool, tmp_path: Path
) -> None:
    """The merge was killed, or it stands still and continues afterwards."""
    crashes = Crashes(Site(tmp_path / "site"), again, tmp_path, others=again)
    site = crashes.site
    moments, of_first = crashes.moments(), site.listed(f"dl={FIRST}")
    if not again:
        site.by_hand(FIRST, jobs=of_first)
    whole = event_records(site.stage.glob("*/r*/*.evt"))
    assert len(whole) == 130
    merging = [
        at
        for at, moment in enumerate(moments, 1)
        if moment.startswith(("os.rename", "os.remove", "os.link")) and f"/runs/{RUN}/" in moment
    ]
    for name in ("datagrams.idx", "manifest.json"):
        assert any(name in moments[at - 1] for at in merging)

    def go_on() -> None:
        time_passes(site.work)
        site.by_hand(FIRST, jobs=of_first)
        site.by_hand(SECOND, jobs=crashes.jobs)

    for at in merging:
        if late:
            crashes.restore()
            crashes.overtake(at, go_on)
        else:
            crashes.happen(at, "kill")
            go_on()
        assert event_records(site.stage.glob("*/r*/*.evt")) == whole, moments[at - 1]
        recorded = Deliveries(site.work, RunId(RUN)).latest().values()
        assert sum(file.events for delivery in recorded for file in delivery.files) == len(whole)
        assert left(site.work) == []


@pytest.mark.workflow
def test_a_head_that_is_killed_while_it_removes_outputs_leaves_no_receipt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise there is a receipt without outputs, and nothing is outstanding."""
    monkeypatch.setattr(Site, "typing", False)
    crashes = Crashes(Site(tmp_path / "site"), again=True, home=tmp_path, others=False, head=True)
    moments = crashes.moments()
    receipt, output = (
        next(at for at, moment in enumerate(moments, 1) if re.fullmatch(rf"os\.remove .*/{name}", moment))
        for name in (f"dl={SECOND}", r"chunks/\d+\.json")
    )
    assert receipt < output
    crashes.happen(output + 1, "kill")
    assert not (crashes.site.work / f"dl={SECOND}").exists()
    assert Job("receipt", SECOND) in crashes.site.outstanding(SECOND)
