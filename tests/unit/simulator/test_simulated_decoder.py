"""scripts/simulated_decoder.py: what it makes of simulated level-0 is what the level-0 carries."""

import re
import subprocess
import sys
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from halfpipe.formats import evt, idx
from halfpipe.formats.evt import InfoType
from halfpipe_simulator import decoder
from halfpipe_simulator.scenario import Chunk, Scenario, Simulation

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "scripts" / "simulated_decoder.py"
TWO = ("230401001", "230401002")


def decode(simulation: Simulation, chunk: Chunk, out: Path, *options: str) -> list[Path]:
    """Decode one chunk; return the event files."""
    retdef = str(simulation.retdef(chunk))
    arguments = ["-r", retdef, "-o", str(out), "--level0", str(simulation.level0), *options]
    assert decoder.main(arguments) == 0
    return sorted(out.glob(f"*-{chunk.number}.evt"))


def events_of(path: Path) -> tuple[str, list[list[Any]]]:
    """Return run and events [sequence, apid, datagram, utc] of an event file, by way of its index."""
    index = idx.read_index(path.with_suffix(".idx"))
    file = evt.open_evt(path)
    offsets = evt.walk(file.data, path.name)
    contexts = evt.contexts(file.data, offsets)
    assert file.header["evtcnt"] == offsets.size
    assert file.header["runid"] in (230401001, 230401002)
    assert len(index.events) + len(index.lines) == path.with_suffix(".idx").read_bytes().count(b"\n")
    assert index.events["offset"].tolist() == offsets.tolist()
    assert set(index.files) <= {path.name}
    if offsets.size:
        assert file.header["gemseq_beg"] == index.events["sequence"][0]
        assert file.header["gemseq_end"] == index.events["sequence"][-1]
        assert file.header["secs_beg"] == contexts["current_timeSecs"][0]
        assert file.header["secs_end"] == contexts["current_timeSecs"][-1]
    for field, column in (
        ("scalers_sequence", "sequence"),
        ("ccsds_apid", "apid"),
        ("open_datagrams", "datagram"),
        ("ccsds_utc", "utc"),
    ):
        assert contexts[field].tolist() == pytest.approx(index.events[column].tolist(), abs=1e-6)
    return path.name[9:17], [
        [int(e["sequence"]), int(e["apid"]), int(e["datagram"]), round(float(e["utc"]), 6)]
        for e in index.events
    ]


def carried(simulation: Simulation, out: Path) -> dict[str, dict[str, list[list[Any]]]]:
    """Decode everything: the events by downlink and run."""
    found: dict[str, dict[str, list[list[Any]]]] = {dl: defaultdict(list) for dl in simulation.downlinks}
    for chunk in simulation.chunks:
        for path in decode(simulation, chunk, out / chunk.downlink):
            run, events = events_of(path)
            found[chunk.downlink][run] += events
    return {dl: {run: sorted(events) for run, events in runs.items()} for dl, runs in found.items()}


SCENES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "siu and spare": ({}, {"epus": (955, 958)}),
    "three epus": ({}, {"epus": (956, 957, 958)}),
    "two downlinks": ({"downlinks": TWO}, {"parts": 2}),
    "late epu": ({"downlinks": TWO}, {"late_epu": 957}),
    "epu without events": ({}, {"eventless_epu": 957}),
    "lost packets": ({}, {"lost_packets": 4}),
    "repeated packets": ({"l0keys": 2}, {"repeated_packets": 20}),
    "lost datagrams": ({}, {"lost_datagrams": 2}),
    "repeated datagrams": ({"downlinks": TWO}, {"parts": 2, "repeated_datagrams": 3}),
    "equal sequences": ({}, {"equal_sequences": 4, "equal_in_one": 4}),
    "orphans": ({}, {"orphaned_head": True, "orphaned_tail": True}),
    "no start, no stop": ({}, {"no_start": True, "no_stop": True}),
    "several files an hour": ({"l0keys": 4}, {"lost_packets": 2}),
    "small packets": ({"packet_size": 256}, {"lost_packets": 3}),
    "packets of a whole datagram": ({"packet_size": 65536}, {}),
    "2008": ({"start": datetime(2008, 9, 1, 2, 59, tzinfo=UTC)}, {}),
    "big sequences": ({}, {"first_sequence": 2**32 - 500}),
    "leap second": ({"start": datetime(2016, 12, 31, 23, 59, 30, tzinfo=UTC)}, {}),
    "new year": ({"start": datetime(2021, 12, 31, 23, 59, 30, tzinfo=UTC)}, {}),
    "all at once": (
        {"downlinks": TWO, "l0keys": 3},
        {"parts": 2, "lost_packets": 2, "repeated_packets": 5, "lost_datagrams": 2, "repeated_datagrams": 2},
    ),
}


