"""Runs that an operator abandons: later data, and taking it back."""

import itertools

import pytest

from tests.support.golden_cases import build
from tests.support.workflow import Site

FIRST, SECOND = "240601001", "240601002"
RUN, L1 = "2c2e5787", "r0741234567"


@pytest.fixture
def open_run(site: Site) -> Site:
    """The first half of a run is delivered. Its last events wait for datagrams that may still arrive."""
    build("split2", site)
    site.process(FIRST)
    (run,) = site.receipt(FIRST)["runs"]
    assert (run["waiting"] > 0, run["complete"], run["abandoned"]) == (True, False, False)
    assert site.text("retired_runs", FIRST) == []
    return site


def sequences(site: Site, *downlinks: str) -> list[tuple[int, int]]:
    return sorted(tuple(span) for dl in downlinks for span in site.receipt(dl)["runs"][0]["spans"])


def test_later_events_of_an_abandoned_run_are_late_inside_its_spans_and_delivered_outside(
    open_run: Site,
) -> None:
    open_run.abandon("741234567")
    assert open_run.outstanding(FIRST) == frozenset(), "the list makes nothing outstanding"
    open_run.snakemake(f"dl={FIRST}", "-R", "deliver_run").good()
    open_run.process(SECOND)
    first, second = (open_run.receipt(dl)["runs"][0] for dl in (FIRST, SECOND))
    spans = sequences(open_run, FIRST, SECOND)
    assert all(one[1] < other[0] for one, other in itertools.pairwise(spans)), "nothing twice"
    assert first["delivered"] + second["delivered"] + second["late"] + second["waiting"] == second["known"]
    assert min(second["late"], second["delivered"]) > 0
    assert (second["complete"], second["abandoned"]) == (True, False)
    assert open_run.text("retired_runs", SECOND) == [f"{L1} COMPLETE"]
    open_run.snakemake(f"dl={FIRST}", "-R", "deliver_run").good()
    again = open_run.receipt(FIRST)["runs"][0]
    assert (again["delivered"], again["late"]) == (first["delivered"] + second["late"], 0)


def test_a_run_that_is_not_abandoned_any_more_keeps_its_spans(open_run: Site) -> None:
    path = open_run.abandon(f"0077014d-{RUN}")
    open_run.snakemake(f"dl={FIRST}", "-R", "deliver_run").good()
    given = sequences(open_run, FIRST)
    path.unlink()
    open_run.snakemake(f"dl={FIRST}", "-R", "deliver_run").good()
    (run,) = open_run.receipt(FIRST)["runs"]
    assert (run["abandoned"], sequences(open_run, FIRST)) == (False, given)
    assert open_run.text("retired_runs", FIRST) == []
