"""What drawn histories meet too seldom: spans of its own, and a run in two pieces that are each closed."""

import pytest

from halfpipe.merge.intervals import EVERYTHING, HIGHEST, LOWEST, Interval
from halfpipe.merge.settle import Segment, is_complete, settled

WHOLE = Segment((0, 1), opens=True, closes=True, covers=EVERYTHING)
MIDDLE = Segment((2, 3), opens=False, closes=False, covers=Interval(5, 8))


@pytest.mark.parametrize(
    ("own", "places"),
    [([], [(5, 8)]), ([(1, 20)], [(1, 20)]), ([(1, 4)], [(1, 4), (5, 8)]), ([(1, 5)], [(1, 8)])],
)
def test_own_spans_count_as_settled_and_those_that_only_touch_are_not_joined(
    own: list[tuple[int, int]], places: list[tuple[int, int]]
) -> None:
    assert settled({956: [WHOLE], 958: [MIDDLE]}, 2, own) == tuple(places)


def test_a_run_is_complete_in_one_piece_only() -> None:
    behind = Segment((3, 4), opens=False, closes=True, covers=Interval(9, HIGHEST))
    assert settled({956: [WHOLE, behind], 957: [WHOLE]}, 2) == ((LOWEST, HIGHEST),)
    assert is_complete({956: [WHOLE], 957: [WHOLE]}, 2)
    assert not is_complete({956: [WHOLE, behind], 957: [WHOLE]}, 2)
