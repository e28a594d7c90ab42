"""The operator's list of runs abandoned: names in hexadecimal and decimal."""

from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.errors import HalfPipeError
from halfpipe.files.json_files import write_json
from halfpipe.ids import DownlinkId, RunId
from halfpipe.run import force_list
from halfpipe.run.force_list import ForceList

RUN = RunId("2c2e5787")
NOBODY = ForceList({}, ())


def listed(work: Path, *names: str) -> ForceList:
    assert force_list.read(work) == NOBODY
    (work / "force").mkdir()
    for name in names:
        (work / "force" / name).touch()
    return force_list.read(work)


def test_names_of_runs_and_of_none(tmp_path: Path) -> None:
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


def test_a_list_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "force").write_text("")
    with pytest.raises(HalfPipeError):
        force_list.read(tmp_path)


def test_a_run_is_given_up_in_effect_once_it_was_delivered_so(tmp_path: Path) -> None:
    dl = DownlinkId("240601001")
    found = listed(tmp_path, "2c2e5787")
    assert not force_list.in_effect(tmp_path, RUN, [dl], found), "not delivered yet"
    for said in (False, True):
        write_json(tmp_path / paths.manifest(RUN, dl), {"given_up": said})
        assert force_list.in_effect(tmp_path, RUN, [dl], found) is said
    assert not force_list.in_effect(tmp_path, RUN, [dl], NOBODY), "taken back"
