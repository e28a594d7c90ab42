"""Times of the first hand-off, derived from receipts and RetDefs."""

import os
from pathlib import Path
from typing import Any

import pytest

from halfpipe import paths
from halfpipe.files.reading import changed
from halfpipe.run.receipt_file import publish
from halfpipe.settings import Paths, Settings
from halfpipe.tables.latency import Latency, latency
from tests.support.level1 import DL
from tests.support.series import forget

BEGIN = 1.8e9  # Unix seconds


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A site with two RetDefs, which are old."""
    (tmp_path / "retdefs" / DL).mkdir(parents=True)
    for chunk in ("00001", "00002"):
        (tmp_path / "retdefs" / paths.retdef(DL, chunk)).touch()
    return Settings(Paths(tmp_path / "work", tmp_path / "stage", retdef=(tmp_path / "retdefs",)))


def handed_off(settings: Settings, number: int, at: float, **more: Any) -> None:
    """Record a hand-off with two chunks at a time."""
    runs: list[dict[str, Any]] = [
        {"run": "2c2e5787", "named": True, "times": [1.0, BEGIN - 7000.0 + number]},
        {"run": "2c2e5788", "named": True, "times": None},
    ]
    chunks = [{"chunk": "00001"}, {"chunk": "00002"}]
    content = {"handoff": number, "runs": runs, "chunks": chunks, "texts": [], **more}
    record = publish(settings.paths.work, DL, content)
    path = settings.paths.work / paths.receipts(DL) / f"{record.number:06d}.json"
    os.utime(path, (at, at))


def test_the_first_hand_off_counts(settings: Settings) -> None:
    assert latency(settings, DL) == Latency()
    handed_off(settings, 1, BEGIN + 100)
    handed_off(settings, 1, BEGIN + 500, reason="its receipt was made again")
    handed_off(settings, 2, BEGIN + 1200)
    found = latency(settings, DL)
    assert (found.last_event, found.handed_off) == (BEGIN - 6999.0, BEGIN + 100)
    forget(settings.paths.work, paths.receipts(DL))
    assert latency(settings, DL) == Latency()


def test_a_retdef_counts_when_all_are_there_and_came_before(settings: Settings) -> None:
    home = settings.paths.retdef[0]
    came = max(changed(f"{home}/{paths.retdef(DL, chunk)}") or 0 for chunk in ("00001", "00002"))
    handed_off(settings, 1, came + 60)
    found = latency(settings, DL)
    assert (found.retdef, found.seconds) == (came, 60)
    os.utime(settings.paths.work / paths.receipts(DL) / "000001.json", (came - 60, came - 60))
    assert latency(settings, DL).retdef is None, "they have come again since"
    (home / paths.retdef(DL, "00001")).unlink()
    assert latency(settings, DL).retdef is None
