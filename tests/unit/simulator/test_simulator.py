"""The simulator: reproducible, honest about being simulated, and every option does what it says."""

import hashlib
import json
import subprocess
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.cli import get_argument_parser
from space_packet_parser.generators.ccsds import ccsds_generator

from halfpipe.errors import ConfigError
from halfpipe.formats import met
from halfpipe.formats.level0 import Retrieval, retrieve
from halfpipe.formats.retdef import read_retdef
from halfpipe_simulator.scenario import Scenario, Simulation
from tests.support.in_process import ROOT, called, module

ONE = ("230401001",)
TWO = ("230401001", "230401002")
THREE = ("230401001", "230401002", "230401003")


def scenario(downlinks: tuple[str, ...] = ONE, **options: Any) -> Scenario:
    return Scenario(seed=5, downlinks=downlinks, **options)


def packets(simulation: Simulation, apid: int) -> Retrieval:
    """Return all that the archive holds of an APID."""
    chunks = [chunk for chunk in simulation.chunks if chunk.apid == apid]
    span = (min(chunk.begin for chunk in chunks) / 1e6, max(chunk.end for chunk in chunks) / 1e6)
    return retrieve(simulation.level0, 77, apid, [span])


def carried(simulation: Simulation, downlink: int) -> list[list[Any]]:
    """Return the events [sequence, apid, datagram, utc] that a downlink brings of the only run."""
    of_downlink: Any = simulation.truth["carried"]
    return list(of_downlink[simulation.downlinks[downlink]].get(simulation.runs[0], []))


def chunks(simulation: Simulation, downlink: int = 0) -> list[tuple[int, list[int]]]:
    """Return APID and datagrams of each chunk of a downlink."""
    described: Any = simulation.truth["chunks"]
    return [(c["apid"], c["datagrams"]) for c in described if c["downlink"] == simulation.downlinks[downlink]]


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


def test_an_independent_parser_reads_the_archive(tmp_path: Path) -> None:
    simulation = Scenario(seed=5, l0keys=2).lpa_run(events=2000).write(tmp_path / "out")
    files = sorted(simulation.level0.rglob("s0077a*"))
    assert len(files) > 2
    counts = defaultdict(list)
    for path in files:
        apid = int(path.name[6:10])
        for packet in ccsds_generator(path.read_bytes()):
            assert (packet.version_number, packet.type, packet.secondary_header_flag) == (0, 0, 1)
            assert packet.apid == apid
            assert len(packet) == packet.data_length + 7
            counts[apid].append(packet.sequence_count)
    assert {956, 957} == set(counts)
    for apid in (956, 957):
        found = packets(simulation, apid)
        assert sorted(counts[apid]) == sorted(found.packets["count"].tolist())
        assert found.packets["count"].min() < 1000 < found.packets["count"].max()  # it wraps
        assert found.faults == ()


def test_retdefs_are_such_as_the_workflow_reads(tmp_path: Path) -> None:
    simulation = scenario(TWO).lpa_run(events=300, parts=2).write(tmp_path / "out")
    assert [chunk.number for chunk in simulation.chunks] == ["00001", "00002"] * 2
    for chunk in simulation.chunks:
        retdef = read_retdef(simulation.retdef(chunk))
        (span,) = retdef.spans
        assert (retdef.kind, retdef.scid, retdef.run, retdef.chunk) == ("LSEP", 77, chunk.run, chunk.number)
        assert (span.apid, round(span.begin * 1e6), round(span.end * 1e6)) == (
            chunk.apid,
            chunk.begin,
            chunk.end,
        )
        assert retdef.arch == "/nfs/farm/g/glast/u23/ISOC-flight/Archive/level0"


def test_config_moot_and_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Snakemake takes the profile, not config.yaml, and finds the config from wherever it is started."""
    place = tmp_path / "demo site" / "a week"
    simulation = scenario().lpa_run(events=100).write(place, config_root=tmp_path)
    config = yaml.safe_load((place / "config.yaml").read_text())
    home = "demo site/a week"
    assert config["moot"] == {"file": f"{home}/moot.txt"}
    assert config["paths"] == {
        "work": f"{home}/work",
        "stage": f"{home}/stage",
        "retdef": [f"{home}/downlinks"],
        "level0": f"{home}/level0",
    }
    (line,) = (place / "moot.txt").read_text().splitlines()
    assert (line.split()[0], len(line.split())) == (simulation.runs[0].l1, 3)
    monkeypatch.chdir(tmp_path)
    for profile, where in ((str(place), place), (f"{home}/", Path(home))):
        arguments = get_argument_parser(profiles=[profile]).parse_args(["dl=230401001"])
        assert (arguments.targets, arguments.cores) == (["dl=230401001"], 2)
        assert arguments.configfile == [where / "config.yaml"]


def test_a_directory_of_others_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("data")
    with pytest.raises(ConfigError, match="not made by the simulator"):
        scenario().lpa_run(events=100).write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


@pytest.mark.parametrize(("year", "leap"), [(2016, 1), (2021, 0)])
def test_last_minute_of_a_year(tmp_path: Path, year: int, leap: int) -> None:
    made = scenario(start=datetime(year, 12, 31, 23, 59, 30, tzinfo=UTC)).lpa_run(events=600)
    simulation = made.write(tmp_path / "out")
    events = carried(simulation, 0)
    assert len(events) == 600
    times = sorted(event[3] for event in events)
    midnight = datetime(year + 1, 1, 1, tzinfo=UTC).timestamp()
    assert times[0] < midnight < times[-1]
    # About 60 seconds of MET; one of them has no name in Unix time if a leap second is among them.
    assert simulation.runs[0].met == met.unix_to_met(midnight - 30)
    assert met.unix_to_met(times[-1]) - met.unix_to_met(times[0]) == pytest.approx(
        times[-1] - times[0] + leap, abs=1e-3
    )
    assert {path.parts[-5] for path in simulation.level0.rglob("s0077*")} == {str(year), str(year + 1)}


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


def test_program_by_default(tmp_path: Path) -> None:
    done = simulate("--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("SIMULATED")
    truth = json.loads((tmp_path / "out" / "truth.json").read_text())
    assert [run["kind"] for run in truth["runs"].values()] == ["LPA", "LPA", "LCI"]
    assert [run["complete"] for run in truth["runs"].values()] == [True, False, True]
    assert 6 <= len(truth["chunks"]) <= 8
    assert 19_000 < sum(chunk["events"] for chunk in truth["chunks"]) <= 20_000


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
    assert [run["kind"] for run in truth["runs"].values()] == ["LPA", "LPA", "LCI", "LCI", "LCI"]
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
