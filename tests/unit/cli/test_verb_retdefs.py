"""`halfpipe retdefs`: what it prints for people and for programs, and its exit statuses."""

import json
from pathlib import Path

import pytest

from halfpipe_simulator.scenario import FIRST_L0KEY, Scenario, Simulation
from tests.support.verbs import halfpipe

DL = "230401001"


@pytest.fixture
def simulation(tmp_path: Path) -> Simulation:
    return Scenario(seed=5, magic7=False).lpa_run(events=500, lost_datagrams=1).write(tmp_path / "sim")


def test_what_it_prints(simulation: Simulation) -> None:
    configfile = simulation.path / "config.yaml"
    ended = halfpipe("retdefs", DL, configfile=configfile)
    assert ended.exit_code == 0, ended.output
    lines = ended.stdout.splitlines()
    assert lines[0].split() == ["chunk", "run", "APID", "spans", "begin", "end"]
    assert len([line for line in lines if simulation.runs[0] in line]) == len(simulation.chunks)
    assert lines[-1].endswith(f" packets, {len(simulation.chunks)} chunks: nothing was written (no -o)")
    found = json.loads(halfpipe("retdefs", DL, "--json", configfile=configfile).stdout)
    assert found["l0keys"] == [FIRST_L0KEY]
    assert [chunk["chunk"] for chunk in found["chunks"]] == [chunk.number for chunk in simulation.chunks]
    assert (found["uncovered"], found["written"]) == ([], [])
    (gap,) = found["faults"]
    assert gap in lines


def test_what_no_retdef_covers_is_status_1(simulation: Simulation, tmp_path: Path) -> None:
    configfile = simulation.path / "config.yaml"
    simulation.retdef(simulation.chunks[-1]).unlink()
    ended = halfpipe("retdefs", DL, "-o", tmp_path / "out", configfile=configfile)
    assert ended.exit_code == 1
    assert f"run {simulation.runs[0]} ({simulation.runs[0].l1}), APID 957: " in ended.stdout
    assert f"are in the archive, and no RetDef of downlink {DL} covers them" in ended.stdout
    assert len(list((tmp_path / "out" / DL).iterdir())) == len(simulation.chunks)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--from", "yesterday"], "'yesterday' does not match the formats"),
        (["--l0key", "-5"], "-5 is not in the range"),
        (["--from", "2023-04-02", "--to", "2023-04-01"], "--from is not before --to"),
    ],
)
def test_what_cannot_be_meant_is_status_2(simulation: Simulation, words: list[str], said: str) -> None:
    ended = halfpipe("retdefs", DL, *words, configfile=simulation.path / "config.yaml")
    assert ended.exit_code == 2
    assert said in ended.stderr


def test_damage_is_told(simulation: Simulation) -> None:
    path = next(simulation.level0.rglob("s0077a0956*"))
    path.write_bytes(b"junk" + path.read_bytes())
    ended = halfpipe("retdefs", DL, configfile=simulation.path / "config.yaml")
    assert f"PktRetriever exception: {path} at byte 0: " in ended.stdout
