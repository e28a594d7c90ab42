"""The merge rule sentence by sentence, on runs small enough to be checked by eye.

Each case is also decided by the reference (`Run.process` compares), so that both are held against the figures
written here.
"""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halfpipe.merge import decision as deciding
from halfpipe.merge.decision import Decision, split
from halfpipe.merge.intervals import Interval, intersect, join
from halfpipe.merge.ordering import in_one, in_order
from halfpipe.merge.settle import KnownDatagrams
from halfpipe.settings import Merge
from tests.support import model
from tests.support.bridge import HIGHEST, LOWEST, Run, event_array
from tests.support.model import Chunk, Datagram, Event, Rules

FIRST, SECOND, THIRD, FOURTH = "240601001", "240601002", "240601003", "240601004"
ALL = (LOWEST, HIGHEST)
PUBLISHED = [125000, 112500, 101250, 91125, 82012, 73810, 66429, 59786]

ONE = Rules(min_events=1)


def epu(
    apid: int,
    *datagrams: list[int] | None,
    number: int = 0,
    opening: str = "start",
    closing: str = "stop",
    chunk: int = 1,
    copy: int = 0,
) -> Chunk:
    """Return a chunk of one EPU: the sequences of its datagrams, None for one that is lost.

    `number` is that of the first datagram; only number 0 has the `opening`, the last one the `closing`.
    """
    lines = []
    events = []
    for at, sequences in enumerate(datagrams):
        if sequences is None:
            continue
        lines.append(
            Datagram(
                apid,
                number + at,
                opening if number + at == 0 else "continue",
                closing if at == len(datagrams) - 1 else "continue",
                len(sequences),
                min(sequences, default=0),
                max(sequences, default=0),
            )
        )
        events += [Event(sequence, apid, number + at, copy) for sequence in sequences]
    return Chunk(f"0077014d-2c2e5787-{apid:04d}-{chunk:05d}.idx", tuple(events), tuple(lines))


def open_ended(
    apid: int, *datagrams: list[int] | None, number: int = 0, chunk: int = 1, copy: int = 0
) -> Chunk:
    """Return a chunk after which the EPU goes on."""
    return epu(apid, *datagrams, number=number, closing="continue", chunk=chunk, copy=copy)


def process(rules: Rules, *chunks: Chunk) -> Decision:
    """Process one downlink with `chunks`."""
    return Run(rules).process(FIRST, chunks)


def sequences(decision: Decision) -> list[int]:
    """Return the sequences that are delivered."""
    return [int(sequence) for sequence in decision.events["sequence"]]


def files(decision: Decision) -> list[list[int]]:
    """Return the sequences of each file."""
    return [sequences(decision)[begin:end] for begin, end in decision.files]


def copies(decision: Decision) -> list[int]:
    """Return which copy of each event is delivered."""
    return [int(offset) for offset in decision.events["offset"]]


