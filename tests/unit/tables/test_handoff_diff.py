"""`diff`: what changed between two hand-offs, and why the later one was made."""

import json
import shutil
from pathlib import Path

import pytest

from halfpipe.errors import MissingInputError
from halfpipe.ids import DownlinkId
from halfpipe.tables.handoff_diff import diff, sentence
from tests.support.golden_cases import GOLDEN, build, read_case
from tests.support.workflow import Site

DL = DownlinkId("240601001")
RUN = "2c2e5787"


def test_the_same_again_with_a_reason(site: Site) -> None:
    build(read_case(GOLDEN / "gap_one"), site)
    site.process(DL)
    with pytest.raises(MissingInputError, match="no two hand-offs to compare: there are 1"):
        diff(site.work, DL)
    site.snakemake(f"dl={DL}", "-R", "deliver_run", "--config", "reason=a look").good()
    found = diff(site.work, DL)
    (change,) = found.runs
    assert change.is_same
    assert sentence(change) == "the same: 91 events in 2 files"
    assert (found.input, found.config) == ((), ())
    assert (found.before.number, found.before.reason) == (1, None)
    assert (found.after.number, found.after.reason) == (2, "a look")
    # The receipt alone made again is the same hand-off, whatever is said now.
    site.snakemake(f"dl={DL}", "-R", "receipt", "--config", "reason=another").good()
    assert site.receipt(DL)["reason"] == "a look"
    said = site.halfpipe("diff", DL).good().said.splitlines()
    assert said[0].startswith(f"downlink {DL}: hand-off 1 (")
    assert said[0].endswith("), because a look")
    assert len(said) == 5
    assert site.halfpipe("diff", DL, "1", "7").status == 1


def test_a_chunk_that_came_later_and_a_setting(site: Site, tmp_path: Path) -> None:
    build(read_case(GOLDEN / "complete_multichunk"), site)
    last = max((site.retdefs / DL).iterdir())
    away = shutil.move(last, tmp_path / last.name)
    site.process(DL)
    before = site.receipt(DL)["runs"][0]
    shutil.move(away, last)
    site.configure(merge={"max_events": 50})
    site.process(DL, again=True)
    after = site.receipt(DL)["runs"][0]
    found = diff(site.work, DL)
    (change,) = found.runs
    assert change.events == (before["delivered"], after["delivered"])
    assert change.events[1] > change.events[0]
    names = [{file["name"] for file in run["files"]} for run in (before, after)]
    assert set(change.new) == names[1] - names[0] != set()
    assert set(change.changed) | set(change.same) == names[0] & names[1]
    assert change.orphans == (before["orphans"], after["orphans"])
    assert found.input == (f"chunk {last.stem[-5:]} came",)
    assert found.config == ("merge.max_events was 1000, is 50",)
    assert sentence(change).startswith(f"+{change.events[1] - change.events[0]:,} events, ")
    said = json.loads(site.halfpipe("diff", DL, "1", "2", "--json").good().said)["diff"]
    assert (said["before"]["number"], said["runs"][0]["run"]) == (1, RUN)
    assert [site.halfpipe("diff", DL).said.count(word) for word in ("input ", "settings ", "HalfPipe ")] == [
        1
    ] * 3
