"""Events that a downlink delivered before and would not deliver again."""

import numpy as np
import pytest

from halfpipe.ids import DownlinkId
from halfpipe.merge.intervals import Interval
from halfpipe.run.deliveries import Delivery, EventFile
from halfpipe.run.shrinking import lost


@pytest.mark.parametrize(
    ("events", "again", "count"),
    [(2, [], 2), (2, [10], 1), (2, [9, 10, 11, 12], 0), (1, [], 0)],
    ids=["all", "one", "none", "a lone one"],
)
def test_lost_events_are_counted_except_a_lone_one(events: int, again: list[int], count: int) -> None:
    last = 9 + events
    file = EventFile("r.evt", events, (10, last), (0, 1), 0, "")
    before = Delivery(DownlinkId("240601001"), (Interval(10, last),), {}, (file,), None, None)
    assert lost(before, np.array(again, np.uint64)) == ({file: count} if count else {})
