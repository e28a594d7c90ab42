"""Times of the steps of a hand-off, derived from receipts, logs, RetDefs and records of submissions."""

import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from halfpipe import paths
from halfpipe.downlink.submissions import Action, Record
from halfpipe.files.reading import changed
from halfpipe.process.told_once import By, Outcome
from halfpipe.run.receipt_file import publish
from halfpipe.settings import Paths, Settings
from halfpipe.tables.latency import Latency, latencies, latency
from tests.support.level1 import DL
from tests.support.series import damage, forget

BEGIN = 1.8e9  # Unix seconds


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A site with two RetDefs, which are old."""
    (tmp_path / "retdefs" / DL).mkdir(parents=True)
    for chunk in ("00001", "00002"):
        (tmp_path / "retdefs" / paths.retdef(DL, chunk)).touch()
    return Settings(Paths(tmp_path / "work", tmp_path / "stage", retdef=(tmp_path / "retdefs",)))


def decoded(settings: Settings, chunk: str, begun: float, seconds: float) -> None:
    """Log that a chunk was decoded."""
    path = settings.paths.work / paths.usage(DL)
    path.parent.mkdir(parents=True, exist_ok=True)
    took = {
        "job": f"decode_chunk-{chunk}",
        "begun": datetime.fromtimestamp(begun, UTC).isoformat(timespec="milliseconds"),
        "seconds": seconds,
    }
    with path.open("a") as file:
        file.write(json.dumps(took | {"host": "h", "cpu_seconds": 1, "memory": 1}) + "\n")


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


def submitted(settings: Settings, number: int, at: float) -> None:
    """Record a submission at a time."""
    when = datetime.fromtimestamp(at, UTC).isoformat()
    record = Record(settings.paths.work, DL)
    action = Action.ROLLBACK if record.last_confirmed else Action.SUBMIT
    record.done(Outcome.TOLD, By.ANSWER, action=action, handoff=number, when=when)


def test_each_hand_off_has_its_own_steps(settings: Settings) -> None:
    decoded(settings, "00001", BEGIN, 10.0)
    decoded(settings, "00001", BEGIN + 20, 5.5)  # once more
    decoded(settings, "00002", BEGIN + 3, 4.0)
    handed_off(settings, 1, BEGIN + 100)
    handed_off(settings, 1, BEGIN + 500, reason="its receipt was made again")
    submitted(settings, 1, BEGIN + 140)
    submitted(settings, 1, BEGIN + 940)
    decoded(settings, "00002", BEGIN + 1000, 30.0)
    handed_off(settings, 2, BEGIN + 1200)
    handed_off(settings, 3, BEGIN + 1300)
    first, second, third = latencies(settings, DL)
    assert (first.handoff, first.last_event, first.handed_off) == (1, BEGIN - 6999.0, BEGIN + 100)
    assert (first.start, first.decoded, first.submitted) == (BEGIN, BEGIN + 25.5, BEGIN + 140)
    assert (second.start, second.decoded, second.handed_off) == (BEGIN + 1000, BEGIN + 1030, BEGIN + 1200)
    assert second.submitted is None
    assert (third.start, third.decoded) == (None, None)
    assert latency(settings, DL) == first


def test_a_retdef_counts_when_all_are_there_and_came_before(settings: Settings) -> None:
    home = settings.paths.retdef[0]
    came = max(changed(f"{home}/{paths.retdef(DL, chunk)}") or 0 for chunk in ("00001", "00002"))
    handed_off(settings, 1, came + 60)
    (found,) = latencies(settings, DL)
    assert (found.retdef, found.seconds) == (came, 60)
    handed_off(settings, 2, came - 60)
    assert latencies(settings, DL)[1].retdef is None, "they have come again since"
    (home / paths.retdef(DL, "00001")).unlink()
    assert {one.retdef for one in latencies(settings, DL)} == {None}


def test_what_is_gone_or_damaged_is_not_known(settings: Settings) -> None:
    assert latencies(settings, DL) == []
    assert latency(settings, DL) is None
    decoded(settings, "00001", BEGIN, 10.0)
    handed_off(settings, 1, BEGIN + 100, chunks=[], runs=[])
    submitted(settings, 1, BEGIN + 140)
    log = settings.paths.work / paths.usage(DL)
    with log.open("ab") as file:
        file.write(b'\xff\n{"begun": "once"}\n[1]\n{"begun": "x", "host": "", "seconds": 1, "cpu')
    assert latencies(settings, DL) == [Latency(1, None, None, BEGIN, BEGIN + 10, BEGIN + 100, BEGIN + 140)]
    shutil.rmtree(settings.paths.work / paths.logs())
    damage(settings.paths.work, paths.submissions(DL))
    assert latencies(settings, DL) == [Latency(1, handed_off=BEGIN + 100)]
    forget(settings.paths.work, paths.receipts(DL))
    assert latencies(settings, DL) == []
