"""The operator's list of runs abandoned: names in hexadecimal and decimal, and those that may be two runs."""

from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.errors import HalfPipeError
from halfpipe.files.json_files import write_json
from halfpipe.ids import DownlinkId, RunId
from halfpipe.run import force_list
from halfpipe.run.force_list import ForceList

RUN = RunId("2c2e5787")


def listed(work: Path, *names: str) -> ForceList:
    home = work / "force"
    home.mkdir(exist_ok=True)
    for name in names:
        (home / name).touch()
    return force_list.read(work)


def test_no_list(tmp_path: Path) -> None:
    assert force_list.read(tmp_path) == ForceList(frozenset(), ())


def test_names_of_one_run_and_of_none(tmp_path: Path) -> None:
    for number, name in enumerate(
        ["2c2e5787", "0077014d-2c2e5787", "r0741234567", "741234567", "0741234567"]
    ):
        (tmp_path / str(number)).mkdir()
        assert listed(tmp_path / str(number), name) == ForceList(frozenset([RUN]), ())
    none = [
        "2C2E5787",
        "2c2e578",
        "2c2e5787-0077014d-",
        "4294967296",
        "README",
        "r741234567x",
        "r99999999999",
        "²c2e5787",
    ]
    found = listed(tmp_path, *none, "741234567")
    assert found.runs == {RUN}
    assert [text.partition(": ")[0] for text in found.refused] == [
        str(tmp_path / "force" / name) for name in none
    ]


def test_eight_digits_may_be_two_runs(tmp_path: Path) -> None:
    hexadecimal, decimal = RunId("23958729"), RunId.from_met(23958729)
    assert force_list.readings("23958729") == {hexadecimal, decimal}
    found = listed(tmp_path, "23958729")
    assert not found.runs
    (refused,) = found.refused
    assert all(run.l1 in refused for run in (hexadecimal, decimal))
    (tmp_path / paths.run(hexadecimal)).mkdir(parents=True)
    assert force_list.read(tmp_path) == ForceList(frozenset([hexadecimal]), ()), "the one that is known"
    (tmp_path / paths.run(decimal)).mkdir(parents=True)
    assert not force_list.read(tmp_path).runs
    assert listed(tmp_path, "r0023958729").runs == {decimal}


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
    assert not force_list.in_effect(tmp_path, RUN, [dl], ForceList(frozenset(), ())), "taken back"
