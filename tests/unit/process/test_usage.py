"""What a job took, beside its log."""

import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.process import usage

DOWNLINK = "240601001"


def log_of(work: Path) -> Path:
    """Return the log of a job, whose directory is there."""
    log = work / paths.log("decode_chunk", DOWNLINK, "00001")
    log.parent.mkdir(parents=True)
    return log


def test_time_processor_and_memory_also_of_programs_that_were_started(tmp_path: Path) -> None:
    log = log_of(tmp_path)
    before = datetime.now(UTC).replace(microsecond=0)
    busy = "import time\nwhile time.process_time() < 0.15: pass\nb = bytearray(200_000_000)"
    with usage.recorded(log):
        time.sleep(0.1)
        subprocess.run([sys.executable, "-c", busy], check=True)
    found = usage.latest(tmp_path / paths.benchmark("decode_chunk", DOWNLINK, "00001"))
    assert found is not None
    assert before <= datetime.fromisoformat(found.begun) <= datetime.now(UTC)
    assert 0.15 <= found.cpu_seconds <= found.seconds
    assert found.seconds >= 0.25
    assert 200_000_000 <= found.memory < 10**11


def test_memory_is_not_that_of_the_process_that_started_it(tmp_path: Path) -> None:
    log = log_of(tmp_path)
    job = f"import pathlib; from halfpipe.process import usage\nwith usage.recorded(pathlib.Path({str(log)!r})): pass"
    # One program that becomes another keeps, for the kernel, the memory that it once had.
    large = "import os, sys; b = bytearray(200_000_000); os.execv(sys.executable, sys.argv[1:])"
    subprocess.run([sys.executable, "-c", large, sys.executable, "-c", job], check=True)
    found = usage.latest(log.with_suffix(paths.BENCHMARK_SUFFIX))
    assert found is not None
    assert 1_000_000 < found.memory < 150_000_000


def test_each_try_is_a_line_and_the_latest_sound_one_counts(tmp_path: Path) -> None:
    log = log_of(tmp_path)
    file = log.with_suffix(paths.BENCHMARK_SUFFIX)
    assert usage.latest(file) is None
    file.write_text("x\n" * usage.LONGEST)
    assert usage.latest(file) is None
    with usage.recorded(log):
        pass
    with usage.recorded(log):
        time.sleep(0.05)
    latest = json.loads(file.read_text().splitlines()[-1])
    assert latest["seconds"] >= 0.05
    for torn in ('{"begun": "2024', "3\n", "{}\n", "[" * 5000 + "\n", "\xff\n"):
        with file.open("a", encoding="latin-1") as out:
            out.write(torn)
        found = usage.latest(file)
        assert found is not None
        assert found.seconds == latest["seconds"], torn


def test_a_job_that_fails_and_a_job_without_a_log_leave_nothing(tmp_path: Path) -> None:
    log = log_of(tmp_path)
    for failure in (ValueError, SystemExit):
        with pytest.raises(failure), usage.recorded(log):
            raise failure
    with usage.recorded(None), usage.recorded(tmp_path / "no" / "such.log"):
        pass
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_record_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    log = log_of(tmp_path)
    log.with_suffix(paths.BENCHMARK_SUFFIX).mkdir()
    with usage.recorded(log):
        pass
