"""`show`: everything that was delivered of a run, when and by which downlink."""

import re
import shutil
from pathlib import Path

import pytest

from halfpipe.errors import MissingInputError
from halfpipe.ids import RunId
from halfpipe.reports.show import show
from tests.golden_cases import GOLDEN, read_case
from tests.workflow import Site

CASE = read_case(GOLDEN / "split2")
RUN, L1 = RunId("2c2e5787"), "r0741234567"


def test_a_run_of_two_downlinks(site: Site) -> None:
    site.replay(CASE.directory / "in")
    site.add_retdefs(CASE.directory / "in", *CASE.downlinks)
    site.by_hand("240601001")
    first = show(site.work, RUN).splitlines()
    assert first[0] == f"run {RUN}, {L1}, started at MET 741234567"
    assert re.fullmatch(r"downlink 240601001, hand-off 1, \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\+00:00", first[1])
    sha = site.receipt("240601001")["runs"][0]["files"][0]["sha256"]
    assert first[2] == (
        f"  {L1}-e00000000000000001000.evt  51 events  sequences 1000 to 1104  seconds 741234567 to 741234583"
        f"  sha256 {sha[:16]}"
    )
    assert first[3] == "  events from 2024-06-28 02:29:27+00:00 to 2024-06-28 02:29:43+00:00"
    assert first[4] == "  open when it was delivered"
    assert "orphans wait for datagrams that are missing" in first[5]
    assert first[6] == "in all 51 events delivered by 1 downlinks"

    site.by_hand("240601002")
    shutil.rmtree(site.stage)  # what Level-1 has taken stays known
    ended = site.script("show", L1, RUN)
    assert ended.status == 0
    one, other = ended.said.strip().split("\n\n")
    assert one == other == show(site.work, RUN)
    assert "downlink 240601002, hand-off 1, 2" in one
    assert "  complete when it was delivered" in one
    assert one.splitlines()[-1] == "in all 130 events delivered by 2 downlinks"

    receipts = site.work / "240601002" / "receipts"
    shutil.rmtree(receipts)
    assert "downlink 240601002, not handed off yet" in show(site.work, RUN)
    (site.work / "runs" / RUN / "240601002" / "manifest.json").unlink()
    assert "downlink 240601002, not handed off (no manifest)" in show(site.work, RUN)


def test_a_run_that_nobody_knows(tmp_path: Path) -> None:
    with pytest.raises(
        MissingInputError, match=rf"nothing is known of run {RUN} \({L1}\): there is no {tmp_path}/runs/{RUN}"
    ):
        show(tmp_path, RUN)


@pytest.mark.parametrize("text", ["r74123456", "2C2E5787", "r9999999999", "x"])
def test_a_run_that_is_none(tmp_path: Path, text: str) -> None:
    ended = Site(tmp_path).script("show", text)
    assert ended.status != 0
    assert text in ended.said
    assert "Traceback" not in ended.said
