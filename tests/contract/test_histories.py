"""Random histories of a run: the library compared with the reference, and what must hold after each step."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from halfpipe.merge.decision import Decision
from halfpipe.merge.undelivered import NotDelivered
from tests.support import explained, model
from tests.support.bridge import RefusedError, Run
from tests.support.legacy_beside import Beside
from tests.support.model import Chunk, Datagram, Event, Rules

EXAMPLES = 25
LONG_EXAMPLES = 20_000

Key = tuple[int, int]

EVERY_DAY = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
LONG = settings(EVERY_DAY, max_examples=LONG_EXAMPLES, derandomize=False)


@dataclass(frozen=True)
class ArrivalHistory:
    """A run as it arrives: the chunks of each downlink, and the order of processing.

    `steps` are downlinks, each at least once. `contents` are the chunks of a downlink at its first, second, ...
    processing; the last ones stay.
    """

    rules: Rules
    contents: dict[str, tuple[tuple[Chunk, ...], ...]]
    steps: tuple[str, ...]


@st.composite
def acquisitions(draw: st.DrawFn, apids: Sequence[int]) -> list[tuple[Datagram, tuple[Event, ...]]]:
    """Draw the datagrams of a run with their events, as the instrument made them."""
    sequence = draw(st.sampled_from([0, 1, 1000, 2**31 - 3, 2**32 - 5, 2**53, 2**64 - 100]))
    owned: dict[int, list[int]] = {apid: [] for apid in apids}
    size = draw(st.sampled_from([0, 3, 8, 14, 20, 24, 28]))
    turns = st.tuples(st.integers(0, len(apids) - 1), st.sampled_from([1, 1, 1, 0, 2]))
    for turn, step in draw(st.lists(turns, min_size=size, max_size=size)):
        apid = apids[turn]
        sequence += step
        if owned[apid] and owned[apid][-1] == sequence:
            sequence += 1
        owned[apid].append(sequence)

    made = []
    for apid, sequences in owned.items():
        sizes = draw(st.lists(st.integers(0, 4), min_size=1, max_size=5))
        while sum(sizes) < len(sequences):
            sizes.append(2)
        starts = draw(st.sampled_from([True, True, True, True, False]))
        opening = draw(st.sampled_from(["start"] * 9 + ["resume"]))
        closings = ["stop"] * 8 + ["abort", "pause", "continue", "unknown", "start"]
        end = draw(st.sampled_from(closings))
        # Without a start, the first known datagram may have a number above 0.
        base = 0 if starts else draw(st.integers(0, 2))
        begin = 0
        for n, size in enumerate(sizes):
            inside = sequences[begin : begin + size]
            begin += size
            datagram = Datagram(
                apid,
                base + n,
                opening=opening if starts and n == 0 else "continue",
                closing=end if n == len(sizes) - 1 else "continue",
                events=len(inside),
                first=inside[0] if inside else 0,
                last=inside[-1] if inside else 0,
            )
            made.append((datagram, tuple(Event(s, apid, base + n, 0) for s in inside)))
    return made


def draw_arrivals(
    draw: st.DrawFn, downlinks: Sequence[str], apids: Sequence[int]
) -> list[list[tuple[str, int]]]:
    """Draw where each datagram arrives: downlink and number of the chunk; `apids` are the EPUs of the datagrams.

    The datagrams of an EPU arrive in order, in any order, or all with one downlink. Some are lost, and some arrive
    twice: in another downlink, or in a second chunk.
    """
    arrivals: list[list[tuple[str, int]]] = []
    for _, group in itertools.groupby(apids):
        count = len(list(group))
        style = draw(st.sampled_from(["in order", "in order", "any", "one"]))
        if style == "one":
            where = [draw(st.sampled_from(downlinks))] * count
        else:
            where = draw(st.lists(st.sampled_from(downlinks), min_size=count, max_size=count))
            where = sorted(where) if style == "in order" else where
        fates = st.sampled_from(["once"] * draw(st.sampled_from([2, 4, 16])) + ["lost", "twice"])
        for downlink in where:
            fate = draw(fates)
            places = [] if fate == "lost" else [(downlink, draw(st.sampled_from([1, 1, 2])))]
            if fate == "twice":
                places.append((draw(st.sampled_from(downlinks)), 3))
            arrivals.append(places)
    return arrivals


@st.composite
def histories(
    draw: st.DrawFn,
    apids: Sequence[int] | None = None,
    min_events: Sequence[int] = (1, 2, 3),
    min_epus: Sequence[int] = (1, 2, 2, 2, 2, 3),
    odd: bool = False,
) -> ArrivalHistory:
    """Draw a history. An `odd` one may contradict itself.

    Lines of one datagram differ, copies are incomplete, datagrams have no line, and chunks appear or disappear between
    two processings.
    """
    if apids is None:
        apids = draw(
            st.sampled_from(
                [(956, 957)] * 6 + [(955, 956, 958)] * 3 + [(956,), (965,), (965, 967), (956, 965)]
            )
        )
    made = draw(acquisitions(apids))
    downlinks = [f"24060100{n}" for n in range(1, draw(st.sampled_from([2, 3, 3, 4, 5, 1])) + 1)]

    arrivals = draw_arrivals(draw, downlinks, [datagram.apid for datagram, _ in made])
    contradicts = odd and draw(st.booleans())
    copies = 0
    arrived: dict[tuple[str, int, int], tuple[list[Event], list[Datagram]]] = {}
    for (datagram, events), places in zip(made, arrivals, strict=True):
        for downlink, chunk in places:
            into = arrived.setdefault((downlink, datagram.apid, chunk), ([], []))
            line, some = datagram, events
            oddity = draw(st.integers(0, 9)) if contradicts else 9
            if oddity == 0:
                line = replace(datagram, utc=draw(st.sampled_from([1.0, 2e9])), closing="abort")
            elif oddity == 1:
                some = events[: draw(st.integers(0, len(events)))]
            elif oddity == 2 and events:
                line = replace(datagram, utc=1.0, events=1, last=datagram.first)
            for event in some:
                copies += 1
                into[0].append(replace(event, copy=copies))
            if oddity != 3:
                into[1].append(line)

    whole: dict[str, tuple[Chunk, ...]] = {
        downlink: tuple(
            Chunk(f"0077014d-2c2e5787-{apid:04d}-{chunk:05d}.idx", tuple(events), tuple(datagrams))
            for (dl, apid, chunk), (events, datagrams) in arrived.items()
            if dl == downlink
        )
        for downlink in downlinks
    }
    contents: dict[str, tuple[tuple[Chunk, ...], ...]] = {
        downlink: (chunks,) for downlink, chunks in whole.items()
    }
    if odd:
        for downlink in downlinks:
            gone = draw(st.integers(0, 5))
            less = tuple(chunk for n, chunk in enumerate(whole[downlink]) if n != gone)
            order = draw(st.sampled_from(["same", "grows", "grows", "shrinks"]))
            if order == "grows":
                contents[downlink] = (less, whole[downlink])
            elif order == "shrinks":
                contents[downlink] = (whole[downlink], less)

    steps = list(draw(st.permutations(downlinks)))
    repeats = draw(st.sampled_from([0, 1, 2, 3, 4]))
    for again in draw(st.lists(st.sampled_from(downlinks), min_size=repeats, max_size=repeats)):
        steps.insert(draw(st.integers(0, len(steps))), again)
    rules = Rules(
        max_events=draw(st.sampled_from([0, 1, 2, 3, 4, 5, 6, 125000])),
        chunk_scale=draw(st.sampled_from([0.9, 0.9, 0.5, 1.5, 0.0])),
        chunk_floor=draw(st.sampled_from([0.5, 0.5, 0.0, 1.0])),
        min_events=draw(st.sampled_from(min_events)),
        min_epus=draw(st.sampled_from(min_epus)),
    )
    return ArrivalHistory(rules, contents, tuple(steps))


def keys(decision: Decision) -> list[Key]:
    """Return (sequence, APID) of the delivered events, in order."""
    return [(int(e["sequence"]), int(e["apid"])) for e in decision.events]


class DeliveryLog:
    """The deliveries of a run, and what must hold after each step."""

    def __init__(self, history: ArrivalHistory) -> None:
        self.history = history
        self.run = Run(history.rules)
        self.latest: dict[str, Decision] = {}
        self.times: dict[str, int] = {}

    def step(self, downlink: str, *, accept: bool = True) -> Decision:
        """Process `downlink`; the decisions of the library and the reference must be equal."""
        contents = self.history.contents[downlink]
        time = min(self.times.get(downlink, 0), len(contents) - 1)
        note(f"{downlink}, time {time}")
        decision = self.run.process(downlink, contents[time], accept=accept)
        self.times[downlink] = time + 1
        self.latest[downlink] = decision
        return decision

    def delivered(self) -> list[Key]:
        """Return the events in the latest deliveries of all downlinks."""
        return [key for decision in self.latest.values() for key in keys(decision)]

    def check(self) -> None:
        """No event was delivered twice, no two spans share a sequence, and every event is in a span."""
        delivered = self.delivered()
        assert len(delivered) == len(set(delivered))
        spans = sorted(span for decision in self.latest.values() for span in decision.spans)
        assert all(before[1] < after[0] for before, after in itertools.pairwise(spans))
        for decision in self.latest.values():
            assert all(any(a <= s <= b for a, b in decision.spans) for s, _ in keys(decision))

    def check_nothing_left(self, outcome: model.ModelDecision) -> None:
        """Every known event whose place is settled is delivered, withheld or late."""
        known = model.known_datagrams(self.run.arrived.values())
        places = model.settled(known, self.history.rules, settle_all=False)
        events = {(e.sequence, e.apid) for cs in self.run.arrived.values() for c in cs for e in c.events}
        left = {key for key in events - set(self.delivered()) if model.inside(key[0], places)}
        assert len(left) <= outcome.withheld + outcome.late
        if not outcome.late:
            assert len(left) == outcome.withheld

    def check_same_again(self, before: Decision, after: Decision) -> None:
        """A downlink processed again delivers the same events in the same files, and late ones in its own spans.

        The copy of an event may be that of another downlink.
        """
        added = set(keys(after)) - set(keys(before))
        assert all(any(a <= sequence <= b for a, b in before.spans) for sequence, _ in added)
        if added:
            assert set(keys(before)) < set(keys(after))
        else:
            assert keys(after) == keys(before)
            assert after.files == before.files
            assert after.spans == before.spans


def process(history: ArrivalHistory) -> DeliveryLog:
    """Process a consistent history and check each step. The rule of the legacy gives what its model gives."""
    log, beside = DeliveryLog(history), Beside()
    for downlink in history.steps:
        before = log.latest.get(downlink)
        decision = log.step(downlink)
        log.check()
        log.check_nothing_left(log.run.outcome)
        explained.check(log.run)
        if before is not None:
            log.check_same_again(before, decision)
        assert beside.process(downlink, log.run.arrived) == []
    return log


@dataclass(frozen=True)
class Policy:
    """The settings of one step: `min_events`, whether a loss is accepted, and the run abandoned.

    And the downlink released before it.
    """

    min_events: int
    accept: bool = True
    abandoned: bool = False
    release: str | None = None


def process_with_policies(history: ArrivalHistory, policies: Sequence[Policy]) -> None:
    """Process a history with changing settings: Level-1 never gets an event that it may have.

    It may have the events of every delivery, except those that a release returned.
    """
    log = DeliveryLog(history)
    level1: dict[str, list[set[Key]]] = {}
    for downlink, policy in zip(history.steps, policies, strict=True):
        if policy.release in level1:
            log.run.release(policy.release)
            level1[policy.release] = level1[policy.release][-1:]
        log.run.rules = replace(history.rules, min_events=policy.min_events)
        log.run.abandoned = policy.abandoned
        before, state = log.latest.get(downlink), (dict(log.run.arrived), list(log.run.lines))
        try:
            decision = log.step(downlink, accept=policy.accept)
        except RefusedError:
            assert (log.run.arrived, log.run.lines) == state, "nothing has changed"
            assert before is not None
            continue
        log.check()
        explained.check(log.run, odd=True)
        level1.setdefault(downlink, []).append(set(keys(decision)))
        for other, deliveries in level1.items():
            taken = set().union(*deliveries) if other != downlink else set()
            assert taken.isdisjoint(keys(decision)), f"twice: {downlink} and {other}"
        if before is not None and not policy.accept:
            gone = [key for key in keys(before) if key not in set(keys(decision))]
            alone = {first for first, last in before.spans if first == last}
            assert (
                all(sequence in alone for sequence, _ in gone)
                or log.run.arrived[downlink] != state[0][downlink]
            )


def process_odd(history: ArrivalHistory) -> None:
    """Process a history that contradicts itself with the same settings each time."""
    process_with_policies(history, [Policy(history.rules.min_events)] * len(history.steps))


def process_in_two_orders(history: ArrivalHistory, other: Sequence[str]) -> None:
    """Process a history of two EPUs in two orders: the same events are delivered."""
    one = process(history)
    two = process(replace(history, steps=tuple(other)))
    assert sorted(one.delivered()) == sorted(two.delivered())
    for log in (one, two):
        assert all(group.kind is not NotDelivered.LATE for group in explained.said_of(log.run))


@st.composite
def two_orders(draw: st.DrawFn) -> tuple[ArrivalHistory, tuple[str, ...]]:
    """Draw a history of two EPUs without withheld events, and another order of its downlinks."""
    history = draw(histories(apids=(956, 957), min_events=(0, 1), min_epus=(2,)))
    return history, tuple(draw(st.permutations(sorted(history.contents))))


@st.composite
def histories_with_policies(draw: st.DrawFn) -> tuple[ArrivalHistory, tuple[Policy, ...]]:
    """Draw a history that contradicts itself, and the settings of each step."""
    history = draw(histories(odd=True))
    downlinks = [None, None, None, *sorted(history.contents)]
    policies = st.builds(
        Policy,
        st.sampled_from([history.rules.min_events, history.rules.min_events, 1, 2, 3, 4]),
        st.booleans(),
        st.sampled_from([False, False, True]),
        st.sampled_from(downlinks),
    )
    steps = len(history.steps)
    return history, tuple(draw(st.lists(policies, min_size=steps, max_size=steps)))


STRATEGIES: dict[str, tuple[st.SearchStrategy[Any], Callable[[Any], object]]] = {
    "consistent": (histories(), process),
    "odd": (histories(odd=True), process_odd),
    "with policies": (histories_with_policies(), lambda pair: process_with_policies(*pair)),
    "two orders": (two_orders(), lambda pair: process_in_two_orders(*pair)),
}


@pytest.mark.parametrize("of", STRATEGIES)
@pytest.mark.parametrize("many", [False, pytest.param(True, marks=pytest.mark.long)], ids=["some", "many"])
def test_histories(of: str, many: bool) -> None:
    strategy, check = STRATEGIES[of]

    @(LONG if many else EVERY_DAY)
    @given(strategy)
    def holds(history: Any) -> None:
        check(history)

    holds()
