"""The simulator: reproducible, honest about being simulated, and every option does what it says."""

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from halfpipe.errors import ConfigError
from halfpipe_simulator.scenario import Scenario
from tests.support.in_process import ROOT, called, module

ONE = ("230401001",)
TWO = ("230401001", "230401002")
THREE = ("230401001", "230401002", "230401003")


def scenario(downlinks: tuple[str, ...] = ONE, **options: Any) -> Scenario:
    return Scenario(seed=5, downlinks=downlinks, **options)


def digest(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.rglob("*")
        if path.is_file() and path.name != "config.yaml"
    }


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    def write(name: str, seed: int) -> dict[str, str]:
        made = Scenario(seed=seed, downlinks=TWO, l0keys=2)
        made.lpa_run(events=300, parts=2, lost_packets=1, repeated_packets=3, equal_sequences=2)
        made.lci_run(events=100)
        return digest(made.write(tmp_path / name).path)

    assert write("a", 1) == write("b", 1)
    assert write("a", 2) != write("b", 1)  # written over, too
    assert write("a", 1) == write("b", 1)


def test_everything_says_simulated(tmp_path: Path) -> None:
    simulation = scenario().lpa_run(events=100).write(tmp_path / "out")
    assert "simulated" in (simulation.path / "SIMULATED.txt").read_text()
    assert "SIMULATED" in json.loads((simulation.path / "truth.json").read_text())["note"]
    assert "SIMULATED" in (simulation.path / "config.yaml").read_text()
    assert "simulated" in (simulation.path / "moot.txt").read_text()
    for path in simulation.level0.rglob("s0077*"):
        assert b"SIMULATED" in path.read_bytes()[:64]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"late_epu": 957}, "needs 2 downlinks"),
        ({"parts": 2}, "needs 2 downlinks"),
        ({"repeated_datagrams": 1}, "needs 2 downlinks"),
        ({"late_epu": 958}, "not among"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        scenario().lpa_run(events=100, **options)


def simulate(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return called(module(str(ROOT / "scripts" / "simulate.py")).main, *arguments)


def test_program_with_every_flag(tmp_path: Path) -> None:
    done = simulate(
        *("--out", tmp_path / "out", "--seed", 3, "--downlinks", *THREE, "--events", 3000),
        *("--epus", 955, 958, "--lci", "acd", "cal", "tkr", "--lci-epus", 965, "--parts", 2),
        *("--close", "abort", "--l0keys", 2, "--rate", 20, "--big-sequences", "--leap-second-day"),
        *("--late-epu", 958, "--lost-packets", 1, "--repeated-packets", 2, "--lost-datagrams", 1),
        *("--repeated-datagrams", 1, "--equal-sequences", 2, "--equal-in-one", 2, "--orphaned-head"),
        *("--orphaned-tail", "--no-start", "--no-stop", "--config-root", tmp_path),
    )
    assert done.returncode == 0, done.stderr
    truth = json.loads((tmp_path / "out" / "truth.json").read_text())
    assert len({chunk["run"] for chunk in truth["chunks"]}) == 5
    assert sorted(truth["carried"]) == list(THREE)
    for flags in (("--year-change", "--eventless-epu", "956", "--whole"), ("--small-run-ids",)):
        assert simulate("--out", tmp_path / "b", "--events", 600, *flags).returncode == 0


@pytest.mark.parametrize(
    "words", [(), ("--downlinks", "23040100"), ("--late-epu", "957")], ids=["others", "id", "downlinks"]
)
def test_program_refuses(tmp_path: Path, words: tuple[str, ...]) -> None:
    if not words:
        (tmp_path / "precious").write_text("data")
    done = simulate("--out", tmp_path, *words)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