@pytest.mark.parametrize("scene", SCENES)
def test_all_that_level0_carries_and_nothing_else(tmp_path: Path, scene: str) -> None:
    options, run = SCENES[scene]
    simulation = (
        Scenario(seed=11, magic7=False, **options).lpa_run(events=1000, **run).write(tmp_path / "sim")
    )
    assert carried(simulation, tmp_path / "out") == simulation.truth["carried"]


@pytest.mark.parametrize("kind", [InfoType.LCI_ACD, InfoType.LCI_CAL, InfoType.LCI_TKR])
def test_lci(tmp_path: Path, kind: InfoType) -> None:
    made = Scenario(seed=11, magic7=False).lci_run(kind, events=500, epus=(965, 966))
    simulation = made.write(tmp_path / "sim")
    assert carried(simulation, tmp_path / "out") == simulation.truth["carried"]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_scene(tmp_path: Path, data: st.DataObject) -> None:
    def count(highest: int) -> int:
        return data.draw(st.integers(0, highest))

    made = Scenario(seed=count(1000), downlinks=TWO, l0keys=1 + count(3), magic7=False)
    for _ in range(1 + count(1)):
        made.lpa_run(
            events=150 + count(300),
            parts=1 + count(1),
            per_datagram=10 + count(60),
            lost_packets=count(3),
            repeated_packets=count(5),
            lost_datagrams=count(2),
            repeated_datagrams=count(3),
            equal_sequences=count(2),
            equal_in_one=count(2),
            no_start=bool(count(1)),
            orphaned_tail=bool(count(1)),
        )
    simulation = made.write(tmp_path / "sim")
    truth: Any = simulation.truth["carried"]
    expected = {dl: {run: events for run, events in runs.items() if events} for dl, runs in truth.items()}
    out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
    found = carried(simulation, out)
    assert {
        dl: {run: events for run, events in runs.items() if events} for dl, runs in found.items()
    } == expected


@pytest.fixture
def simulation(tmp_path: Path) -> Simulation:
    return Scenario(seed=2, magic7=False).lpa_run(events=600).write(tmp_path / "sim")


