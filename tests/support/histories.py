"""Random histories of a run, drawn by hypothesis: what the instrument made, and how it arrives."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tests.support.model import Chunk, Datagram, Event, Rules

EXAMPLES = 25
LONG_EXAMPLES = 20_000

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
            line = datagram
            some = events
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
