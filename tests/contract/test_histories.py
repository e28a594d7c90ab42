"""Random histories of a run: the library compared with the reference, and what must hold after each step."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from halfpipe.merge.decision import Decision
from halfpipe.merge.undelivered import NotDelivered
from tests.support import explained, model
from tests.support.bridge import RefusedError, Run
from tests.support.histories import EVERY_DAY, LONG, ArrivalHistory, histories

Key = tuple[int, int]


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
    """Process a consistent history and check each step."""
    log = DeliveryLog(history)
    for downlink in history.steps:
        before = log.latest.get(downlink)
        decision = log.step(downlink)
        log.check()
        log.check_nothing_left(log.run.outcome)
        explained.check(log.run)
        if before is not None:
            log.check_same_again(before, decision)
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
