"""The latency of a downlink, derived from the receipts of its hand-offs."""

import os
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.run.receipt_file import publish
from halfpipe.settings import Paths, Settings
from halfpipe.tables.weekly import latency
from tests.support.level1 import DL
from tests.support.series import forget

BEGIN = 1.8e9  # Unix seconds


def handed_off(settings: Settings, number: int, at: float, **more: Any) -> None:
    """Record a hand-off at a time, of events until 7,000 s before it began."""
    runs = [
        {"run": "2c2e5787", "named": True, "times": [1.0, BEGIN - 7000.0]},
        {"run": "2c2e5788", "named": True},
    ]
    record = publish(settings.paths.work, DL, {"handoff": number, "runs": runs, "texts": [], **more})
    path = settings.paths.work / paths.receipts(DL) / f"{record.number:06d}.json"
    os.utime(path, (at, at))


def test_the_first_hand_off_counts(tmp_path: Path) -> None:
    settings = Settings(Paths(tmp_path / "work", tmp_path / "stage"))
    assert latency(settings, DL) is None
    handed_off(settings, 1, BEGIN + 100)
    handed_off(settings, 1, BEGIN + 500, reason="its receipt was made again")
    handed_off(settings, 2, BEGIN + 1200)
    assert latency(settings, DL) == 7100.0
    forget(settings.paths.work, paths.receipts(DL))
    handed_off(settings, 1, BEGIN + 100, runs=[])
    assert latency(settings, DL) is None, "it delivered nothing"
