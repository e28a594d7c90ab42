"""Progress: lines for a log, nothing for a short job."""

import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from halfpipe.process import progress
from halfpipe.process.progress import Progress


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        patch.setattr(time, "monotonic", lambda: self.now)


def test_lines_come_at_intervals_and_say_how_long_it_will_take(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, lines = Clock(monkeypatch), list[str]()
    with Progress("decode_chunk 00003", total_bytes=400_000_000, say=lines.append, every=10.0) as bar:
        for _ in range(31):
            clock.now += 1.0
            bar.add(events=40_000, size=10_000_000)
    assert lines == [
        "decode_chunk 00003: 400,000 events, 100 MB, 10.0 MB/s, 30 s left",
        "decode_chunk 00003: 800,000 events, 200 MB, 10.0 MB/s, 20 s left",
        "decode_chunk 00003: 1,200,000 events, 300 MB, 10.0 MB/s, 10 s left",
        "decode_chunk 00003: done, 1,240,000 events, 310 MB in 31 s",
    ]


def test_without_a_total_and_without_events_nothing_is_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, lines = Clock(monkeypatch), list[str]()
    with Progress("decode_chunk 00003", say=lines.append) as bar:
        clock.now += 20.0
        bar.add(size=50_000_000)
    assert lines == ["decode_chunk 00003: 50 MB, 2.5 MB/s", "decode_chunk 00003: done, 50 MB in 20 s"]


@pytest.mark.parametrize(("seconds", "said"), [(9.0, 0), (11.0, 1)])
def test_a_short_job_says_nothing_nor_does_one_that_fails_say_it_is_done(
    monkeypatch: pytest.MonkeyPatch, seconds: float, said: int
) -> None:
    clock, lines = Clock(monkeypatch), list[str]()
    with suppress(ValueError), Progress("receipt", say=lines.append) as bar:
        clock.now += seconds
        bar.add(events=5)
        if said:
            raise ValueError
    assert lines == ["receipt: 5 events, 0 MB, 0.0 MB/s"] * said


def test_what_another_program_writes_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LOOK_SECONDS", 0.001)
    out = tmp_path / "out"
    with Progress("x", directory=out) as bar:
        out.mkdir()
        (out / ".a.evt.part").write_bytes(bytes(1000))
        deadline = time.monotonic() + 10
        while bar.size != 1000:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        (out / ".a.evt.part").rename(out / "a.evt")
        (out / "a.idx").write_bytes(bytes(234))
    assert bar.size == 1234
    assert all(thread.name != "progress" for thread in threading.enumerate())


def test_a_log_tells_how_far_its_job_is(tmp_path: Path) -> None:
    log = tmp_path / "decode_chunk-00003.log"
    assert progress.progress_in_log(log, time.time()) is None
    log.write_text("2026-11-26 14:55:02,123 INFO    begun\n")
    assert progress.progress_in_log(log, time.time()) is None

    def write(line: str) -> None:
        with log.open("a") as file:
            file.write(f"2026-11-26 14:55:12,{len(line):03} INFO    {line}\n| what a decoder says\n")

    with Progress("decode_chunk 00003", 8_000_000, say=write, every=0.0) as bar:
        bar.add(events=12_000, size=2_000_000)
        said = progress.progress_in_log(log, time.time())
        assert said is not None
        assert said.startswith("decode_chunk 00003: 12,000 events, 2 MB, ")
        assert progress.progress_in_log(log, time.time() + progress.STALE_SECONDS) is None, "it was killed"
    assert progress.progress_in_log(log, time.time()) is None, log.read_text()
