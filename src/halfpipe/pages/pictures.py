"""The picture of a run: the sequences of its events that arrived, are settled, were delivered, or wait.

The template ``picture.svg`` draws it, with x in percent, so that it fits phones and large screens. The same input gives
the same bytes.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import NamedTuple

import numpy as np

from halfpipe.formats import met as met_of
from halfpipe.ids import RunId, RunKind
from halfpipe.merge.intervals import HIGHEST, LOWEST, Interval, intersect, join, subtract
from halfpipe.merge.settle import Segment, settled
from halfpipe.merge.undelivered import NotDelivered
from halfpipe.notify.submissions import submissions
from halfpipe.pages.rendering import render
from halfpipe.status.explanation import KINDS, REFUSED, State, together
from halfpipe.status.survey import Survey
from halfpipe.words import SIMULATED, count, utc

EDGE = 3.0  # percent of the width, on both sides of the known sequences
LEAST = 0.25  # percent; even the shortest interval is visible
TICKS = 5
MOST_LINES = 6
LETTERS = 140  # text below the picture in a file
# The kinds of bars, which are classes in the template. Undelivered events have the kinds in `WAITING`.
ARRIVED = "arrived"
MISSING = "missing"
AGAIN = "again"
SETTLED = "settled"
STAGED = "staged"
SUBMITTED = "submitted"
LEGEND = {MISSING: "missing: events may still arrive here", AGAIN: "arrived again"}
WAITING = {
    NotDelivered.WAITING: "waiting for missing data",
    NotDelivered.WITHHELD: "withheld: too few for a file",
    NotDelivered.LATE: "late: arrived after the delivery",
    NotDelivered.CLOSED: "closed: delivered before, and not now",
    NotDelivered.DUE: "due: in the next delivery",
    REFUSED: "refused: Level-1 would not accept the run",
}


class Bar(NamedTuple):
    """A rectangle: its class in the template, its left edge and width in percent, and the downlink to name on it."""

    kind: str
    left: float
    width: float
    downlink: str = ""


class Lane(NamedTuple):
    """A line of a picture: its label, and its bars; later bars cover earlier ones."""

    label: str
    bars: Sequence[Bar]


class Tick(NamedTuple):
    """A place on the axis, in percent: its sequence, and the time there if events are known."""

    at: float
    lines: Sequence[str]


@dataclass(frozen=True)
class Picture:
    """What the template draws; `axis` explains the ticks, and `sentences` describe the picture."""

    title: str
    sentences: Sequence[str]
    axis: str
    lanes: Sequence[Lane]
    ticks: Sequence[Tick]

    @property
    def legend(self) -> dict[str, str]:
        """The text of each kind of bar that has no label of its own."""
        shown = {bar.kind for lane in self.lanes for bar in lane.bars}
        return {kind: text for kind, text in LEGEND.items() if kind in shown}


@dataclass(frozen=True)
class Scale:
    """Converts sequences to percent of the width; `first` and `last` are the first and last known sequences."""

    first: int
    last: int

    def at(self, sequence: int) -> float:
        """Return the place of a sequence."""
        # Sequences have 64 bits, so they are subtracted before floats are used.
        place = EDGE + (100 - 2 * EDGE) * ((sequence - self.first) / max(1, self.last - self.first))
        return round(min(max(place, 0.0), 100.0), 2)

    def bars(self, kind: str, intervals: Iterable[Interval], downlink: str = "") -> list[Bar]:
        """Return the bars of intervals; the widest one names the downlink."""
        ends = [(self.at(first), self.at(last)) for first, last in intervals]
        widest = max(ends, key=lambda both: both[1] - both[0], default=None)
        return [
            Bar(kind, left, round(max(right - left, LEAST), 2), downlink if (left, right) == widest else "")
            for left, right in ends
        ]


def run_picture(survey: Survey, run: RunId) -> bytes:
    """Return the picture of a run as an SVG file, with a title and a description for screen readers.

    Raises
    ------
    HalfPipeError
        If the run is unknown, or its files are damaged.
    """
    drawn = picture(survey, run)
    below = [line for one in drawn.sentences for line in wrap(one, LETTERS)]
    if len(below) > MOST_LINES:
        below[MOST_LINES:] = ["…"]
    simulated = [SIMULATED] if survey.settings.is_simulated else []
    return render("picture.svg", {"picture": drawn, "below": [*below, *simulated], "simulated": simulated})


def picture(survey: Survey, run: RunId) -> Picture:
    """Return what the picture of a run shows; errors as for `run_picture`."""
    state = State(survey, run)
    known = state.known.sequence
    edges = {int(known[0]), int(known[-1])} if len(known) else set()
    edges |= {edge for of_apid in state.segments.values() for one in of_apid for edge in one.covers or ()}
    edges |= {edge for *_, last in state.recorded.values() for span in last.spans for edge in span}
    edges -= {LOWEST, HIGHEST}
    scale = Scale(min(edges, default=0), max(edges, default=1))
    start = f"the run started {utc(met_of.met_to_unix(run.met))}, MET {run.met}"
    what = (
        "UTC and MET of events, and their sequences"
        if len(known)
        else "sequences; times are not known, because no events can be read"
    )
    title, sentences = words(state)
    return Picture(
        title, sentences, f"{what}; {start}", list(_lanes(state, scale)), list(_ticks(state, scale))
    )


def words(state: State) -> tuple[str, list[str]]:
    """Return the title of the picture, and its description in sentences."""
    books = state.survey.books(state.run).books
    run = state.run
    parts = [f"{count(books.delivered, 'event')} staged"] if books else []
    if not state.unread:
        parts += [f"{state.count(kind):,} {kind}" for kind in KINDS if state.count(kind)]
    else:
        parts.append(
            f"{books.all_waiting:,} waiting at the last merge" if books else "waiting events unknown"
        )
    described = []
    for alike in together(state.groups):
        events = " and ".join(f"{count(group.events, 'event')} of EPU {group.apid}" for group in alike)
        described.append(f"{events} {alike[0].kind}. {' '.join(alike[0].why[:2])}")
    title = f"Run {run} ({run.l1}, {RunKind.of(state.segments)}): {', '.join(parts)}"
    return title, described or ["All known events are staged."]


def _lanes(state: State, scale: Scale) -> Iterator[Lane]:
    datagrams = {dl: known.segments() for dl, known in state.datagrams.items()}
    for apid, segments in state.segments.items():
        arrived = _covers(segments)
        bars = scale.bars(MISSING, subtract([Interval(LOWEST, HIGHEST)], arrived))
        bars += scale.bars(ARRIVED, arrived)
        before = tuple[Interval, ...]()
        again: list[Bar] = []
        for downlink in state.downlinks:
            brought = _covers(datagrams[downlink].get(apid, ()))
            bars += scale.bars(ARRIVED, subtract(brought, before), downlink)
            again += scale.bars(AGAIN, intersect(brought, before))
            before = join([*before, *brought])
        yield Lane(f"EPU {apid}: events that arrived", [*bars, *again])
    places = scale.bars(SETTLED, settled(state.segments, state.settings.merge.min_epus))
    yield Lane("settled: no more events can arrive", places)
    delivered = [(dl, last) for dl, (*_, last) in state.recorded.items() if last.spans]
    for downlink, last in sorted(delivered, key=lambda one: one[1].spans[0]):
        told = submissions(state.work, downlink).last_confirmed
        kind = SUBMITTED if told and told.handoff >= (last.handoff or 0) else STAGED
        where = "submitted to Level-1" if kind == SUBMITTED else "staged, not submitted"
        yield Lane(f"{where} · {downlink}: {count(last.events, 'event')}", scale.bars(kind, last.spans))
    for kind, label in WAITING.items():
        if found := [Interval(group.first, group.last) for group in state.groups if group.kind == kind]:
            yield Lane(f"{label}: {count(state.count(kind), 'event')}", scale.bars(kind, found))


def _covers(segments: Sequence[Segment]) -> tuple[Interval, ...]:
    return join(one.covers for one in segments if one.covers)


def _ticks(state: State, scale: Scale) -> Iterator[Tick]:
    known = state.known
    sequences = known.sequence
    first, last = (int(sequences[place]) for place in (0, -1)) if len(known) else (scale.first, scale.last)
    since = (sequences - np.uint64(first)).astype(np.float64)
    for part in range(TICKS):
        sequence = first + (last - first) * part // (TICKS - 1)
        lines = [f"{sequence:,}".replace(",", " ")]
        if len(known):
            unix = float(np.interp(sequence - first, since, known.utc))
            lines = [f"{met_of.utc_datetime(unix):%H:%M:%S}", f"MET {met_of.unix_to_met(unix):.0f}", *lines]
        yield Tick(scale.at(sequence), lines)
