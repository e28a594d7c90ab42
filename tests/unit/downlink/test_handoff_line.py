"""The line of JSON that each hand-off appends for whoever indexes logs: it says what the receipt says, once."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from halfpipe import paths
from halfpipe.ids import DownlinkId
from tests.support.golden_cases import GOLDEN, read_case
from tests.support.workflow import Site

CASE = read_case(GOLDEN / "split2")
ONE, OTHER = (DownlinkId(downlink) for downlink in CASE.downlinks)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site with two downlinks of one run, that writes lines."""
    site = Site(tmp_path)
    site.replay(CASE.directory / "in")
    site.add_retdefs(CASE.directory / "in", ONE, OTHER)
    site.configure(metrics={"handoffs": str(tmp_path / "logs" / "handoffs.jsonl")})
    return site


def lines(site: Site) -> list[dict[str, Any]]:
    """Return what stands in the file."""
    return [json.loads(line) for line in Path(site.config["metrics"]["handoffs"]).read_text().splitlines()]


def test_a_line_says_what_was_handed_off(site: Site) -> None:
    site.by_hand(ONE)
    site.by_hand(OTHER)
    first, second = lines(site)
    assert [first["id"], second["id"]] == [f"{ONE}-1", f"{OTHER}-1"]
    assert abs(datetime.now(UTC) - datetime.fromisoformat(second["time"])) < timedelta(minutes=5)
    for line, downlink, events in ((first, ONE, 51), (second, OTHER, 79)):
        (run,) = site.receipt(downlink)["runs"]
        staged = list((site.stage / downlink).glob("r*/*.evt"))
        assert (line["downlink"], line["handoff"], line["events"]) == (downlink, 1, events)
        assert (line["files"], line["bytes"]) == (len(staged), sum(path.stat().st_size for path in staged))
        assert line["orphans"] == run["orphans"]
        assert line["exceptions"] == 0
        assert line["runs"][0]["l1_run"] == run["l1_run"]
        assert line["runs"][0]["complete"] is run["complete"]
    assert first["orphans"] > 0


def test_a_receipt_made_again_has_no_other_line_and_another_hand_off_has_one(site: Site) -> None:
    site.by_hand(ONE)
    (site.work / paths.receipt(ONE)).unlink()
    site.by_hand_receipt(ONE)
    assert [line["id"] for line in lines(site)] == [f"{ONE}-1"]
    site.configure(reason="a second look")
    site.by_hand(ONE)
    assert [(line["id"], line.get("reason")) for line in lines(site)] == [
        (f"{ONE}-1", None),
        (f"{ONE}-2", "a second look"),
    ]


def test_a_line_that_cannot_be_written_costs_no_hand_off(site: Site, tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("in the way")
    site.by_hand(ONE)
    assert site.has_receipt(ONE)
    said = (site.work / paths.log("receipt", ONE)).read_text()
    assert f"the line of hand-off 1 of downlink {ONE} cannot be written" in said


def test_none_is_written_unless_somebody_wants_it(site: Site, tmp_path: Path) -> None:
    site.configure(metrics={"handoffs": None})
    site.by_hand(ONE)
    assert list(tmp_path.rglob("*handoffs.jsonl")) == []
