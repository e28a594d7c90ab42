"""scripts/simulated_magic7.py: lines as Level-1 reads them, and nothing lost by damage beside it."""

import re
import subprocess
from pathlib import Path

import pytest

from halfpipe.formats import met
from halfpipe_simulator import attitude
from halfpipe_simulator.scenario import Scenario, Simulation
from tests.support.in_process import called

NUMBER = r"-?[0-9]+\.[0-9]{6}"
EXACT = r"-?[0-9.]+(?:e-?[0-9]+)?"
HEAD = r"([0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6})"
ATT = re.compile(rf"{HEAD} ATT ([0-9]+) ([0-9]+)((?: {EXACT}){{4}})(?: {NUMBER}){{3}}")
ORB = re.compile(rf"{HEAD} ORB ([0-9]+) ([0-9]+)((?: {NUMBER}){{6}}) 5 ([01])")


def window(
    simulation: Simulation, begin: float | str, end: float | str
) -> "subprocess.CompletedProcess[str]":
    return called(attitude.main, "--arch", simulation.level0, "--scid", 77, "-b", begin, "-e", end, "--lsm")


@pytest.fixture(scope="module")
def simulation(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    return Scenario(seed=2).lpa_run(events=200).write(tmp_path_factory.mktemp("magic7") / "sim")


def first_event(simulation: Simulation) -> float:
    return float(met.met_to_unix(simulation.runs[0].met))


def test_columns_and_rates(simulation: Simulation) -> None:
    begin = first_event(simulation) + 0.3
    done = window(simulation, begin, begin + 100)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert " ATT " in lines[0]
    attitudes = [match for line in lines if (match := ATT.fullmatch(line))]
    orbits = [match for line in lines if (match := ORB.fullmatch(line))]
    assert (len(attitudes), len(orbits)) == (500, 100)
    assert len(lines) == 600
    times = [int(m[2]) + int(m[3]) / 1e6 for m in attitudes]
    assert met.met_to_unix(times[0]) == pytest.approx(begin + 0.1)
    assert times == sorted(times)
    for match in attitudes:
        assert sum(float(q) ** 2 for q in match[4].split()) == pytest.approx(1, abs=1e-12)
    for match in orbits:
        assert match[3] == "0"
        position = [float(x) for x in match[4].split()[:3]]
        assert 6.8e6 < sum(x * x for x in position) ** 0.5 < 7.0e6
    for match in (attitudes[0], orbits[0]):
        shown = met.utc(met.met_to_unix(int(match[2]) + int(match[3]) / 1e6))
        assert match[1] == f"{shown:%Y-%m-%d %H:%M:%S.%f}"


def test_covers_the_window_of_a_hand_off(simulation: Simulation) -> None:
    first, last = (simulation.chunks[0].begin / 1e6, max(chunk.end for chunk in simulation.chunks) / 1e6)
    done = window(simulation, f"{first - 6000:.6f}", f"{last + 6000:.6f}")
    times = [int(line.split(" ")[3]) for line in done.stdout.splitlines()]
    assert met.met_to_unix(times[0]) == pytest.approx(first - 6000, abs=1)
    assert met.met_to_unix(times[-1]) == pytest.approx(last + 6000, abs=1)
    assert "exception" not in done.stderr


def test_missing_hours_and_damage_are_told_on_standard_error(tmp_path: Path) -> None:
    simulation = Scenario(seed=2).lpa_run(events=200).write(tmp_path / "sim")
    begin = first_event(simulation)
    hours = sorted(simulation.level0.rglob("s0077a1020*"))
    whole = window(simulation, begin - 5000, begin + 5000)
    hours[1].unlink()
    content = bytearray(hours[2].read_bytes())
    content[100] ^= 1
    hours[2].write_bytes(content)
    done = window(simulation, begin - 5000, begin + 5000)
    assert done.returncode == 0
    assert f"PktRetriever exception: {hours[1].parent} at byte 0: " in done.stderr
    assert f"DFI exception: {hours[2]} at byte 0: " in done.stderr
    assert set(done.stdout.splitlines()) < set(whole.stdout.splitlines())
    lost = len(whole.stdout.splitlines()) - len(done.stdout.splitlines())
    assert 6 * 3600 <= lost <= 6 * 3620


def test_says_simulated_where_level1_does_not_read(simulation: Simulation) -> None:
    done = window(simulation, first_event(simulation), first_event(simulation) + 1)
    assert "SIMULATED" in done.stderr
    assert "SIMULATED" not in done.stdout


def test_lines_do_not_depend_on_the_block(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begin = first_event(simulation) - 200.3
    arguments = ["--arch", str(simulation.level0), "--scid", "77", "-b", str(begin), "-e", str(begin + 500)]
    printed = []
    for block in (1, 7, 1000):
        monkeypatch.setattr(attitude, "BLOCK", block)
        assert attitude.main(arguments) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] == printed[2]
    assert printed[0].count("\n") == 500 * 6
