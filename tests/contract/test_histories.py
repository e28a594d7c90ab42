"""Random delivery histories of a run: the library against the reference, and what must hold throughout."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from halfpipe.merge.decision import Decision
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
class History:
    """A run as it arrives: what each downlink brings, and the order of processing.

    `steps` name downlinks, each at least once; `contents` are what a downlink brings at its first,
    second, ... processing (the last one holds from then on).
    """

    rules: Rules
    contents: dict[str, tuple[tuple[Chunk, ...], ...]]
    steps: tuple[str, ...]


@st.composite
def acquisitions(draw: st.DrawFn, apids: Sequence[int]) -> list[tuple[Datagram, tuple[Event, ...]]]:
    """Draw the datagrams of a run as the instrument made them, with their events."""
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
        # A run may be known to us only from a number above 0, if it did not start.
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
    """Draw where each datagram (of the EPU `apids` names) arrives: downlink and number of the chunk.

    An EPU arrives in the order of its datagrams, in any order, or with one downlink as a whole. Some
    datagrams are lost for ever, some arrive twice: in another downlink or in a second chunk of one.
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
) -> History:
    """Draw a history; with `odd` also what contradicts itself: differing lines, copies that are not whole,
    inputs that grow or shrink between two processings, events of which no line makes a datagram known.
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
    strange = odd and draw(st.booleans())
    copies = 0
    brought: dict[tuple[str, int, int], tuple[list[Event], list[Datagram]]] = {}
    for (datagram, events), places in zip(made, arrivals, strict=True):
        for downlink, chunk in places:
            into = brought.setdefault((downlink, datagram.apid, chunk), ([], []))
            line = datagram
            some = events
            oddity = draw(st.integers(0, 9)) if strange else 9
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
            for (dl, apid, chunk), (events, datagrams) in brought.items()
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
    return History(rules, contents, tuple(steps))


def keys(decision: Decision) -> list[Key]:
    """Return (sequence, APID) of what is delivered, in order."""
    return [(int(e["sequence"]), int(e["apid"])) for e in decision.events]


class Ledger:
    """What the downlinks of a run have delivered, and what must hold after each step."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.run = Run(history.rules)
        self.latest: dict[str, Decision] = {}
        self.times: dict[str, int] = {}

    def step(self, downlink: str, *, accept: bool = True) -> Decision:
        """Process `downlink`; the library must agree with the reference."""
        contents = self.history.contents[downlink]
        time = min(self.times.get(downlink, 0), len(contents) - 1)
        note(f"{downlink}, time {time}")
        decision = self.run.process(downlink, contents[time], accept=accept)
        self.times[downlink] = time + 1
        self.latest[downlink] = decision
        return decision

    def delivered(self) -> list[Key]:
        """Return what all downlinks have delivered, each by its latest delivery."""
        return [key for decision in self.latest.values() for key in keys(decision)]

    def check(self) -> None:
        """No event was delivered twice; no two spans share a sequence, and no event lies outside them."""
        delivered = self.delivered()
        assert len(delivered) == len(set(delivered))
        spans = sorted(span for decision in self.latest.values() for span in decision.spans)
        assert all(before[1] < after[0] for before, after in itertools.pairwise(spans))
        for decision in self.latest.values():
            assert all(any(a <= s <= b for a, b in decision.spans) for s, _ in keys(decision))

    def check_nothing_left(self, decision: Decision) -> None:
        """Every known event whose place is settled is delivered, withheld or late."""
        known = model.known_datagrams(self.run.brought.values())
        places = model.settled(known, self.history.rules, given_up=False)
        events = {(e.sequence, e.apid) for cs in self.run.brought.values() for c in cs for e in c.events}
        left = {key for key in events - set(self.delivered()) if model.inside(key[0], places)}
        assert len(left) <= decision.withheld + decision.late
        if not decision.late:
            assert len(left) == decision.withheld

    def check_same_again(self, before: Decision, after: Decision) -> None:
        """A downlink processed again gives the same files, late events inside its own spans apart.

        The same files: the same events in them. Of which downlink the copy is can change, when one with a
        lower id has brought its own copy of what was an orphan of another.
        """
        added = set(keys(after)) - set(keys(before))
        assert all(any(a <= sequence <= b for a, b in before.spans) for sequence, _ in added)
        if added:
            assert set(keys(before)) < set(keys(after))
        else:
            assert keys(after) == keys(before)
            assert after.files == before.files
            assert after.spans == before.spans


