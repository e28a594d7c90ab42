"""Drawings: what is drawn lies inside, and each thing is there once."""

import re

import pytest

from halfpipe.pages import board_drawings
from halfpipe.pages.board_figures import Day
from halfpipe.pages.board_level0 import Hour

DAYS = [
    Day(20000 + n, 3, None if n == 4 else 600.0 + 60 * n, None if n == 4 else 900.0 + 600 * n, 1000 * n)
    for n in range(30)
]


def points(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"M([\d.]+) ([\d.]+)", path)]


def test_latency_has_a_dot_for_each_day_that_is_known() -> None:
    drawn = board_drawings.latency(DAYS)
    assert drawn is not None
    dots = points(drawn.shapes["dot"])
    assert len(dots) == len(points(drawn.shapes["whisker"])) == len(DAYS) - 1
    assert all(drawn.left <= x <= drawn.right and 0 <= y <= drawn.height for x, y in dots)
    assert [y for _, y in dots] == sorted((y for _, y in dots), reverse=True), "slower is higher"
    assert [label for _, label in drawn.lines] == ["0 min", "250 min", "500 min"]
    assert drawn.labels[-1][1] == board_drawings.date(DAYS[-1].day)
    assert len(drawn.labels) <= board_drawings.MOST_LABELS
    assert board_drawings.latency([Day(20000, 1, None, None, 0)]) is None


def test_columns_of_waiting_events_stand_in_the_drawing() -> None:
    drawn = board_drawings.waiting(DAYS)
    assert drawn is not None
    assert len(points(drawn.shapes["column"])) == len(DAYS) - 1, "none where nothing waits"
    tops = [float(y) for y in re.findall(r"V([\d.]+)h", drawn.shapes["column"])]
    assert all(0 < top < drawn.height - drawn.bottom for top in tops)
    assert board_drawings.waiting([]) is None


def test_hours_of_level_0_are_drawn_in_pieces_of_one_kind() -> None:
    last = 470_000
    hours = [Hour(last - n, 956, n != 3) for n in range(10)]
    hours += [Hour(last, 957, None), Hour(last - 500, 958, False)]
    drawn = board_drawings.level0(hours)
    assert drawn is not None
    assert [label for _, label in drawn.lines] == ["956", "957"], "what is older than a week is not drawn"
    assert {name: len(points(path)) for name, path in drawn.shapes.items()} == {
        "found": 2,
        "missing": 1,
        "unknown": 1,
    }
    assert board_drawings.level0([]) is None


@pytest.mark.parametrize(
    ("value", "top"), [(0, 1), (1, 1), (3, 5), (5, 5), (99, 100), (2_100_000, 5_000_000)]
)
def test_axes_end_at_round_numbers(value: int, top: int) -> None:
    drawn = board_drawings.waiting([Day(20000, 1, None, None, value)])
    assert drawn is not None
    assert drawn.lines[-1][1] == f"{top:,}"
