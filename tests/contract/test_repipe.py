"""A run that is processed alone, with RetDefs made from level-0, has the events that were delivered."""

import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from halfpipe import paths
from halfpipe.config import load
from halfpipe.errors import ConfigError, FormatError, MissingInputError
from halfpipe.formats import evt
from halfpipe.formats.retdef import read_retdef
from halfpipe.ids import DownlinkId, RunId
from halfpipe.ledger.database import Ledger
from halfpipe.ledger.tables import DEFAULTS
from halfpipe.repipe import run_alone, run_retdefs
from halfpipe.repipe.run_retdefs import retdefs_of
from halfpipe.run.deliveries import Deliveries
from halfpipe.run.downlinks_of_run import repipes
from halfpipe_simulator.scenario import Scenario, Simulation
from tests.support import in_process
from tests.support.harness import event_records
from tests.support.level1_accepts import level_1_takes
from tests.support.workflow import Site

DOWNLINKS = ("230401001", "230401002", "230401003")
FIRST, LAST = "990000001", "990009999"


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


def repiped(site: Site, run: RunId, *, waiting: bool = False) -> tuple[DownlinkId, Mapping[str, Any], Site]:
    """Re-pipe a run in this process; return its downlink, the result, and its own site."""
    downlink = run_alone.prepare(site.settings, run, waiting=waiting)
    configfile = site.work / paths.repipe_config(downlink)
    status, said = in_process.snakemake([paths.receipt(downlink), "-c2", "--configfile", str(configfile)])
    assert status == 0, said
    found, others = run_alone.finish(site.settings, run, downlink)
    assert others == []
    own = object.__new__(Site)  # without a new config
    own.home = site.work / paths.repipe(downlink)
    own.work, own.stage = own.home / "work", own.home / "stage"
    return downlink, found, own


@pytest.mark.parametrize("number", [pytest.param(0, marks=pytest.mark.workflow), 2])
def test_a_run_that_is_repiped_is_what_was_delivered_of_it(
    theirs: Site, simulation: Simulation, number: int
) -> None:
    run = simulation.runs[number]
    before = theirs.tree()
    downlink, found, own = repiped(theirs, run)
    assert downlink == FIRST
    assert [note["downlink"] for note in repipes(theirs.work, run)] == [downlink]
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
    assert f"{len(events):,} events" in theirs.halfpipe("show", run).good().said


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


def test_waiting_events_are_delivered_on_request(theirs: Site, simulation: Simulation) -> None:
    run = simulation.runs[1]
    settled = all_of(theirs, run)
    kept_back = theirs.receipt(DOWNLINKS[-1])["runs"]
    waiting = next(entry["waiting"] for entry in kept_back if entry["run"] == run)
    assert waiting > 0
    _, found, own = repiped(theirs, run, waiting=True)
    events = records(own.stage, FIRST, run)
    assert set(settled) < set(events)
    assert (len(events), found["waiting"]) == (len(settled) + waiting, 0)
    assert theirs.receipt(DOWNLINKS[-1])["runs"] == kept_back
    assert not (theirs.work / paths.FORCE).exists()


def test_the_retdefs_of_a_run_are_those_of_the_simulator(
    theirs: Site, simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = [read_retdef(simulation.retdef(chunk)) for chunk in simulation.chunks]
    run = simulation.runs[1]
    ours = [(each.kind, each.gndid, span) for each in retdefs_of(theirs.settings, run) for span in each.spans]
    assert ours
    assert ours == [(each.kind, each.gndid, span) for each in sent if each.run == run for span in each.spans]
    with monkeypatch.context() as changed:
        changed.setattr(run_retdefs, "MOST_HOURS", 2)
        with pytest.raises(FormatError):
            retdefs_of(theirs.settings, run)
    with pytest.raises(MissingInputError):  # no datagrams
        run_alone.prepare(theirs.settings, RunId.from_met(simulation.runs[0].met - 1), waiting=False)
    theirs.configure(paths={"level0": str(theirs.home)})
    with pytest.raises(MissingInputError):  # no packets
        retdefs_of(theirs.settings, simulation.runs[0])


def test_a_repipe_gets_the_moot_keys_of_the_ledger_in_a_file(theirs: Site, simulation: Simulation) -> None:
    theirs.halfpipe("ledger", "rebuild").good()
    row = {"tcompleted": datetime(2023, 1, 1), "moot_key": 77, "moot_alias": "nomSciOps"}
    Ledger.of(theirs.settings).write(lambda connection: connection.execute(insert(DEFAULTS).values(row)))
    theirs.configure(moot={"file": None, "mapping": True})
    run = simulation.runs[0]
    downlink = run_alone.prepare(theirs.settings, run, waiting=False)
    own = load([theirs.work / paths.repipe_config(downlink)])
    assert own.moot.file == theirs.work / paths.repipe_moot(downlink)
    assert own.moot.file.read_text() == f"{run.l1} 77 nomSciOps\n"
    assert (own.moot.mapping, own.ledger.url) == (False, None)


def test_an_id_is_used_once_and_an_interrupted_repipe_goes_on(theirs: Site, simulation: Simulation) -> None:
    run, other = simulation.runs[:2]
    assert run_alone.prepare(theirs.settings, run, waiting=False) == FIRST
    assert run_alone.prepare(theirs.settings, run, waiting=False) == FIRST
    assert run_alone.prepare(theirs.settings, run, waiting=True) == "990000002"
    shutil.rmtree(theirs.work / paths.repipe("990000002"))
    theirs.configure(repipe={"ids": [FIRST, FIRST]})
    with pytest.raises(ConfigError):
        run_alone.prepare(theirs.settings, other, waiting=False)
    theirs.configure(repipe={"ids": ["230401003", "230401004"]})  # a real downlink has the first
    assert run_alone.prepare(theirs.settings, other, waiting=False) == "230401004"


@pytest.mark.workflow
def test_the_verb(theirs: Site, simulation: Simulation) -> None:
    run = simulation.runs[0]
    said = theirs.halfpipe("process", run.l1, "--cores", "2").good().said
    assert f"as downlink {FIRST}: {len(all_of(theirs, run)):,} events in " in said
    theirs.configure(magic7={"command": "python no-such-program"})
    theirs.halfpipe("process", run, "--cores", "2").bad(str(theirs.work / paths.repipe_config("990000002")))
    # The same command goes on with the changed config.
    theirs.configure(magic7={"command": None})
    assert "downlink 990000002" in theirs.halfpipe("process", run, "--cores", "2").good().said
