"""What a turn publishes: the board and numbers for Prometheus, and what is told if they cannot be written."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest

from halfpipe import paths
from halfpipe.files.json_files import write_json
from halfpipe.settings import Board, Metrics, Settings
from halfpipe.site.unattended_turn import publish
from tests.support.board_site import DAYS, FIRST, HANDED_OFF, SECOND, lay_out
from tests.support.workflow import Site


@pytest.fixture
def laid_out(worked: Callable[..., Site]) -> Iterator[Site]:
    """Two downlinks that are handed off, and one whose decoder failed."""
    site = lay_out(worked(*HANDED_OFF))
    took = {FIRST: 600.0, SECOND: 1800.0}
    write_json(site.work / paths.LAST_TURN, {"ended": 7, "status": 3})
    with patch("halfpipe.tables.metrics.latency", lambda _, downlink: took.get(downlink)):
        yield site


def asking(site: Site, board: Path | None, metrics: Path | None) -> Settings:
    return replace(site.settings, board=Board(board, DAYS), metrics=Metrics(metrics))


def numbers(path: Path) -> dict[str, float]:
    lines = path.read_text().splitlines()
    found = {name: float(value) for name, value in (x.rsplit(" ", 1) for x in lines if not x.startswith("#"))}
    described = {line.split()[2] for line in lines if line.startswith("# HELP")}
    assert described == {name.partition("{")[0] for name in found}
    assert described == {line.split()[2] for line in lines if line.startswith("# TYPE")}
    return found


def test_what_the_config_asks_for_is_written(laid_out: Site, tmp_path: Path) -> None:
    assert list(publish(asking(laid_out, None, None))) == []
    before = time.time()
    assert list(publish(asking(laid_out, tmp_path / "board", tmp_path / "halfpipe.prom"))) == []
    assert (tmp_path / "board" / paths.board_page(FIRST)).exists()
    found = numbers(tmp_path / "halfpipe.prom")
    assert before <= found.pop("halfpipe_looked_at_timestamp_seconds") <= time.time()
    assert found.pop("halfpipe_last_retdef_timestamp_seconds") > 0
    assert found == {
        'halfpipe_downlinks{verdict="good"}': 0,
        'halfpipe_downlinks{verdict="note"}': 2,
        'halfpipe_downlinks{verdict="action"}': 1,
        'halfpipe_site_troubles{verdict="action"}': 1,  # the timer has been dead since 1970
        'halfpipe_site_troubles{verdict="note"}': 1,  # no doctor examined it
        "halfpipe_backlog": 1,
        "halfpipe_backlog_level1": 2,
        'halfpipe_latency_seconds{quantile="0.5"}': 1200,
        'halfpipe_latency_seconds{quantile="0.95"}': 1800,
        "halfpipe_last_turn_timestamp_seconds": 7,
        "halfpipe_last_turn_status": 3,
    }


def test_a_place_that_cannot_be_written_is_told_and_stops_nothing(laid_out: Site, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    (cause,) = publish(asking(laid_out, tmp_path / "file" / "board", None))
    assert cause.code == "board-failed"
    assert str(tmp_path / "file" / "board") in cause.text
