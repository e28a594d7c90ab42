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
ONE = DownlinkId(CASE.downlinks[0])


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site with a downlink, that writes lines."""
    site = Site(tmp_path)
    site.replay(CASE.directory / "in")
    site.add_retdefs(CASE.directory / "in", ONE)
    site.configure(metrics={"handoffs": str(tmp_path / "logs" / "handoffs.jsonl")})
    return site


def lines(site: Site) -> list[dict[str, Any]]:
    """Return what stands in the file."""
    return [json.loads(line) for line in Path(site.config["metrics"]["handoffs"]).read_text().splitlines()]


def test_a_line_says_what_was_handed_off_once(site: Site) -> None:
    site.by_hand(ONE)
    (line,) = lines(site)
    assert abs(datetime.now(UTC) - datetime.fromisoformat(line["time"])) < timedelta(minutes=5)
    (run,) = site.receipt(ONE)["runs"]
    staged = list((site.stage / ONE).glob("r*/*.evt"))
    assert (line["downlink"], line["handoff"], line["events"], line["exceptions"]) == (ONE, 1, 51, 0)
    assert (line["files"], line["bytes"]) == (len(staged), sum(path.stat().st_size for path in staged))
    assert line["orphans"] == run["orphans"] > 0
    assert (
        line["runs"][0].items() >= {key: run[key] for key in ("l1_run", "kind", "complete", "held")}.items()
    )
    # A receipt made again has no other line, and another hand-off has one.
    (site.work / paths.receipt(ONE)).unlink()
    site.by_hand_receipt(ONE)
    assert len(lines(site)) == 1
    site.configure(reason="a second look")
    site.by_hand(ONE)
    assert [(each["id"], each.get("reason")) for each in lines(site)] == [
        (f"{ONE}-1", None),
        (f"{ONE}-2", "a second look"),
    ]


def test_a_line_that_cannot_be_written_costs_no_hand_off(site: Site, tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("in the way")
    site.by_hand(ONE)
    assert site.has_receipt(ONE)
    assert "cannot be written" in (site.work / paths.done_log(ONE)).read_text()
