"""The merge rule sentence by sentence, on runs small enough to be checked by eye.

Each case is also decided by the reference (`Run.process` compares), so that both are held against the figures
written here.
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from halfpipe.merge.decision import Decision, split
from halfpipe.settings import Merge
from tests.support import model
from tests.support.bridge import HIGHEST, LOWEST, Run
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


WHOLE = epu(957, [2, 12])
TOP = 2**64 - 2
# What one downlink brings; what is settled; the files; how many orphans; whether the run is complete.
SETTLED: dict[str, tuple[list[Chunk], list[tuple[int, int]], list[list[int]], int, bool]] = {
    "whole run": ([epu(956, [1, 3], [5]), epu(957, [2], [4, 6])], [ALL], [[1, 2, 3, 4, 5, 6]], 0, True),
    "nothing known": ([], [], [], 0, False),
    "a lone EPU settles nothing": ([epu(956, [1, 3], [5])], [], [], 3, False),
    "from the first event without start": (
        [epu(956, [1, 3, 9], number=1), epu(957, [2, 4, 8])], [(1, HIGHEST)], [[1, 2, 3, 4, 8, 9]], 0, False),
    "another opening is no start": (
        [epu(956, [1, 3, 9]), epu(957, [2, 4, 8], opening="resume")], [(2, HIGHEST)], [[2, 3, 4, 8, 9]], 1, False),
    "to the last event without close": (
        [open_ended(956, [1, 3, 9]), open_ended(957, [2, 4, 8])], [(LOWEST, 8)], [[1, 2, 3, 4, 8]], 1, False),
    **{f"{closing} closes": ([epu(956, [1, 9], closing=closing), WHOLE], [ALL], [[1, 2, 9, 12]], 0, True)
       for closing in ("stop", "abort", "pause")},
    **{f"{closing} does not": ([epu(956, [1, 9], closing=closing), WHOLE], [(LOWEST, 9)], [[1, 2, 9]], 1, False)
       for closing in ("continue", "start", "unknown")},
    # legacy-defects 6: of an EPU that has stopped nothing can be missing.
    "one EPU stopped, the other not": (
        [epu(956, [1, 3, 9]), open_ended(957, [2, 8], [10, 15])], [(LOWEST, 15)], [[1, 2, 3, 8, 9, 10, 15]], 0, False),
    "a lost datagram cuts the segment": (
        [epu(956, [1, 9], None, [20, 28]), epu(957, [2, 12, 22, 30])],
        [(LOWEST, 9), (20, HIGHEST)], [[1, 2, 9], [20, 22, 28, 30]], 1, False),
    "gaps in both": (
        [epu(956, [1, 5], None, [20, 40]), epu(957, [2, 25], None, [35, 41])],
        [(LOWEST, 5), (20, 25), (35, HIGHEST)], [[1, 2, 5], [20, 25], [35, 40, 41]], 0, False),
    "outer losses are no gaps": (
        [open_ended(956, [5, 9], number=1), open_ended(957, [6, 12], number=3)], [(6, 9)], [[6, 9]], 2, False),
    # legacy-defects 4: no event lies in the hole, yet no file and no span bridges it.
    "a hole without events of the other": (
        [epu(956, [1, 9], None, [20, 29]), epu(957, [2, 5], [22, 30])],
        [(LOWEST, 9), (20, HIGHEST)], [[1, 2, 5, 9], [20, 22, 29, 30]], 0, False),
    "intervals that touch stay two": (
        [epu(956, [1049], None, [1050]), epu(957, [1040, 1060])],
        [(LOWEST, 1049), (1050, HIGHEST)], [[1040, 1049], [1050, 1060]], 0, False),
    "without events, continued": ([epu(956, [1, 9], [], [20]), WHOLE], [ALL], [[1, 2, 9, 12, 20]], 0, True),
    "without events, opened and closed": ([epu(956, [], [5, 9], []), WHOLE], [ALL], [[2, 5, 9, 12]], 0, True),
    # legacy-defects 22: an event-less last datagram does not make the segment end at sequence 0.
    "without events, no end": ([open_ended(956, [1, 9], []), WHOLE], [(LOWEST, 9)], [[1, 2, 9]], 1, False),
    "without events, no begin": ([epu(956, [], [4, 9], number=1), WHOLE], [(4, HIGHEST)], [[4, 9, 12]], 1, False),
    "no event at all, whole": ([epu(956, [], []), WHOLE], [ALL], [[2, 12]], 0, True),
    "no event at all, not closed": ([open_ended(956, []), WHOLE], [], [], 2, False),
    "no event at all, not opened": ([epu(956, [], number=1), WHOLE], [], [], 2, False),
    "every EPU must cover": (
        [epu(955, [1, 30]), epu(956, [2, 9], None, [20, 31]), epu(958, [3, 8])],
        [(LOWEST, 9), (20, HIGHEST)], [[1, 2, 3, 8, 9], [20, 30, 31]], 0, False),
    "LCI needs one EPU": (
        [epu(965, [1, 5], None, [20, 30])], [(LOWEST, 5), (20, HIGHEST)], [[1, 5], [20, 30]], 0, False),
    "LCI, whole": ([epu(966, [1], [2])], [ALL], [[1, 2]], 0, True),
    "LCI, one of two open": ([epu(966, [1], [2]), open_ended(967, [3])], [(LOWEST, 3)], [[1, 2, 3]], 0, False),
    # legacy-defects 7: spans of one APID only.
    "LCI needs all that are seen": (
        [epu(956, [1, 30]), epu(965, [3, 5], None, [20, 31])],
        [(LOWEST, 5), (20, HIGHEST)], [[1, 3, 5], [20, 30, 31]], 0, False),
    "large sequences are exact": (
        [open_ended(956, [TOP - 4, TOP - 2]), open_ended(957, [TOP - 3, TOP - 1, TOP])],
        [(LOWEST, TOP - 2)], [[TOP - 4, TOP - 3, TOP - 2]], 2, False),
    "the first segment closed, yet more is known": (
        [epu(956, [1, 2], closing="pause"), epu(956, [8, 9], number=2, chunk=2), epu(957, [3, 7])],
        [ALL], [[1, 2, 3, 7, 8, 9]], 0, False),
}  # fmt: skip


@pytest.mark.parametrize("name", SETTLED)
def test_what_is_settled(name: str) -> None:
    chunks, places, delivered, orphans, complete = SETTLED[name]
    decision = process(ONE, *chunks)
    assert decision.settled == tuple(places)
    assert decision.gaps == tuple((one[1], other[0]) for one, other in pairwise(places))
    assert files(decision) == delivered
    assert decision.spans == tuple((file[0], file[-1]) for file in delivered)
    assert (decision.orphans, decision.withheld, decision.late) == (orphans, 0, 0)
    assert decision.known == orphans + sum(map(len, delivered))
    assert decision.complete is complete
    apids = sorted({line.apid for chunk in chunks for line in chunk.datagrams})
    assert decision.epus == tuple(apids) == tuple(decision.datagrams)
    assert decision.kind == ("LCI" if any(apid > 960 for apid in apids) else "LPA")


def test_of_differing_lines_the_first_sorted_counts() -> None:
    early = Datagram(956, 0, "start", "continue", 2, 1, 9, utc=1.0)
    late = Datagram(956, 0, "start", "stop", 2, 1, 9, utc=2.0)
    name, events = "0077014d-2c2e5787-0956-00001.idx", (Event(1, 956, 0, 0), Event(9, 956, 0, 0))
    assert process(ONE, Chunk(name, events, (late, early)), WHOLE).settled == ((LOWEST, 9),)
    run = Run(ONE)
    run.process(FIRST, (Chunk(name, events, (late,)),))
    run.process(SECOND, (Chunk(name, (), (early,)),))
    assert run.process(THIRD, (WHOLE,)).settled == ((LOWEST, 9),)


def test_a_run_given_up_is_settled_everywhere() -> None:
    lone = Run(ONE, given_up=True)
    decision = lone.process(FIRST, [epu(956, [1, 2], None, [5])])
    assert (decision.settled, files(decision)) == ((ALL,), [[1, 2, 5]])
    assert not decision.complete
    late = Run(ONE)
    late.process(FIRST, [epu(956, [1], [3], [9]), epu(957, [2], None, [8])])
    late.given_up = True
    assert files(late.again(FIRST)) == [[1, 2], [3], [8, 9]]


Step = tuple[str, list[Chunk] | None, list[list[int]], dict[str, object]]
BOTH, PAIR = [epu(956, [1, 3]), epu(957, [2, 4])], [epu(956, [1, 5]), epu(957, [2, 9])]
PART, WHOLE_OF_IT = [[1, 3], [5, 7], [13, 15]], [[1, 3], [5, 7, 9], [13, 15]]
BESIDE = epu(957, [2, 16])
# Steps: the downlink, what it brings (None: what it brought before), the files, and figures of the decision.
HISTORIES: dict[str, tuple[Rules, list[Step]]] = {
    "own spans count as settled": (ONE, [
        (FIRST, [epu(956, [1, 3, 20]), epu(957, [2, 4])], [[1, 2, 3, 4, 20]], {}),
        (SECOND, [open_ended(958, [5, 8], number=2)], [], {"settled": ((5, 8),), "late": 2, "orphans": 0}),
        # Its own span and the settled interval inside it.
        (FIRST, None, [[1, 2, 3, 4, 5, 8, 20]], {"settled": ((1, 20),), "late": 0})]),
    "own spans that only touch are not joined": (ONE, [
        (FIRST, BOTH, [[1, 2, 3, 4]], {}), (SECOND, [epu(958, [5, 8], number=2)], [[5, 8]], {}),
        (FIRST, None, [[1, 2, 3, 4]], {"settled": ((1, 4), (5, HIGHEST)), "gaps": ((4, 5),)})]),
    "among others the lowest id wins": (ONE, [
        *((dl, [epu(956, [1, 3], copy=int(dl[-1]))], [], {}) for dl in (THIRD, SECOND, FOURTH)),
        (FIRST, [epu(957, [2], copy=1)], [[1, 2, 3]], {"copies": [2, 1, 2]})]),
    "withheld until the series grows": (Rules(), [
        (FIRST, [open_ended(956, [1]), open_ended(957, [2])], [],
         {"settled": ((LOWEST, 1),), "orphans": 2, "withheld": 1}),
        (SECOND, [epu(956, [3], number=1), epu(957, [], number=1)], [[1, 2, 3]], {"orphans": 0, "withheld": 0})]),
    "a third EPU turns up afterwards": (Rules(), [
        (FIRST, PAIR, [[1, 2, 5, 9]], {}),
        # 12 lies outside the span; late events do not keep the run from being complete.
        (SECOND, [epu(958, [4, 7, 12])], [], {"late": 2, "complete": True, "orphans": 1, "withheld": 1}),
        (THIRD, [], [], {"late": 2}),
        (FIRST, None, [[1, 2, 4, 5, 7, 9]], {"late": 0}),
        (SECOND, None, [], {"late": 0}), (THIRD, [], [], {"late": 0})]),
    # Its line announces no more than the part, so nothing says that more of datagram 1 may come.
    "a datagram in part, then whole": (ONE, [
        (FIRST, [epu(956, *PART), BESIDE], [[1, 2, 3, 5, 7, 13, 15, 16]], {"known": 8}),
        (SECOND, [epu(956, *WHOLE_OF_IT)], [], {"late": 1, "orphans": 0, "known": 9, "complete": True}),
        (THIRD, [epu(956, *PART)], [], {"late": 1, "known": 9}),
        (FIRST, None, [[1, 2, 3, 5, 7, 9, 13, 15, 16]], {"late": 0}), (SECOND, None, [], {"late": 0})]),
    "late where a delivery before the last one covered": (ONE, [
        (FIRST, BOTH, [[1, 2, 3, 4]], {}), (FIRST, BOTH[:1], [[1, 3]], {}),
        (SECOND, [epu(958, [4])], [], {"late": 1, "orphans": 0})]),
    "an event of a datagram that no line makes known is not late": (ONE, [
        (FIRST, [replace(PAIR[0], events=(*PAIR[0].events, Event(3, 956, 7, 0))), PAIR[1]], [[1, 2, 3, 5, 9]], {}),
        (SECOND, [], [], {"late": 0})]),
    "not late if it was known before": (ONE, [
        (FIRST, PAIR[:1], [], {}), (SECOND, PAIR[1:], [[1, 2, 5, 9]], {}),
        (THIRD, PAIR[:1], [], {"late": 0, "orphans": 0, "datagrams": {956: ((0, 0),), 957: ((0, 0),)}})]),
}  # fmt: skip


@pytest.mark.parametrize("name", HISTORIES)
def test_what_is_delivered(name: str) -> None:
    rules, steps = HISTORIES[name]
    run = Run(rules)
    for downlink, chunks, expected, figures in steps:
        decision = run.again(downlink) if chunks is None else run.process(downlink, chunks)
        assert files(decision) == expected
        assert decision.spans == tuple((file[0], file[-1]) for file in expected)
        for figure, value in figures.items():
            found = decision.events["offset"].tolist() if figure == "copies" else getattr(decision, figure)
            assert found == value, figure


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
