"""`find`: the downlinks with a time or a run, processed or outstanding."""

from collections.abc import Callable
from typing import Any

import pytest

from halfpipe import paths
from halfpipe.cli.printed import records
from halfpipe.formats import met
from halfpipe.ids import DownlinkId, RunId
from halfpipe.tables.site_frames import SiteFrames, find
from tests.support.series import damage
from tests.support.workflow import Site

RUN = RunId("2c2e5787")
FIRST, SECOND = DownlinkId("240601001"), DownlinkId("240601002")


@pytest.fixture
def half_done(worked: Callable[..., Site]) -> Site:
    return worked("split2", FIRST)


def found_on(site: Site, when: float | None, *runs: RunId, outstanding: bool = False) -> list[dict[str, Any]]:
    found, failed = find(site.settings, when, runs)
    assert failed == []
    return records(found[found["outstanding"] == outstanding])


def test_the_time_of_a_delivered_event(half_done: Site) -> None:
    (file,) = half_done.receipt(FIRST)["runs"][0]["files"]
    begin, last = file["seconds"]
    (one,) = records(SiteFrames(half_done.settings).files)
    assert (one["downlink"], one["run"], one["name"]) == (FIRST, RUN, file["name"])
    assert (one["events"], one["begin_met"], one["end_met"]) == (file["events"], begin, last + 1)
    for when in (begin, last, last + 0.9):
        assert found_on(half_done, when) == [one | {"outstanding": False}]
    assert found_on(half_done, begin - 1) == found_on(half_done, last + 1) == []


def test_a_time_in_an_outstanding_chunk(half_done: Site) -> None:
    outstanding = found_on(half_done, None, RUN, outstanding=True)
    assert {one["downlink"] for one in found_on(half_done, None, RUN)} == {FIRST}
    assert {one["downlink"] for one in outstanding} == {SECOND}
    for one in outstanding:
        at_begin = found_on(half_done, one["begin_met"], outstanding=True)
        assert one["name"] in {other["name"] for other in at_begin}
    assert found_on(half_done, min(each["begin_met"] for each in outstanding) - 1, outstanding=True) == []
    assert found_on(half_done, None, RunId("00000001")) == []
    half_done.by_hand(SECOND)
    assert found_on(half_done, None, RUN, outstanding=True) == []


def test_the_verb(half_done: Site) -> None:
    (begin, _) = half_done.receipt(FIRST)["runs"][0]["files"][0]["seconds"]
    utc = f"{met.utc_datetime(met.met_to_unix(begin)):%Y-%m-%dT%H:%M:%S}"
    by_time = [["--utc", utc], ["--utc", f"{utc}+00:00"], ["--met", str(begin)]]
    assert len({half_done.halfpipe("find", *words).good().said for words in by_time}) == 1
    said = half_done.told("find", "--run", "r0741234567")
    states = {one["downlink"]: (one["state"], one["outstanding"]) for one in said["found"]}
    assert (said["do"], states[FIRST]) == (f"snakemake dl={SECOND}", ("handed off 1", False))
    assert states[SECOND] == ("outstanding", True)
    assert half_done.halfpipe("find", "--met", "1").status == 1


def test_a_damaged_receipt_is_reported_and_hides_no_other_downlink(half_done: Site) -> None:
    damage(half_done.work, paths.receipts(FIRST))
    ended = half_done.halfpipe("find", "--run", RUN)
    assert ended.status == 1
    assert all(words in ended.said for words in (paths.receipts(FIRST), f"snakemake dl={SECOND}"))
