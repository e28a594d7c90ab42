"""Marker files of an operator."""

import errno
from pathlib import Path

import pytest

from halfpipe.files import markers


def test_a_marker_needs_no_space_and_keeps_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    marker, other = tmp_path / "halts" / "stage", tmp_path / "halts" / "l1"
    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", full)
        markers.make(marker, "the robot is down")
    assert (marker.exists(), markers.content(marker)) == (True, "")
    for reason in ("first", "second"):
        markers.make(other, reason)
    assert markers.content(other).endswith(": first")
