"""`show --table waiting`: open and abandoned runs with their missing data."""

from typing import Any

from msgspec.structs import replace

from halfpipe.ids import DownlinkId, RunId
from halfpipe.state.deliveries import Deliveries
from halfpipe.state.downlinks_of_run import every_run
from halfpipe.status.survey import Survey
from halfpipe.tables import columns
from halfpipe.tables.frames import waiting_runs
from tests.support.golden_cases import build, copied
from tests.support.workflow import Site

RUN = RunId("2c2e5787")
STARTED = 1719541762.0  # 2024-06-28 02:29:22 UTC is MET 741234567, five leap seconds on


def found_on(site: Site, age: float = 1e6) -> list[Any]:
    survey = Survey(site.settings, STARTED + age)
    frame = columns.WAITING.frame(waiting_runs(survey, every_run(site.work), {}), times="met")
    return list(frame.reset_index().itertuples())


def test_an_open_run_until_it_is_complete(site: Site) -> None:
    build("split2", site, "240601001")
    (found,) = found_on(site)
    assert (found.run, found.kind, found.downlinks, found.last) == (RUN, "LPA", 1, "240601001")
    assert (found.state, found.started_met) == ("open", 741234567)
    assert all(f"EPU {apid} stops after datagram " in found.missing for apid in (956, 957))
    assert "its start" not in found.missing
    young = site.halfpipe("show", "--table", "waiting", "--days", "40000").good()
    assert young.out == "0 open runs older than 40000 days\n"
    ended = site.halfpipe("show", "--table", "waiting")
    assert ended.status == 1
    head, row, _ = ended.out.splitlines()
    assert row.startswith(f"{RUN}  r0741234567  LPA   2024-06-28T02:29:22Z    741234567  ")
    (one,) = site.told("show", "--table", "waiting")["waiting"]
    assert list(one) == head.split()
    assert (one["run"], one["started_met"], one["started"]) == (RUN, 741234567, "2024-06-28T02:29:22+00:00")

    site.abandon(RUN)
    ended = site.halfpipe("show", "--table", "waiting", "r0741234567")
    assert ended.status == 0
    assert "  abandoned  " in ended.out

    recorded = Deliveries(site.work, RUN)
    made = recorded.latest()[DownlinkId("240601001")]
    recorded.publish(replace(made, refused=("no text names it",), complete=True))
    assert len(found_on(site)) == 1, "the delivery of a refused run is not used"
    recorded.publish(replace(made, complete=True, state="of another state"))
    assert len(found_on(site)) == 1, "nor one that something has changed since"
    recorded.publish(made)

    site.by_hand("240601002")
    assert found_on(site) == []


def test_a_run_that_was_complete_until_another_epu_arrived(site: Site) -> None:
    home = copied("one_epu_then_other", site)
    path = max((home / "in" / "240601002").glob("*-0957-*.idx"))
    content = path.read_bytes()
    path.write_bytes(content.replace(b" stop ", b" none "))
    assert path.read_bytes() != content
    build(home, site)
    site.configure(merge={"min_epus": 1})
    site.by_hand("240601001")
    assert found_on(site) == []
    site.by_hand("240601002")
    assert Deliveries(site.work, RUN).latest()[DownlinkId("240601001")].complete
    (found,) = found_on(site)
    assert found.missing.startswith("EPU 957 stops after datagram ")
