"""What `halfpipe process` reads from the files while its batches run."""

import time
from datetime import datetime
from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.cli import process
from halfpipe.errors import HalfPipeError
from halfpipe.files.advice import DISK_FULL
from halfpipe.ids import DownlinkId
from halfpipe.operate.batches import LEFT, Batches, record
from halfpipe.process.failure_record import Failure
from halfpipe.settings import Paths, Settings

EVERY = tuple(DownlinkId(f"2304010{number:02d}") for number in range(1, 41))


def failed(work: Path, code: str, *downlinks: DownlinkId) -> None:
    for dl in downlinks:
        (work / record(dl)).parent.mkdir(parents=True, exist_ok=True)
        Failure(code, f"{code} of {dl}").write(work / record(dl))


@pytest.mark.parametrize("between", ["nothing", "handed off", "another code", *sorted(LEFT), DISK_FULL])
def test_twenty_equal_failures_in_a_row_end_the_command(between: str, tmp_path: Path) -> None:
    batch = Batches(Settings(Paths(tmp_path, tmp_path / "stage")), EVERY)
    failed(tmp_path, "decoder", *EVERY[:19])
    for _ in range(2):  # each failure counts once
        batch._look(EVERY, 0.0)
    if between == "handed off":
        (tmp_path / paths.receipt(EVERY[19])).touch()
    elif between != "nothing":
        failed(tmp_path, between, EVERY[19])
    failed(tmp_path, "decoder", EVERY[20])
    if between in {"handed off", "another code"}:
        batch._look(EVERY, 0.0)
        assert len(batch.ends) == 21
        failed(tmp_path, "decoder", *EVERY[21:])
    with pytest.raises(HalfPipeError, match=r"^20 downlinks in a row failed \(decoder\)"):
        batch._look(EVERY, 0.0)


def test_the_progress_has_the_end_and_what_is_waited_for(tmp_path: Path) -> None:
    settings = Settings(Paths(tmp_path, tmp_path / "stage"))
    batch = Batches(settings, EVERY, ends=dict.fromkeys(EVERY[:10]))
    begun = time.monotonic() - 3600
    done, rate, end = process._progress(batch, begun).split(", ")
    assert (done, rate) == ("10 of 40 handed off", "10 an hour")
    ends = datetime.strptime(f"{end} +0000", "the last one at %Y-%m-%d %H:%M UTC %z")
    assert abs(ends.timestamp() - time.time() - 3 * 3600) < 120
    batch.ends[EVERY[10]] = Failure(DISK_FULL, "no room")
    assert process._progress(batch, begun).endswith(f"; waits: {EVERY[10]}: no room")
    batch.ends = dict.fromkeys(EVERY)
    assert process._progress(batch, begun) == "40 of 40 handed off, 40 an hour"
