"""scripts/simulated_decoder.py: what it makes of simulated level-0 is what the level-0 carries."""

import re
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from halfpipe.formats import evt, idx
from halfpipe_simulator import decoder
from halfpipe_simulator.scenario import Chunk, Scenario, Simulation

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
    assert file.header["evtcnt"] == offsets.size
    assert file.header["runid"] in (230401001, 230401002)
    assert len(index.events) + len(index.lines) == path.with_suffix(".idx").read_bytes().count(b"\n")
    assert index.events["offset"].tolist() == offsets.tolist()
    assert set(index.files) <= {path.name}
    if offsets.size:
        assert file.header["gemseq_beg"] == index.events["sequence"][0]
        assert file.header["gemseq_end"] == index.events["sequence"][-1]
        ends = evt.context_column(file.data, offsets[[0, -1]], "current_timeSecs").tolist()
        assert [file.header["secs_beg"], file.header["secs_end"]] == ends
    for field, column in (
        ("scalers_sequence", "sequence"),
        ("ccsds_apid", "apid"),
        ("open_datagrams", "datagram"),
        ("ccsds_utc", "utc"),
    ):
        found = evt.context_column(file.data, offsets, field).tolist()
        assert found == pytest.approx(index.events[column].tolist(), abs=1e-6)
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
    "late epu": ({"downlinks": TWO}, {"late_epu": 957}),
    "epu without events": ({}, {"eventless_epu": 957}),
    "equal sequences": ({}, {"equal_sequences": 4, "equal_in_one": 4}),
    "leap second": ({"start": datetime(2016, 12, 31, 23, 59, 30, tzinfo=UTC)}, {}),
    "all at once": (
        {"downlinks": TWO, "l0keys": 3},
        {"parts": 2, "lost_packets": 2, "repeated_packets": 5, "lost_datagrams": 2, "repeated_datagrams": 2},
    ),
}


@pytest.mark.parametrize("scene", SCENES)
def test_all_that_level0_carries_and_nothing_else(tmp_path: Path, scene: str) -> None:
    options, run = SCENES[scene]
    simulation = Scenario(seed=11, **options).lpa_run(events=400, **run).write(tmp_path / "sim")
    assert carried(simulation, tmp_path / "out") == simulation.truth["carried"]


@pytest.fixture
def simulation(tmp_path: Path) -> Simulation:
    return Scenario(seed=2).lpa_run(events=600).write(tmp_path / "sim")


def test_a_run_that_the_retdef_does_not_name_is_decoded_too(tmp_path: Path) -> None:
    made = Scenario(seed=2).lpa_run(events=300).lpa_run(events=300)
    simulation = made.write(tmp_path / "sim")
    first, second = (chunk for chunk in simulation.chunks if chunk.apid == 956)
    retdef = simulation.retdef(first)
    text = retdef.read_text()
    retdef.write_text(re.sub('tend="[0-9.]+"', f'tend="{second.end / 1e6:.6f}"', text))
    files = decode(simulation, first, tmp_path / "o")
    assert [path.name[9:17] for path in files] == [first.run, second.run]
    assert all(events_of(path)[1] for path in files)


def archive_file(simulation: Simulation, apid: int = 956) -> Path:
    return min(simulation.level0.rglob(f"s0077a{apid:04d}t*"))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("bit", "DFI exception: {path} at byte 0: "),
        ("foreign", "DFI exception: "),
        ("gone", "PktRetriever exception: {path.parent} at byte 0: "),
    ],
)
def test_damage_is_a_line_and_no_failure(
    how: str, said: str, simulation: Simulation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = archive_file(simulation)
    content = bytearray(path.read_bytes())
    content[300] ^= 0xFF
    if how == "gone":
        path.unlink()
    elif how == "bit":
        path.write_bytes(content)
    else:
        path.write_bytes(path.read_bytes().replace(b"SIMULATED-LATDGM", b"\x00\x01\x02\x03FLIGHT-DATA."))
    made = decode(simulation, simulation.chunks[0], tmp_path / "o")
    assert said.format(path=path) in capsys.readouterr().out
    if how == "bit":
        numbers = idx.read_index(made[0].with_suffix(".idx")).datagrams["datagram"].tolist()
        assert numbers == list(range(1, numbers[-1] + 1))
    else:
        assert made == []


def test_what_is_no_archive_or_no_retdef_fails(simulation: Simulation, tmp_path: Path) -> None:
    retdef = simulation.retdef(simulation.chunks[0])
    for of, root in (
        (retdef, tmp_path / "no"),
        (tmp_path / "RetDef-230401001-00009.xml", simulation.level0),
        (Path(__file__), simulation.level0),
    ):
        assert decoder.main(["-r", str(of), "-o", str(tmp_path / "o"), "--level0", str(root)]) == 1
    assert not (tmp_path / "o").exists()


def test_what_is_made_does_not_depend_on_the_batch(
    simulation: Simulation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    for size in (1, 100_000, decoder.BATCH):
        monkeypatch.setattr(decoder, "BATCH", size)
        (path,) = decode(simulation, simulation.chunks[0], tmp_path / str(size))
        made.append((path.read_bytes(), path.with_suffix(".idx").read_bytes()))
    assert made[0] == made[1] == made[2]
