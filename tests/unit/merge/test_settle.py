"""Cases that random histories rarely contain: own spans, incomplete EPUs, and earlier deliveries."""

import re

import pytest

from halfpipe.merge.intervals import EVERYTHING, HIGHEST, LOWEST, Interval, subtract
from halfpipe.merge.settle import KnownDatagrams, Segment, contradictions, is_complete, settled
from halfpipe.merge.undelivered import missing_of_run
from tests.support.bridge import Run
from tests.support.chunks import chunk_of
from tests.support.explained import check
from tests.support.model import Datagram, Rules

WHOLE = Segment((0, 1), opens=True, closes=True, covers=EVERYTHING)
MIDDLE = Segment((2, 3), opens=False, closes=False, covers=Interval(5, 8))


@pytest.mark.parametrize(
    ("own", "places"),
    [([], [(5, 8)]), ([(1, 20)], [(1, 20)]), ([(1, 4)], [(1, 4), (5, 8)]), ([(1, 5)], [(1, 8)])],
)
def test_own_spans_are_settled_and_intervals_that_only_touch_stay_two(
    own: list[tuple[int, int]], places: list[tuple[int, int]]
) -> None:
    assert settled({956: [WHOLE], 958: [MIDDLE]}, 2, own) == tuple(places)


@pytest.mark.parametrize(
    ("cut", "left"),
    [
        ((1, 2), [(3, 5)]),
        ((1, 3), [(4, 5)]),
        ((4, 4), [(3, 3), (5, 5)]),
        ((5, 9), [(3, 4)]),
        ((6, 9), [(3, 5)]),
    ],
)
def test_an_interval_without_another(cut: tuple[int, int], left: list[tuple[int, int]]) -> None:
    assert subtract([Interval(3, 5)], [cut]) == tuple(left)


def test_a_run_with_a_gap_is_not_complete() -> None:
    behind = Segment((3, 4), opens=False, closes=True, covers=Interval(9, HIGHEST))
    assert settled({956: [WHOLE, behind], 957: [WHOLE]}, 2) == ((LOWEST, HIGHEST),)
    assert is_complete({956: [WHOLE], 957: [WHOLE]}, 2)
    assert not is_complete({956: [WHOLE, behind], 957: [WHOLE]}, 2)


def test_missing_data_are_named_by_their_numbers() -> None:
    numbers = ((0, 3), (5, 9), (12, 14))
    parts = [Segment(of, opens=False, closes=False, covers=None) for of in numbers]
    said = [re.findall("[0-9]+", text) for text in missing_of_run({956: parts}, 2)]
    assert said == [text.split() for text in ("1 2 956", "956 0", "4 956", "10 11 956", "956 14")]


def test_events_inside_an_earlier_delivery_only_can_be_late() -> None:
    run, both = Run(Rules(min_events=1)), (chunk_of(956, {0: (1, 3)}, 0), chunk_of(957, {0: (2, 4)}, 0))
    assert [len(run.process("240601001", chunks).events) for chunks in (both, both[:1])] == [4, 2]
    decision = run.process("240601002", (chunk_of(958, {0: (4,)}, 0),))
    assert len(decision.events) == 0
    assert [(group.kind, group.events) for group in check(run)] == [("late", 1)]


@pytest.mark.parametrize(
    ("other", "is_found"),
    [
        ([20, 21, 22], True),
        ([1, 2, 3], True),
        ([12, 13, 14], False),  # they overlap
        ([20, 21], False),  # the numbers of events differ: two parts
        ([], False),
    ],
)
def test_datagrams_that_contradict_each_other(other: list[int], is_found: bool) -> None:
    def known(apid: int, number: int, sequences: list[int]) -> KnownDatagrams:
        first, last = (sequences[0], sequences[-1]) if sequences else (0, 0)
        lines = [
            Datagram(apid, number, "continue", "continue", len(sequences), first, last).line,
            Datagram(957, 3, "continue", "continue", 1, 7, 7).line,  # the same in both
        ]
        return KnownDatagrams.of(lines)

    ours = known(956, 4, [10, 11, 12])
    found = [(956, 4, (10, 12), (other[0], other[-1]))] if is_found else []
    assert contradictions(ours, known(956, 4, other)) == found
    for apid, number in ((955, 4), (956, 5)):
        assert contradictions(ours, known(apid, number, other)) == []
