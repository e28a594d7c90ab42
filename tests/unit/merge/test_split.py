"""Splitting a series of events into files: the published limits, and the last file."""

import numpy as np

from halfpipe.merge.decision import split
from halfpipe.settings import Merge
from tests.support import model
from tests.support.model import Rules

PUBLISHED = [125000, 112500, 101250, 91125, 82012, 73810, 66429, 59786]


def test_published_limits() -> None:
    def sizes_of(count: int) -> list[int]:
        sequence = np.arange(1000, 1000 + count, dtype=np.uint64)
        return [end - begin for begin, end in split(sequence, 0, count, Merge())]

    total = sum(PUBLISHED)
    assert sizes_of(total) == PUBLISHED
    assert sizes_of(total + 125000 + 2) == [*PUBLISHED, 125000, 2]
    assert sizes_of(total + 1) == [*PUBLISHED[:-1], PUBLISHED[-1] + 1], "no file of one event"
    assert sizes_of(2 * total) == PUBLISHED * 2
    assert model.split(range(2 * total), Rules()) == PUBLISHED * 2
