"""RetDefs made from simulated level-0: which packets are meant, what is told, and what is written where."""

import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.config import load
from halfpipe.downlink.plan import Plan
from halfpipe.errors import ConfigError, DecoderError, MissingInputError
from halfpipe.formats.retdef import OURS, read_retdef
from halfpipe.ids import DownlinkId, RunId
from halfpipe.repipe.made_retdefs import Found, asked_for, files_of, look, recorded_runs, write
from halfpipe.settings import RetDefs, Settings
from halfpipe_simulator.scenario import FIRST_L0KEY, FLIGHT_ARCHIVE, L0KEYS_PER_DOWNLINK, Scenario, Simulation

ONE, TWO = DownlinkId("230401001"), DownlinkId("230401002")
KEYS = {ONE: FIRST_L0KEY, TWO: FIRST_L0KEY + L0KEYS_PER_DOWNLINK}
SPAN = (1680314400.0, 1680325200.0)  # three hours around what is simulated


@pytest.fixture(scope="module")
def simulation(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    """Two downlinks, two runs; a lost packet, a lost datagram, and datagrams that come twice."""
    scenario = Scenario(seed=4, downlinks=(ONE, TWO), magic7=False)
    scenario.lpa_run(events=900, parts=1, lost_packets=1, lost_datagrams=1, repeated_datagrams=2)
    scenario.lpa_run(events=600, first=1, epus=(956, 957))
    return scenario.write(tmp_path_factory.mktemp("made") / "sim")


@pytest.fixture
def settings(simulation: Simulation, tmp_path: Path) -> Settings:
    """The simulated site's, with a search path that holds nothing."""
    (tmp_path / "retdefs").mkdir()
    found = load([simulation.path / "config.yaml"])
    return replace(found, paths=replace(found.paths, work=tmp_path / "work", retdef=(tmp_path / "retdefs",)))


def with_retdefs(settings: Settings, simulation: Simulation) -> Settings:
    return replace(settings, paths=replace(settings.paths, retdef=(simulation.path / "downlinks",)))


def made(
    settings: Settings, downlink: DownlinkId, *keys: int, span: tuple[float, float] | None = None
) -> Found:
    asked = asked_for(settings, downlink, keys, span or (None, None))
    return look(settings, asked, recorded_runs(settings, asked))


@pytest.mark.parametrize("downlink", [ONE, TWO])
def test_they_are_those_of_the_simulator(
    settings: Settings, simulation: Simulation, downlink: DownlinkId
) -> None:
    ours = made(settings, downlink, KEYS[downlink]).made()
    theirs = [
        read_retdef(simulation.retdef(chunk)) for chunk in simulation.chunks if chunk.downlink == downlink
    ]
    assert len(theirs) >= 3
    arch = str(simulation.level0)
    assert ours == [replace(each, maker=OURS, arch=arch) for each in theirs]


def test_the_key_and_the_archive_are_those_of_retdefs_that_are_there(
    settings: Settings, simulation: Simulation
) -> None:
    found = made(with_retdefs(settings, simulation), TWO)
    assert found.asked.keys == frozenset([KEYS[TWO]])
    assert (found.asked.arch, found.asked.root) == (FLIGHT_ARCHIVE, simulation.level0)
    assert found.uncovered == ()


def test_a_packet_that_no_retdef_covers_is_told(
    settings: Settings, simulation: Simulation, tmp_path: Path
) -> None:
    whole = made(settings, TWO, KEYS[TWO])
    left_out = whole.made()[-1]
    write(whole.made()[:-1], TWO, tmp_path / "retdefs")
    found = made(settings, TWO)
    (told,) = found.uncovered
    assert (told.run, told.apid) == (left_out.run, left_out.spans[0].apid)
    assert told.begin == pytest.approx(left_out.spans[0].begin, abs=1e-5)
    assert told.end == pytest.approx(left_out.spans[0].end, abs=1e-5)
    assert found.packets == whole.packets
    assert told.packets < whole.packets


def test_gaps_are_told(settings: Settings) -> None:
    """A packet and a datagram of several are missing."""
    assert sum("missing" in fault for fault in made(settings, ONE, KEYS[ONE]).faults) >= 2


def test_a_span_without_a_key_is_all_deliveries(settings: Settings) -> None:
    both = made(settings, ONE, span=SPAN)
    assert both.asked.keys is None
    assert {retdef.l0key for retdef in both.made()} == {-1}
    assert both.packets > made(settings, TWO, KEYS[TWO]).packets
    assert {chunk[0].run for chunk in both.chunks} == {RunId(run) for run in both_runs(settings)}


def both_runs(settings: Settings) -> set[RunId]:
    return {chunk[0].run for dl in (ONE, TWO) for chunk in made(settings, dl, KEYS[dl]).chunks}


@pytest.mark.parametrize(
    ("downlink", "keys", "span"),
    [
        (ONE, (), (None, None)),
        (ONE, (), (SPAN[0], None)),
        (ONE, (), SPAN[::-1]),
        (DownlinkId("990000001"), (KEYS[ONE],), (None, None)),  # no date
    ],
)
def test_what_is_meant_must_be_said(
    settings: Settings, downlink: DownlinkId, keys: tuple[int, ...], span: tuple[float | None, float | None]
) -> None:
    with pytest.raises(ConfigError):
        asked_for(settings, downlink, keys, span)


def test_an_archive_that_has_nothing_is_told(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(MissingInputError):
        made(settings, ONE, 5)
    for archive, error in ((tmp_path, MissingInputError), (None, ConfigError)):
        empty = replace(settings, paths=replace(settings.paths, level0=archive))
        with pytest.raises(error):
            made(empty, ONE, KEYS[ONE])


def test_a_span_that_is_too_long_is_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = asked_for(settings, ONE, (), SPAN)
    assert files_of(asked)
    monkeypatch.setattr("halfpipe.repipe.made_retdefs.MOST_HOURS", 0)
    with pytest.raises(ConfigError):
        files_of(asked)


def command(tmp_path: Path, body: str) -> RetDefs:
    program = tmp_path / "tells.py"
    program.write_text(body)
    return RetDefs(command=shlex.join([sys.executable, str(program)]))


@pytest.mark.parametrize(
    "line",
    [
        "",
        "702010205 7",
        "702010205 7 2 1",
        "x 7 1 2",
        "702010205 7 nan 2",
        "-1 7 1 2",
        "702010205 -2 1 2",
        "1 7 1 inf",
    ],
)
def test_a_command_that_prints_something_else_is_told(settings: Settings, tmp_path: Path, line: str) -> None:
    bad = replace(settings, retdef=command(tmp_path, f"print({line!r})"))
    with pytest.raises(DecoderError):
        made(bad, ONE, KEYS[ONE])


def test_a_command_that_fails_is_told(settings: Settings, tmp_path: Path) -> None:
    bad = replace(settings, retdef=command(tmp_path, "raise SystemExit(3)"))
    with pytest.raises(DecoderError):
        made(bad, ONE, KEYS[ONE])
    with pytest.raises(ConfigError):
        made(replace(settings, retdef=RetDefs(command=None)), ONE, KEYS[ONE])


def test_packets_of_no_known_run_are_told(settings: Settings, tmp_path: Path) -> None:
    silent = replace(settings, retdef=command(tmp_path, ""))
    found = made(silent, ONE, KEYS[ONE])
    assert found.chunks == ()
    assert {each.run for each in found.uncovered} == {None}
    assert sum(each.packets for each in found.uncovered) == found.packets


def test_what_was_made_before_is_replaced_and_what_is_the_sites_is_not(
    settings: Settings, tmp_path: Path
) -> None:
    out = tmp_path / "retdefs"
    retdefs = made(settings, TWO, KEYS[TWO]).made()
    write(retdefs, TWO, out)
    assert Plan(settings).of(TWO).chunks == tuple(retdef.chunk for retdef in retdefs)
    write(retdefs[:2], TWO, out)
    assert Plan(settings).of(TWO).chunks == tuple(retdef.chunk for retdef in retdefs[:2])
    write([replace(retdefs[0], maker="")], TWO, tmp_path / "theirs")
    theirs = tmp_path / "theirs" / paths.retdef(TWO, retdefs[0].chunk)
    before = theirs.read_bytes()
    with pytest.raises(ConfigError):
        write(retdefs, TWO, tmp_path / "theirs")
    assert [path.name for path in theirs.parent.iterdir()] == [theirs.name]
    assert theirs.read_bytes() == before
