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


@pytest.mark.parametrize("name", ["2c2e5787", "0077014d-2c2e5787", "r0741234567", "741234567", "0741234567"])
def test_names_of_one_run(tmp_path: Path, name: str) -> None:
    assert listed(tmp_path, name) == ForceList(frozenset([RUN]), ())


@pytest.mark.parametrize(
    "name",
    [
        "2C2E5787",
        "2c2e578",
        "r741234567x",
        "README",
        "4294967296",
        "r99999999999",
        "2c2e5787-0077014d-",
        "²c2e5787",
    ],
)
def test_names_of_no_run(tmp_path: Path, name: str) -> None:
    found = listed(tmp_path, name, "741234567")
    assert found.runs == {RUN}
    assert [text.startswith(f"{tmp_path / 'force' / name}: gives up no run") for text in found.refused] == [
        True
    ]


def test_eight_digits_may_be_two_runs(tmp_path: Path) -> None:
    hexadecimal, decimal = RunId("23958729"), RunId.from_met(23958729)
    assert force_list.readings("23958729") == {hexadecimal, decimal}
    found = listed(tmp_path, "23958729")
    assert not found.runs
    assert found.refused == (
        f"{tmp_path}/force/23958729: may be run 016d94c9 (r0023958729) or 23958729 (r0597002025), so no run is "
        "abandoned. Rename the file to the one with r and ten digits.",
    ), found.refused
    (tmp_path / paths.run(hexadecimal)).mkdir(parents=True)
    assert force_list.read(tmp_path) == ForceList(frozenset([hexadecimal]), ()), "the one that is known"
    (tmp_path / paths.run(decimal)).mkdir(parents=True)
    assert not force_list.read(tmp_path).runs
    assert listed(tmp_path, "r0023958729").runs == {decimal}


def test_a_list_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "force").write_text("")
    with pytest.raises(HalfPipeError, match=f"^{tmp_path}/force: cannot be read: Not a directory"):
        force_list.read(tmp_path)


def test_a_run_is_given_up_in_effect_once_it_was_delivered_so(tmp_path: Path) -> None:
    dl = DownlinkId("240601001")
    found = listed(tmp_path, "2c2e5787")
    assert not force_list.in_effect(tmp_path, RUN, [dl], found), "not delivered yet"
    for said in (False, True):
        write_json(tmp_path / paths.manifest(RUN, dl), {"given_up": said})
        assert force_list.in_effect(tmp_path, RUN, [dl], found) is said
    assert not force_list.in_effect(tmp_path, RUN, [dl], ForceList(frozenset(), ())), "taken back"
