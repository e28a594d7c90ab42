"""The simulator and its two programs: reproducible, honest about being simulated, and true to what it says."""

import hashlib
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfpipe.errors import ConfigError
from halfpipe.formats import evt, evt_view, idx, met
from halfpipe.formats.evt import InfoType
from halfpipe.ids import RunId
from halfpipe_simulator import datagrams, decoder
from halfpipe_simulator.index_lines import EVENT_LINE, evt_lines
from halfpipe_simulator.runs import Run, run_datagrams
from halfpipe_simulator.scenario import Chunk, Scenario, Simulation
from tests.support.in_process import SIMULATE, SIMULATORS, called, module

TWO = ("230401001", "230401002")
DECODER, MAGIC7 = (module(path).main for path in SIMULATORS)


def digest(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.rglob("*")
        if path.is_file() and path.name != "config.yaml"
    }


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    def write(name: str, seed: int) -> dict[str, str]:
        made = Scenario(seed=seed, downlinks=TWO)
        made.lpa_run(events=300, parts=2, lost_packets=1, repeated_packets=3, equal_sequences=2)
        made.lci_run(events=100)
        return digest(made.write(tmp_path / name).path)

    assert write("a", 1) == write("b", 1)
    assert write("a", 2) != write("b", 1)  # written over, too
    assert write("a", 1) == write("b", 1)


