"""The simulator and its two programs: reproducible, honest about being simulated, and true to what it says."""

import hashlib
import re
import struct
import subprocess
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfpipe.formats import evt, evt_view, idx, met
from halfpipe.formats.evt import InfoType
from halfpipe.ids import RunId
from halfpipe_simulator import attitude, datagrams, decoder
from halfpipe_simulator.index_lines import EVENT_LINE, evt_lines
from halfpipe_simulator.runs import Run, run_datagrams
from halfpipe_simulator.scenario import Chunk, Scenario, Simulation
from tests.support.in_process import ROOT, called, module

ONE = ("230401001",)
TWO = ("230401001", "230401002")


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


def simulate(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return called(module(str(ROOT / "scripts" / "simulate.py")).main, *arguments)


@pytest.mark.parametrize(
    "words",
    [(), ("--downlinks", "23040100"), ("--late-epu", "957"), ("--late-epu", "958"), ("--parts", 2)],
)
def test_program_refuses(tmp_path: Path, words: tuple[object, ...]) -> None:
    if not words:
        (tmp_path / "precious").write_text("data")
    done = simulate("--out", tmp_path, *words)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


NUMBER = r"-?[0-9]+\.[0-9]{6}"
EXACT = r"-?[0-9.]+(?:e-?[0-9]+)?"
HEAD = r"([0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6})"
ATT = re.compile(rf"{HEAD} ATT ([0-9]+) ([0-9]+)((?: {EXACT}){{4}})(?: {NUMBER}){{3}}")
ORB = re.compile(rf"{HEAD} ORB ([0-9]+) ([0-9]+)((?: {NUMBER}){{6}}) 5 ([01])")


@pytest.mark.parametrize("begin", [1680317400.3, 1483228780.3])  # the second one passes a leap second
def test_columns_order_and_rates(begin: float) -> None:
    done = called(attitude.main, "--arch", "/none", "--scid", 77, "-b", begin, "-e", begin + 99, "--lsm")
    assert (done.returncode, "SIMULATED" in done.stderr, "SIMULATED" in done.stdout) == (0, True, False)
    lines = done.stdout.splitlines()
    attitudes = [match for line in lines if (match := ATT.fullmatch(line))]
    orbits = [match for line in lines if (match := ORB.fullmatch(line))]
    seconds = met.unix_to_met(begin + 99) - met.unix_to_met(begin)
    assert (" ATT " in lines[0], len(lines)) == (True, len(attitudes) + len(orbits))
    assert (len(attitudes), len(orbits)) == (5 * seconds, seconds)
    times = [(int(words[3]), int(words[4]), words[2]) for words in map(str.split, lines)]
    assert times == sorted(times)
    for match in (attitudes[0], attitudes[-1]):
        shown = met.utc(met.met_to_unix(int(match[2]) + int(match[3]) / 1e6))
        assert match[1] == f"{shown:%Y-%m-%d %H:%M:%S.%f}"
    assert met.met_to_unix(times[0][0] + times[0][1] / 1e6) == pytest.approx(begin + 0.1)
    assert called(attitude.main, "--arch", "/none", "--scid", 77, "-b", 2, "-e", 1).returncode == 2


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
        path.write_bytes(path.read_bytes().replace(b"SIMULATED-LATDG2", b"\x00\x01\x02\x03FLIGHT-DATA."))
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


def test_batches_make_the_same_products(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = scenario()
    made.lpa_run(events=300)
    simulation, products = made.write(tmp_path / "s"), []
    retdef = next(simulation.path.rglob("RetDef-*-00001*.xml"))
    for batch in (decoder.BATCH, 1):
        monkeypatch.setattr(decoder, "BATCH", batch)
        out = tmp_path / str(batch)
        assert decoder.main(["-r", str(retdef), "-o", str(out), "--level0", str(simulation.level0)]) == 0
        products.append(digest(out))
    assert products[0] == products[1]
    assert len(products[0]) == 2


FORM = "EVT: %10d %20d %20d %20d %19.6f %3d %4d %8d %8d %16s %16s %19.6f %20d a-b.evt"
WIDEST = {"scid": 3, "apid": 4, "datagram": 8, "dgmevt": 8}  # digits of what is shorter than its type


@given(st.data())
def test_event_lines_are_as_a_form_has_them(data: st.DataObject) -> None:
    events = np.zeros(data.draw(st.integers(0, 5)), EVENT_LINE)
    values: st.SearchStrategy[Any]
    for name in EVENT_LINE.names or ():
        kind = EVENT_LINE[name]
        if kind.kind == "S":
            values = st.sampled_from([b"start", b"continue", b"a", b"0123456789abcdef"])
        elif kind.kind == "f":
            values = st.floats(2**22, 2**32 - 1)
        else:
            values = st.integers(0, min(10 ** WIDEST.get(name, 20) - 1, np.iinfo(kind).max))
        events[name] = data.draw(st.lists(values, min_size=events.size, max_size=events.size))
    rows = (tuple(v.decode() if isinstance(v, bytes) else v for v in row) for row in events.tolist())
    assert evt_lines(events, "a-b.evt").tobytes().decode() == "".join(FORM % row + "\n" for row in rows)


RUN = 741234567


@pytest.mark.parametrize("kind", list(InfoType))
@pytest.mark.parametrize("latc", [None, 0xDEADBEEF])
def test_records_are_as_the_layout_says(kind: InfoType, latc: int | None) -> None:
    lpa = kind == InfoType.LPA
    spec = Run(kind=kind, events=30, epus=(957 if lpa else 965,), per_datagram=10, first_sequence=2**33)
    made = list(run_datagrams(np.random.default_rng(1), spec, RunId.from_met(RUN), 5))
    unix = np.array([1_700_000_000_123456 + d.number for d in made])
    decoded = datagrams.decode([d.content for d in made], unix, latc=latc)
    content = bytes(evt.HEADER_SIZE) + decoded.records
    (number, *_) = decoded.lines["offset"][decoded.lines["dgmevt"] == 3].tolist()
    shown = {f.name: f.value for f in evt_view.fields(np.frombuffer(content, np.uint8), number + 176, "")}
    assert number == decoded.lines["offset"][3]
    head = struct.pack("<iid", 77, *spec.epus, made[0].utcs[3]), struct.pack("<i16s", 2, b"host")
    assert content[number + 176 :][:16] == head[0]
    assert content[number + 176 + 72 :][:8] == struct.pack("<Q", shown["scalers_elapsed"])
    assert [shown["run_platformTxt"], shown["run_originTxt"]] == [b"host", b"montecarlo"]
    assert [shown["open_datagrams"], shown["run_startedAt"], shown["infotype"]] == [0, RUN, kind]
    assert shown["LATC_master"] == (latc if latc and lpa else 0x1C05)
    assert decoded.datagrams["evtseq1"].tolist() == [d.sequences[-1] for d in made]
    assert decoded.datagrams["utc"].tolist() == (unix / 1e6).tolist()