class TestSettled:
    def test_whole_run(self) -> None:
        decision = process(ONE, epu(956, [1, 3], [5]), epu(957, [2], [4, 6]))
        assert decision.settled == (ALL,)
        assert decision.complete
        assert decision.gaps == ()
        assert decision.spans == ((1, 6),)
        assert sequences(decision) == [1, 2, 3, 4, 5, 6]
        assert (decision.known, decision.orphans, decision.withheld, decision.late) == (6, 0, 0, 0)
        assert decision.epus == (956, 957)
        assert decision.kind == "LPA"
        assert decision.datagrams == {956: ((0, 1),), 957: ((0, 1),)}

    def test_lone_epu_settles_nothing(self) -> None:
        decision = process(ONE, epu(956, [1, 3], [5]))
        assert decision.settled == ()
        assert decision.orphans == 3
        assert not decision.complete
        assert decision.spans == ()

    def test_covers_from_first_event_without_start(self) -> None:
        decision = process(ONE, epu(956, [1, 3, 9], number=1), epu(957, [2, 4, 8]))
        assert decision.settled == ((1, HIGHEST),)
        decision = process(ONE, epu(956, [1, 3, 9]), epu(957, [2, 4, 8], opening="resume"))
        assert decision.settled == ((2, HIGHEST),)
        assert sequences(decision) == [2, 3, 4, 8, 9]
        assert decision.orphans == 1

    def test_covers_to_last_event_without_close(self) -> None:
        decision = process(ONE, open_ended(956, [1, 3, 9]), open_ended(957, [2, 4, 8]))
        assert decision.settled == ((LOWEST, 8),)
        assert sequences(decision) == [1, 2, 3, 4, 8]
        assert decision.orphans == 1

    @pytest.mark.parametrize("closing", ["stop", "abort", "pause"])
    def test_closing_actions(self, closing: str) -> None:
        decision = process(ONE, epu(956, [1, 9], closing=closing), epu(957, [2, 4]))
        assert decision.settled == (ALL,)
        assert decision.complete

    @pytest.mark.parametrize("closing", ["continue", "start", "unknown"])
    def test_other_actions_do_not_close(self, closing: str) -> None:
        decision = process(ONE, epu(956, [1, 9], closing=closing), epu(957, [2, 4]))
        assert decision.settled == ((LOWEST, 9),)
        assert not decision.complete

    def test_one_epu_stopped_the_other_not(self) -> None:
        # legacy-defects 6: of an EPU that has stopped nothing can be missing.
        decision = process(ONE, epu(956, [1, 3, 9]), open_ended(957, [2, 8], [10, 15]))
        assert decision.settled == ((LOWEST, 15),)
        assert decision.orphans == 0

    def test_lost_datagram_cuts_the_segment(self) -> None:
        decision = process(ONE, epu(956, [1, 9], None, [20, 28]), epu(957, [2, 12, 22, 30]))
        assert decision.settled == ((LOWEST, 9), (20, HIGHEST))
        assert decision.gaps == ((9, 20),)
        assert files(decision) == [[1, 2, 9], [20, 22, 28, 30]]
        assert decision.spans == ((1, 9), (20, 30))
        assert decision.orphans == 1

    def test_gaps_in_both(self) -> None:
        decision = process(ONE, epu(956, [1, 5], None, [20, 40]), epu(957, [2, 25], None, [35, 41]))
        assert decision.settled == ((LOWEST, 5), (20, 25), (35, HIGHEST))
        assert decision.gaps == ((5, 20), (25, 35))

    def test_outer_losses_are_no_gaps(self) -> None:
        decision = process(ONE, open_ended(956, [5, 9], number=1), open_ended(957, [6, 12], number=3))
        assert decision.settled == ((6, 9),)
        assert decision.gaps == ()
        assert decision.orphans == 2

    def test_hole_without_events_of_the_other(self) -> None:
        # legacy-defects 4: no event lies in the hole, yet no file and no span bridges it.
        decision = process(ONE, epu(956, [1, 9], None, [20, 29]), epu(957, [2, 5], [22, 30]))
        assert files(decision) == [[1, 2, 5, 9], [20, 22, 29, 30]]
        assert decision.spans == ((1, 9), (20, 30))

    def test_touching_intervals_stay_two(self) -> None:
        decision = process(ONE, epu(956, [1049], None, [1050]), epu(957, [1040, 1060]))
        assert decision.settled == ((LOWEST, 1049), (1050, HIGHEST))
        assert decision.gaps == ((1049, 1050),)
        assert files(decision) == [[1040, 1049], [1050, 1060]]

    def test_datagrams_without_events_count_for_continuity(self) -> None:
        decision = process(ONE, epu(956, [1, 9], [], [20]), epu(957, [2, 12]))
        assert decision.settled == (ALL,)

    def test_datagrams_without_events_open_and_close(self) -> None:
        decision = process(ONE, epu(956, [], [5, 9], []), epu(957, [2, 12]))
        assert decision.settled == (ALL,)
        assert decision.complete

    def test_datagrams_without_events_are_no_edges(self) -> None:
        # legacy-defects 22: an event-less last datagram does not make the segment end at sequence 0.
        decision = process(ONE, open_ended(956, [1, 9], []), epu(957, [2, 12]))
        assert decision.settled == ((LOWEST, 9),)
        decision = process(ONE, epu(956, [], [4, 9], number=1), epu(957, [2, 12]))
        assert decision.settled == ((4, HIGHEST),)

    def test_segment_without_any_event(self) -> None:
        other = epu(957, [2, 12])
        assert process(ONE, epu(956, [], []), other).settled == (ALL,)
        assert process(ONE, open_ended(956, []), other).settled == ()
        assert process(ONE, epu(956, [], number=1), other).settled == ()

    def test_every_epu_must_cover(self) -> None:
        decision = process(ONE, epu(955, [1, 30]), epu(956, [2, 9], None, [20, 31]), epu(958, [3, 8]))
        assert decision.settled == ((LOWEST, 9), (20, HIGHEST))

    def test_number_of_epus(self) -> None:
        one = epu(956, [1, 2])
        assert process(Rules(min_events=1, min_epus=1), one).settled == (ALL,)
        assert process(Rules(min_events=1, min_epus=1), one).complete
        both = (one, epu(957, [3]))
        assert process(Rules(min_events=1, min_epus=3), *both).settled == ()
        assert not process(Rules(min_events=1, min_epus=3), *both).complete

    def test_lci_needs_one_epu(self) -> None:
        decision = process(ONE, epu(965, [1, 5], None, [20, 30]))
        assert decision.kind == "LCI"
        assert decision.settled == ((LOWEST, 5), (20, HIGHEST))
        assert files(decision) == [[1, 5], [20, 30]]

    def test_lci_needs_all_that_are_seen(self) -> None:
        # legacy-defects 7: spans of one APID only.
        decision = process(ONE, epu(956, [1, 30]), epu(965, [3, 5], None, [20, 31]))
        assert decision.kind == "LCI"
        assert decision.settled == ((LOWEST, 5), (20, HIGHEST))

    def test_event_lines_make_no_datagram_known(self) -> None:
        silent = Chunk("0077014d-2c2e5787-0957-00002.idx", (Event(2, 957, 0, 0),))
        decision = process(ONE, epu(956, [1, 3]), silent)
        assert decision.epus == (956,)
        assert decision.settled == ()
        assert decision.known == 3
        # With both EPUs seen the event goes out with its place, whatever is known of its datagram.
        decision = process(ONE, epu(956, [1, 3]), epu(957, [4]), silent)
        assert sequences(decision) == [1, 2, 3, 4]

    def test_of_differing_lines_the_first_sorted_counts(self) -> None:
        early = Datagram(956, 0, "start", "continue", 2, 1, 9, utc=1.0)
        late = Datagram(956, 0, "start", "stop", 2, 1, 9, utc=2.0)
        events = (Event(1, 956, 0, 0), Event(9, 956, 0, 0))
        for lines in ((early, late), (late, early)):
            chunk = Chunk("0077014d-2c2e5787-0956-00001.idx", events, lines)
            assert process(ONE, chunk, epu(957, [2, 12])).settled == ((LOWEST, 9),)
        run = Run(ONE)
        run.process(FIRST, (Chunk("0077014d-2c2e5787-0956-00001.idx", events, (late,)),))
        run.process(SECOND, (Chunk("0077014d-2c2e5787-0956-00001.idx", (), (early,)),))
        assert run.process(THIRD, (epu(957, [2, 12]),)).settled == ((LOWEST, 9),)

    def test_segments_grow_over_downlinks_whatever_their_ids(self) -> None:
        for one, two in ((FIRST, SECOND), (SECOND, FIRST)):
            run = Run(ONE)
            before = run.process(one, (open_ended(956, [1, 9]), epu(957, [2, 8, 12, 14])))
            assert before.settled == ((LOWEST, 9),)
            after = run.process(two, (epu(956, [10, 13], number=1),))
            assert after.settled == (ALL,)
            assert sequences(after) == [10, 12, 13, 14]

    def test_large_sequences_are_exact(self) -> None:
        top = 2**64 - 2
        decision = process(ONE, open_ended(956, [top - 4, top - 2]), open_ended(957, [top - 3, top - 1, top]))
        assert decision.settled == ((LOWEST, top - 2),)
        assert sequences(decision) == [top - 4, top - 3, top - 2]
        assert decision.orphans == 2

    def test_a_run_given_up_is_settled_everywhere(self) -> None:
        lone = Run(ONE, given_up=True)
        decision = lone.process(FIRST, [epu(956, [1, 2], None, [5])])
        assert (decision.settled, files(decision)) == ((ALL,), [[1, 2, 5]])
        assert not decision.complete
        late = Run(ONE)
        late.process(FIRST, [epu(956, [1], [3], [9]), epu(957, [2], None, [8])])
        late.given_up = True
        decision = late.again(FIRST)
        assert files(decision) == [[1, 2], [3], [8, 9]]

    def test_nothing_known(self) -> None:
        decision = process(ONE)
        assert decision.settled == ()
        assert decision.epus == ()
        assert decision.known == 0
        assert not decision.complete


