"""What a turn reports while it runs: the board, a problem of the board, and what stops Slurm's queue."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.files.leases import Lease
from halfpipe.operate.alarms import Alarms
from halfpipe.operate.invocation import SnakemakeCall
from halfpipe.operate.unattended_turn import Turn, publish
from halfpipe.settings import Board, Paths, Settings
from tests.support.board_site import DAYS, FIRST, HANDED_OFF, lay_out
from tests.support.harness import Messages
from tests.support.servers import put_program
from tests.support.workflow import Site


def asking(site: Site, board: Path | None) -> Settings:
    return replace(site.settings, board=Board(board, DAYS))


def test_the_board_is_written_if_the_config_asks_for_one(worked: Callable[..., Site], tmp_path: Path) -> None:
    site = lay_out(worked(*HANDED_OFF))
    assert list(publish(asking(site, None))) == []
    (lost := next(site.work.glob("runs/*")) / "240603001").mkdir()
    assert list(publish(asking(site, tmp_path / "board"))) == []
    assert all((tmp_path / "board" / paths.board_page(dl)).exists() for dl in (FIRST, lost.name))
    (tmp_path / "file").write_text("in the way")
    (cause,) = publish(asking(site, tmp_path / "file" / "board"))
    assert cause.code == "board-failed"
    assert str(tmp_path / "file" / "board") in cause.text


def test_a_turn_alarms_about_a_used_up_allocation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(Paths(tmp_path, tmp_path))
    said = Messages()
    lease = Lease.of(settings, paths.UNATTENDED_LEASE)
    turn = Turn(settings, SnakemakeCall(is_remote=True), 1.0, Alarms(settings, said), lease)
    assert lease.try_take()
    (number,) = lease.home.iterdir()
    os.utime(number, (0, 0))
    for reason in ("Priority", "AssocGrpNodeLimit", "AssocGrpNodeLimit", "Resources"):
        put_program(tmp_path, "squeue", f"echo 'halfpipe_a|{reason}|N/A'", monkeypatch)
        turn.report_progress()
    assert ["AssocGrpNodeLimit" in text for text in said] == [True, False]
    assert "over" in said[1]
    assert number.stat().st_mtime > 0, "the turn advances"
    lease.release()
