"""A run that is processed alone, with RetDefs made from level-0, has the events that were delivered."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from halfpipe import paths
from halfpipe.config import load
from halfpipe.errors import MissingInputError
from halfpipe.formats import evt
from halfpipe.formats.retdef import read_retdef
from halfpipe.ids import DownlinkId, RunId
from halfpipe.ledger.database import Ledger
from halfpipe.ledger.tables import DEFAULTS
from halfpipe.run import abandoned_runs
from halfpipe.run.deliveries import Deliveries
from halfpipe.run.merged_index import known_datagrams
from halfpipe.site import run_alone
from halfpipe.site.run_alone import MARGIN, _span, retdefs_of
from halfpipe_simulator.scenario import Scenario, Simulation
from tests.support import in_process
from tests.support.harness import event_records
from tests.support.level1_accepts import level_1_takes
from tests.support.workflow import Site

DOWNLINKS = ("230401001", "230401002", "230401003")
FIRST = "990000001"


@pytest.fixture(scope="module")
def simulation(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    """A run over two downlinks with a late EPU, losses and repeats; a run without end; a calibration run."""
    scenario = Scenario(seed=7, downlinks=DOWNLINKS)
    scenario.lpa_run(
        events=700,
        parts=2,
        late_epu=957,
        lost_packets=2,
        repeated_packets=10,
        lost_datagrams=1,
        repeated_datagrams=3,
    )
    scenario.lpa_run(events=600, first=2, no_stop=True)
    scenario.lci_run(events=300, first=2)
    return scenario.write(tmp_path_factory.mktemp("simulated"))


def site_of(home: Path, simulation: Simulation) -> Site:
    site = Site(home)
    site.use(simulation)
    return site


@pytest.fixture(scope="module")
def delivered(simulation: Simulation, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site that has processed all downlinks. Tests copy it and do not change it."""
    site = site_of(tmp_path_factory.mktemp("delivered"), simulation)
    site.add_retdefs(simulation.path / "downlinks", *DOWNLINKS)
    for downlink in DOWNLINKS:
        site.process(downlink)
    return site


@pytest.fixture
def theirs(delivered: Site, tmp_path: Path) -> Site:
    return delivered.clone(tmp_path / "theirs")


def records(stage: Path, pattern: str, run: RunId) -> list[bytes]:
    """Return the delivered records of a run; each must be there once."""
    found = event_records(stage.glob(f"{pattern}/{run.l1}/*.evt"))
    assert len(set(found)) == len(found)
    return found


def all_of(site: Site, run: RunId) -> list[bytes]:
    return records(site.stage, "[12]*", run)


def own_site(site: Site, downlink: DownlinkId) -> Site:
    """Return the site of a made-up downlink."""
    own = object.__new__(Site)  # without a new config
    own.home = (site.work / paths.repipe_config(downlink)).parent
    own.work, own.stage = own.home / "work", own.home / "stage"
    return own


def processed(site: Site, downlink: DownlinkId, *options: str) -> Mapping[str, Any]:
    """Process a made-up downlink in this process; return the only run in its receipt."""
    config = str(site.work / paths.repipe_config(downlink))
    status, said = in_process.snakemake([paths.receipt(downlink), "-c2", "--configfile", config, *options])
    assert status == 0, said
    (entry,) = own_site(site, downlink).receipt(downlink)["runs"]
    return dict(entry)


def repiped(site: Site, run: RunId) -> tuple[DownlinkId, Mapping[str, Any], Site]:
    """Re-pipe a run in this process; return its downlink, its entry in the receipt, and its own site."""
    downlink = run_alone.prepare(site.settings, run)
    return downlink, processed(site, downlink), own_site(site, downlink)


@pytest.mark.parametrize("number", [pytest.param(0, marks=pytest.mark.workflow), 2])
def test_a_run_that_is_repiped_is_what_was_delivered_of_it(
    theirs: Site, simulation: Simulation, number: int
) -> None:
    run = simulation.runs[number]
    before = theirs.tree()
    downlink, found, own = repiped(theirs, run)
    assert downlink == FIRST
    events = records(own.stage, FIRST, run)
    assert len(events) == sum(file["events"] for file in found["files"]) > 100
    assert events == all_of(theirs, run)
    # Level-1 accepts it, and only this run is staged.
    latest = Deliveries(own.work, run).latest()[DownlinkId(FIRST)]
    assert level_1_takes(latest.files)
    assert [path.name for path in (own.stage / FIRST).iterdir() if path.is_dir()] == [run.l1]
    texts = {path.name for path in (own.stage / FIRST).glob("*.txt")}
    wanted = ("delivered_events", "retired_runs", "event_gaps", "event_times", "moot_keys", "magic7")
    assert {paths.text(name, FIRST) for name in wanted} <= texts
    assert own.text("moot_keys", FIRST) == [line for dl in DOWNLINKS[-1:] for line in keys_of(theirs, run)]
    after = {name: content for name, content in theirs.tree().items() if "/repipe/" not in name}
    assert after == before, "the site has not changed"
    assert theirs.outstanding(*DOWNLINKS) == frozenset()


@pytest.mark.workflow
def test_a_repipe_over_a_leap_second_with_waiting_ends_and_all_kinds_of_runs(tmp_path: Path) -> None:
    downlinks = ("161231001", "161231002")
    scenario = Scenario(seed=8, downlinks=downlinks, start=datetime(2016, 12, 31, 23, 59, 30, tzinfo=UTC))
    scenario.lpa_run(
        events=900,
        parts=2,
        epus=(955, 958),
        waiting_head=True,
        waiting_tail=True,
        first_sequence=(1 << 32) - 200,
    )
    for kind in (evt.InfoType.LCI_ACD, evt.InfoType.LCI_CAL, evt.InfoType.LCI_TKR):
        scenario.lci_run(kind, events=200, first=1)
    simulation = scenario.write(tmp_path / "simulated")
    site = site_of(tmp_path, simulation)
    site.add_retdefs(simulation.path / "downlinks", *downlinks)
    for downlink in downlinks:
        site.by_hand(downlink)
    for run in simulation.runs:
        downlink, _, own = repiped(site, run)
        events = records(own.stage, downlink, run)
        assert events
        assert events == all_of(site, run)