class TestDelivered:
    def test_order_and_equal_sequences_of_two_epus(self) -> None:
        decision = process(ONE, epu(957, [2, 5, 9]), epu(956, [5, 7]))
        assert [(int(e["sequence"]), int(e["apid"])) for e in decision.events] == [
            (2, 957),
            (5, 956),
            (5, 957),
            (7, 956),
            (9, 957),
        ]

    def test_orphans_are_offered_again(self) -> None:
        run = Run(ONE)
        assert run.process(FIRST, (epu(956, [1, 3, 5]),)).orphans == 3
        decision = run.process(SECOND, (epu(957, [2, 4]),))
        assert sequences(decision) == [1, 2, 3, 4, 5]
        assert [str(decision.sources[e["source"]]) for e in decision.events] == [
            FIRST,
            SECOND,
            FIRST,
            SECOND,
            FIRST,
        ]
        assert decision.orphans == 0

    def test_what_is_delivered_is_not_delivered_again(self) -> None:
        run = Run(ONE)
        run.process(FIRST, (open_ended(956, [1, 3]), open_ended(957, [2, 4])))
        decision = run.process(
            SECOND,
            (open_ended(956, [1, 3], [5, 8], copy=7), open_ended(957, [2, 4], [6, 7], copy=7)),
        )
        assert sequences(decision) == [4, 5, 6, 7]
        assert decision.spans == ((4, 7),)
        assert decision.orphans == 1

    def test_series_ends_at_the_span_of_another_downlink(self) -> None:
        run = Run(ONE)
        run.process(FIRST, (open_ended(956, [5, 7], number=1), open_ended(957, [6, 8], number=1)))
        decision = run.process(
            SECOND,
            (
                open_ended(956, [1, 3], number=0),
                epu(956, [9, 11], number=2, chunk=2),
                open_ended(957, [2], number=0),
                epu(957, [10], number=2, chunk=2),
            ),
        )
        assert decision.settled == (ALL,)
        assert run.deliveries[FIRST][-1].spans == ((6, 7),)
        assert files(decision) == [[1, 2, 3, 5], [8, 9, 10, 11]]
        assert decision.spans == ((1, 5), (8, 11))
        assert decision.complete

    def test_filled_hole(self) -> None:
        run = Run(ONE)
        before = run.process(FIRST, (epu(956, [1, 9], None, [20, 29]), epu(957, [2, 12, 22, 30])))
        assert before.gaps == ((9, 20),)
        after = run.process(SECOND, (open_ended(956, [10, 19], number=1),))
        assert files(after) == [[10, 12, 19]]
        assert after.gaps == ()
        assert after.complete

    def test_again_gives_the_same_files_though_the_hole_is_filled(self) -> None:
        run = Run(ONE)
        before = run.process(FIRST, (epu(956, [1049], None, [1050]), epu(957, [1040, 1060])))
        assert files(before) == [[1040, 1049], [1050, 1060]]
        filled = run.process(SECOND, (open_ended(956, [], number=1),))
        assert sequences(filled) == []
        assert filled.complete
        # One settled interval now, but the edges of its own spans still cut.
        after = run.again(FIRST)
        assert after.settled == (ALL,)
        assert files(after) == [[1040, 1049], [1050, 1060]]
        assert after.spans == before.spans

    def test_again_with_more_of_its_own(self) -> None:
        run = Run(ONE)
        early = (open_ended(956, [1, 3]), open_ended(957, [2, 4]))
        assert run.process(FIRST, early).spans == ((1, 3),)
        more = (*early, epu(956, [5], number=1, chunk=2), epu(957, [6], number=1, chunk=2))
        decision = run.process(FIRST, more)
        assert files(decision) == [[1, 2, 3], [4, 5, 6]]
        assert decision.spans == ((1, 3), (4, 6))
        assert files(run.again(FIRST)) == [[1, 2, 3], [4, 5, 6]]

    def test_again_with_more_of_its_own_ahead(self) -> None:
        run = Run(ONE)
        rest = (epu(956, [5, 7], number=1), epu(957, [6, 8], number=1))
        assert run.process(FIRST, rest).spans == ((6, 8),)
        more = (*rest, open_ended(956, [1, 3], chunk=2), open_ended(957, [2, 4], chunk=2))
        decision = run.process(FIRST, more)
        assert files(decision) == [[1, 2, 3, 4, 5], [6, 7, 8]]
        assert decision.spans == ((1, 5), (6, 8))
        assert files(run.again(FIRST)) == [[1, 2, 3, 4, 5], [6, 7, 8]]

    def test_again_with_less_delivers_what_is_left(self) -> None:
        run = Run(ONE)
        run.process(FIRST, (epu(956, [1, 3]), epu(957, [2, 4])))
        decision = run.process(FIRST, (epu(956, [1, 3]),))
        assert decision.settled == ((1, 4),)
        assert sequences(decision) == [1, 3]
        assert decision.spans == ((1, 3),)

    def test_own_spans_count_as_settled(self) -> None:
        run = Run(ONE)
        run.process(FIRST, (epu(956, [1, 3, 20]), epu(957, [2, 4])))
        decision = run.process(SECOND, (open_ended(958, [5, 8], number=2),))
        assert decision.settled == ((5, 8),)
        assert decision.late == 2
        assert sequences(decision) == []
        assert decision.orphans == 0
        again = run.again(FIRST)
        assert again.settled == ((1, 20),)  # its own span and the settled interval inside it
        assert sequences(again) == [1, 2, 3, 4, 5, 8, 20]
        assert again.spans == ((1, 20),)
        assert again.late == 0

    def test_own_spans_that_only_touch_are_not_joined(self) -> None:
        run = Run(ONE)
        run.process(FIRST, (epu(956, [1, 3]), epu(957, [2, 4])))
        run.process(SECOND, (epu(958, [5, 8], number=2),))
        again = run.again(FIRST)
        assert again.settled == ((1, 4), (5, HIGHEST))
        assert again.gaps == ((4, 5),)
        assert files(again) == [[1, 2, 3, 4]]


