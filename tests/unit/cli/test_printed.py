"""Tables as people see them."""

import re

import pytest

from halfpipe.cli import printed
from halfpipe.cli.printed import Marked


def test_equal_notes_stand_once_with_a_count(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    rows: list[dict[str, printed.Cell]] = [
        {"downlink": f"23040100{number}", "what": Marked(note, "yellow") if note else None}
        for number, note in enumerate(("it waits", "", "it is held", "it waits", "it waits"))
    ]
    printed.table(rows, notes=slice(None))
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert [line.strip().split(maxsplit=1) for line in lines if " it " in line] == [
        ["230401000", "it waits (and 2 more like it)"],
        ["230401002", "it is held"],
    ]


def test_progress_is_shown_to_nobody_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(printed.shown([1, 2])) == [1, 2]
    assert capsys.readouterr() == ("", "")
