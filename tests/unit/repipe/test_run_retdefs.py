"""RetDefs of one run made from simulated level-0: what they hold, and what is told when they cannot be made."""

import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from halfpipe.config import load
from halfpipe.errors import ConfigError, DecoderError, FormatError, MissingInputError
from halfpipe.formats.retdef import read_retdef
from halfpipe.ids import DownlinkId
from halfpipe.repipe import run_retdefs
from halfpipe.repipe.run_retdefs import retdefs_of
from halfpipe.settings import RetDefs, Settings
from halfpipe_simulator.scenario import Scenario, Simulation

ONE = DownlinkId("230401001")


@pytest.fixture(scope="module")
def simulation(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    """A downlink with two runs; a lost packet, and a lost datagram."""
    scenario = Scenario(seed=4, downlinks=(ONE,))
    scenario.lpa_run(events=900, parts=1, lost_packets=1, lost_datagrams=1)
    scenario.lpa_run(events=600, first=0, epus=(956, 957))
    return scenario.write(tmp_path_factory.mktemp("made") / "sim")


@pytest.fixture
def settings(simulation: Simulation, tmp_path: Path) -> Settings:
    """The simulated site's, with a search path that holds nothing."""
    found = load([simulation.path / "config.yaml"])
    return replace(found, paths=replace(found.paths, work=tmp_path / "work", retdef=(tmp_path,)))


def test_they_are_those_of_the_simulator(settings: Settings, simulation: Simulation) -> None:
    site = [read_retdef(simulation.retdef(chunk)) for chunk in simulation.chunks]
    for run in simulation.runs:
        ours = [(each.kind, each.gndid, each.spans) for each in retdefs_of(settings, run)]
        assert ours == [(each.kind, each.gndid, each.spans) for each in site if each.run == run]
        assert ours


def test_an_archive_that_has_nothing_is_told(
    settings: Settings, simulation: Simulation, tmp_path: Path
) -> None:
    for archive, error in ((tmp_path, MissingInputError), (None, ConfigError)):
        empty = replace(settings, paths=replace(settings.paths, level0=archive))
        with pytest.raises(error):
            retdefs_of(empty, simulation.runs[0])


def test_a_run_that_never_ends_is_refused(
    settings: Settings, simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_retdefs, "MOST_HOURS", 2)
    with pytest.raises(FormatError):
        retdefs_of(settings, simulation.runs[0])


GOOD = "702010205"
OTHER = (
    *("", "x 7 1 2", "-1 7 1 2", "1 7 1 inf"),
    *(f"{GOOD} {rest}" for rest in ("7", "7 2 1", "7 1 2 3", "7 nan 2", "-2 1 2")),
)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        *((f"print({line!r})", DecoderError) for line in OTHER),
        ("raise SystemExit(3)", DecoderError),
        ("", MissingInputError),
        (None, ConfigError),
    ],
)
def test_a_command_that_fails_or_prints_something_else_is_told(
    settings: Settings, simulation: Simulation, tmp_path: Path, body: str | None, error: type[Exception]
) -> None:
    program = tmp_path / "tells.py"
    program.write_text(body or "")
    command = None if body is None else shlex.join([sys.executable, str(program)])
    with pytest.raises(error):
        retdefs_of(replace(settings, retdef=RetDefs(command=command)), simulation.runs[0])
