"""The MOOT file: what is read, what is passed over and told, what is refused."""

import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfpipe.errors import ConfigError, FormatError
from halfpipe.ids import RunId
from halfpipe.run.moot_keys import UNSET, Moot, moot_of, read_moot

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
    assert read_moot(path) == {
        RUN: Moot(2959, "nomSciOps"),
        RunId("00000000"): Moot(0xFFFFFFFE, "calibOps"),
        RunId("ffffffff"): Moot(0, "conSciOps_noCal"),
    }
    assert caplog.text == ""


def test_garbage_is_told_with_its_line_and_costs_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    garbage = [
        "not a key",
        "741234567 2959 nomSciOps",
        "r741234567 2959 nomSciOps",
        "r0741234567 2959",
        "r0741234567 2959 nomSciOps more",
        "r0741234567 -1 nomSciOps",
        "r0741234567 4294967296 nomSciOps",
        "r0741234567 0x1ffffffff nomSciOps",
        "r0741234567 29.5 nomSciOps",
        "r0741234567 2959 nomSçiOps",
        "r9999999999 2959 nomSciOps",
        "r0741234567 ٢٩ nomSciOps",
        "\x00\x01",
    ]
    path = write(tmp_path, *garbage, "r0741234567 2959 nomSciOps")
    assert read_moot(path) == {RUN: Moot(2959, "nomSciOps")}
    messages = [record.getMessage() for record in caplog.records]
    for number, line in enumerate(garbage, 1):
        assert messages[number - 1] == f"{path}, line {number}: passed over, not 'r%010d key alias': {line!r}"
    assert len(messages) == len(garbage)


def test_a_run_that_the_file_does_not_name(tmp_path: Path) -> None:
    path = write(tmp_path, "r0741234567 2959 nomSciOps")
    assert moot_of(RUN, path) == Moot(2959, "nomSciOps")
    # Matched on the whole id: no other run has it.
    assert moot_of(RunId.from_l1("r0741234568"), path) == moot_of(RUN, None) == UNSET
    assert Moot(0xFFFFFFF0, "LSEWRITER_UNSET") == UNSET


def test_a_contradiction_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "r0741234567 2959 nomSciOps", "", "r0741234567 2960 nomSciOps")
    with pytest.raises(FormatError) as caught:
        read_moot(path)
    assert str(caught.value) == (
        f"{path}, line 3: run r0741234567 (2c2e5787) has key 2960 nomSciOps here and 2959 nomSciOps before. "
        "Remove the wrong line."
    )


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"^moot.file {tmp_path}/x: cannot be read: No such file"):
        read_moot(tmp_path / "x")


@given(st.binary(max_size=300))
def test_no_bytes_keep_a_good_line_from_being_read(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("moot") / "moot.txt"
    path.write_bytes(content + b"\nr0741234567 2959 nomSciOps\n")
    assert read_moot(path)[RUN] == Moot(2959, "nomSciOps")
