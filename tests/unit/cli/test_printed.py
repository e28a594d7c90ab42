"""Progress, as people see it."""

import pytest

from halfpipe.cli import printed


def test_progress_is_shown_to_nobody_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(printed.shown([1, 2])) == [1, 2]
    assert capsys.readouterr() == ("", "")
