"""The MOOT file: valid lines, skipped lines, and refused files."""

import logging
from pathlib import Path

import pytest

from halfpipe.errors import ConfigError, FormatError
from halfpipe.ids import RunId
from halfpipe.ledger.moot_file import LARGEST, UNSET, moot_of
from halfpipe.state.deliveries import MootKey

RUN = RunId.from_l1("r0741234567")
GOOD = "r0741234567 2959 nomSciOps"
KEY = MootKey(2959, "nomSciOps")


@pytest.fixture(autouse=True)
def _heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("halfpipe"), "propagate", True)


def write(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "moot.txt"
    path.write_text("".join(line + "\n" for line in lines))
    return path


def test_valid_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(
        tmp_path,
        *("# run key alias", "", GOOD, "  r0000000000\t0xFFFFFFFE   calibOps  "),
        *("r4294967295 0 conSciOps_noCal", GOOD),  # a repeated line is no contradiction
    )
    runs = (RUN, RunId("00000000"), RunId("ffffffff"), RunId.from_l1("r0741234568"))
    known = [KEY, MootKey(0xFFFFFFFE, "calibOps"), MootKey(0, "conSciOps_noCal"), UNSET]
    assert [moot_of(run, path) for run in runs] == known
    assert caplog.text == ""
    assert moot_of(RUN, None) == UNSET == MootKey(0xFFFFFFF0, "LSEWRITER_UNSET")


def test_bad_lines_are_skipped_and_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keys = ["2959", "2959 nomSciOps more", "-1 nomSciOps", "4294967296 nomSciOps", "0x1ffffffff nomSciOps"]
    keys += ["29.5 nomSciOps", "2959 nomSçiOps", "٢٩ nomSciOps", "9" * 5000 + " nomSciOps", "1 " + "a" * 2000]
    keys += ["1 a\x1b[2J", "1 a\x00b", "1 a\u2028b"]
    bad = ["not a key", "741234567 2959 x", "r741234567 2959 x", "r9999999999 2959 x", "\x00\x01"]
    assert moot_of(RUN, write(tmp_path, *bad, GOOD, *(f"{RUN.l1} {key}" for key in keys))) == KEY
    (message,) = [record.getMessage() for record in caplog.records]
    lines = [*range(1, 6), *range(7, 7 + len(keys))]
    assert f"{len(lines)} lines" in message
    assert message.endswith(", ".join(map(str, lines)))


def test_contradictory_keys_of_a_run_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD, "", "r0741234567 2960 nomSciOps")
    with pytest.raises(FormatError, match=f"^{path}, line 3: "):
        moot_of(RUN, path)
    assert moot_of(RunId("00000000"), path) == UNSET, "other runs are not affected"


def test_a_file_that_is_too_large_or_absent_or_no_list_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    with path.open("r+b") as file:
        file.truncate(LARGEST)
    assert moot_of(RUN, path) == KEY
    with path.open("ab") as file:
        file.write(b"\n")
    (rubbish := tmp_path / "rubbish").write_bytes(b"\x00\xff\n\x1b")
    for refused in (path, tmp_path / "x", rubbish):
        with pytest.raises(ConfigError):
            moot_of(RUN, refused)
