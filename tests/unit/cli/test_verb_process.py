"""`halfpipe process`: its progress, and with `--again` what changed."""

import os
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.cli import process
from halfpipe.files.records import file_of
from halfpipe.ids import DownlinkId
from halfpipe.run.receipt_file import publish_receipt
from halfpipe.settings import Paths, Settings
from halfpipe.site.batches import Batches

DL, RUN = DownlinkId("240601001"), "2c2e5787"


def receipt(number: int, events: int) -> dict[str, Any]:
    file = {"name": "x", "sha256": str(events), "size": 9, "events": events, "seconds": [1, 2]}
    run = {"run": RUN, "named": True, "l1_run": "", "kind": "LPA", "files": [file | {"sequences": [1, 2]}]}
    run |= {"delivered": events, "waiting": 0, "late": 0, "refused": False, "complete": True}
    return {"downlink": DL, "handoff": number, "runs": [run], "texts": []}


def test_changes_are_those_since_the_last_hand_off_before_the_command(tmp_path: Path) -> None:
    for number, events in ((1, 10), (2, 20), (3, 25)):
        publish_receipt(tmp_path, DL, receipt(number, events))
        os.utime(file_of(tmp_path / paths.receipts(DL), number), (number, number))
    (tmp_path / paths.receipt(DL)).touch()
    for since, change in ((3.0, "+5 events"), (2.0, "+15 events")):
        line, last = process._changes(tmp_path, [DL], since)
        assert line.startswith(f"{DL}  run {RUN}: {change}, 1 file changed")
        assert last.startswith("0 of 1 downlink")


def test_progress_is_extrapolated(tmp_path: Path) -> None:
    downlinks = tuple(DownlinkId(f"24060100{number}") for number in (1, 2, 3, 4))
    batch = Batches(Settings(Paths(tmp_path, tmp_path)), downlinks, ends=dict.fromkeys(downlinks[:2]))
    said = process._progress(batch, time.monotonic() - 3600)
    ((*counts, last),) = re.findall(r"(\d+) of (\d+) .*, (\d+) an hour, .* (\d{4}-\S+ \S+) UTC", said)
    ahead = datetime.fromisoformat(f"{last}+00:00") - datetime.now(UTC)
    assert counts == ["2", "4", "2"]
    assert timedelta(minutes=58) < ahead < timedelta(minutes=62)
