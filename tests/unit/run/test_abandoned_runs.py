"""The list of abandoned runs: names in hexadecimal and decimal."""

from pathlib import Path

import pytest

from halfpipe.errors import HalfPipeError, MissingInputError
from halfpipe.ids import RunId
from halfpipe.run import abandoned_runs
from halfpipe.run.abandoned_runs import ForceList

RUN = RunId("2c2e5787")
NONE = ForceList({}, ())


def listed(work: Path, *names: str) -> ForceList:
    assert abandoned_runs.read(work) == NONE
    (work / "force").mkdir()
    for name in names:
        (work / "force" / name).touch()
    return abandoned_runs.read(work)


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


def test_only_a_run_on_the_list_is_taken_back(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError):
        abandoned_runs.take_back(tmp_path, RUN)
    (files,) = listed(tmp_path, "2c2e5787", "r0741234567").runs.values()
    assert abandoned_runs.take_back(tmp_path, RUN) == files
    assert abandoned_runs.read(tmp_path) == NONE


def test_an_unreadable_list_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "force").write_text("")
    with pytest.raises(HalfPipeError) as found:
        abandoned_runs.read(tmp_path)
    assert found.value.code == "file-system"
