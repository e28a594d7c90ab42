"""`halfpipe show FILE`, where any number can be looked up in the bytes."""

import struct
from pathlib import Path

import pytest

from tests.support.golden_cases import GOLDEN
from tests.support.verbs import halfpipe

CHUNK = GOLDEN / "equal_sequence" / "in" / "240601001" / "0077014d-2c2e5787-0956-00001.evt"
LPA = GOLDEN / "latc_lpa" / "in" / "240601001" / CHUNK.name
HEADER = 176  # bytes


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


def test_an_event_by_its_number() -> None:
    content = LPA.read_bytes()[HEADER:]
    lines = shown(LPA, "--event", "0")
    length = struct.unpack_from("<I", content, 296)[0]
    sequence, utc = struct.unpack_from("<Q", content, 104)[0], struct.unpack_from("<d", content, 8)[0]
    assert values(lines, "context", "scalers_sequence", "ccsds_utc") == [str(sequence), f"{utc:.6f}"]
    assert values(lines, "context", "open_actionTxt")[0].startswith("'start'")
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
    assert len([line for line in shown(CHUNK, "--sequence", "1066") if line.startswith("event ")]) == 2


@pytest.mark.parametrize(
    "words", [("--event", "1000"), ("--event", "-1000"), ("--sequence", "5"), ("--sequence", "-5")]
)
def test_what_is_not_there(words: tuple[str, str]) -> None:
    ended = halfpipe("show", LPA, *words)
    assert (ended.exit_code, f"{LPA}: no event " in ended.stderr) == (1, True)
