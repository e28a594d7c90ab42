"""Events that two downlinks contain in datagrams of other numbers: each has one account."""

from hypothesis import given
from hypothesis import strategies as st

from halfpipe.ids import DownlinkId
from halfpipe.merge.books import Books
from halfpipe.merge.decision import all_known
from halfpipe.merge.undelivered import books_of
from tests.support.bridge import Run
from tests.support.chunks import chunk_of
from tests.support.explained import said_of
from tests.support.histories import EVERY_DAY
from tests.support.model import Rules
from tests.support.shared_events import arrivals

FIRST, SECOND = DownlinkId("240601001"), DownlinkId("240601002")


def books(run: Run, first: DownlinkId) -> Books:
    return books_of(all_known(run.events, first), said_of(run, first), run.recorded.latest(), run.events)


def check(run: Run) -> None:
    every = {int(one["sequence"]) for events in run.events.values() for one in events}
    latest = [deliveries[-1] for deliveries in run.deliveries.values()]
    delivered = {sequence for delivery in latest for sequence, _ in delivery.keys}
    inside = {n for n in every if any(a <= n <= b for delivery in latest for a, b in delivery.spans)}
    true = (len(every), len(delivered), len(inside - delivered), 0)
    for first in run.events:
        found = books(run, first)
        assert (found.known, found.delivered, found.late, found.lost) == true


@EVERY_DAY
@given(arrivals(), st.data())
def test_each_event_has_one_account(run: Run, data: st.DataObject) -> None:
    check(run)
    for downlink in data.draw(st.permutations(sorted(run.arrived))):
        run.again(downlink)
        check(run)


def test_a_datagram_whose_events_are_all_in_another_datagram_of_another_downlink() -> None:
    run = Run(Rules(min_epus=1))
    run.process(SECOND, [chunk_of(956, {0: [1, 2, 3], 1: [4, 5]}, 1)])
    run.process(FIRST, [chunk_of(956, {0: [1, 2, 3], 2: [4, 5]}, 2)])
    for again in (SECOND, FIRST):
        check(run)
        assert books(run, again) == Books(known=5, delivered=5)
        run.again(again)
