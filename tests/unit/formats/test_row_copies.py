"""Rows moved as bytes are the rows that numpy would have moved."""

import numpy as np
import pytest

from halfpipe.formats.idx import EVENT
from halfpipe.formats.kept_index import SIZED
from halfpipe.formats.row_copies import joined, taken
from halfpipe.run.event_table import KEY

RNG = np.random.default_rng(2)


@pytest.mark.parametrize("kind", [EVENT, SIZED, KEY])
def test_joined_and_taken(kind: np.dtype[np.void]) -> None:
    tables = [
        RNG.integers(0, 256, (n, kind.itemsize), np.uint8).reshape(-1).view(kind) for n in (5, 0, 40, 1)
    ]
    every = joined(tables)
    assert every.dtype == kind
    assert every.tobytes() == np.concatenate(tables).tobytes()
    assert joined([tables[0][1:3]]).tobytes() == tables[0][1:3].tobytes()
    order = RNG.permutation(46)[:30]
    assert taken(every, order).tobytes() == every[order].tobytes()
    assert len(taken(every, order[:0])) == 0


def test_tables_of_different_types_are_refused() -> None:
    with pytest.raises(TypeError, match="different types"):
        joined([np.empty(1, EVENT), np.empty(1, SIZED)])
