"""Rows on disk: slices of them are those of the array, and a directory that takes nothing is named."""

from pathlib import Path

import numpy as np
import pytest

from halfpipe.errors import HalfPipeError
from halfpipe.formats.kept_index import SIZED
from halfpipe.run.rows_on_disk import RowsOnDisk

ROWS = np.random.default_rng(4).integers(0, 256, 30 * SIZED.itemsize, np.uint8).view(SIZED)


def test_slices_are_those_of_the_array(tmp_path: Path) -> None:
    file = RowsOnDisk(tmp_path / "new")
    stored = [file.put(ROWS[a:b]) for a, b in ((0, 7), (7, 7), (7, 30))]
    del file
    assert list((tmp_path / "new").iterdir()) == []
    assert [len(rows) for rows in stored] == [7, 0, 23]
    for rows, whole in zip(stored, (ROWS[:7], ROWS[:0], ROWS[7:]), strict=True):
        for cut in (slice(0, 0), slice(2, 5), slice(0, 1), slice(5, 100), slice(None), slice(-3, None)):
            assert rows[cut].dtype == SIZED
            assert rows[cut].tobytes() == whole[cut].tobytes()
    with pytest.raises(ValueError, match="follow each other"):
        stored[0][::2]


def test_a_directory_that_takes_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HalfPipeError, match=f"^{tmp_path}/file: events cannot be kept there"):
        RowsOnDisk(tmp_path / "file")


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = RowsOnDisk(tmp_path)
    with Path("/dev/full").open("r+b", buffering=0) as full:
        monkeypatch.setattr(file, "_file", full)
        with pytest.raises(HalfPipeError, match=f"^{tmp_path}: .* No space left .* The disk is full"):
            file.put(ROWS)
