"""Events that a downlink delivered before and would not deliver again."""

import numpy as np

from halfpipe.ids import DownlinkId
from halfpipe.merge.intervals import Interval
from halfpipe.run.deliveries import Delivery, EventFile
from halfpipe.run.shrinking import lost


def test_lost_events_are_counted_except_a_lone_one() -> None:
    """Level-1 refuses a file of one event."""
    for events, again, count in (
        (2, [], 2),
        (2, [10], 1),
        (2, [9, 10, 11, 12], 0),
        (2, [8, 9, 10], 1),
        (1, [], 0),
    ):
        last = 9 + events
        file = EventFile("r.evt", events, (10, last), (0, 1), 0, "")
        before = Delivery(DownlinkId("240601001"), 1, (Interval(10, last),), {}, (file,))
        assert lost(before, np.array(again, np.uint64)) == ({file: count} if count else {})
