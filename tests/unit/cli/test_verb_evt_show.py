"""`halfpipe show FILE` on golden files, where any number can be looked up in the bytes themselves."""

import struct
from pathlib import Path

import pytest

from tests.support.golden_cases import GOLDEN as CASES
from tests.support.verbs import halfpipe

LPA = CASES / "latc_lpa" / "in" / "240601001" / "0077014d-2c2e5787-0956-00001.evt"
LCI = next((CASES / "lci_acd" / "in").rglob("*.evt"))


def shown(*arguments: str | Path) -> list[str]:
    ended = halfpipe("show", *arguments)
    assert (ended.exit_code, ended.stderr) == (0, "")
    return ended.stdout.splitlines()


def value_of(lines: list[str], part: str, field: str) -> str:
    """Return what is shown of a field, without the hexadecimal form."""
    (line,) = [line for line in lines if line[12:24].strip() == part and line[24:49].strip() == field]
    return line[49:].split(" (")[0]


def test_header_and_counts() -> None:
    content = LPA.read_bytes()
    lines = shown(LPA)
    assert lines[0] == f"{LPA}: {len(content)} bytes"
    assert value_of(lines, "header", "runid") == "240601001"
    assert value_of(lines, "header", "moot_alias") == "'LSEWRITER_UNSET'"
    count, first, last = struct.unpack_from("<3Q", content, 20)
    assert value_of(lines, "header", "evtcnt") == str(count)
    assert value_of(lines, "header", "gemseq_beg") == str(first)
    assert value_of(lines, "header", "gemseq_end") == str(last)
    assert lines[-2:] == [f"{count} events", f"APID 0956  LPA      {count}"]
    assert "0xfaf32000" in lines[1]


def test_the_kinds_of_lci_are_named() -> None:
    lines = shown(LCI)
    assert lines[-1].split()[:3] == ["APID", "0965", "LCI_ACD"]


def test_an_event_by_its_number() -> None:
    content = LPA.read_bytes()
    lines = shown(LPA, "--event", "0")
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


def test_the_last_event_and_the_events_of_a_sequence_agree() -> None:
    last = struct.unpack_from("<Q", LPA.read_bytes(), 36)[0]
    assert shown(LPA, "--event", "-1") == shown(LPA, "--sequence", str(last))


def test_every_event_of_a_sequence_is_shown() -> None:
    twice = CASES / "equal_sequence" / "in" / "240601001" / "0077014d-2c2e5787-0956-00001.evt"
    lines = shown(twice, "--sequence", "1066")
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
def test_what_is_not_there(arguments: list[str], complaint: str) -> None:
    ended = halfpipe("show", LPA, *arguments)
    assert ended.exit_code == 1
    assert f"{LPA}: {complaint}" in ended.stderr


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "simulated.evt"
    path.write_bytes(LPA.read_bytes()[:-1])
    ended = halfpipe("show", path, "--event", "0")
    assert ended.exit_code == 1
    assert f"{path}: record at byte " in ended.stderr


def test_one_way_to_choose_an_event() -> None:
    ended = halfpipe("show", LPA, "--event", "0", "--sequence", "5")
    assert ended.exit_code == 2
    assert "give one of the two" in ended.stderr
