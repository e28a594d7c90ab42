"""The downlinks of a run, and how long runs waited for their next ones."""

import os
from pathlib import Path

from halfpipe import paths
from halfpipe.ids import DownlinkId, RunId
from halfpipe.run.downlinks_of_run import past_waits


def test_past_waits_are_sorted_over_all_runs(tmp_path: Path) -> None:
    handed_off = {"240601001": 1000.0, "240601002": 1100.0, "240601003": 1110.0, "240601004": 1150.0}
    for name, when in handed_off.items():
        receipt = tmp_path / paths.receipts(DownlinkId(name)) / "000001.json"
        receipt.parent.mkdir(parents=True)
        receipt.touch()
        os.utime(receipt, (when, when))
    for run, downlinks in (("2c2e5787", list(handed_off)[:3]), ("2c2e5788", list(handed_off)[2:])):
        for name in downlinks:
            (tmp_path / paths.run(RunId(run)) / name).mkdir(parents=True)
    assert past_waits(tmp_path) == [10.0, 40.0, 100.0]