def run_program(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_contract(simulation: Simulation, tmp_path: Path) -> None:
    chunk = simulation.chunks[0]
    done = run_program("-r", simulation.retdef(chunk), "-o", tmp_path / "o", "--level0", simulation.level0)
    assert done.returncode == 0, done.stderr
    assert "SIMULATED" in done.stdout
    name = f"00770100-{chunk.run}-0956-00001"
    assert re.search(rf"^getLSEChunk: processing {name}", done.stdout, re.MULTILINE)
    assert "exception" not in done.stdout
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == [f"{name}.evt", f"{name}.idx"]
    again = run_program("-r", simulation.retdef(chunk), "-o", tmp_path / "p", "--level0", simulation.level0)
    assert again.returncode == 0
    for path in (tmp_path / "o").iterdir():
        assert path.read_bytes() == (tmp_path / "p" / path.name).read_bytes()


def test_latc_goes_into_lpa_records_and_nowhere_else(simulation: Simulation, tmp_path: Path) -> None:
    chunk = simulation.chunks[0]
    (plain,) = decode(simulation, chunk, tmp_path / "a")
    (changed,) = decode(simulation, chunk, tmp_path / "b", "-k", "0xDEADBEEF")
    before, after = plain.read_bytes(), changed.read_bytes()
    file = evt.open_evt(plain)
    offsets = evt.walk(file.data, "plain")
    ends = [*offsets[1:].tolist(), len(before)]
    expected = bytearray(before)
    for end in ends:
        expected[end - 16 : end - 12] = (0xDEADBEEF).to_bytes(4, "little")
    assert after == bytes(expected)

    lci = Scenario(seed=2, magic7=False).lci_run(events=100).write(tmp_path / "lci")
    (plain,) = decode(lci, lci.chunks[0], tmp_path / "c")
    (changed,) = decode(lci, lci.chunks[0], tmp_path / "d", "-k", "1")
    assert plain.read_bytes() == changed.read_bytes()


def test_datagram_line_after_its_events(simulation: Simulation, tmp_path: Path) -> None:
    (path,) = decode(simulation, simulation.chunks[0], tmp_path / "o")
    waiting: list[list[str]] = []
    for line in path.with_suffix(".idx").read_text().splitlines():
        fields = line.split()
        if fields[0] == "EVT:":
            waiting.append(fields)
            continue
        assert len(fields) == 23
        assert {event[8] for event in waiting} == {fields[5]}
        assert [int(event[9]) for event in waiting] == list(range(int(fields[20])))
        assert {event[12] for event in waiting} == {fields[2]}
        waiting = []
    assert waiting == []


def test_a_run_that_the_retdef_does_not_name_is_decoded_too(tmp_path: Path) -> None:
    made = Scenario(seed=2, magic7=False).lpa_run(events=300).lpa_run(events=300)
    simulation = made.write(tmp_path / "sim")
    first, second = (chunk for chunk in simulation.chunks if chunk.apid == 956)
    retdef = simulation.retdef(first)
    text = retdef.read_text()
    retdef.write_text(re.sub('tend="[0-9.]+"', f'tend="{second.end / 1e6:.6f}"', text))
    files = decode(simulation, first, tmp_path / "o")
    assert [path.name[9:17] for path in files] == [first.run, second.run]
    assert all(events_of(path)[1] for path in files)


def test_several_spans_and_apids_in_one_retdef(simulation: Simulation, tmp_path: Path) -> None:
    one, other = simulation.chunks
    retdef = simulation.retdef(one)
    span = re.search("<span .*/>", simulation.retdef(other).read_text())
    assert span is not None
    retdef.write_text(retdef.read_text().replace("  </spans>", f"{span[0]}\n  </spans>"))
    files = decode(simulation, one, tmp_path / "o")
    assert [path.name[18:22] for path in files] == ["0956", "0957"]
    assert sum(len(events_of(path)[1]) for path in files) == 600


def test_a_datagram_without_events_makes_an_empty_event_file(tmp_path: Path) -> None:
    made = Scenario(seed=2, magic7=False).lpa_run(events=100, eventless_epu=957)
    simulation = made.write(tmp_path / "sim")
    (path,) = decode(simulation, simulation.chunks[1], tmp_path / "o")
    assert path.stat().st_size == evt.HEADER_SIZE
    assert evt.open_evt(path).header["evtcnt"] == 0
    assert len(idx.read_index(path.with_suffix(".idx")).datagrams) == 1


def archive_file(simulation: Simulation, apid: int = 956) -> Path:
    return min(simulation.level0.rglob(f"s0077a{apid:04d}t*"))


def test_damage_inside_a_payload_is_a_line_and_no_failure(
    simulation: Simulation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = archive_file(simulation)
    content = bytearray(path.read_bytes())
    content[300] ^= 0xFF
    path.write_bytes(content)
    (made,) = decode(simulation, simulation.chunks[0], tmp_path / "o")
    line = f"DFI exception: {path} at byte 0: the checksum does not fit: the datagram is damaged"
    assert line in capsys.readouterr().out.splitlines()
    numbers = idx.read_index(made.with_suffix(".idx")).datagrams["datagram"].tolist()
    assert numbers == list(range(1, numbers[-1] + 1))


def test_a_missing_hour_is_a_line_and_no_failure(
    simulation: Simulation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = archive_file(simulation)
    path.unlink()
    assert decode(simulation, simulation.chunks[0], tmp_path / "o") == []
    assert f"PktRetriever exception: {path.parent} at byte 0: " in capsys.readouterr().out


def test_what_is_no_archive_or_no_retdef_fails(simulation: Simulation, tmp_path: Path) -> None:
    retdef = simulation.retdef(simulation.chunks[0])
    for arguments, complaint in (
        (["-r", retdef, "-o", tmp_path / "o", "--level0", tmp_path / "no"], "no directory"),
        (["-r", tmp_path / "RetDef-230401001-00009.xml", "-o", tmp_path / "o"], "no such RetDef"),
        (["-r", Path(__file__), "-o", tmp_path / "o"], "not XML"),
    ):
        given_root = [] if "--level0" in arguments else ["--level0", simulation.level0]
        done = run_program(*arguments, *given_root)
        assert done.returncode == 1
        assert complaint in done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "o").exists()


def test_foreign_datagrams_are_reported_not_guessed(
    simulation: Simulation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = archive_file(simulation)
    path.write_bytes(path.read_bytes().replace(b"SIMULATED-LATDGM", b"\x00\x01\x02\x03FLIGHT-DATA."))
    assert decode(simulation, simulation.chunks[0], tmp_path / "o") == []
    assert "DFI exception" in capsys.readouterr().out


def test_what_is_made_does_not_depend_on_the_batch(
    simulation: Simulation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    for size in (1, 100_000, decoder.BATCH):
        monkeypatch.setattr(decoder, "BATCH", size)
        (path,) = decode(simulation, simulation.chunks[0], tmp_path / str(size))
        made.append((path.read_bytes(), path.with_suffix(".idx").read_bytes()))
    assert made[0] == made[1] == made[2]


@pytest.mark.parametrize("text", [b"a\nb\nc\nd\n", b"a\nlong\n\nd\n", b"\na\n\n\n", b"ab\nc\nd\n\n"])
def test_lines_of_any_length_are_dealt_out(text: bytes) -> None:
    lines = text.splitlines(keepends=True)
    parts = [bytes(part) for part in decoder._split(text, np.array([1, 0, 2, 1]))]
    assert parts == [lines[0], b"", lines[1] + lines[2], lines[3]]
    assert [bytes(part) for part in decoder._split(b"", np.array([0, 0]))] == [b"", b""]
