"""Progress: lines for a log, nothing for a short job."""

import threading
import time
from pathlib import Path

import pytest

from halfpipe.process import progress
from halfpipe.process.progress import Progress


def test_a_line_says_how_far_it_is_and_makes_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    bar, bare, other = (
        Progress("x", total_bytes=400_000_000),
        Progress("x"),
        Progress("x", directory=tmp_path),
    )
    (tmp_path / "a.evt").write_bytes(bytes(2_000_000))
    monkeypatch.setattr(time, "monotonic", lambda: 1010.0)
    for _ in range(10):
        bar.add(events=40_000, size=10_000_000)
    assert bar.line() == "x: 400,000 events, 100 of 400 MB, 10.0 MB/s"
    assert bare.line() == "x: 0 MB, 0.0 MB/s"
    assert other.line() == "x: 2 MB, 0.2 MB/s"


def test_a_log_tells_how_far_its_job_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, said = tmp_path / "decode_chunk-00003.log", threading.Event()
    assert progress.progress_in_log(log, time.time()) is None
    log.write_text("2026-11-26 14:55:02,123 INFO    begun\n")

    def write(line: str) -> None:
        with log.open("a") as file:
            file.write(f"2026-11-26 14:55:12,123 INFO    {line}\n| what a decoder says\n")
        said.set()

    with Progress("decode_chunk 00003", say=write):  # done before its first line is due
        pass
    assert progress.progress_in_log(log, time.time()) is None
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.01)
    with Progress("decode_chunk 00003", 8_000_000, say=write) as bar:
        bar.add(events=12_000, size=2_000_000)
        assert said.wait(10)
    found = progress.progress_in_log(log, time.time())
    assert found is not None
    assert found.startswith("decode_chunk 00003: ")
    assert progress.progress_in_log(log, time.time() + progress.STALE_SECONDS) is None, "it was killed"
    assert all(thread.name != "progress" for thread in threading.enumerate())