class TestDuplicates:
    def test_current_copy_wins(self) -> None:
        run = Run(ONE)
        run.process(FIRST, (epu(956, [1, 3], copy=1),))
        decision = run.process(SECOND, (epu(956, [1, 3], copy=2), epu(957, [2], copy=2)))
        assert copies(decision) == [2, 2, 2]
        assert decision.known == 3

    def test_among_others_the_lowest_id_wins(self) -> None:
        run = Run(ONE)
        run.process(THIRD, (epu(956, [1, 3], copy=3),))
        run.process(SECOND, (epu(956, [1, 3], copy=2),))
        run.process(FOURTH, (epu(956, [1, 3], copy=4),))
        decision = run.process(FIRST, (epu(957, [2], copy=1),))
        assert copies(decision) == [2, 1, 2]

    def test_within_a_downlink_the_first_chunk_by_name_wins(self) -> None:
        decision = process(
            ONE, epu(956, [1, 3], chunk=12, copy=12), epu(956, [1, 3], chunk=3, copy=3), epu(957, [2])
        )
        assert copies(decision) == [3, 0, 3]

    def test_within_a_chunk_the_first_line_wins(self) -> None:
        whole = epu(956, [1, 3])
        doubled = Chunk(
            whole.name, (Event(3, 956, 0, 5), *whole.events, Event(1, 956, 0, 6)), whole.datagrams
        )
        decision = process(ONE, doubled, epu(957, [2], copy=9))
        assert copies(decision) == [0, 9, 5]
        assert decision.known == 3


