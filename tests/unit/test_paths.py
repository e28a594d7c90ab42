"""Paths take all ids of their pattern, or none."""

import pytest

from halfpipe import paths


@pytest.mark.parametrize("ids", [("230401001",), ("230401001", "00002", "00003")])
def test_a_wrong_number_of_ids_is_refused(ids: tuple[str, ...]) -> None:
    with pytest.raises(TypeError, match="RetDef"):
        paths.retdef(*ids)
