"""`halfpipe ack`: who works on a problem, on every screen, without a change of any verdict."""

import json
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.decisions import Decisions, What
from halfpipe.status.overview import Told, write_told
from tests.support.workflow import Site

DL = "240603001"


def trouble(own: Site) -> Path:
    """Misspell a switch of a downlink, and one for all; return the first one."""
    for place in (own.work / "halts", own.work / DL):
        place.mkdir()
        (place / "haltStages").touch()
    return own.work / DL / "haltStages"


def seen(own: Site) -> list[tuple[str, str]]:
    return [(one["problem"], one["reason"]) for one in own.told("ack")["seen"]]


def causes(own: Site) -> dict[str, str]:
    """Return by whom the problems are seen, by downlink or site."""
    told = own.told("status", DL)
    found: list[tuple[str, dict[str, Any]]] = [("site", each) for each in told["site"]]
    found += [(one["dl"], each) for one in told["downlinks"] for each in one["causes"]]
    return {of: each["seen"] for of, each in found if each["code"] == "misspelt"}


def test_every_screen_shows_who_works_on_a_problem(own: Site) -> None:
    file = trouble(own)
    before = own.halfpipe("status", DL)
    assert causes(own) == {"site": "", DL: ""}
    assert own.halfpipe("ack", f"dl={DL}", "--reason", "N. N. looks").status == 0
    assert seen(own) == [(f"{DL} misspelt", "N. N. looks")]
    said = causes(own)
    assert (said["site"], said[DL].startswith("N. N. looks (")) == ("", True)
    after = own.halfpipe("status", DL)
    assert (before.status, after.status) == (1, 1)
    assert after.out.count(f"  seen: {said[DL]}\n") == 1
    assert f"seen: {said[DL]}" in own.halfpipe("explain", DL).out
    board = own.work.parent / "board"
    own.halfpipe("board", "-o", str(board))
    for page in (paths.BOARD, paths.board_page(DL)):
        assert f"seen: {said[DL]}" in (board / page).read_text(), page
    status = json.loads((board / paths.BOARD_STATUS).read_text())
    assert [cause["seen"] for one in status["downlinks"] if one["dl"] == DL for cause in one["causes"]] == [
        said[DL]
    ]
    assert own.halfpipe("ack", "misspelt", "--reason", "N. N. looks").status == 0, (
        "with the code: also the site"
    )
    assert [one for one, _ in seen(own)] == [f"{DL} misspelt", "site misspelt"]
    assert own.told("accept")["decisions"] == []
    assert own.halfpipe("ack", DL, "--undo", "--reason", "N. N. is ill").status == 0
    assert [one for one, _ in seen(own)] == ["site misspelt"]
    file.unlink()
    for words in ((DL, "--reason", "x"), ("disk-low", "--reason", "x"), (DL, "--undo", "--reason", "x")):
        assert own.halfpipe("ack", *words).status == 1
    assert len(Decisions.read(own.work).of_kind(What.SEEN)) == 1


def test_what_only_a_turn_knows_is_noted_too(own: Site) -> None:
    write_told(own.work / paths.ALERT_STATE, {"site board-failed": Told(["board-failed"], 1.0, 2.0)})
    assert own.halfpipe("ack", "board-failed", "--reason", "the web server is down").status == 0
    assert seen(own) == [("site board-failed", "the web server is down")]
