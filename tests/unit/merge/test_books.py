"""The books of a run: each event in one account, and none in none."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfpipe.formats.idx import Datagrams, Events
from halfpipe.ids import DownlinkId
from halfpipe.merge.books import Books
from halfpipe.merge.intervals import Interval
from halfpipe.merge.late_events import by_datagram, counts_of, late_and_closed, not_all_delivered
from halfpipe.merge.undelivered import Group, NotDelivered, books_of, lost_events
from tests.support.bridge import Run
from tests.support.chunks import chunk_of
from tests.support.explained import said_of
from tests.support.model import Rules

FIRST, SECOND = DownlinkId("240601001"), DownlinkId("240601002")


def rows(keys: list[tuple[int, int, int]]) -> Events:
    found = Events.zeros(len(keys))
    for n, (apid, datagram, sequence) in enumerate(keys):
        found.apid[n], found.datagram[n], found.sequence[n] = apid, datagram, sequence
    return found


Keys = st.lists(
    st.tuples(st.integers(955, 957), st.integers(0, 4), st.integers(0, 99)), unique=True, max_size=40
)


@given(Keys, st.data())
def test_lost_events_are_those_in_no_account(keys: list[tuple[int, int, int]], data: st.DataObject) -> None:
    where = [data.draw(st.sampled_from([FIRST, SECOND, "group", "nowhere"])) for _ in keys]

    def delivered(downlink: DownlinkId) -> SimpleNamespace:
        its = [key for key, at in zip(keys, where, strict=True) if at == downlink]
        return SimpleNamespace(counts=counts_of(rows(its)))

    latest = {downlink: delivered(downlink) for downlink in (FIRST, SECOND)}
    undelivered = Counter(key[0] for key, at in zip(keys, where, strict=True) if at == "group")
    groups = [Group(NotDelivered.WAITING, apid, 0, 99, events) for apid, events in undelivered.items()]
    assert lost_events(rows(keys), groups, latest, {}) == where.count("nowhere")


def test_consecutive_datagrams_are_recorded_by_the_first_number() -> None:
    datagrams = [0, 0, 1, 17]
    counts = counts_of(rows([(955, datagram, sequence) for sequence, datagram in enumerate(datagrams)]))
    assert (counts, by_datagram(counts[955])) == ({955: "0: 2 1 17: 1"}, Counter(datagrams))


def test_the_accounts_of_kinds() -> None:
    groups = [Group(kind, 956, 1, 9, 2**n) for n, kind in enumerate(NotDelivered)]
    latest = {FIRST: SimpleNamespace(events=100, counts={})}
    known = rows([(956, 1, sequence) for sequence in range(34)])
    books = books_of(known[:31], groups, latest, {})
    assert books == Books(131, 100, waiting=1, due=16, withheld=2, late=4, closed=8)
    refused = books_of(known, groups, latest, {}, is_refused=True)
    assert (refused.waiting, refused.refused, refused.lost, refused.known) == (1, 16, 3, 134)


@pytest.mark.parametrize("again", [False, True])
def test_an_event_that_two_datagrams_of_two_downlinks_contain_is_counted_once(again: bool) -> None:
    """Row 19: one EPU has two events of one sequence in two datagrams."""
    run = Run(rules=Rules(min_epus=1))
    run.process(FIRST, [chunk_of(956, {0: [1, 2, 3], 1: [4, 5, 6]})])
    decision = run.process(SECOND, [chunk_of(956, {2: [6, 7, 8], 3: [9, 10]}, 3)])
    if again:
        decision = run.again(SECOND)
    assert len(decision.events) == 4
    assert said_of(run) == []


def test_a_downlink_that_contains_nothing_of_a_run_any_more_delivers_nothing_of_others() -> None:
    """Row 3: its own spans are settled for it, and the events of others inside them are not its."""
    run = Run(rules=Rules(min_epus=1))
    whole = [chunk_of(956, {0: [1, 2, 3], 1: [4, 5, 6]}, 1)]
    run.process(FIRST, whole)
    run.process(SECOND, whole)
    run.vanish(FIRST)
    (group,) = said_of(run)
    assert (group.kind, group.events, group.inside) == (NotDelivered.CLOSED, 6, FIRST)
    assert len(run.again(SECOND).events) == 0
    run.release(FIRST)
    assert len(run.again(SECOND).events) == 6
    assert said_of(run) == []


def test_an_event_that_another_downlink_has_in_another_datagram_is_not_late() -> None:
    """Row 19: SECOND delivered event 6 from its own datagram 2; FIRST has it in datagram 1."""
    known = rows([(956, 1, 4), (956, 1, 5), (956, 1, 6), (956, 2, 7), (956, 2, 8)])
    own = rows([(956, 2, 6), (956, 2, 7), (956, 2, 8)])
    delivered = SimpleNamespace(
        spans=(Interval(4, 8),), datagrams={956: ((1, 2),)}, counts={956: "1: 2 3"}, total=5
    )
    inside = np.ones(len(known), dtype=bool)
    for of, late in ((own, 0), (None, 1)):
        found, closed = late_and_closed(
            known, inside, {SECOND: [delivered]}, {} if of is None else {SECOND: of}
        )
        assert (sum(len(events) for _, events in found), closed) == (late, [])


@pytest.mark.parametrize(("total", "late"), [(5, 0), (3, 2), (None, 0)])
def test_events_beyond_the_number_that_the_legacy_delivered_are_late(total: int | None, late: int) -> None:
    known = rows([(956, 1 + n // 3, n) for n in range(5)])
    legacy = SimpleNamespace(spans=(Interval(0, 9),), datagrams={956: ((1, 2),)}, counts=None, total=total)
    ((_, found),), _ = late_and_closed(known, np.ones(5, dtype=bool), {FIRST: [legacy]})
    assert len(found) == late


@pytest.mark.parametrize(
    ("span", "known", "left"), [((4, 6), 1, False), ((5, 9), 1, True), ((0, 5), 1, True), ((0, 9), 2, True)]
)
def test_a_datagram_is_delivered_if_the_legacy_knew_it_and_a_span_has_it(
    span: tuple[int, int], known: int, left: bool
) -> None:
    datagrams = Datagrams.zeros(1)
    datagrams[["apid", "datagram", "nevts", "evtseq0", "evtseq1"]] = (956, 1, 3, 4, 6)
    legacy = SimpleNamespace(spans=(Interval(*span),), datagrams={956: ((known, 9),)}, counts=None)
    assert not_all_delivered(datagrams, [legacy]) is left


def test_a_delivery_of_more_events_than_are_known_hides_no_loss() -> None:
    """A chunk was ignored after its events were delivered."""
    latest = {FIRST: SimpleNamespace(counts=counts_of(rows([(955, 0, sequence) for sequence in range(5)])))}
    known = rows([(955, 0, 1), (956, 0, 7)])
    assert lost_events(known[:1], [], latest, {}) == 0
    assert lost_events(known, [], latest, {}) == 1
