"""Rows moved as bytes are the rows that numpy would have moved."""

import numpy as np
import pytest

from halfpipe.formats.idx import EVENT
from halfpipe.formats.structured import joined
from halfpipe.run.event_table import KEY
from halfpipe_simulator.index_lines import EVENT_LINE

RNG = np.random.default_rng(2)


@pytest.mark.parametrize("kind", [EVENT, EVENT_LINE, KEY])
def test_joined(kind: np.dtype[np.void]) -> None:
    tables = [
        RNG.integers(0, 256, (n, kind.itemsize), np.uint8).reshape(-1).view(kind) for n in (5, 0, 40, 1)
    ]
    every = joined(tables)
    assert every.dtype == kind
    assert every.tobytes() == np.concatenate(tables).tobytes()
    assert joined([tables[0][1:3]]).tobytes() == tables[0][1:3].tobytes()


def test_tables_of_different_types_are_refused() -> None:
    with pytest.raises(TypeError):
        joined([np.empty(1, EVENT), np.empty(1, EVENT_LINE)])
