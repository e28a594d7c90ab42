"""The picture of a run: what came of each EPU, what is settled, what was delivered by whom, and what was not."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import cycle
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from halfpipe.formats import met as met_of
from halfpipe.ids import RunId, RunKind
from halfpipe.merge.intervals import HIGHEST, LOWEST, Interval, intersect, join, subtract
from halfpipe.merge.settle import Segment, settled
from halfpipe.merge.undelivered import Kind, What, missing_at
from halfpipe.pages.drawn import (
    BLACK,
    GREEN,
    GREY,
    LIGHT,
    OF_EPU,
    PURPLE,
    STYLE,
    VERMILION,
    YELLOW,
    Mark,
    bars,
    content,
    legend,
    simulated,
)
from halfpipe.run.datagrams import load_datagrams
from halfpipe.run.event_table import load_events
from halfpipe.status.explanation import HELD, Explained, OfRun, Site, State, explain
from halfpipe.words import count

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BINS = 120
_BLOCK = 1 << 17  # events looked at at a time
MOST_TICKS = 300  # of datagrams, in all lanes
MOST_LABELS = 12
HEIGHT = 0.54  # of a lane
MOST_LINES = 7

KINDS: Mapping[str, str] = {RunKind.LPA: "physics", RunKind.LCI: "calibration"}
MISSING = Mark("missing: events may still come here", "white", GREY, "////")
AGAIN = Mark("came again", "white", BLACK, "\\\\\\\\")
SETTLED = Mark("settled: no more events can come", LIGHT, LIGHT)
DELIVERED = Mark("delivered to Level-1", "#595959", "#595959")
NOT_DELIVERED: Mapping[str, tuple[str, Mark]] = {
    Kind.ORPHAN: ("waiting", Mark("waiting for missing data", VERMILION, "white", "////")),
    Kind.WITHHELD: ("withheld", Mark("withheld: too few for a file", YELLOW, BLACK, "xxxx")),
    Kind.LATE: ("late", Mark("late: came after the delivery", PURPLE, BLACK, "---")),
    Kind.DUE: ("due", Mark("due: the next delivery takes them", GREEN, BLACK, "++")),
    HELD: ("held", Mark("held: Level-1 would refuse the run", "white", "#C00000", "||||")),
}


@dataclass(frozen=True)
class Rates:
    """Events over a run, in bins of sequences.

    `edges` are sequences, `times` Unix seconds (the mean of each bin, NaN without events), `rates` events per second
    by APID.
    """

    edges: NDArray[np.float64]
    times: NDArray[np.float64]
    rates: Mapping[int, NDArray[np.float64]]


def picture(site: Site, run: RunId, kind: str, note: str = "") -> bytes:
    """Return the picture of a run; `kind` is ``svg`` or ``png``, `note` what stands below it.

    Raises
    ------
    MissingInputError, HalfPipeError
        As `halfpipe.status.explanation.explain`; or if there is no such kind of picture.
    """
    import matplotlib as mpl  # noqa: PLC0415 - takes half a second

    state, told, note = State(site, run), explain(site, run), note or simulated(site.settings)
    title, described = words(told)
    with mpl.rc_context(STYLE):
        return content(_figure(state, told, title, described, note), kind, title, " ".join(described))


def words(told: OfRun) -> tuple[str, list[str]]:
    """Return the title of the picture, and its description in sentences."""
    parts = [f"{count(told.delivered, 'event')} delivered"]
    for kind, (says, _) in NOT_DELIVERED.items():
        parts += [f"{told.events(kind):,} {says}"] if told.events(kind) else []
    title = f"Run {told.run} ({told.l1_run}, {told.kind}: {KINDS[told.kind]}): {', '.join(parts)}"
    alike: dict[tuple[str, str], list[str]] = {}
    for group in told.groups:
        of = f"{count(group.events, 'event')} of EPU {group.apid}"
        alike.setdefault((NOT_DELIVERED[group.kind][0], " ".join(group.why[:2])), []).append(of)
    described = [f"{' and '.join(several)} {says}. {why}" for (says, why), several in alike.items()]
    if told.repeated:
        described.append(f"{count(told.repeated, 'event')} came more than once and went out once.")
    return title, described or ["All events that are known are delivered."]


def _figure(state: State, told: OfRun, title: str, described: Sequence[str], note: str) -> "Figure":
    from matplotlib.figure import Figure  # noqa: PLC0415

    lanes = list(_lanes(state, told))
    view = _view(state)
    said = [line for one in described for line in wrap(one, 118)]
    if len(said) > MOST_LINES:
        said = [*said[: MOST_LINES - 1], f"and more: halfpipe explain {state.run}"]
    height = 2.9 + 0.3 * len(lanes) + 0.17 * len(said)
    figure = Figure(figsize=(10, height), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    top, below = figure.subplots(2, 1, height_ratios=[0.34 * len(lanes) + 0.3, 1.0], sharex=True)
    base = view.first
    width = max(1, view.last - view.first)
    top.set_xlim(-0.03 * width, 1.03 * width)
    marks = _draw_lanes(top, state, lanes, base)
    rates = _rates(state, view)
    _draw_rates(below, rates, base)
    _time_axis(top, rates, state.run)
    below.set_xlabel(f"sequence of events\n{chr(10).join([*said, *([note] if note else [])])}", loc="left")
    legend(figure, marks)
    return figure


@dataclass(frozen=True)
class _Lane:
    """A line of the picture: its label, what is drawn in it, and the first sequences of its datagrams."""

    label: str
    parts: tuple[tuple[Mark, tuple[Interval, ...]], ...]
    apid: int | None = None
    begins: tuple[int, ...] = ()


def _lanes(state: State, told: OfRun) -> Iterator[_Lane]:
    by_downlink = {dl: load_datagrams(state.work, state.run, dl) for dl in state.downlinks}
    for apid in state.segments:
        before: tuple[Interval, ...] = ()
        mark = Mark(f"EPU {apid}: events that came", OF_EPU[apid % 10])
        for downlink in state.downlinks:
            brought = _covers(by_downlink[downlink].segments().get(apid, ()))
            if brought:
                lines = by_downlink[downlink].by_apid()[apid]
                begins = tuple(lines["evtseq0"][lines["nevts"] > 0].tolist())
                again = intersect(brought, before)
                before = join([*before, *brought])
                yield _Lane(f"EPU {apid} · {downlink}", ((mark, brought), (AGAIN, again)), apid, begins)
    yield _Lane("settled", ((SETTLED, settled(state.segments, state.site.settings.merge.min_epus)),))
    for downlink, records in state.recorded.items():
        if records[-1].spans:
            events = records[-1].events
            yield _Lane(f"delivered · {downlink}: {events:,}", ((DELIVERED, records[-1].spans),))
    for kind, (says, mark) in NOT_DELIVERED.items():
        groups = [group for group in told.groups if group.kind == kind]
        if groups:
            label = f"{says}: {sum(group.events for group in groups):,}"
            yield _Lane(label, ((mark, tuple(_stretch(group) for group in groups)),))


def _stretch(group: Explained) -> Interval:
    return Interval(group.first, group.last)


def _covers(segments: Sequence[Segment]) -> tuple[Interval, ...]:
    return join(one.covers for one in segments if one.covers)


def _view(state: State) -> Interval:
    """Return the sequences that are shown: all at which anything is known."""
    edges = {int(edge) for edge in state.known["sequence"][[0, -1]]} if len(state.known) else set()
    edges |= {
        edge
        for of_apid in state.segments.values()
        for one in of_apid
        if one.covers
        for edge in one.covers
        if edge not in {LOWEST, HIGHEST}
    }
    return Interval(min(edges, default=0), max(edges, default=1))


def _draw_lanes(axes: "Axes", state: State, lanes: Sequence[_Lane], base: int) -> list[Mark]:
    marks: list[Mark] = []
    left, right = axes.get_xlim()

    def shown(stretches: Sequence[Interval]) -> list[tuple[float, float]]:
        # Numbers of 64 bits: the difference first.
        return [(max(left, float(a - base)), min(right, float(b - base))) for a, b in stretches]

    for apid, of_apid in state.segments.items():
        rows = [n for n, lane in enumerate(lanes) if lane.apid == apid]
        if not rows:
            continue
        holes = subtract([Interval(max(0, int(left) + base - 1), int(right) + base + 1)], _covers(of_apid))
        if holes:
            bars(axes, -sum(rows) / len(rows), len(rows) - 1 + HEIGHT, shown(holes), MISSING)
            marks.append(MISSING)
        _label(axes, [(_missing(apid, of_apid, hole), *shown([hole])[0]) for hole in holes], -rows[0] + 0.44)
    for number, lane in enumerate(lanes):
        for mark, stretches in lane.parts:
            if stretches:
                bars(axes, -number, HEIGHT, shown(stretches), mark)
                marks.append(mark)
    _datagram_edges(axes, lanes, base)
    axes.set_yticks([-n for n in range(len(lanes))], [lane.label for lane in lanes])
    axes.set_ylim(-len(lanes) + 0.4, 0.75)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelbottom=False)
    if any(lane.label.startswith("held") for lane in lanes):
        for spine in axes.spines.values():
            spine.set(color="#C00000", linewidth=2.5, visible=True)
    return marks


def _datagram_edges(axes: "Axes", lanes: Sequence[_Lane], base: int) -> None:
    """Draw where the datagrams of each EPU begin, if there are so few that they can be seen."""
    begins = [(row, lane.begins) for row, lane in enumerate(lanes)]
    if sum(len(of_lane) for _, of_lane in begins) > MOST_TICKS:
        return
    for row, of_lane in begins:
        xs = np.repeat([float(begin - base) for begin in of_lane], 3)
        ys = np.tile([-row - HEIGHT / 2, -row + HEIGHT / 2, np.nan], len(of_lane))
        axes.plot(xs, ys, color="white", linewidth=0.5)


def _missing(apid: int, segments: Sequence[Segment], hole: Interval) -> str:
    """Say in a word or two what is missing of an EPU in a hole."""
    said = []
    for lack in missing_at({apid: segments}, 0, (hole.first + hole.last) // 2):
        if lack.what is What.DATAGRAMS:
            said.append(str(lack.first) if lack.first == lack.last else f"{lack.first}-{lack.last}")
        elif lack.what in {What.START, What.END}:
            said.append(str(lack.what))
    return ", ".join(said)


def _label(axes: "Axes", holes: Sequence[tuple[str, float, float]], y: float) -> None:
    """Write above holes (what is missing, begin, end) of an EPU what is missing; those that are close share a label."""
    left, right = axes.get_xlim()
    letter = (right - left) / 150
    labels: list[tuple[str, float, float]] = []
    for said, begin, end in holes:
        if said and labels and begin - labels[-1][2] < letter * (len(said) + 20):
            before = labels.pop()
            labels.append((f"{before[0]}, {said}", before[1], end))
        elif said:
            labels.append((said, begin, end))
    for said, begin, end in labels[:MOST_LABELS]:
        word = ("datagram " if said.isdigit() else "datagrams ") if said[0].isdigit() else ""
        text = f"{word}{said} missing"
        middle, half = (begin + end) / 2, letter * len(text) / 2
        x = min(max(middle, left + half), right - half)
        axes.text(x, y, text, ha="center", va="center", fontsize=7.5)


def _rates(state: State, view: Interval) -> Rates:
    """Count the events of each EPU in bins of sequences, with their times."""
    edges = np.linspace(0, max(1, view.last - view.first + 1), BINS + 1)
    apids = list(state.segments)
    counts = {apid: np.zeros(BINS) for apid in apids}
    sums, first, last = np.zeros(BINS), np.full(BINS, np.inf), np.full(BINS, -np.inf)
    there = [dl for dl in state.downlinks if dl not in state.unread]
    for number, downlink in enumerate(there):
        table = load_events(state.work, state.run, downlink)
        rows = np.flatnonzero(state.known["source"] == number)
        for begin in range(0, len(rows), _BLOCK):
            events = table.events[state.known["row"][rows[begin : begin + _BLOCK]]]
            place = (events["sequence"] - np.uint64(view.first)).astype(np.float64)
            bins = np.clip((place / edges[-1] * BINS).astype(np.int64), 0, BINS - 1)
            np.add.at(sums, bins, events["utc"])
            np.minimum.at(first, bins, events["utc"])
            np.maximum.at(last, bins, events["utc"])
            for apid in apids:
                counts[apid] += np.bincount(bins[events["apid"] == apid], minlength=BINS)
    every = np.sum(list(counts.values()), axis=0) if counts else np.zeros(BINS)
    times = np.divide(sums, every, out=np.full(BINS, np.nan), where=every > 0)
    took = np.where(last > first, last - first, np.nan)
    # Of n events at the ends of a time, n - 1 steps lie in it.
    scale = np.divide(every - 1, every * took, out=np.full(BINS, np.nan), where=every > 1)
    return Rates(edges + 0.0, times, {apid: counts[apid] * scale for apid in apids})


def _draw_rates(axes: "Axes", rates: Rates, base: int) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator  # noqa: PLC0415

    styles = ("-", "--", "-.", ":")
    for (apid, values), style in zip(rates.rates.items(), cycle(styles), strict=False):
        colour = OF_EPU[apid % 10]
        axes.stairs(
            np.round(values, 3),
            rates.edges,
            color=colour,
            linestyle=style,
            linewidth=1.4,
            label=f"EPU {apid}",
        )
    if np.isnan(rates.times).all():
        axes.text(0.5, 0.5, "no events are known", transform=axes.transAxes, ha="center", va="center")
    else:
        axes.legend(loc="lower right", bbox_to_anchor=(1, 0.95), ncols=4, frameon=False, fontsize=8)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("events / s")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{base + round(x):,}".replace(",", " ")))


def _time_axis(axes: "Axes", rates: Rates, run: RunId) -> None:
    """Write times above the sequences."""
    good = np.flatnonzero(~np.isnan(rates.times))
    if not len(good):
        axes.set_title(
            f"started {met_of.utc(met_of.met_to_unix(run.met)):%Y-%m-%d %H:%M:%S} UTC, MET {run.met}"
        )
        return
    middles = (rates.edges[:-1] + rates.edges[1:]) / 2
    ticks = [
        middles[n] for n in np.unique(good[np.linspace(0, len(good) - 1, min(6, len(good))).astype(int)])
    ]
    times = [float(np.interp(tick, middles[good], rates.times[good])) for tick in ticks]
    over = axes.secondary_xaxis("top")
    over.set_xticks(
        ticks, [f"{met_of.utc(t):%H:%M:%S}\nMET {met_of.unix_to_met(t):.0f}" for t in times], fontsize=8
    )
    start: datetime = met_of.utc(met_of.met_to_unix(run.met))
    over.set_xlabel(f"time of events, UTC and MET; the run started {start:%Y-%m-%d %H:%M:%S} UTC", loc="left")
