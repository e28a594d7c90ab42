"""scripts/show_evt.py on golden files, where any number can be looked up in the bytes themselves."""

import importlib.util
import struct
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests" / "golden"
LPA = CASES / "latc_lpa" / "in" / "240601001" / "0077014d-2c2e5787-0956-00001.evt"
LCI = next((CASES / "lci_acd" / "in").rglob("*.evt"))


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("show_evt", ROOT / "scripts" / "show_evt.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shown(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> list[str]:
    assert script().main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out.splitlines()


def value_of(lines: list[str], part: str, field: str) -> str:
    """Return what is shown of a field, without the hexadecimal form."""
    (line,) = [line for line in lines if line[12:24].strip() == part and line[24:49].strip() == field]
    return line[49:].split(" (")[0]


def test_header_and_counts(capsys: pytest.CaptureFixture[str]) -> None:
    content = LPA.read_bytes()
    lines = shown(capsys, LPA)
    assert lines[0] == f"{LPA}: {len(content)} bytes"
    assert value_of(lines, "header", "runid") == "240601001"
    assert value_of(lines, "header", "moot_alias") == "'LSEWRITER_UNSET'"
    count, first, last = struct.unpack_from("<3Q", content, 20)
    assert value_of(lines, "header", "evtcnt") == str(count)
    assert value_of(lines, "header", "gemseq_beg") == str(first)
    assert value_of(lines, "header", "gemseq_end") == str(last)
    assert lines[-2:] == [f"{count} events", f"APID 0956  LPA      {count}"]
    assert "0xfaf32000" in lines[1]


def test_the_kinds_of_lci_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, LCI)
    assert lines[-1].split()[:3] == ["APID", "0965", "LCI_ACD"]


def test_an_event_by_its_number(capsys: pytest.CaptureFixture[str]) -> None:
    content = LPA.read_bytes()
    lines = shown(capsys, LPA, "--event", "0")
    assert lines[0] == "event 0"
    assert value_of(lines, "context", "scalers_sequence") == str(
        struct.unpack_from("<Q", content, 176 + 104)[0]
    )
    assert value_of(lines, "context", "ccsds_utc") == f"{struct.unpack_from('<d', content, 176 + 8)[0]:.6f}"
    assert value_of(lines, "context", "open_actionTxt").startswith("'start'")
    length = struct.unpack_from("<I", content, 176 + 296)[0]
    assert value_of(lines, "ebf", "length") == str(length)
    payload = "".join(
        line[49:] for line in lines if line[12:36].split() == ["ebf", "payload"] or line[:49] == " " * 49
    )
    assert bytes.fromhex(payload) == content[176 + 308 : 176 + 300 + length]
    handlers = int(value_of(lines, "info", "nhandlers"))
    size = 360 + length + 52 * handlers
    assert value_of(lines, "keys", "LATC_master") == str(
        struct.unpack_from("<I", content, 176 + size - 16)[0]
    )
    assert len([line for line in lines if line[24:49].strip().endswith("pad")]) == 2 + handlers


def test_the_last_event_and_the_events_of_a_sequence_agree(capsys: pytest.CaptureFixture[str]) -> None:
    last = struct.unpack_from("<Q", LPA.read_bytes(), 36)[0]
    assert shown(capsys, LPA, "--event", "-1") == shown(capsys, LPA, "--sequence", str(last))


def test_every_event_of_a_sequence_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    twice = CASES / "equal_sequence" / "in" / "240601001" / "0077014d-2c2e5787-0956-00001.evt"
    lines = shown(capsys, twice, "--sequence", "1066")
    assert len([line for line in lines if line.startswith("event ")]) == 2


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--event", "1000"], "no event 1000: there are"),
        (["--event", "-1000"], "no event -1000: there are"),
        (["--sequence", "5"], "no event of sequence 5 among"),
        (["--sequence", "-5"], "no event of sequence -5 among"),
    ],
)
def test_what_is_not_there(capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str) -> None:
    assert script().main([str(LPA), *arguments]) == 1
    assert f"{LPA}: {complaint}" in capsys.readouterr().err


def test_a_damaged_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "simulated.evt"
    path.write_bytes(LPA.read_bytes()[:-1])
    assert script().main([str(path), "--event", "0"]) == 1
    assert f"{path}: record at byte " in capsys.readouterr().err