class TestFiles:
    def sizes(self, count: int, **knobs: float) -> list[int]:
        sequence = np.arange(1000, 1000 + count, dtype=np.uint64)
        return [end - begin for begin, end in split(sequence, 0, count, Merge(**knobs))]  # type: ignore[arg-type]

    def test_published_limits(self) -> None:
        total = sum(PUBLISHED)
        assert self.sizes(total) == PUBLISHED
        assert self.sizes(total + 125000 + 2) == [*PUBLISHED, 125000, 2]
        assert self.sizes(2 * total) == PUBLISHED * 2
        assert model.split(range(2 * total), Rules()) == PUBLISHED * 2

    def test_last_file_of_one_joins_the_one_before(self) -> None:
        assert self.sizes(125001) == [125001]
        assert self.sizes(125000 + 112500 + 1) == [125000, 112501]
        assert self.sizes(125002) == [125000, 2]

    @pytest.mark.parametrize(
        ("knobs", "sizes"),
        [
            # legacy-defects 28, as far as it is not a defect
            ({"max_events": 2}, [2, 1, 2, 1, 2, 1, 2, 1]),
            ({"max_events": 3}, [3, 2, 1, 3, 2, 1]),
            ({"max_events": 4}, [4, 3, 2, 3]),
            ({"max_events": 5}, [5, 4, 3]),
            ({"max_events": 5, "chunk_floor": 0.0, "chunk_scale": 0.5}, [5, 2, 1, 1, 1, 1, 1]),
            ({"max_events": 5, "chunk_scale": 1.5}, [5, 7]),
            ({"max_events": 1}, [1] * 12),
            ({"max_events": 0}, [12]),
            ({"max_events": -1}, [12]),
            ({"max_events": 1, "min_events": 3}, [3, 3, 3, 3]),
            ({"max_events": 4, "min_events": 3}, [4, 3, 5]),
            ({"max_events": 12}, [12]),
            ({"max_events": 11}, [11, 1]),
            ({"max_events": 11, "min_events": 2}, [12]),
            ({"max_events": 9, "min_events": 4}, [12]),
        ],
    )
    def test_small_limits(self, knobs: dict[str, float], sizes: list[int]) -> None:
        knobs = {"min_events": 1, **knobs}
        assert self.sizes(12, **knobs) == sizes
        assert model.split(range(12), Rules(**knobs)) == sizes  # type: ignore[arg-type]

    def test_no_cut_between_equal_sequences(self) -> None:
        rules = Rules(max_events=2, min_events=1, chunk_floor=1.0)
        decision = process(rules, epu(956, [1, 2, 3, 4]), epu(957, [2, 3, 4]))
        assert files(decision) == [[1, 2, 2], [3, 3], [4, 4]]

    def test_limit_restarts_with_every_series(self) -> None:
        rules = Rules(max_events=3, min_events=1)
        decision = process(rules, epu(956, [1, 2, 3, 4], None, [20, 21, 22, 23]), epu(957, []))
        assert files(decision) == [[1, 2, 3], [4], [20, 21, 22], [23]]

    def test_slice_in_the_middle(self) -> None:
        sequence = np.array([1, 1, 2, 3, 3, 3, 4, 9], dtype=np.uint64)
        assert split(sequence, 2, 7, Merge(max_events=2, min_events=1, chunk_floor=1.0)) == [(2, 6), (6, 7)]

    @settings(max_examples=300, deadline=None, derandomize=True, database=None)
    @given(
        steps=st.lists(st.sampled_from([0, 0, 1, 2]), min_size=1, max_size=60),
        max_events=st.integers(-1, 12),
        scale=st.sampled_from([0.0, 0.3, 0.5, 0.9, 1.0, 1.3]),
        floor=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
        min_events=st.integers(0, 4),
    )
    def test_split_as_the_reference(
        self, steps: list[int], max_events: int, scale: float, floor: float, min_events: int
    ) -> None:
        sequence = np.cumsum(np.array(steps, dtype=np.uint64))
        limits = {
            "max_events": max_events,
            "min_events": min_events,
            "chunk_scale": scale,
            "chunk_floor": floor,
        }
        cut = split(sequence, 0, len(steps), Merge(**limits))  # type: ignore[arg-type]
        expected = model.split([int(s) for s in sequence], Rules(**limits))  # type: ignore[arg-type]
        assert [end - begin for begin, end in cut] == expected
        assert [begin for begin, _ in cut] == [0, *(end for _, end in cut[:-1])]
        assert all(sequence[end - 1] < sequence[end] for _, end in cut[:-1])