@pytest.mark.parametrize("words", [(), ("--downlinks", "23040100")])
def test_program_refuses(tmp_path: Path, words: tuple[object, ...]) -> None:
    if not words:
        (tmp_path / "precious").write_text("data")
    done = called(module(SIMULATE).main, "--out", tmp_path, *words)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_program_ends_quietly_if_no_one_reads_its_table(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    words = [sys.executable, SIMULATE, "--out", str(tmp_path), "--events", "50"]
    done = subprocess.run(words, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, b"")
    assert (tmp_path / "config.yaml").exists()


@pytest.mark.parametrize(
    "run", [{"late_epu": 957}, {"late_epu": 958}, {"parts": 2}, {"repeated_datagrams": 1}]
)
def test_run_with_too_few_downlinks_or_epus_is_refused(run: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        Scenario().lpa_run(**run)


@pytest.mark.parametrize("begin", [1680317400.3, 1483228780.3])  # the second one passes a leap second
def test_attitude_and_orbit_have_their_rates_and_order(begin: float) -> None:
    done = called(MAGIC7, "--arch", "/none", "--scid", 77, "-b", begin, "-e", begin + 99, "--lsm")
    assert (done.returncode, "SIMULATED" in done.stderr, "SIMULATED" in done.stdout) == (0, True, False)
    lines = [line.split() for line in done.stdout.splitlines()]
    kinds, seconds = [words[2] for words in lines], met.unix_to_met(begin + 99) - met.unix_to_met(begin)
    assert (kinds[0], len(kinds)) == ("ATT", 6 * seconds)
    assert (kinds.count("ATT"), kinds.count("ORB")) == (5 * seconds, seconds)
    times = [int(words[3]) + int(words[4]) / 1e6 for words in lines]
    assert times == sorted(times)
    assert met.met_to_unix(times[0]) == pytest.approx(begin + 0.1)
    for words, time in zip(lines, times, strict=True):
        assert " ".join(words[:2]) == f"{met.utc_datetime(met.met_to_unix(time)):%Y-%m-%d %H:%M:%S.%f}"
    assert called(MAGIC7, "--arch", "/none", "--scid", 77, "-b", 2, "-e", 1).returncode == 2


def decode(simulation: Simulation, chunk: Chunk, out: Path) -> list[Path]:
    words = "-r", simulation.retdef(chunk), "-o", out, "--level0", simulation.level0
    assert DECODER([*map(str, words)]) == 0
    return sorted(out.glob("*.evt"))


@pytest.fixture
def simulation(tmp_path: Path) -> Simulation:
    return Scenario(seed=2).lpa_run(events=600).write(tmp_path / "sim")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("bit", "DFI exception: {path} at byte 0: "),
        ("foreign", "DFI exception: "),
        ("gone", "PktRetriever exception: {path.parent} at byte 0: "),
    ],
)
def test_damage_is_reported_and_not_a_failure(
    how: str, said: str, simulation: Simulation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = min(simulation.level0.rglob("s0077a0956t*"))
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
        numbers = idx.read_index(made[0].with_suffix(".idx")).datagrams.datagram.tolist()
        assert numbers == list(range(1, numbers[-1] + 1))
    else:
        assert made == []


def test_missing_archive_or_bad_retdef_fails(simulation: Simulation, tmp_path: Path) -> None:
    retdef = simulation.retdef(simulation.chunks[0])
    bad = (tmp_path / "RetDef-230401001-00009.xml", Path(__file__))
    for of, root in ((retdef, tmp_path / "no"), *((other, simulation.level0) for other in bad)):
        assert DECODER(["-r", str(of), "-o", str(tmp_path / "o"), "--level0", str(root)]) == 1
    assert not (tmp_path / "o").exists()


def test_products_do_not_depend_on_the_batch_size(
    simulation: Simulation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    products = []
    for batch in (decoder.BATCH, 1):
        monkeypatch.setattr(decoder, "BATCH", batch)
        decode(simulation, simulation.chunks[0], tmp_path / str(batch))
        products.append(digest(tmp_path / str(batch)))
    assert products[0] == products[1]
    (name,) = {Path(name).stem for name in products[0]}
    events = idx.read_index(tmp_path / "1" / f"{name}.idx").events
    made = evt.open_evt(tmp_path / "1" / f"{name}.evt")
    offsets = evt.walk(made.data, name)
    assert offsets.tolist() == events["offset"].tolist()
    seconds = evt.context_column(made.data, offsets[[0, -1]], "current_timeSecs").tolist()
    expected = {"runid": 230401001, "evtcnt": events.size}
    expected |= dict(zip(("secs_beg", "secs_end"), seconds, strict=True))
    expected |= dict(zip(("gemseq_beg", "gemseq_end"), events["sequence"][[0, -1]].tolist(), strict=True))
    assert {field: made.header[field] for field in expected} == expected


FORM = "EVT: %10d %20d %20d %20d %19.6f %3d %4d %8d %8d %16s %16s %19.6f %20d a-b.evt"
WIDEST = {"scid": 3, "apid": 4, "datagram": 8, "dgmevt": 8}  # digits of what is shorter than its type


@given(st.data())
def test_event_lines_agree_with_percent_formatting(data: st.DataObject) -> None:
    events = np.zeros(data.draw(st.integers(1, 5)), EVENT_LINE)
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
def test_records_follow_the_layout(kind: InfoType, latc: int | None) -> None:
    lpa = kind == InfoType.LPA
    spec = Run(kind=kind, events=30, epus=(957 if lpa else 965,), per_datagram=10, first_sequence=2**33)
    made = list(run_datagrams(np.random.default_rng(1), spec, RunId.from_met(RUN), 5))
    unix = np.array([1_700_000_000_123456 + d.number for d in made])
    decoded = datagrams.decode([d.content for d in made], unix, latc=latc)
    content = bytes(evt.HEADER_SIZE) + decoded.records
    shown = {f.name: f.value for f in evt_view.fields(np.frombuffer(content, np.uint8), 176, "")}
    assert content[176:192] == struct.pack("<iid", 77, *spec.epus, made[0].row.evtutc0[0])
    assert content[176 + 72 :][:8] == struct.pack("<Q", shown["scalers_elapsed"])
    assert [shown["run_platformTxt"], shown["run_originTxt"]] == [b"host", b"montecarlo"]
    assert [shown["open_datagrams"], shown["run_startedAt"], shown["infotype"]] == [0, RUN, kind]
    assert shown["LATC_master"] == (latc if latc and lpa else 0x1C05)
    assert decoded.datagrams.evtseq1.tolist() == [d.sequences[-1] for d in made]
    assert decoded.datagrams.utc.tolist() == (unix / 1e6).tolist()
