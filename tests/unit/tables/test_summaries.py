"""`show`: everything that was delivered of a run, when and by which downlink."""

import re
import shutil
from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.errors import MissingInputError
from halfpipe.ids import RunId
from halfpipe.tables.summaries import show
from tests.support.golden_cases import GOLDEN, read_case
from tests.support.series import forget
from tests.support.verbs import halfpipe
from tests.support.workflow import Site

CASE = read_case(GOLDEN / "split2")
RUN, L1 = RunId("2c2e5787"), "r0741234567"


def shown(site: Site, *words: str) -> str:
    ended = halfpipe("show", *words, configfile=site.configfile)
    assert ended.exit_code == 0, ended.output
    return ended.stdout


def test_a_run_of_two_downlinks(site: Site) -> None:
    site.replay(CASE.directory / "in")
    site.add_retdefs(CASE.directory / "in", *CASE.downlinks)
    site.by_hand("240601001")
    first = shown(site, RUN).splitlines()
    assert first[0] == f"run {RUN}, {L1}, started 2024-06-28 02:29:22 UTC, MET 741234567"
    sha = site.receipt("240601001")["runs"][0]["files"][0]["sha256"]
    name = f"{L1}-e00000000000000001000.evt"
    assert first[1].split() == ["downlink", "file", "events", "sequences", "MET", "sha256"]
    assert first[2].split() == ["240601001", name, "51", "1000-1104", "741234567-741234583", sha[:16]]
    assert re.fullmatch(r"downlink 240601001, hand-off 1, \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", first[3])
    assert first[4] == "  events from 2024-06-28 02:29:27 UTC to 2024-06-28 02:29:43 UTC"
    assert first[5] == "  open when it was delivered"
    assert "orphans wait for datagrams that are missing" in first[6]
    assert first[7] == f"what it waits for: halfpipe explain {RUN}"
    assert f"what run {RUN} waits for: halfpipe explain {RUN}\n" in shown(site, "240601001")
    assert first[8] == "in all 51 events delivered by 1 downlink"

    site.by_hand("240601002")
    shutil.rmtree(site.stage / "240601002")  # what Level-1 has taken stays known
    one, other = shown(site, L1).strip(), shown(site, RUN).strip()
    assert one == other
    assert "downlink 240601002, hand-off 1, 2" in one
    assert "  complete when it was delivered" in one
    assert "halfpipe explain" not in one
    assert one.splitlines()[-1] == "in all 130 events delivered by 2 downlinks"

    forget(site.work, paths.receipts("240601002"))
    for mark in (site.stage / paths.stage_mark(), site.work / paths.stage_mark_copy()):
        shutil.rmtree(mark)  # it knows the receipt: else nothing is done
    assert "downlink 240601002, not handed off yet" in shown(site, RUN)
    (site.work / "runs" / RUN / "240601002" / "manifest.json").unlink()
    assert "downlink 240601002, not handed off (no manifest)" in shown(site, RUN)


def test_a_run_that_nobody_knows(tmp_path: Path) -> None:
    with pytest.raises(
        MissingInputError, match=rf"nothing is known of run {RUN} \({L1}\): there is no {tmp_path}/runs/{RUN}"
    ):
        show(tmp_path, RUN)


@pytest.mark.parametrize("text", ["r74123456", "2C2E5787", "r9999999999", "x"])
def test_a_run_that_is_none(tmp_path: Path, text: str) -> None:
    site = Site(tmp_path)
    site.work.mkdir()
    ended = halfpipe("show", text, configfile=site.configfile)
    assert ended.exit_code == 2
    assert repr(text) in ended.stderr
    assert "Traceback" not in ended.stderr
