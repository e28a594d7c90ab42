"""Why events are not delivered: golden cases compared with the reference."""

from functools import cache

import pytest

from halfpipe.formats import idx
from halfpipe.ids import DownlinkId
from halfpipe.merge.intervals import Interval
from halfpipe.merge.late_events import not_all_delivered
from halfpipe.merge.undelivered import Group, Lack, MissingPart, NotDelivered
from halfpipe.state.deliveries import Delivery
from tests.support import explained
from tests.support.bridge import Run
from tests.support.chunks import chunk_of
from tests.support.golden_cases import case_names, read_case
from tests.support.model import Rules


@cache
def after(name: str, steps: int | None = None) -> list[list[Group]]:
    """Return the groups of undelivered events after each step of a golden case, checked with the reference."""
    case = read_case(name)
    runs: dict[int, Run] = {}
    found = []
    for step in case.steps[:steps]:
        for met in step.runs:
            run = runs.setdefault(met, Run(case.rules))
            run.process(step.downlink, case.chunks(step.downlink, met))
            found.append(explained.check(run))
    return found


@pytest.mark.parametrize("name", case_names())
def test_golden_case(name: str) -> None:
    after(name)


def test_golden_cases_have_every_reason() -> None:
    groups = [group for name in case_names() for groups in after(name) for group in groups]
    found = {NotDelivered.WAITING, NotDelivered.WITHHELD, NotDelivered.LATE}
    assert {group.kind for group in groups} == found
    assert {lack.what for group in groups for lack in group.lacks} == set(MissingPart)


@pytest.mark.parametrize("first", [4, 1])
def test_no_group_of_waiting_events_contains_delivered_events(first: int) -> None:
    run = Run(Rules(min_events=1, min_epus=1))
    run.process("240601001", (chunk_of(957, {4: (15, 16)}),))
    later = chunk_of(957, {3: (13, 14), 4: (15, 16), 5: (17, 20)}, 5)
    run.process("240601002", (chunk_of(956, {first: (18, 19)}, first), later))
    start = (Lack(MissingPart.START, 956, 0, first - 1),)
    assert explained.check(run) == [
        Group(NotDelivered.WAITING, 957, 13, 14, 2, start),
        Group(NotDelivered.WAITING, 957, 17, 17, 1, start),
    ]


def test_an_event_after_the_last_of_another_epu_lacks_that_epu_too() -> None:
    run = Run(Rules(min_events=1, min_epus=3))
    ends = {955: (10, 20), 956: (12, 30), 957: (14, 25, 30, 31, 40)}
    run.process("240601001", [chunk_of(apid, {0: of}) for apid, of in ends.items()])
    of_955, of_956 = (Lack(MissingPart.END, apid, 1) for apid in (955, 956))
    assert explained.check(run) == [
        Group(NotDelivered.WAITING, 957, 25, 30, 2, (of_955,)),
        Group(NotDelivered.WAITING, 956, 30, 30, 1, (of_955,)),
        Group(NotDelivered.WAITING, 957, 31, 40, 2, (of_955, of_956)),
    ]


@pytest.mark.parametrize(("events", "kind"), [(3, NotDelivered.CLOSED), (1, NotDelivered.WITHHELD)])
def test_closed_events_need_only_what_level_1_takes(events: int, kind: NotDelivered) -> None:
    """Fewer than `min_events`, but no fewer than two, are delivered once their place is opened."""
    run = Run(Rules(min_events=4, min_epus=1))
    sequences = tuple(range(10, 20))
    run.process("240601001", [chunk_of(956, {0: sequences})])
    run.process("240601001", [chunk_of(956, {0: sequences[events:]})])
    run.process("240601002", [chunk_of(956, {0: sequences[:events], 1: sequences[events:]})])
    assert [(group.kind, group.events) for group in explained.said_of(run)] == [(kind, events)]


@pytest.mark.parametrize(("first", "lacks"), [(21, False), (20, True)])
def test_downlinks_share_a_datagram_if_their_spans_do_not_overlap(first: int, lacks: bool) -> None:
    row = idx.Datagrams.zeros(1)
    row[["apid", "datagram", "nevts", "evtseq0", "evtseq1"]] = (957, 4, 4, 10, 40)
    of_both = [
        Delivery(DownlinkId(downlink), 1, (Interval(*span),), {}, counts={957: "4: 2"})
        for downlink, span in (("240601001", (10, 20)), ("240601002", (first, 40)))
    ]
    assert not_all_delivered(row, of_both) is lacks
