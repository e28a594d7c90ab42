"""`halfpipe show --check`: golden files are good, and every way to spoil one is told."""

import json
import shutil
import struct
from pathlib import Path

import pytest

from tests.support.golden_cases import GOLDEN
from tests.support.verbs import halfpipe

STAGED = next((GOLDEN / "complete_basic" / "expect").rglob("*.evt"))
EQUAL = next((GOLDEN / "equal_sequence" / "expect").rglob("*.evt"))
CHUNK = GOLDEN / "equal_sequence" / "in" / "240601001" / "0077014d-2c2e5787-0956-00001.evt"
HEADER = 176  # bytes


def records(content: bytes) -> list[bytes]:
    """Split a file of LPA records."""
    found = []
    offset = HEADER
    while offset < len(content):
        length = struct.unpack_from("<I", content, offset + 296)[0]
        handlers = struct.unpack_from("<I", content, offset + 300 + length + 36)[0]
        found.append(content[offset : offset + 360 + length + 52 * handlers])
        offset += len(found[-1])
    return found


CONTENT = STAGED.read_bytes()
EVENTS = records(CONTENT)


def complaints(path: Path, content: bytes) -> list[str]:
    """Return what is said of a file that is not good, without its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    ended = halfpipe("show", "--check", path)
    assert ended.exit_code == 1
    assert ended.stderr.startswith("not good: 1 of 1 ")
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


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (changed(8, "<I", 240601002), "the header has runid 240601002, expected 240601001"),
        (changed(12, "<I", 1), "the header has secs_beg 1, expected "),
        (changed(16, "<I", 1), "the header has secs_end 1, expected "),
        (changed(20, "<Q", 7), "the header has evtcnt 7, expected "),
        (changed(28, "<Q", 7), "the header has gemseq_beg 7, expected 1002"),
        (changed(36, "<Q", 7), "the header has gemseq_end 7, expected "),
        (
            changed(HEADER + len(EVENTS[0]) + 132, "<I", 741234568),
            f"event 1 at byte {HEADER + len(EVENTS[0])} has run 741234568, expected 741234567",
        ),
    ],
)
def test_header_and_events_against_each_other(tmp_path: Path, content: bytes, complaint: str) -> None:
    (line,) = complaints(tmp_path / "240601001" / "r0741234567" / STAGED.name, content)
    assert line.startswith(complaint)


def test_order_and_events_that_stand_twice(tmp_path: Path) -> None:
    first, second, third, fourth, fifth, sixth, *rest = EVENTS
    path = tmp_path / "simulated.evt"
    (line,) = complaints(path, of(first, third, second, fourth, fifth, sixth, *rest))
    sequence, apid = struct.unpack_from("<Q", second, 104)[0], struct.unpack_from("<i", second, 4)[0]
    assert line.startswith("1 events are out of the order of (sequence, APID), first event 2 ")
    place = HEADER + len(first) + len(third)
    assert line.endswith(f"(sequence {sequence}, APID {apid}) at byte {place}")
    swapped = of(first, third, second, fourth, sixth, fifth, *rest)
    assert complaints(path, swapped)[0].startswith("2 events are out of the order")
    twice = complaints(path, of(*EVENTS[:4], *EVENTS[3:-1]))
    assert twice[-1].startswith("1 events are there twice")

    events = records(EQUAL.read_bytes())
    keys = [struct.unpack_from("<Q", event, 104)[0] for event in events]
    at = next(n for n in range(len(keys) - 1) if keys[n] == keys[n + 1])
    events[at], events[at + 1] = events[at + 1], events[at]
    said = complaints(tmp_path / EQUAL.name, EQUAL.read_bytes()[:HEADER] + b"".join(events))
    assert said[0].startswith(f"1 events are out of the order of (sequence, APID), first event {at + 1} ")


def test_an_event_may_stand_twice_in_a_chunk_only(tmp_path: Path) -> None:
    shutil.copy(CHUNK, tmp_path / CHUNK.name)
    assert halfpipe("show", "--check", tmp_path / CHUNK.name).exit_code == 0
    (line,) = complaints(tmp_path / "simulated.evt", CHUNK.read_bytes())
    assert line.startswith("1 events are there twice, first event ")


@pytest.mark.parametrize(
    ("source", "name", "complaint"),
    [
        (STAGED, "r0741234568-e00000000000000001002.evt", "has run 741234567, expected 741234568"),
        (STAGED, "r0741234567-e00000000000000001001.evt", "has first sequence 1002, expected 1001"),
        (CHUNK, "0077014d-2c2e5788-0956-00001.evt", "has run 741234567, expected 741234568"),
        (CHUNK, "0077014e-2c2e5787-0956-00001.evt", "has ground id 7799117, expected 7799118"),
        (CHUNK, "0077014d-2c2e5787-0957-00001.evt", "has APID 956, expected 957"),
    ],
)
def test_name_against_content(tmp_path: Path, source: Path, name: str, complaint: str) -> None:
    assert complaints(tmp_path / name, source.read_bytes()) == [f"event 0 at byte {HEADER} {complaint}"]


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
