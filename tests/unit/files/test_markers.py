"""Marker files of an operator."""

import errno
from pathlib import Path

import pytest

from halfpipe.files import markers


def test_a_marker_takes_effect_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    marker = tmp_path / "halts" / "stage"
    markers.make(marker, "the robot is down")
    assert (marker.exists(), markers.content(marker)) == (True, "")
