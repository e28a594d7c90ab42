"""Events of several parts, merged into one table."""

from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halfpipe.formats.idx import Events
from halfpipe.merge import ordering

ROWS = st.lists(st.tuples(st.integers(0, 40), st.sampled_from([956, 957])), max_size=60)


@pytest.mark.parametrize("window", [1, 2, 7, 1 << 14])
@settings(max_examples=40)
@given(parts=st.lists(ROWS, min_size=1, max_size=5))
def test_parts_are_merged_in_order_with_first_copies(window: int, parts: list[list[tuple[int, int]]]) -> None:
    model: dict[tuple[int, int], int] = {}
    tables = [Events.zeros(len(part)) for part in parts]
    places = count()  # they distinguish the copies of an event
    for part, table in zip(parts, tables, strict=True):
        for row, (sequence, apid) in enumerate(part):
            place = next(places)
            table[["sequence", "apid", "offset"]][row] = sequence, apid, place
            model.setdefault((sequence, apid), place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ordering, "WINDOW", window)
        found = ordering.in_one(tables)
    assert [((int(s), int(a)), int(o)) for s, a, o in found[["sequence", "apid", "offset"]]] == sorted(
        model.items()
    )
    assert not tables
