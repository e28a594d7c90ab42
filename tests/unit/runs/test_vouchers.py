"""What vouches for deliveries: receipts as they were written, and manifests."""

import json
from pathlib import Path
from typing import Any

import pytest
from halfpipe.runs.vouchers import vouchers

from halfpipe.ids import DownlinkId, RunId
from halfpipe.runs.receipt_file import sealed
from halfpipe.storage import paths

DL, RUN = DownlinkId("230401001"), RunId("29d7d35d")


def hand_off(work: Path, number: int, first: int) -> Path:
    """Write the copy of a receipt that delivered ten events."""
    file = {
        "name": "x.evt",
        "events": 10,
        "sequences": [first, first + 9],
        "seconds": [1, 2],
        "size": 1,
        "sha256": "",
    }
    run: dict[str, Any] = {"run": RUN, "spans": [[first, first + 9]], "files": [file], "times": [1.0, 2.0]}
    path = work / paths.receipt_history(DL, number)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(sealed({"handoff": number, "runs": [run]}))
    return path


def found(work: Path, *, history: bool = False) -> list[Path]:
    return [voucher.path for voucher in vouchers(work, RUN, DL, history=history)]


def test_the_newest_receipt_vouches_and_with_history_all_do(tmp_path: Path) -> None:
    every = [hand_off(tmp_path, number, 100 * number) for number in (1, 2, 10)]
    (every[0].parent / "003.begun").touch()
    assert found(tmp_path) == every[2:]
    assert found(tmp_path, history=True) == every
    assert vouchers(tmp_path, RunId("29d7d35e"), DL) == []


@pytest.mark.parametrize("harm", ["edited", "damaged"])
def test_a_receipt_that_was_not_written_so_vouches_for_nothing(
    tmp_path: Path, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What it says was delivered might never have been; the one before still vouches."""
    first, second = (hand_off(tmp_path, number, 100 * number) for number in (1, 2))
    content = second.read_text()
    second.write_text(content.replace("209", "999") if harm == "edited" else content[:-20])
    assert found(tmp_path) == [first]
    assert found(tmp_path, history=True) == [first]
    assert str(second) in caplog.text


def test_without_a_copy_the_receipt_vouches(tmp_path: Path) -> None:
    copy = hand_off(tmp_path, 1, 100)
    receipt = tmp_path / paths.receipt(DL)
    copy.rename(receipt)
    assert found(tmp_path) == [receipt]
    assert json.loads(receipt.read_text())["handoff"] == 1
