"""Time and memory of jobs, next to their logs."""

import json
import resource
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from halfpipe import paths
from halfpipe.process import usage

DOWNLINK = "240601001"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    log = tmp_path / paths.log("decode_chunk", DOWNLINK, "00001")
    log.parent.mkdir(parents=True)
    return log


def tries(work: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (work / paths.usage(DOWNLINK)).read_text().splitlines()]


def test_usage_includes_programs_that_were_started(log: Path, tmp_path: Path) -> None:
    before = int(time.time())
    busy = "import time\nwhile time.process_time() < 0.15: pass\nb = bytearray(200_000_000)"
    with usage.recorded(log):
        time.sleep(0.1)
        subprocess.run([sys.executable, "-c", busy], check=True)
    (found,) = tries(tmp_path)
    assert found["job"] == "decode_chunk-00001"
    assert before <= datetime.fromisoformat(found["begun"]).timestamp() <= time.time()
    assert 0.15 <= found["cpu_seconds"] <= found["seconds"]
    assert found["seconds"] >= 0.25
    assert 200_000_000 <= found["memory"] < 10**11


def test_memory_is_not_that_of_the_process_that_started_it(log: Path, tmp_path: Path) -> None:
    job = f"import pathlib; from halfpipe.process import usage\nwith usage.recorded(pathlib.Path({str(log)!r})): pass"
    # For the kernel, a program after exec keeps the peak memory of the one before.
    large = "import os, sys; b = bytearray(200_000_000); os.execv(sys.executable, sys.argv[1:])"
    subprocess.run([sys.executable, "-c", large, sys.executable, "-c", job], check=True)
    (found,) = tries(tmp_path)
    assert 1_000_000 < found["memory"] < 150_000_000


def test_each_good_attempt_adds_a_line(log: Path, tmp_path: Path) -> None:
    assert not usage.has_ended_well(log)
    (tmp_path / paths.usage(DOWNLINK)).write_bytes(b"\xff\n" * 1000)
    assert not usage.has_ended_well(log)
    for _ in range(2):
        with usage.recorded(log):
            log.touch()
    assert usage.has_ended_well(log)
    assert not usage.has_ended_well(log.with_stem("decode_chunk-0000"))
    log.write_text("begun again\n")
    assert not usage.has_ended_well(log)


def test_logs_of_good_jobs_go_into_one_file(log: Path, tmp_path: Path) -> None:
    other = log.with_name("receipt.log")
    for path, said in ((log, "one\n"), (other, "two\n"), (log, "three\n")):
        path.write_text(said)
        with usage.recorded(path):
            pass
    log.write_text("four\n")
    with pytest.raises(ValueError, match="it failed"), usage.recorded(log):
        raise ValueError("it failed")
    assert (tmp_path / paths.done_log(DOWNLINK)).read_text() == "one\ntwo\nthree\n"
    assert (log.read_text(), other.exists()) == ("four\n", False)
    other.symlink_to("/dev/zero")
    with usage.recorded(other):
        pass
    assert other.is_symlink(), "only regular files are moved"


def test_a_log_is_kept_if_it_was_not_copied_completely(log: Path, tmp_path: Path) -> None:
    log.write_text("x" * 100_010)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, limits[1]))  # like a disk with so much space
    try:
        with usage.recorded(log):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / paths.done_log(DOWNLINK)).stat().st_size == 40_000
    assert log.stat().st_size == 100_010
    with usage.recorded(log):
        pass
    assert ((tmp_path / paths.done_log(DOWNLINK)).stat().st_size, log.exists()) == (140_010, False)


def test_a_job_without_a_log_or_a_record_leaves_nothing(log: Path, tmp_path: Path) -> None:
    with usage.recorded(None), usage.recorded(tmp_path / "no" / "such.log"):
        pass
    with pytest.raises(SystemExit), usage.recorded(log):
        raise SystemExit
    (tmp_path / paths.usage(DOWNLINK)).mkdir()
    with usage.recorded(log):
        pass
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
