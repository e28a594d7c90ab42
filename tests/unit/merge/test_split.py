"""Splitting a series of events into files: the published limits, and the last file."""

import numpy as np
import pytest

from halfpipe.merge.decision import split
from halfpipe.settings import Merge
from tests.support import model
from tests.support.model import Rules

PUBLISHED = [125000, 112500, 101250, 91125, 82012, 73810, 66429, 59786]


def sizes_of(count: int, **knobs: float) -> list[int]:
    sequence = np.arange(1000, 1000 + count, dtype=np.uint64)
    return [end - begin for begin, end in split(sequence, 0, count, Merge(**knobs))]  # type: ignore[arg-type]


def test_published_limits() -> None:
    total = sum(PUBLISHED)
    assert sizes_of(total) == PUBLISHED
    assert sizes_of(total + 125000 + 2) == [*PUBLISHED, 125000, 2]
    assert sizes_of(2 * total) == PUBLISHED * 2
    assert model.split(range(2 * total), Rules()) == PUBLISHED * 2


def test_a_lone_last_event_joins_the_file_before() -> None:
    assert sizes_of(125001) == [125001]
    assert sizes_of(125000 + 112500 + 1) == [125000, 112501]
    assert sizes_of(125002) == [125000, 2]


@pytest.mark.parametrize(
    ("knobs", "sizes"),
    [
        # legacy-defects 28, the part that is not a defect
        ({"max_events": 2}, [2, 1, 2, 1, 2, 1, 2, 1]),
        ({"max_events": 3}, [3, 2, 1, 3, 2, 1]),
        ({"max_events": 4}, [4, 3, 2, 3]),
        ({"max_events": 5}, [5, 4, 3]),
        ({"max_events": 5, "chunk_floor": 0.0, "chunk_scale": 0.5}, [5, 2, 1, 1, 1, 1, 1]),
        ({"max_events": 5, "chunk_scale": 1.5}, [5, 7]),
        ({"max_events": 1}, [1] * 12),
        ({"max_events": 0}, [12]),
        ({"max_events": -1}, [12]),
        ({"max_events": 1, "min_events": 3}, [3, 3, 3, 3]),
        ({"max_events": 4, "min_events": 3}, [4, 3, 5]),
        ({"max_events": 12}, [12]),
        ({"max_events": 11}, [11, 1]),
        ({"max_events": 11, "min_events": 2}, [12]),
        ({"max_events": 9, "min_events": 4}, [12]),
    ],
)
def test_small_limits(knobs: dict[str, float], sizes: list[int]) -> None:
    knobs = {"min_events": 1, **knobs}
    assert sizes_of(12, **knobs) == sizes
    assert model.split(range(12), Rules(**knobs)) == sizes  # type: ignore[arg-type]
