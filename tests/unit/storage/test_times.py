"""The times of steps: what was noted comes back by hand-off, and nothing depends on the file."""

from pathlib import Path

import pytest

from halfpipe.ids import DownlinkId
from halfpipe.storage import paths
from halfpipe.storage.times import Latency, Step, latencies, latency, note

DL = DownlinkId("230401001")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / DL).mkdir()
    return tmp_path


def test_steps_come_back_by_hand_off(work: Path) -> None:
    for chunk, at in (("00001", 10.0), ("00002", 11.0)):
        note(work, DL, Step.START, at, chunk=chunk)
    note(work, DL, Step.DECODED, 20.5, chunk="00002")
    note(work, DL, Step.DECODED, 21, chunk="00001")
    note(work, DL, Step.LAST_EVENT, -100, handoff=1)
    note(work, DL, Step.RETDEF, 5, handoff=1)
    note(work, DL, Step.HANDED_OFF, 30, handoff=1)
    note(work, DL, Step.HANDED_OFF, 35, handoff=1)  # its receipt was made again
    note(work, DL, Step.START, 100, chunk="00003")
    note(work, DL, Step.SUBMITTED, 40, handoff=1)
    note(work, DL, Step.DECODED, 110, chunk="00003")
    note(work, DL, Step.HANDED_OFF, 120, handoff=2)
    first, second = latencies(work, DL)
    assert first == Latency(1, -100, 5, 10, 21, 30, 40) == latency(work, DL)
    assert (first.seconds, first.since_event) == (25, 140)
    assert second == Latency(2, None, None, 100, 110, 120, None)
    assert (second.seconds, second.since_event) == (None, None)


def test_without_a_time_it_is_now(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1234.56789)
    note(work, DL, Step.HANDED_OFF, handoff=1)
    assert (work / paths.times(DL)).read_text() == '{"at": 1234.568, "handoff": 1, "step": "handed_off"}\n'


def test_what_cannot_be_written_or_read_is_passed_over(work: Path) -> None:
    other = DownlinkId("230401002")
    note(work, other, Step.HANDED_OFF, handoff=1)
    assert latency(work, other) is None
    path = work / paths.times(DL)
    path.write_bytes(b'\xff\n{"step": "handed_off"}\n[1]\n{"step": "x", "at": 1}\n' + b"[" * 100_000 + b"\n")
    note(work, DL, Step.HANDED_OFF, 3, handoff=1)
    with path.open("a") as file:
        file.write('{"at": 1, "hand')
    assert latencies(work, DL) == [Latency(1, handed_off=3)]
    path.unlink()
    path.mkdir()
    note(work, DL, Step.HANDED_OFF, 3, handoff=1)
    assert latencies(work, DL) == []