class TestWithheld:
    def test_lone_event_in_a_filled_hole(self) -> None:
        run = Run(Rules())
        run.process(FIRST, (epu(956, [1, 9], None, [20, 29]), epu(957, [2, 22])))
        decision = run.process(SECOND, (open_ended(956, [10], number=1),))
        assert decision.spans == ()
        assert decision.files == ()
        assert (decision.orphans, decision.withheld) == (1, 1)
        assert decision.complete

    def test_goes_out_when_the_series_grows(self) -> None:
        run = Run(Rules())
        before = run.process(FIRST, (open_ended(956, [1]), open_ended(957, [2])))
        assert before.settled == ((LOWEST, 1),)
        assert (before.orphans, before.withheld, before.spans) == (2, 1, ())
        after = run.process(SECOND, (epu(956, [3], number=1), epu(957, [], number=1)))
        assert files(after) == [[1, 2, 3]]
        assert (after.orphans, after.withheld) == (0, 0)

    def test_two_events_of_one_sequence_are_two(self) -> None:
        decision = process(Rules(), open_ended(956, [5, 8]), open_ended(957, [5]))
        assert files(decision) == [[5, 5]]
        assert decision.spans == ((5, 5),)

    def test_series_beside_it_are_not_touched(self) -> None:
        decision = process(Rules(min_events=3), epu(956, [1, 3], None, [20, 29]), epu(957, [2, 22]))
        assert files(decision) == [[1, 2, 3], [20, 22, 29]]
        decision = process(Rules(min_events=3), epu(956, [1, 3], None, [20, 29]), epu(957, [2]))
        assert files(decision) == [[1, 2, 3]]
        assert decision.spans == ((1, 3),)
        assert (decision.orphans, decision.withheld) == (2, 2)


class TestLate:
    def test_third_epu_turns_up_afterwards(self) -> None:
        run = Run(Rules())
        run.process(FIRST, (epu(956, [1, 5]), epu(957, [2, 9])))
        decision = run.process(SECOND, (epu(958, [4, 7, 12]),))
        assert decision.late == 2
        assert decision.complete  # late events do not keep it from being complete
        assert (decision.orphans, decision.withheld) == (1, 1)  # 12 lies outside the span
        again = run.again(FIRST)
        assert sequences(again) == [1, 2, 4, 5, 7, 9]
        assert again.late == 0
        assert run.again(SECOND).late == 0

    def test_counted_where_they_lie_inside_a_span(self) -> None:
        run = Run(Rules())
        run.process(FIRST, (epu(956, [3, 5]), epu(957, [4, 9])))
        assert run.process(SECOND, (epu(958, [1, 4, 7, 8, 12]),)).late == 3

    def test_not_late_if_brought_before(self) -> None:
        run = Run(Rules())
        run.process(FIRST, (epu(956, [1, 5]), epu(957, [2, 9])))
        decision = run.process(SECOND, (epu(956, [1, 5]), epu(957, [2, 9])))
        assert decision.late == 0
        assert decision.orphans == 0

    def test_known_though_brought_by_another_downlink(self) -> None:
        run = Run(ONE)
        run.process(FIRST, (epu(956, [1, 5]),))
        run.process(SECOND, (epu(957, [2, 9]),))
        decision = run.process(THIRD, (epu(956, [1, 5]),))
        assert decision.late == 0
        assert decision.datagrams == {956: ((0, 0),), 957: ((0, 0),)}

    def test_counted_at_every_downlink_until_processed_again(self) -> None:
        run = Run(Rules())
        run.process(FIRST, (epu(956, [1, 5]), epu(957, [2, 9])))
        run.process(SECOND, (epu(958, [4]),))
        assert run.process(THIRD, ()).late == 1
        run.again(FIRST)
        assert run.process(THIRD, ()).late == 0


