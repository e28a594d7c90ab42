"""`halfpipe show --check`: golden files are good, and every way to spoil one is told."""

import json
import shutil
import struct
from pathlib import Path

import pytest

from tests.support.golden_cases import GOLDEN
from tests.support.verbs import halfpipe

STAGED = next((GOLDEN / "complete_basic" / "expect").rglob("*.evt"))
CHUNK = GOLDEN / "equal_sequence" / "in" / "240601001" / "0077014d-2c2e5787-0956-00001.evt"


def records(content: bytes) -> list[bytes]:
    """Split a file of LPA records."""
    found = []
    offset = 176
    while offset < len(content):
        length = struct.unpack_from("<I", content, offset + 296)[0]
        handlers = struct.unpack_from("<I", content, offset + 300 + length + 36)[0]
        found.append(content[offset : offset + 360 + length + 52 * handlers])
        offset += len(found[-1])
    return found


def complaints(path: Path) -> list[str]:
    """Return what is said of a file that is not good, without its name."""
    ended = halfpipe("show", "--check", path)
    assert ended.exit_code == 1
    assert ended.stderr.startswith("not good: 1 of 1 ")
    lines = ended.stdout.splitlines()
    assert all(line.startswith(f"{path}: ") for line in lines)
    return [line.removeprefix(f"{path}: ") for line in lines]


def test_every_golden_file_is_good() -> None:
    paths = sorted(GOLDEN.rglob("*.evt"))
    assert len(paths) > 200
    ended = halfpipe("show", "--check", *paths)
    assert ended.exit_code == 0
    lines = ended.stdout.splitlines()
    counts = [struct.unpack_from("<Q", path.read_bytes(), 20)[0] for path in paths]
    assert lines == [
        f"{path}: {count} {'event' if count == 1 else 'events'}, good"
        for path, count in zip(paths, counts, strict=True)
    ]


@pytest.mark.parametrize(
    ("place", "form", "value", "complaint"),
    [
        (8, "<I", 240601002, "the header has runid 240601002, expected 240601001"),
        (12, "<I", 1, "the header has secs_beg 1, expected "),
        (16, "<I", 1, "the header has secs_end 1, expected "),
        (20, "<Q", 7, "the header has evtcnt 7, expected "),
        (28, "<Q", 7, "the header has gemseq_beg 7, expected 1002"),
        (36, "<Q", 7, "the header has gemseq_end 7, expected "),
    ],
)
def test_header_against_content(tmp_path: Path, place: int, form: str, value: int, complaint: str) -> None:
    content = bytearray(STAGED.read_bytes())
    struct.pack_into(form, content, place, value)
    path = tmp_path / "240601001" / "r0741234567" / STAGED.name
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    (line,) = complaints(path)
    assert line.startswith(complaint)


def test_exit_and_count_of_several(tmp_path: Path) -> None:
    path = tmp_path / STAGED.name
    path.write_bytes(STAGED.read_bytes()[:-1])
    gone = tmp_path / "gone.evt"
    ended = halfpipe("show", "--check", STAGED, path, gone)
    assert ended.exit_code == 1
    good, cut, missing = ended.stdout.splitlines()
    assert good.endswith("events, good")
    assert "cut inside the LPA keys, field LPA_db" in cut
    assert missing.startswith(f"{gone}: no such event file")
    assert ended.stderr.startswith("not good: 2 of 3 ")


def test_order_and_events_that_stand_twice(tmp_path: Path) -> None:
    content = STAGED.read_bytes()
    events = records(content)
    path = tmp_path / "simulated.evt"
    path.write_bytes(content[:176] + b"".join([events[0], events[2], events[1], *events[3:]]))
    (line,) = complaints(path)
    sequence = struct.unpack_from("<Q", events[1], 104)[0]
    place = 176 + len(events[0]) + len(events[2])
    assert line.startswith("1 events are out of the order of (sequence, APID), first event 2 ")
    assert line.endswith(
        f"(sequence {sequence}, APID {struct.unpack_from('<i', events[1], 4)[0]}) at byte {place}"
    )
    swapped = [events[0], events[2], events[1], events[3], events[5], events[4], *events[6:]]
    path.write_bytes(content[:176] + b"".join(swapped))
    assert complaints(path)[0].startswith("2 events are out of the order")
    path.write_bytes(content[:176] + b"".join([*events[:4], *events[3:-1]]))
    assert [line.split(",")[0] for line in complaints(path)][-1] == "1 events are there twice"


def test_equal_sequences_are_ordered_by_apid(tmp_path: Path) -> None:
    staged = next((GOLDEN / "equal_sequence" / "expect").rglob("*.evt"))
    content = staged.read_bytes()
    events = records(content)
    keys = [
        (struct.unpack_from("<Q", event, 104)[0], struct.unpack_from("<i", event, 4)[0]) for event in events
    ]
    i = next(i for i in range(len(keys) - 1) if keys[i][0] == keys[i + 1][0])
    events[i], events[i + 1] = events[i + 1], events[i]
    path = tmp_path / staged.name
    path.write_bytes(content[:176] + b"".join(events))
    assert complaints(path)[0].startswith(
        f"1 events are out of the order of (sequence, APID), first event {i + 1} "
    )


def test_an_event_may_stand_twice_in_a_chunk_only(tmp_path: Path) -> None:
    shutil.copy(CHUNK, tmp_path / CHUNK.name)
    assert halfpipe("show", "--check", tmp_path / CHUNK.name).exit_code == 0
    shutil.copy(CHUNK, tmp_path / "simulated.evt")
    (line,) = complaints(tmp_path / "simulated.evt")
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
    shutil.copy(source, tmp_path / name)
    assert complaints(tmp_path / name) == [f"event 0 at byte 176 {complaint}"]


def test_one_run_in_a_file(tmp_path: Path) -> None:
    content = bytearray(STAGED.read_bytes())
    place = 176 + len(records(bytes(content))[0])
    struct.pack_into("<I", content, place + 132, 741234568)
    path = tmp_path / "simulated.evt"
    path.write_bytes(content)
    assert complaints(path) == [f"event 1 at byte {place} has run 741234568, expected 741234567"]


def test_json(tmp_path: Path) -> None:
    cut = tmp_path / STAGED.name
    cut.write_bytes(STAGED.read_bytes()[:-1])
    ended = halfpipe("show", "--check", "--json", STAGED, cut)
    assert ended.exit_code == 1
    good, bad = json.loads(ended.stdout)["files"]
    assert good == {
        "file": str(STAGED),
        "events": struct.unpack_from("<Q", STAGED.read_bytes(), 20)[0],
        "faults": [],
    }
    assert "cut inside the LPA keys" in bad["faults"][0]
