"""The legacy's list of abandoned runs: names in hexadecimal and decimal."""

from pathlib import Path

import pytest

from halfpipe.errors import HalfPipeError
from halfpipe.ids import RunId
from halfpipe_switchover import legacy_force
from halfpipe_switchover.legacy_force import ForceList

RUN = RunId("2c2e5787")
NONE = ForceList({}, ())


def listed(work: Path, *names: str) -> ForceList:
    assert legacy_force.read(work) == NONE
    (work / "force").mkdir()
    for name in names:
        (work / "force" / name).touch()
    return legacy_force.read(work)


def test_names_that_are_runs_and_names_that_are_not(tmp_path: Path) -> None:
    of_run = ("0077014d-2c2e5787", "0741234567", "2c2e5787", "741234567", "r0741234567")
    of_none = ("2C2E5787", "2c2e5787-0077014d-", "4294967296", "README", "e06b787", "r741234567x", "²c2e5787")
    found = listed(tmp_path, *of_run, *of_none, "23958729", "0077014d-e06b787")
    home = tmp_path / "force"
    assert found.runs == {
        RUN: tuple(home / name for name in of_run),
        RunId("23958729"): (home / "23958729",),
        RunId("0e06b787"): (home / "0077014d-e06b787",),
    }
    assert [text.partition(": ")[0] for text in found.refused] == [str(home / name) for name in of_none]


def test_an_unreadable_list_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "force").write_text("")
    with pytest.raises(HalfPipeError) as found:
        legacy_force.read(tmp_path)
    assert found.value.code == "file-system"
