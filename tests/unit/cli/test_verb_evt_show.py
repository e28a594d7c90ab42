"""`halfpipe show FILE` on golden files, where any number can be looked up in the bytes themselves."""

import struct
from pathlib import Path

import pytest

from tests.support.golden_cases import GOLDEN as CASES
from tests.support.verbs import halfpipe

LPA = CASES / "latc_lpa" / "in" / "240601001" / "0077014d-2c2e5787-0956-00001.evt"
LCI = next((CASES / "lci_acd" / "in").rglob("*.evt"))
TWICE = CASES / "equal_sequence" / "in" / "240601001" / "0077014d-2c2e5787-0956-00001.evt"


def shown(*arguments: str | Path) -> list[str]:
    ended = halfpipe("show", *arguments)
    assert (ended.exit_code, ended.stderr) == (0, "")
    return ended.stdout.splitlines()


def values(lines: list[str], part: str, *fields: str) -> list[str]:
    """Return what is shown of fields, without the hexadecimal form."""
    found = {(line[12:24].strip(), line[24:49].strip()): line[49:].split(" (")[0] for line in lines}
    return [found[part, field] for field in fields]


def test_header_and_counts() -> None:
    content = LPA.read_bytes()
    lines = shown(LPA)
    numbers = struct.unpack_from("<3Q", content, 20)
    assert lines[0] == f"{LPA}: {len(content)} bytes"
    assert "0xfaf32000" in lines[1]
    assert values(lines, "header", "runid", "moot_alias") == ["240601001", "'LSEWRITER_UNSET'"]
    assert values(lines, "header", "evtcnt", "gemseq_beg", "gemseq_end") == list(map(str, numbers))
    assert lines[-2:] == [f"{numbers[0]} events", f"APID 0956  LPA      {numbers[0]}"]
    assert shown(LCI)[-1].split()[:3] == ["APID", "0965", "LCI_ACD"]


def test_an_event_by_its_number() -> None:
    content = LPA.read_bytes()[176:]
    lines = shown(LPA, "--event", "0")
    length = struct.unpack_from("<I", content, 296)[0]
    sequence, utc = struct.unpack_from("<Q", content, 104)[0], struct.unpack_from("<d", content, 8)[0]
    assert lines[0] == "event 0"
    assert values(lines, "context", "scalers_sequence", "ccsds_utc") == [str(sequence), f"{utc:.6f}"]
    assert values(lines, "context", "open_actionTxt")[0].startswith("'start'")
    assert values(lines, "ebf", "length") == [str(length)]
    payload = "".join(
        line[49:] for line in lines if line[12:36].split() == ["ebf", "payload"] or line[:49] == " " * 49
    )
    assert bytes.fromhex(payload) == content[308 : 300 + length]
    handlers = int(values(lines, "info", "nhandlers")[0])
    master = struct.unpack_from("<I", content, 360 + length + 52 * handlers - 16)[0]
    assert values(lines, "keys", "LATC_master") == [str(master)]
    assert len([line for line in lines if line[24:49].strip().endswith("pad")]) == 2 + handlers


def test_the_events_of_a_sequence() -> None:
    last = struct.unpack_from("<Q", LPA.read_bytes(), 36)[0]
    assert shown(LPA, "--event", "-1") == shown(LPA, "--sequence", str(last))
    lines = shown(TWICE, "--sequence", "1066")
    assert len([line for line in lines if line.startswith("event ")]) == 2


@pytest.mark.parametrize(
    "arguments", [["--event", "1000"], ["--event", "-1000"], ["--sequence", "5"], ["--sequence", "-5"]]
)
def test_what_is_not_there(arguments: list[str]) -> None:
    ended = halfpipe("show", LPA, *arguments)
    assert ended.exit_code == 1
    assert f"{LPA}: no event " in ended.stderr
    assert f" {arguments[1]}" in ended.stderr


def test_a_damaged_file_is_named_and_there_is_one_way_to_choose_an_event(tmp_path: Path) -> None:
    path = tmp_path / "simulated.evt"
    path.write_bytes(LPA.read_bytes()[:-1])
    ended = halfpipe("show", path, "--event", "0")
    assert ended.exit_code == 1
    assert f"{path}: record at byte " in ended.stderr
    assert halfpipe("show", LPA, "--event", "0", "--sequence", "5").exit_code == 2
