"""What programs started from here find."""

import os
from pathlib import Path

import pytest

from halfpipe.environment import put_first_on_path


def test_a_directory_comes_first_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    put_first_on_path(Path("/programs"))
    put_first_on_path(Path("/programs"))
    assert os.environ["PATH"] == "/programs:/usr/bin:/bin"
    monkeypatch.delenv("PATH")
    put_first_on_path(Path("/programs"))
    assert os.environ["PATH"] == f"/programs:{os.defpath}"