def keys_of(site: Site, run: RunId) -> list[str]:
    lines = {
        line for path in site.stage.glob("23*/moot_keys_*.txt") for line in path.read_text().splitlines()
    }
    return sorted(line for line in lines if line.startswith(run.l1))


def test_waiting_events_are_delivered_if_the_run_is_abandoned_there(
    theirs: Site, simulation: Simulation
) -> None:
    run = simulation.runs[1]
    settled = all_of(theirs, run)
    kept_back = theirs.receipt(DOWNLINKS[-1])["runs"]
    waiting = next(entry["waiting"] for entry in kept_back if entry["run"] == run)
    assert waiting > 0
    downlink, _, own = repiped(theirs, run)
    abandoned_runs.abandon(own.work, run, "a test")
    found = processed(theirs, downlink, "-R", "deliver_run")
    events = records(own.stage, FIRST, run)
    assert set(settled) < set(events)
    assert (len(events), found["waiting"]) == (len(settled) + waiting, 0)
    assert theirs.receipt(DOWNLINKS[-1])["runs"] == kept_back
    assert not (theirs.work / paths.FORCE).exists()


def test_a_retdef_spans_the_run_up_to_the_middle_between_two_runs(
    theirs: Site, simulation: Simulation
) -> None:
    known = {
        run: sorted(known_datagrams(theirs.settings, run).rows["utc"].tolist()) for run in simulation.runs[:2]
    }
    (_, end), (begin, _) = ((times[0], times[-1]) for times in known.values())
    one, other = (
        {retdef.spans[0].apid: retdef for retdef in retdefs_of(theirs.settings, run)} for run in known
    )
    middle = (end + begin) / 2
    assert one.keys() == other.keys() == {956, 957}
    assert one[956].spans[0].end == min(middle, end + MARGIN)
    assert other[956].spans[0].begin == max(middle, begin - MARGIN)
    assert one[956].spans[0].begin == known[simulation.runs[0]][0] - MARGIN
    with pytest.raises(MissingInputError):  # no datagrams
        run_alone.prepare(theirs.settings, RunId.from_met(simulation.runs[0].met - 1))


def test_packets_between_two_runs_belong_to_the_nearer_one() -> None:
    assert _span((100.0, 200.0), []) == (100.0 - MARGIN, 200.0 + MARGIN)
    assert _span((100.0, 200.0), [(0.0, 90.0), (204.0, 300.0)]) == (95.0, 202.0)
    assert _span((100.0, 200.0), [(0.0, 100.0 - 3 * MARGIN), (10.0, 98.0), (150.0, 160.0)]) == (
        99.0,
        200.0 + MARGIN,
    )


def test_a_repipe_gets_the_moot_keys_of_the_ledger_in_a_file(theirs: Site, simulation: Simulation) -> None:
    theirs.halfpipe("ledger", "rebuild").good()
    row = {"tcompleted": datetime(2023, 1, 1), "moot_key": 77, "moot_alias": "nomSciOps"}
    Ledger.of(theirs.settings).write(lambda connection: connection.execute(insert(DEFAULTS).values(row)))
    theirs.configure(moot={"file": None, "mapping": True})
    run = simulation.runs[0]
    downlink = run_alone.prepare(theirs.settings, run)
    own = load([theirs.work / paths.repipe_config(downlink)])
    assert own.moot.file == theirs.work / paths.repipe_moot(downlink)
    assert own.moot.file.read_text() == f"{run.l1} 77 nomSciOps\n"
    assert (own.moot.mapping, own.ledger.url) == (False, None)


def test_an_id_is_used_once(theirs: Site, simulation: Simulation) -> None:
    ids = [run_alone.prepare(theirs.settings, run) for run in (*simulation.runs[:2], simulation.runs[0])]
    assert ids == [FIRST, "990000002", "990000003"]


@pytest.mark.workflow
def test_the_verb(theirs: Site, simulation: Simulation) -> None:
    run = simulation.runs[0]
    said = theirs.halfpipe("process", run.l1, "--cores", "2").good().said
    assert f"as downlink {FIRST}: {len(all_of(theirs, run)):,} events in " in said
    theirs.configure(magic7={"command": "python no-such-program"})
    theirs.halfpipe("process", run, "--cores", "2").bad(str(theirs.work / paths.repipe_config("990000002")))
    theirs.configure(magic7={"command": None})
    assert "downlink 990000003" in theirs.halfpipe("process", run, "--cores", "2").good().said


def test_an_epu_that_is_unknown_here_comes_from_the_archive(theirs: Site, simulation: Simulation) -> None:
    run = simulation.runs[0]
    chunks = [
        {"dl": dl, "chunk": chunk["chunk"], "reason": "a test"}
        for dl in DOWNLINKS[:2]
        for chunk in theirs.receipt(dl)["chunks"]
        if read_retdef(theirs.work / paths.retdef(dl, chunk["chunk"])).spans[0].apid == 957
    ]
    everything = all_of(theirs, run)
    theirs.configure(ignore={"chunks": chunks})
    _, found, own = repiped(theirs, run)
    assert records(own.stage, FIRST, run) == everything
    assert found["epus"] == [956, 957]
