"""Progress: lines for a log, nothing for a short job."""

import io
import logging
import re
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from halfpipe.decode.decoder_log import PROGRESS, DecoderLog
from halfpipe.process import progress
from halfpipe.process.programs import Log, run
from halfpipe_simulator.scenario import Scenario
from tests.support.in_process import ROOT

LINE = re.compile(
    r"decode_chunk 00003: (?P<events>[\d,]+) events, [\d,]+ MB, [\d,]+\.\d MB/s(, (?P<left>[\d,]+) s left)?"
)


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        patch.setattr(time, "monotonic", lambda: self.now)


def test_lines_come_at_intervals_and_say_how_long_it_will_take(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, lines = Clock(monkeypatch), list[str]()
    with progress.of("decode_chunk 00003", total_bytes=400_000_000, say=lines.append, every=10.0) as bar:
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
    with progress.of("decode_chunk 00003", say=lines.append) as bar:
        clock.now += 20.0
        bar.add(size=50_000_000)
        bar.reached(events=7, part=0.25)
        clock.now += 20.0
        bar.add(size=50_000_000)
        bar.add(size=300_000_000)  # more than was expected: nobody knows how long it will take
        clock.now += 10.0
        bar.reached()
    assert lines == [
        "decode_chunk 00003: 50 MB, 2.5 MB/s",
        "decode_chunk 00003: 7 events, 100 MB, 2.5 MB/s, 40 s left",
        "decode_chunk 00003: 7 events, 400 MB, 8.0 MB/s",
        "decode_chunk 00003: done, 7 events, 400 MB in 50 s",
    ]


def test_a_short_job_says_nothing_nor_does_one_that_fails_say_it_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, lines = Clock(monkeypatch), list[str]()
    with progress.of("receipt", say=lines.append) as bar:
        clock.now += 9.0
        bar.add(events=5)
    assert lines == []
    with suppress(ValueError), progress.of("receipt", say=lines.append) as bar:
        clock.now += 11.0
        bar.add(events=5)
        raise ValueError
    assert lines == ["receipt: 5 events, 0 MB, 0.0 MB/s"]


def test_several_threads_count_together() -> None:
    bar = progress.Progress("x")

    def count() -> None:
        for _ in range(5000):
            bar.add(events=1, size=2)

    threads = [threading.Thread(target=count) for _ in range(8)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert (bar.events, bar.size) == (40_000, 80_000)


def test_lines_go_into_the_log_of_the_job(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    with caplog.at_level(logging.INFO, "halfpipe"), progress.of("decode_chunk 00003") as bar:
        clock.now += 10.0
        bar.add(events=1)
    assert [record.getMessage() for record in caplog.records] == [
        "decode_chunk 00003: 1 events, 0 MB, 0.0 MB/s",
        "decode_chunk 00003: done, 1 events, 0 MB in 10 s",
    ]


def test_what_another_program_writes_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LOOK_SECONDS", 0.001)
    out = tmp_path / "out"
    assert progress.size_of(out) == 0
    out.mkdir()
    with progress.of("x", directory=out) as bar:
        (out / ".a.evt.part").write_bytes(bytes(1000))
        deadline = time.monotonic() + 10
        while bar.size != 1000:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        (out / ".a.evt.part").rename(out / "a.evt")
        (out / "a.idx").write_bytes(bytes(234))
    assert bar.size == 1234
    (out / "a.idx").unlink()
    assert bar.size == 1234
    assert all(thread.name != "progress" for thread in threading.enumerate())


def test_how_far_a_decoder_says_it_is_goes_to_the_bar_and_not_into_the_log() -> None:
    lines, log = list[str](), io.StringIO()
    told = ["hello", "progress: 1200 events, 40.0 %", "progress: 1 events", "progress: 3000 events, 100 %"]
    bar = progress.Progress("decode_chunk 00003", say=lines.append, every=0.0)
    assert run(["printf", "%s\\n", *told], ROOT, Log(log, DecoderLog("", bar).hear)).well
    assert log.getvalue() == "hello\nprogress: 1 events\n"
    assert [match["events"] for line in lines if (match := LINE.fullmatch(line))] == ["1,200", "3,000"]
    # Without a bar they are lines like others.
    log = io.StringIO()
    assert run(["printf", "%s\\n", *told], ROOT, Log(log, DecoderLog().hear)).well
    assert log.getvalue().splitlines() == told


def test_the_built_in_decoder_says_how_far_it_is(tmp_path: Path) -> None:
    simulation = Scenario(seed=2, magic7=False).lpa_run(events=3000).write(tmp_path / "sim")
    chunk = simulation.chunks[0]
    code = (
        "import sys; from halfpipe_simulator import decoder; "
        "decoder.TELL_SECONDS, decoder.BATCH = 0.0, 1 << 16; sys.exit(decoder.main())"
    )
    options = ["-r", simulation.retdef(chunk), "-o", tmp_path / "out", "--level0", simulation.level0]
    command = [sys.executable, "-c", code, *map(str, options)]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    told = [match for line in said.splitlines(keepends=True) if (match := PROGRESS.fullmatch(line))]
    events, parts = [int(match[1]) for match in told], [float(match[2]) for match in told]
    assert len(told) > 3
    assert events == sorted(set(events))
    assert parts == sorted(set(parts))
    assert parts[-1] == 100.0
    assert f"simulated_decoder: {events[-1]} simulated events" in said


def test_a_log_tells_how_far_its_job_is(tmp_path: Path) -> None:
    log = tmp_path / "decode_chunk-00003.log"
    assert progress.progress_in_log(log, time.time()) is None
    log.write_text("2026-11-26 14:55:02,123 INFO    begun\n")
    assert progress.progress_in_log(log, time.time()) is None

    def write(line: str) -> None:
        with log.open("a") as file:
            file.write(f"2026-11-26 14:55:12,{len(line):03} INFO    {line}\n| what a decoder says\n")

    how_far = progress.Progress("decode_chunk 00003", 8_000_000, say=write, every=0.0)
    how_far.add(events=12_000, size=2_000_000)
    said = progress.progress_in_log(log, time.time())
    assert said is not None
    assert LINE.fullmatch(said), said
    assert said.startswith("decode_chunk 00003: 12,000 events, 2 MB, ")
    assert progress.progress_in_log(log, time.time() + progress.STALE_SECONDS) is None, "it was killed"
    how_far.finish()
    assert progress.progress_in_log(log, time.time()) is None, log.read_text()
