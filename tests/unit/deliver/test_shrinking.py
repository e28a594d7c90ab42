"""Events that a downlink delivered before and would not deliver again."""

from hypothesis import given
from hypothesis import strategies as st

from halfpipe.deliver.shrinking import lost
from halfpipe.ids import DownlinkId
from halfpipe.merge.intervals import Interval
from halfpipe.merge.late_events import counts_of
from halfpipe.merge.ordering import in_order
from halfpipe.state.deliveries import Delivery, EventFile
from tests.support.bridge import Run, event_array
from tests.support.chunks import chunk_of
from tests.support.histories import EVERY_DAY
from tests.support.model import Event, Rules
from tests.support.shared_events import arrivals

FIRST, SECOND = "240601001", "240601002"


def test_lost_events_of_another_system_are_counted_except_a_lone_one() -> None:
    """Level-1 refuses a file of one event."""
    for events, again, count in (
        (2, [], [2]),
        (2, [10], [1]),
        (2, [9, 10, 11, 12], []),
        (2, [8, 9, 10], [1]),
        (1, [], []),
    ):
        last = 9 + events
        file = EventFile("r.evt", events, (10, last), (0, 1), 0, "")
        before = Delivery(DownlinkId(FIRST), 1, (Interval(10, last),), {}, (file,))
        now = event_array([Event(sequence, 956, 0, 0) for sequence in again])
        assert [*lost(before, now, [now]).values()] == count


def test_late_events_hide_no_loss_in_the_same_file() -> None:
    """A datagram lost 8 events, and 48 of others came late, all in one file."""
    lossy = [Event(sequence, 956, 3, 0) for sequence in range(100, 120)]
    late = [Event(sequence, 957, 1, 0) for sequence in range(105, 153)]
    edge = [Event(200, 956, 4, 0)]
    before = event_array([*lossy, *edge])
    file = EventFile("r.evt", 21, (100, 200), (0, 1), 0, "")
    recorded = Delivery(DownlinkId(FIRST), 1, (Interval(100, 200),), {}, (file,), counts=counts_of(before))
    after = in_order(event_array([*lossy[:12], *late, *edge]))
    assert lost(recorded, after, [after]) == {"datagram 3 of EPU 956": 8}
    beyond = event_array([*lossy[:12], *edge, *(Event(sequence, 956, 3, 0) for sequence in range(300, 308))])
    assert sum(lost(recorded, beyond, [beyond]).values()) == 8, (
        "what is outside the delivered spans counts for nothing"
    )


def test_an_event_of_two_datagrams_is_not_lost_if_the_other_copy_is_delivered() -> None:
    run = Run(Rules(min_epus=1))
    run.process(FIRST, [chunk_of(956, {0: [1, 2], 2: [6, 7, 8]})])
    run.process(SECOND, [chunk_of(956, {1: [3, 4], 3: [5, 6, 7]}, 3)])
    for downlink in (FIRST, SECOND, FIRST):
        run.process(downlink, run.arrived[downlink], accept=False)


@EVERY_DAY
@given(arrivals(), st.data())
def test_the_same_input_again_loses_nothing(arrived: Run, data: st.DataObject) -> None:
    for downlink in data.draw(st.permutations(sorted(arrived.arrived))):
        arrived.process(downlink, arrived.arrived[downlink], accept=False)
