"""The board that a turn publishes, and the cause if it cannot be written."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from halfpipe import paths
from halfpipe.settings import Board, Settings
from halfpipe.site.unattended_turn import publish
from tests.support.board_site import DAYS, FIRST, HANDED_OFF, lay_out
from tests.support.workflow import Site


def asking(site: Site, board: Path | None) -> Settings:
    return replace(site.settings, board=Board(board, DAYS))


def test_the_board_is_written_if_the_config_asks_for_one(worked: Callable[..., Site], tmp_path: Path) -> None:
    site = lay_out(worked(*HANDED_OFF))
    assert list(publish(asking(site, None))) == []
    assert list(publish(asking(site, tmp_path / "board"))) == []
    assert (tmp_path / "board" / paths.board_page(FIRST)).exists()
    (tmp_path / "file").write_text("in the way")
    (cause,) = publish(asking(site, tmp_path / "file" / "board"))
    assert cause.code == "board-failed"
    assert str(tmp_path / "file" / "board") in cause.text
