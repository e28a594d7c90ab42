"""A merge on Slurm waits for downlinks with smaller ids that are at work and share its run, and for no others."""

import threading
import time
from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.deliver import earlier
from halfpipe.files import leases
from halfpipe.ids import DownlinkId, RunId
from tests.support.leases import job_of_another, left_by_another
from tests.support.settings import RUN_A, put, searching

FIRST, SECOND, THIRD = (DownlinkId(f"24060100{number}") for number in (1, 2, 3))
LONG = 20.0  # seconds; no test takes this long unless it waits


class Waits:
    """A working directory in which `SECOND` is about to merge."""

    def __init__(self, home: Path) -> None:
        self.work, self.retdefs = home / "work", home / "retdefs"
        self.work.mkdir()

    def downlink(self, downlink: DownlinkId, run: str = RUN_A, *, silent: float = 0.0) -> Path:
        """Let another host have the lease of a downlink with this run; return its one job."""
        put(self.retdefs, 1, dl=downlink, run=run)
        left_by_another(self.work, paths.downlink_lease(downlink), silent)
        return job_of_another(self.work, paths.downlink_lease(downlink), silent)

    def seconds(self) -> float:
        """Wait, and return how long that took."""
        begun = time.monotonic()
        earlier.wait_for_earlier(searching(self.work, self.retdefs), SECOND, RunId(RUN_A))
        return time.monotonic() - begun

    def seconds_until(self, end: Path, action: str) -> float:
        """Wait while something happens to a file after a second."""
        timer = threading.Timer(1.0, getattr(end, action))
        timer.start()
        try:
            return self.seconds()
        finally:
            timer.join()


@pytest.fixture
def waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Waits:
    monkeypatch.setenv(leases.SIDE_BY_SIDE, "1")
    monkeypatch.setattr(leases, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(earlier, "QUIET_SECONDS", LONG)
    return Waits(tmp_path)


def test_it_waits_until_the_smaller_id_has_delivered(waits: Waits) -> None:
    waits.downlink(FIRST)
    manifest = waits.work / paths.manifest(RunId(RUN_A), FIRST)
    manifest.parent.mkdir(parents=True)
    assert 1.0 <= waits.seconds_until(manifest, "touch") < LONG
    assert waits.seconds() < LONG


def test_it_waits_for_no_other_downlink(waits: Waits) -> None:
    waits.downlink(FIRST, run="2c2e6cc0")
    waits.downlink(THIRD)
    assert waits.seconds() < LONG


def test_it_does_not_wait_where_the_jobs_share_cores(waits: Waits, monkeypatch: pytest.MonkeyPatch) -> None:
    waits.downlink(FIRST)
    monkeypatch.delenv(leases.SIDE_BY_SIDE)
    assert waits.seconds() < LONG


def test_a_downlink_without_jobs_holds_nothing_back(waits: Waits, monkeypatch: pytest.MonkeyPatch) -> None:
    job = waits.downlink(FIRST)
    monkeypatch.setattr(earlier, "QUIET_SECONDS", 0.5)
    assert 1.0 <= waits.seconds_until(job, "unlink") < LONG


def test_a_killed_process_holds_nothing_back(waits: Waits) -> None:
    waits.downlink(FIRST, silent=10_000)
    assert waits.seconds() < LONG


def test_a_downlink_that_takes_long_is_not_waited_for(waits: Waits, monkeypatch: pytest.MonkeyPatch) -> None:
    waits.downlink(FIRST)
    monkeypatch.setattr(earlier, "MOST_SECONDS", 1.0)
    assert 1.0 <= waits.seconds() < LONG
