"""`halfpipe process --again`: what changed."""

import os
from pathlib import Path

from halfpipe import paths
from halfpipe.cli import process
from halfpipe.files.pointers import point
from halfpipe.files.records import file_of
from halfpipe.files.typed import values
from halfpipe.ids import DownlinkId, RunId
from halfpipe.state.deliveries import Deliveries, Delivery, EventFile
from halfpipe.state.hand_offs import NamedRun, Receipt, series
from tests.support.golden_cases import build
from tests.support.workflow import Site

DL, RUN = DownlinkId("240601001"), RunId("2c2e5787")


def hand_off(work: Path, number: int, events: int) -> None:
    file = EventFile("x", events, (1, 2), (1, 2), 9, str(events))
    made = Deliveries(work, RUN).publish(Delivery(DL, number, (), {}, (file,), complete=True))
    runs = (NamedRun(RUN, made.seal, named=True),)
    record = series(work, DL).publish(values(Receipt(DL, number, "1", {}, (), (), runs, ())))
    point(work / paths.receipt(DL), record)
    os.utime(file_of(work / paths.receipts(DL), number), (number, number))


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
        hand_off(tmp_path, number, events)
    for since, change in ((3.0, "+5 events"), (2.0, "+15 events")):
        line, last = process._changes(tmp_path, [DL], since)
        assert line.startswith(f"{DL}  run {RUN}: {change}, 1 file changed")
        assert last.startswith("0 of 1 downlink")
