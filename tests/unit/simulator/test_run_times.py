"""scripts/simulated_runs.py: the runs of packets, whatever is damaged between."""

import subprocess
import sys
from pathlib import Path

import pytest

from halfpipe_simulator.scenario import Scenario, Simulation

ROOT = Path(__file__).parents[3]
SPAN = ("-b", "1680314400", "-e", "1680325200")


def runs(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(ROOT / "scripts" / "simulated_runs.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def simulation(tmp_path: Path) -> Simulation:
    scenario = Scenario(seed=2, magic7=False).lpa_run(events=400, close="abort")
    return scenario.lpa_run(events=400).write(tmp_path / "sim")


def printed(simulation: Simulation, apid: int = 956) -> list[list[str]]:
    done = runs("--arch", simulation.level0, "--scid", 77, "--apid", apid, *SPAN)
    assert (done.returncode, done.stderr) == (0, "")
    return [line.split() for line in done.stdout.splitlines()]


def test_a_line_for_each_run(simulation: Simulation) -> None:
    found = printed(simulation)
    chunks = [chunk for chunk in simulation.chunks if chunk.apid == 956]
    assert [int(line[0]) for line in found] == [run.met for run in simulation.runs]
    assert int(found[1][1]) == int(found[0][1]) + 1
    assert [(round(float(line[2]) * 1e6), round(float(line[3]) * 1e6)) for line in found] == [
        (chunk.begin, chunk.end) for chunk in chunks
    ]
    assert printed(simulation, 965) == []


def test_a_damaged_datagram_says_nothing_and_hides_nothing(simulation: Simulation) -> None:
    before = printed(simulation)
    (path,) = simulation.level0.rglob("s0077a0956*")
    content = bytearray(path.read_bytes())
    content[200] ^= 1  # inside the first datagram
    path.write_bytes(content)
    after = printed(simulation)
    assert [line[:2] for line in after] == [line[:2] for line in before]
    assert float(after[0][2]) > float(before[0][2])
    assert after[0][3] == before[0][3]
    assert after[1] == before[1]


def test_what_cannot_be_is_said(simulation: Simulation, tmp_path: Path) -> None:
    done = runs("--arch", tmp_path / "none", "--scid", 77, "--apid", 956, *SPAN)
    assert done.returncode == 1
    assert done.stderr.startswith("simulated_runs: ")
    assert runs("--arch", simulation.level0, "--scid", 77, "--apid", 956, "-b", 2, "-e", 1).returncode == 2