def live(history: History) -> Ledger:
    """Process a consistent history and check everything that must hold after every step.

    The legacy's rule gives what the model of the legacy gives.
    """
    ledger, beside = Ledger(history), Beside()
    for downlink in history.steps:
        before = ledger.latest.get(downlink)
        decision = ledger.step(downlink)
        ledger.check()
        ledger.check_nothing_left(decision)
        explained.check(ledger.run)
        if before is not None:
            ledger.check_same_again(before, decision)
        assert beside.process(downlink, ledger.run.brought) == []
    return ledger


def live_oddly(history: History) -> None:
    """Process a history that contradicts itself: the library agrees, and nothing is delivered twice."""
    ledger = Ledger(history)
    for downlink in history.steps:
        ledger.step(downlink)
        ledger.check()
        explained.check(ledger.run, odd=True)


@dataclass(frozen=True)
class Policy:
    """What holds at one step: `min_events`, whether a loss is accepted, and who is released before it."""

    min_events: int
    accept: bool
    release: str | None


def live_with_policies(history: History, policies: Sequence[Policy]) -> None:
    """Process a history while people change their minds: what Level-1 may have is never given to it twice.

    Level-1 may have every event that any delivery held, but for what a release says that it has not.
    """
    ledger = Ledger(history)
    level1: dict[str, list[set[Key]]] = {}
    for downlink, policy in zip(history.steps, policies, strict=True):
        if policy.release in level1:
            ledger.run.release(policy.release)
            level1[policy.release] = level1[policy.release][-1:]
        ledger.run.rules = replace(history.rules, min_events=policy.min_events)
        before, state = ledger.latest.get(downlink), (dict(ledger.run.brought), list(ledger.run.lines))
        try:
            decision = ledger.step(downlink, accept=policy.accept)
        except RefusedError:
            assert (ledger.run.brought, ledger.run.lines) == state, "nothing is changed"
            assert before is not None
            continue
        ledger.check()
        level1.setdefault(downlink, []).append(set(keys(decision)))
        for other, deliveries in level1.items():
            taken = set().union(*deliveries) if other != downlink else set()
            assert taken.isdisjoint(keys(decision)), f"twice: {downlink} and {other}"
        if before is not None and not policy.accept:
            gone = [key for key in keys(before) if key not in set(keys(decision))]
            alone = {first for first, last in before.spans if first == last}
            assert (
                all(sequence in alone for sequence, _ in gone)
                or ledger.run.brought[downlink] != state[0][downlink]
            )


def live_in_two_orders(history: History, other: Sequence[str]) -> None:
    """Process a history of two EPUs, then its downlinks in another order: the same is delivered."""
    one = live(history)
    two = live(replace(history, steps=tuple(other)))
    assert sorted(one.delivered()) == sorted(two.delivered())
    assert all(decision.late == 0 for decision in [*one.latest.values(), *two.latest.values()])


@st.composite
def two_orders(draw: st.DrawFn) -> tuple[History, tuple[str, ...]]:
    """Draw a history of two EPUs that withholds nothing, and another order of its downlinks."""
    history = draw(histories(apids=(956, 957), min_events=(0, 1), min_epus=(2,)))
    return history, tuple(draw(st.permutations(sorted(history.contents))))


@st.composite
def histories_with_policies(draw: st.DrawFn) -> tuple[History, tuple[Policy, ...]]:
    """Draw a history that contradicts itself, and what people decide at each of its steps."""
    history = draw(histories(odd=True))
    downlinks = [None, None, None, *sorted(history.contents)]
    policies = st.builds(
        Policy,
        st.sampled_from([history.rules.min_events, history.rules.min_events, 1, 2, 3, 4]),
        st.booleans(),
        st.sampled_from(downlinks),
    )
    steps = len(history.steps)
    return history, tuple(draw(st.lists(policies, min_size=steps, max_size=steps)))


STRATEGIES: dict[str, tuple[st.SearchStrategy[Any], Callable[[Any], object]]] = {
    "consistent": (histories(), live),
    "odd": (histories(odd=True), live_oddly),
    "with policies": (histories_with_policies(), lambda pair: live_with_policies(*pair)),
    "two orders": (two_orders(), lambda pair: live_in_two_orders(*pair)),
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