class TestComplete:
    def test_needs_one_segment(self) -> None:
        assert not process(ONE, epu(956, [1], None, [9]), epu(957, [2])).complete

    def test_needs_start_and_close(self) -> None:
        assert not process(ONE, epu(956, [1], number=1), epu(957, [2])).complete
        assert not process(ONE, open_ended(956, [1]), epu(957, [2])).complete

    def test_first_segment_closed_yet_more_is_known(self) -> None:
        paused = epu(956, [1, 2], closing="pause")
        resumed = epu(956, [8, 9], number=2, chunk=2)
        assert not process(ONE, paused, resumed, epu(957, [3, 7])).complete

    def test_is_complete_without_events(self) -> None:
        decision = process(ONE, epu(956, []), epu(957, [], []))
        assert decision.complete
        assert decision.events.size == 0

    def test_lci(self) -> None:
        assert process(ONE, epu(966, [1], [2])).complete
        assert not process(ONE, epu(966, [1], [2]), open_ended(967, [3])).complete


class TestIntervals:
    INTERVALS = st.lists(
        st.tuples(st.integers(0, 12), st.integers(0, 4)).map(lambda p: (p[0], p[0] + p[1])), max_size=5
    )

    @given(INTERVALS)
    @settings(deadline=None, derandomize=True, database=None)
    def test_join(self, intervals: list[tuple[int, int]]) -> None:
        assert list(join(intervals)) == model.join(intervals)

    def test_join_does_not_join_what_touches(self) -> None:
        assert join([(5, 9), (1, 4)]) == ((1, 4), (5, 9))
        assert join([(4, 9), (1, 4)]) == ((1, 9),)
        assert join([(1, 20), (3, 4), (20, 21)]) == ((1, 21),)

    @given(INTERVALS.map(join), INTERVALS.map(join))
    @settings(deadline=None, derandomize=True, database=None)
    def test_intersect(self, one: tuple[tuple[int, int], ...], other: tuple[tuple[int, int], ...]) -> None:
        common = intersect(one, other)  # type: ignore[arg-type]
        places = [s for s in range(20) if model.inside(s, one) and model.inside(s, other)]
        assert [s for s in range(20) if model.inside(s, common)] == places
        pairs = [(max(a, c), min(b, d)) for a, b in one for c, d in other]
        assert list(common) == sorted((first, last) for first, last in pairs if first <= last)


class TestKnownDatagrams:
    def test_ranges_and_lines(self) -> None:
        lines = [d.line for d in epu(957, [1], None, [2], [3], None, None, [4]).datagrams]
        known = KnownDatagrams.of([*lines, *reversed(lines)])
        assert known.ranges() == {957: ((0, 0), (2, 3), (6, 6))}
        assert list(known.lines) == lines

    def test_together_is_the_same_in_any_order(self) -> None:
        one = KnownDatagrams.of([d.line for d in epu(956, [1], [2]).datagrams])
        two = KnownDatagrams.of([d.line for d in epu(956, [1], [2], [3], closing="abort").datagrams])
        assert KnownDatagrams.together([one, two]).lines == KnownDatagrams.together([two, one]).lines
        assert KnownDatagrams.together([one, two]).ranges() == {956: ((0, 2),)}


