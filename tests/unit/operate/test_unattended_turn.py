"""A turn of a timer."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from halfpipe.errors import ConfigError
from halfpipe.ids import DownlinkId
from halfpipe.operate import unattended_turn
from halfpipe.plan.plan import Plan
from halfpipe.staging import stage_mark
from tests.support.level1 import Level1
from tests.support.settings import searching


def test_downlinks_that_snakemake_left_without_a_reason_have_failed(tmp_path: Path) -> None:
    snakemake: Any = SimpleNamespace(command=lambda *_: ["false"], is_remote=False)
    unused: Any = None
    turn = unattended_turn.Turn(searching(tmp_path), snakemake, 60.0, unused, unused)
    plan = Plan(turn.settings)
    left = DownlinkId("240601001")
    done = DownlinkId("240601002")
    (tmp_path / plan.target(done)).touch()
    found = turn._process(plan, [left, done], 0.0)
    assert [(dl, cause.code, cause.remedy.do) for dl, cause in found.items()] == [
        (left, "failed", (f"snakemake {plan.target(left)}",))
    ]


def test_an_empty_mount_point_is_reported_once_and_nothing_is_written_there(
    level1: Level1, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = level1.settings()
    said = list[str]()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))

    def check() -> None:
        if not level1.work.is_dir():
            raise ConfigError("no such directory")

    def say(text: str) -> bool:
        said.append(text)
        return True

    def is_usable() -> bool:
        return unattended_turn.is_usable(settings, check, say)

    assert (is_usable(), said) == (True, [])
    stage_mark.note(settings, ())
    away = level1.work.rename(tmp_path / "away")
    for empty in (False, True):  # gone, and then an empty mount point
        if empty:
            level1.work.mkdir()
        assert not is_usable()
        assert not is_usable()
        assert len(said) == 1 + empty, "it is reported once"
        assert "HalfPipe: the site (" in said[-1]
    assert list(level1.work.iterdir()) == []
    level1.work.rmdir()
    away.rename(level1.work)
    assert is_usable()
    assert "over" in said.pop()
    assert (is_usable(), len(said), list((tmp_path / "temporary").iterdir())) == (True, 2, [])
