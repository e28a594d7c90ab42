"""Paths are patterns: of Snakemake without ids, of a file with them."""

import pytest

from halfpipe import paths


def test_a_place_is_a_pattern_and_takes_the_ids_that_it_names() -> None:
    """An id that is named twice is given once; numbers are written as wide as the place says."""
    assert paths.retdef() == "{dl}/RetDef-{dl}-{chunk}.xml"
    assert paths.retdef("230401001", "00002") == "230401001/RetDef-230401001-00002.xml"
    assert paths.online_file(77, "29d7d35d") == "0000004d-29d7d35d.evt"


@pytest.mark.parametrize("ids", [("230401001",), ("230401001", "00002", "00003")])
def test_other_ids_than_a_place_names_are_refused(ids: tuple[str, ...]) -> None:
    """One too few or too many is a mistake of the caller, and no path."""
    with pytest.raises(TypeError, match="RetDef"):
        paths.retdef(*ids)
