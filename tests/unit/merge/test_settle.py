"""What drawn histories meet too seldom: own spans, closed pieces, and what an earlier delivery covered."""

import pytest

from halfpipe.merge.intervals import EVERYTHING, HIGHEST, LOWEST, Interval
from halfpipe.merge.settle import Segment, is_complete, settled
from tests.support.bridge import Run
from tests.support.model import Chunk, Datagram, Event, Rules

WHOLE = Segment((0, 1), opens=True, closes=True, covers=EVERYTHING)
MIDDLE = Segment((2, 3), opens=False, closes=False, covers=Interval(5, 8))


@pytest.mark.parametrize(
    ("own", "places"),
    [([], [(5, 8)]), ([(1, 20)], [(1, 20)]), ([(1, 4)], [(1, 4), (5, 8)]), ([(1, 5)], [(1, 8)])],
)
def test_own_spans_count_as_settled_and_those_that_only_touch_are_not_joined(
    own: list[tuple[int, int]], places: list[tuple[int, int]]
) -> None:
    assert settled({956: [WHOLE], 958: [MIDDLE]}, 2, own) == tuple(places)


def test_a_run_is_complete_in_one_piece_only() -> None:
    behind = Segment((3, 4), opens=False, closes=True, covers=Interval(9, HIGHEST))
    assert settled({956: [WHOLE, behind], 957: [WHOLE]}, 2) == ((LOWEST, HIGHEST),)
    assert is_complete({956: [WHOLE], 957: [WHOLE]}, 2)
    assert not is_complete({956: [WHOLE, behind], 957: [WHOLE]}, 2)


def test_late_is_also_what_lies_where_a_delivery_before_the_last_one_covered() -> None:
    def whole(apid: int, *sequences: int) -> Chunk:
        line = Datagram(apid, 0, "start", "stop", len(sequences), sequences[0], sequences[-1])
        events = tuple(Event(sequence, apid, 0, 0) for sequence in sequences)
        return Chunk(f"0077014d-2c2e5787-{apid:04d}-00001.idx", events, (line,))

    run, both = Run(Rules(min_events=1)), (whole(956, 1, 3), whole(957, 2, 4))
    assert [len(run.process("240601001", chunks).events) for chunks in (both, both[:1])] == [4, 2]
    decision = run.process("240601002", (whole(958, 4),))
    assert (decision.late, decision.orphans, len(decision.events)) == (1, 0, 0)