class TestSlices:
    """The parts of the merge that move events by slices, each against what is obvious."""

    MANY = settings(max_examples=200, deadline=None, derandomize=True, database=None)
    # At both ends of 64 bits, and where binary64 tells neighbours no longer apart.
    BASES = st.sampled_from([0, 2**53 - 4, 2**63 - 4, HIGHEST - 9])
    PLACES = st.integers(0, 9)
    INTERVALS = st.lists(st.tuples(PLACES, PLACES).map(sorted), max_size=4)
    EVENTS = st.lists(st.tuples(PLACES, st.sampled_from([955, 956, 957])), max_size=14)

    @staticmethod
    def intervals(base: int, pairs: list[list[int]]) -> tuple[Interval, ...]:
        return join((base + first, base + last) for first, last in pairs)

    @staticmethod
    def part(base: int, number: int, keys: list[tuple[int, int]]) -> list[Event]:
        return [Event(base + place, apid, 0, 100 * number + n) for n, (place, apid) in enumerate(keys)]

    @given(BASES, EVENTS)
    @MANY
    def test_in_order(self, base: int, keys: list[tuple[int, int]]) -> None:
        events = self.part(base, 0, keys)
        first: dict[tuple[int, int], Event] = {}
        for event in events:
            first.setdefault((event.sequence, event.apid), event)
        table = event_array(events)
        ordered = in_order(table)
        assert ordered.tobytes() == event_array([first[key] for key in sorted(first)]).tobytes()
        assert in_order(ordered) is ordered, "what is in order is not copied"

    @given(BASES, st.lists(EVENTS, min_size=1, max_size=4))
    @MANY
    def test_in_one(self, base: int, lists: list[list[tuple[int, int]]]) -> None:
        parts = [event_array(self.part(base, number, keys)) for number, keys in enumerate(lists)]
        first: dict[tuple[int, int], tuple[object, ...]] = {}
        for row in [row for part in parts for row in part.tolist()]:
            first.setdefault((row[0], row[1]), row)
        assert in_one(parts).tolist() == [first[key] for key in sorted(first)]

    @given(BASES, st.lists(PLACES, max_size=12).map(sorted), INTERVALS)
    @MANY
    def test_holding(self, base: int, places: list[int], pairs: list[list[int]]) -> None:
        held = self.intervals(base, pairs)
        sequence = np.array([base + place for place in places], np.uint64)
        obvious = [any(first <= base + place <= last for first, last in held) for place in places]
        assert deciding.holding(sequence, held).tolist() == obvious
        assert deciding._inside(sequence, held).tolist() == obvious

    @given(st.lists(st.booleans(), max_size=12))
    @MANY
    def test_cut_out_and_closed_up(self, chosen: list[bool]) -> None:
        events = event_array([Event(n, 956, 0, n) for n in range(len(chosen))])
        slices = deciding._runs_of(np.array(chosen, dtype=bool))
        assert [n for a, b in slices for n in range(a, b)] == [n for n, true in enumerate(chosen) if true]
        assert all(b < a for (_, b), (a, _) in pairwise(slices)), "each as long as can be"
        left = deciding._cut_out(events, slices)
        assert left.tobytes() == events[np.array(chosen, dtype=bool)].tobytes()
        for (a, b), (begin, end) in zip(slices, deciding._closed_up(slices), strict=True):
            assert left[begin:end].tobytes() == events[a:b].tobytes()

    def test_a_small_delivery_does_not_keep_all_events_in_memory(self) -> None:
        events = event_array([Event(n, 956, 0, n) for n in range(10)])
        assert np.shares_memory(deciding._cut_out(events, [(2, 8)]), events)
        assert not np.shares_memory(deciding._cut_out(events, [(2, 6)]), events)

    @given(BASES, st.lists(PLACES, max_size=20).map(sorted), INTERVALS, INTERVALS, INTERVALS)
    @MANY
    def test_series(
        self,
        base: int,
        places: list[int],
        settled: list[list[int]],
        foreign: list[list[int]],
        own: list[list[int]],
    ) -> None:
        others, mine = self.intervals(base, foreign), self.intervals(base, own)
        covered = join([*self.intervals(base, settled), *mine])
        known = [base + place for place in places]

        def number(sequence: int, intervals: tuple[Interval, ...]) -> int | None:
            return next((n for n, (a, b) in enumerate(intervals) if a <= sequence <= b), None)

        def is_due(sequence: int) -> bool:
            return number(sequence, covered) is not None and number(sequence, others) is None

        due = [sequence for sequence in known if is_due(sequence)]
        series = deciding.series_of(np.array(due, np.uint64), covered, others, mine)
        assert [n for a, b in series for n in range(a, b)] == list(range(len(due)))
        joints = {b for _, b in series[:-1]}
        for n, (one, other) in enumerate(pairwise(due), 1):
            orphans = [s for s in known if one < s < other and not is_due(s) and number(s, others) is None]
            crosses = one != other and (
                number(one, covered) != number(other, covered)
                or any(one < span.first and span.last < other for span in others)
                or any(one < span.first <= other or one <= span.last < other for span in mine)
                or bool(orphans)
            )
            assert (n in joints) is crosses, (one, other)
