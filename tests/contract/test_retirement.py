"""Runs abandoned by an operator, through the workflow: delivered, retired, taken back, and what comes later."""

import itertools

import pytest

from tests.support.golden_cases import build
from tests.support.workflow import Site

FIRST, SECOND = "240601001", "240601002"
RUN, L1 = "2c2e5787", "r0741234567"


@pytest.fixture
def open_run(site: Site) -> Site:
    """The first half of a run is delivered: its last events wait for datagrams that may still come."""
    build("split2", site)
    site.process(FIRST)
    (run,) = site.receipt(FIRST)["runs"]
    assert (run["orphans"] > 0, run["complete"], run["given_up"]) == (True, False, False)
    assert site.text("retired_runs", FIRST) == []
    return site


def sequences(site: Site, *downlinks: str) -> list[tuple[int, int]]:
    return sorted(tuple(span) for dl in downlinks for span in site.receipt(dl)["runs"][0]["spans"])


def test_given_up_it_delivers_all_and_is_retired_incomplete(open_run: Site) -> None:
    (before,) = open_run.receipt(FIRST)["runs"]
    open_run.give_up("741234567")
    assert open_run.outstanding(FIRST) == frozenset(), "a file in the list makes nothing outstanding"
    open_run.snakemake(f"dl={FIRST}", "-R", "deliver_run").good()
    (run,) = open_run.receipt(FIRST)["runs"]
    assert (run["given_up"], run["complete"], run["orphans"]) == (True, False, 0)
    assert run["delivered"] == run["known"] == before["delivered"] + before["orphans"]
    assert open_run.text("retired_runs", FIRST) == [f"{L1} INCOMPLETE"]
    assert open_run.receipt(FIRST)["handoff"] == 2


def test_what_comes_after_it_is_late_inside_and_delivered_outside(open_run: Site) -> None:
    open_run.give_up(RUN)
    open_run.snakemake(f"dl={FIRST}", "-R", "deliver_run").good()
    open_run.process(SECOND)
    first, second = (open_run.receipt(dl)["runs"][0] for dl in (FIRST, SECOND))
    spans = sequences(open_run, FIRST, SECOND)
    assert all(one[1] < other[0] for one, other in itertools.pairwise(spans)), "nothing twice"
    assert first["delivered"] + second["delivered"] + second["late"] + second["orphans"] == second["known"]
    assert min(second["late"], second["delivered"]) > 0
    assert second["complete"]
    assert open_run.text("retired_runs", SECOND) == [f"{L1} COMPLETE"], "it is whole after all"
    open_run.snakemake(f"dl={FIRST}", "-R", "deliver_run").good()
    again = open_run.receipt(FIRST)["runs"][0]
    assert (again["delivered"], again["late"]) == (first["delivered"] + second["late"], 0)


def test_taken_back_the_rule_holds_again_and_the_spans_stay(open_run: Site) -> None:
    path = open_run.give_up(f"0077014d-{RUN}")
    open_run.snakemake(f"dl={FIRST}", "-R", "deliver_run").good()
    given = sequences(open_run, FIRST)
    path.unlink()
    open_run.snakemake(f"dl={FIRST}", "-R", "deliver_run").good()
    (run,) = open_run.receipt(FIRST)["runs"]
    assert (run["given_up"], sequences(open_run, FIRST)) == (False, given)
    assert open_run.text("retired_runs", FIRST) == []


def test_orphans_stay_where_the_config_forbids_them(open_run: Site) -> None:
    (before,) = open_run.receipt(FIRST)["runs"]
    open_run.configure(retire={"deliver_orphans": False})
    open_run.give_up(L1)
    open_run.snakemake(f"dl={FIRST}", "-R", "deliver_run").good()
    (run,) = open_run.receipt(FIRST)["runs"]
    assert (run["delivered"], run["orphans"]) == (before["delivered"], before["orphans"])
    assert open_run.text("retired_runs", FIRST) == [f"{L1} INCOMPLETE"]
