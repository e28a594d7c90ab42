"""Paths: without ids the pattern for Snakemake, with ids the path of a file."""

import pytest

from halfpipe import paths


def test_a_place_is_a_pattern_and_takes_its_ids() -> None:
    """An id that occurs twice is given once; numbers have the width of the pattern."""
    assert paths.retdef() == "{dl}/RetDef-{dl}-{chunk}.xml"
    assert paths.retdef("230401001", "00002") == "230401001/RetDef-230401001-00002.xml"
    assert paths.online_file(77, "29d7d35d") == "0000004d-29d7d35d.evt"


@pytest.mark.parametrize("ids", [("230401001",), ("230401001", "00002", "00003")])
def test_a_wrong_number_of_ids_is_refused(ids: tuple[str, ...]) -> None:
    with pytest.raises(TypeError, match="RetDef"):
        paths.retdef(*ids)
