"""Progress: lines for a log, nothing for a short job."""

import io
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from halfpipe.decode.decoder_log import PROGRESS, DecoderLog
from halfpipe.process import progress
from halfpipe.process.programs import Log, run
from halfpipe.process.progress import Progress
from halfpipe.settings import ROOT
from halfpipe_simulator import decoder
from halfpipe_simulator.scenario import Scenario


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
        for size, events, part in ((50, None, None), (50, 7, 0.25), (300, None, None), (0, None, None)):
            clock.now += 20.0
            bar.reached(
                events=events, part=part
            )  # of more than was expected nobody knows how long it will take
            bar.add(size=size * 1_000_000)
    assert lines == [
        "decode_chunk 00003: 0 MB, 0.0 MB/s",
        "decode_chunk 00003: 7 events, 50 MB, 1.2 MB/s, 120 s left",
        "decode_chunk 00003: 7 events, 100 MB, 1.7 MB/s, 60 s left",
        "decode_chunk 00003: 7 events, 400 MB, 5.0 MB/s",
        "decode_chunk 00003: done, 7 events, 400 MB in 80 s",
    ]


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


def test_how_far_a_decoder_says_it_is_goes_to_the_bar_and_not_into_the_log() -> None:
    lines, log = list[str](), io.StringIO()
    told = ["hello", "progress: 1200 events, 40.0 %", "progress: 1 events", "progress: 3000 events, 100 %"]
    bar = Progress("decode_chunk 00003", say=lines.append, every=0.0)
    assert run(["printf", "%s\\n", *told], ROOT, Log(log, DecoderLog("", bar).hear)).well
    assert log.getvalue() == "hello\nprogress: 1 events\n"
    assert [line.split()[2] for line in lines] == ["1,200", "3,000"]
    # Without a bar they are lines like others.
    assert all(map(DecoderLog().hear, told))


def test_the_built_in_decoder_says_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(decoder, "TELL_SECONDS", 0.0)
    monkeypatch.setattr(decoder, "BATCH", 1 << 16)
    simulation = Scenario(seed=2).lpa_run(events=3000).write(tmp_path / "sim")
    (tmp_path / "out").mkdir()
    retdef, level0 = str(simulation.retdef(simulation.chunks[0])), str(simulation.level0)
    assert decoder.main(["-r", retdef, "-o", str(tmp_path / "out"), "--level0", level0]) == 0
    lines = capfd.readouterr().out.splitlines(keepends=True)
    told = [(int(match[1]), float(match[2])) for line in lines if (match := PROGRESS.fullmatch(line))]
    assert len(told) > 2
    assert told == sorted(set(told))
    assert told[-1][1] == 100.0


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
