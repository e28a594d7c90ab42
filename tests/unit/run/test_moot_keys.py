"""The MOOT file: what is read, what is passed over and told, what is refused."""

import logging
from pathlib import Path

import pytest

from halfpipe.errors import ConfigError, FormatError
from halfpipe.ids import RunId
from halfpipe.run.moot_keys import LARGEST, UNSET, Moot, moot_of

RUN = RunId.from_l1("r0741234567")


@pytest.fixture(autouse=True)
def _heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("halfpipe"), "propagate", True)


def write(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "moot.txt"
    path.write_text("".join(line + "\n" for line in lines))
    return path


def test_good_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(
        tmp_path,
        "# run key alias",
        "",
        "r0741234567 2959 nomSciOps",
        "  r0000000000\t0xFFFFFFFE   calibOps  ",
        "r4294967295 0 conSciOps_noCal",
        "r0741234567 2959 nomSciOps",  # the same once more is no contradiction
    )
    runs = (RUN, RunId("00000000"), RunId("ffffffff"))
    known = [Moot(2959, "nomSciOps"), Moot(0xFFFFFFFE, "calibOps"), Moot(0, "conSciOps_noCal")]
    assert [moot_of(run, path) for run in runs] == known
    assert caplog.text == ""


def test_garbage_is_told_with_its_line_and_costs_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = ["2959", "2959 nomSciOps more", "-1 nomSciOps", "4294967296 nomSciOps", "0x1ffffffff nomSciOps"]
    keys += ["29.5 nomSciOps", "2959 nomSçiOps", "٢٩ nomSciOps", "9" * 5000 + " nomSciOps", "1 " + "a" * 2000]
    keys += ["1 a\x1b[2J", "1 a\x00b", "1 a\u2028b"]
    garbage = ["not a key", "741234567 2959 x", "r741234567 2959 x", "r9999999999 2959 x", "\x00\x01"]
    path = write(tmp_path, *garbage, "r0741234567 2959 nomSciOps", *(f"{RUN.l1} {key}" for key in keys))
    assert moot_of(RUN, path) == Moot(2959, "nomSciOps")
    (said,) = [record.getMessage() for record in caplog.records]
    lines = [*range(1, 6), *range(7, 7 + len(keys))]
    assert f"{len(lines)} lines" in said
    assert said.endswith(", ".join(map(str, lines)))


def test_a_run_that_the_file_does_not_name(tmp_path: Path) -> None:
    path = write(tmp_path, "r0741234567 2959 nomSciOps")
    assert moot_of(RUN, path) == Moot(2959, "nomSciOps")
    # Matched on the whole id: no other run has it.
    assert moot_of(RunId.from_l1("r0741234568"), path) == moot_of(RUN, None) == UNSET
    assert Moot(0xFFFFFFF0, "LSEWRITER_UNSET") == UNSET


def test_a_contradiction_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "r0741234567 2959 nomSciOps", "", "r0741234567 2960 nomSciOps")
    with pytest.raises(FormatError, match=f"^{path}, line 3: "):
        moot_of(RUN, path)
    assert moot_of(RunId("00000000"), path) == UNSET, "what is said of other runs does not matter"


def test_a_file_that_is_far_too_large(tmp_path: Path) -> None:
    path = write(tmp_path, "r0741234567 2959 nomSciOps")
    with path.open("r+b") as file:
        file.truncate(LARGEST)
    assert moot_of(RUN, path) == Moot(2959, "nomSciOps")
    with path.open("ab") as file:
        file.write(b"\n")
    with pytest.raises(ConfigError):
        moot_of(RUN, path)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        moot_of(RUN, tmp_path / "x")
