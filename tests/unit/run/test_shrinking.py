"""What a downlink would deliver no more of what it had delivered."""

import numpy as np
import pytest

from halfpipe.ids import DownlinkId
from halfpipe.merge.intervals import Interval
from halfpipe.run.deliveries import Delivery, EventFile
from halfpipe.run.shrinking import lost


@pytest.mark.parametrize(
    ("events", "again", "missed"),
    [(2, [], 2), (2, [10], 1), (2, [9, 10, 11, 12], 0), (1, [], 0)],
    ids=["all", "one", "none", "a lone one"],
)
def test_events_are_missed_but_for_a_lone_one_which_level_1_refuses(
    events: int, again: list[int], missed: int
) -> None:
    last = 9 + events
    file = EventFile("r.evt", events, (10, last), (0, 1), 0, "")
    before = Delivery(DownlinkId("240601001"), (Interval(10, last),), {}, (file,), None, None)
    assert lost(before, np.array(again, np.uint64)) == ({file: missed} if missed else {})
