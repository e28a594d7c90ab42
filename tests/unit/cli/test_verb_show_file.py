"""`halfpipe show FILE`, where any number can be looked up in the bytes, and `--check`, which tells what is spoilt."""

import json
import struct
from pathlib import Path

import pytest

from tests.support.golden_cases import GOLDEN
from tests.support.harness import records_of
from tests.support.verbs import halfpipe

STAGED = next((GOLDEN / "complete_basic" / "expect").rglob("*.evt"))
CHUNK = GOLDEN / "equal_sequence" / "in" / "240601001" / "0077014d-2c2e5787-0956-00001.evt"
LPA = GOLDEN / "latc_lpa" / "in" / "240601001" / CHUNK.name
HEADER = 176  # bytes
CONTENT = STAGED.read_bytes()
EVENTS = records_of(CONTENT)


def complaints(path: Path, content: bytes) -> list[str]:
    """Return what is said of a file that is not good, without its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    ended = halfpipe("show", "--check", path)
    assert ended.exit_code == 1
    lines = ended.stdout.splitlines()
    assert all(line.startswith(f"{path}: ") for line in lines)
    return [line.removeprefix(f"{path}: ") for line in lines]


def changed(place: int, form: str, value: int) -> bytes:
    content = bytearray(CONTENT)
    struct.pack_into(form, content, place, value)
    return bytes(content)


def of(*events: bytes) -> bytes:
    return CONTENT[:HEADER] + b"".join(events)


def test_every_golden_file_is_good() -> None:
    paths = sorted(GOLDEN.rglob("*.evt"))
    assert len(paths) > 200
    ended = halfpipe("show", "--check", *paths)
    assert ended.exit_code == 0
    counts = [struct.unpack_from("<Q", path.read_bytes(), 20)[0] for path in paths]
    said = [line.removesuffix(", good").rpartition(": ")[2] for line in ended.stdout.splitlines()]
    assert [int(one.split()[0]) for one in said] == counts


SECOND = HEADER + len(EVENTS[0])  # where the second event begins


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        (STAGED.name, changed(8, "<I", 240601002), "the header has runid 240601002, expected 240601001"),
        (STAGED.name, changed(12, "<I", 1), "the header has secs_beg 1, expected "),
        (STAGED.name, changed(16, "<I", 1), "the header has secs_end 1, expected "),
        (STAGED.name, changed(20, "<Q", 7), "the header has evtcnt 7, expected "),
        (STAGED.name, changed(28, "<Q", 7), "the header has gemseq_beg 7, expected 1002"),
        (STAGED.name, changed(36, "<Q", 7), "the header has gemseq_end 7, expected "),
        (STAGED.name, changed(SECOND + 132, "<I", 741234568), f"event 1 at byte {SECOND} has run 741234568, expected"),
        ("r0741234568-e00000000000000001002.evt", CONTENT, "event 0 at byte 176 has run 741234567, expected 741234568"),
        ("r0741234567-e00000000000000001001.evt", CONTENT, "event 0 at byte 176 has first sequence 1002, expected"),
        ("0077014d-2c2e5788-0956-00001.evt", CHUNK.read_bytes(), "event 0 at byte 176 has run 741234567, expected"),
        ("0077014e-2c2e5787-0956-00001.evt", CHUNK.read_bytes(), "event 0 at byte 176 has ground id 7799117, expected"),
        ("0077014d-2c2e5787-0957-00001.evt", CHUNK.read_bytes(), "event 0 at byte 176 has APID 956, expected 957"),
        ("simulated.evt", CHUNK.read_bytes(), "1 events are there twice, first event "),  # but in a chunk
        ("simulated.evt", CONTENT[:-1], "record at byte "),
    ],
)  # fmt: skip
def test_name_header_and_events_against_each_other(
    tmp_path: Path, name: str, content: bytes, complaint: str
) -> None:
    (line,) = complaints(tmp_path / "240601001" / "r0741234567" / name, content)
    assert line.startswith(complaint)


def test_order_and_events_that_stand_twice(tmp_path: Path) -> None:
    first, second, third, fourth, fifth, sixth, *rest = EVENTS
    path = tmp_path / "simulated.evt"
    (line,) = complaints(path, of(first, third, second, fourth, fifth, sixth, *rest))
    sequence, apid = struct.unpack_from("<Q", second, 104)[0], struct.unpack_from("<i", second, 4)[0]
    assert line.startswith("1 events are out of the order of (sequence, APID), first event 2 ")
    assert line.endswith(f"(sequence {sequence}, APID {apid}) at byte {SECOND + len(third)}")
    swapped = of(first, third, second, fourth, sixth, fifth, *rest)
    assert complaints(path, swapped)[0].startswith("2 events are out of the order")
    assert complaints(path, of(*EVENTS[:4], *EVENTS[3:-1]))[-1].startswith("1 events are there twice")


def test_several_files_for_people_and_programs(tmp_path: Path) -> None:
    path, gone = tmp_path / STAGED.name, tmp_path / "gone.evt"
    path.write_bytes(CONTENT[:-1])
    ended = halfpipe("show", "--check", STAGED, path, gone)
    assert (ended.exit_code, ended.stderr[:17]) == (1, "not good: 2 of 3 ")
    _, cut, missing = ended.stdout.splitlines()
    assert ": cut inside " in cut
    assert missing.startswith(f"{gone}: no such event file")
    good, bad, _ = json.loads(halfpipe("show", "--check", "--json", STAGED, path, gone).stdout)["files"]
    events = struct.unpack_from("<Q", CONTENT, 20)[0]
    assert good == {"file": str(STAGED), "events": events, "faults": []}
    assert len(bad["faults"]) == 1


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
    ("words", "status"),
    [
        (["--event", "1000"], 1), (["--event", "-1000"], 1), (["--sequence", "5"], 1), (["--sequence", "-5"], 1),
        (["--event", "0", "--sequence", "5"], 2),
    ],
)  # fmt: skip
def test_what_is_not_there(words: list[str], status: int) -> None:
    ended = halfpipe("show", LPA, *words)
    assert (ended.exit_code, f"{LPA}: no event " in ended.stderr) == (status, status == 1)
