"""`halfpipe process --again`: what changed."""

import os
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.cli import process
from halfpipe.files.records import file_of
from halfpipe.ids import DownlinkId
from halfpipe.run.receipt_file import publish_receipt
from tests.support.golden_cases import build
from tests.support.workflow import Site

DL, RUN = DownlinkId("240601001"), "2c2e5787"


def receipt(number: int, events: int) -> dict[str, Any]:
    file = {"name": "x", "sha256": str(events), "size": 9, "events": events, "seconds": [1, 2]}
    run = {"run": RUN, "named": True, "l1_run": "", "kind": "LPA", "files": [file | {"sequences": [1, 2]}]}
    run |= {"delivered": events, "waiting": 0, "late": 0, "refused": False, "complete": True}
    return {"downlink": DL, "handoff": number, "runs": [run], "texts": []}


def test_a_downlink_that_waits_is_named_after_the_count_with_the_reason(site: Site) -> None:
    build("split2", site)
    site.work.mkdir()
    site.configure(retdef={"settle_seconds": 3600})
    for path in site.retdefs.glob("*/*"):
        path.touch()
    count, *reasons = site.halfpipe("process", "2024-06").good().out.splitlines()
    assert count.startswith("0 of 2 ")
    assert [reason.split(":")[0] for reason in reasons] == [f"downlink {DL}", "downlink 240601002"]


def test_changes_are_those_since_the_last_hand_off_before_the_command(tmp_path: Path) -> None:
    for number, events in ((1, 10), (2, 20), (3, 25)):
        publish_receipt(tmp_path, DL, receipt(number, events))
        os.utime(file_of(tmp_path / paths.receipts(DL), number), (number, number))
    (tmp_path / paths.receipt(DL)).touch()
    for since, change in ((3.0, "+5 events"), (2.0, "+15 events")):
        line, last = process._changes(tmp_path, [DL], since)
        assert line.startswith(f"{DL}  run {RUN}: {change}, 1 file changed")
        assert last.startswith("0 of 1 downlink")
