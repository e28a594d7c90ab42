"""The picture of a run: the sequences of its events that arrived, are settled, were delivered, or wait.

Each color has one meaning. The palette of Okabe and Ito is safe for color-blind readers, and hatching distinguishes the
marks in gray prints. The same input gives the same bytes: no clock and no random names.
"""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from textwrap import wrap
from typing import Any, NamedTuple

import numpy as np

from halfpipe.downlink.submissions import submissions
from halfpipe.formats import met as met_of
from halfpipe.ids import RunId, RunKind
from halfpipe.merge.intervals import HIGHEST, LOWEST, Interval, intersect, join, subtract
from halfpipe.merge.settle import Segment, settled
from halfpipe.merge.undelivered import NotDelivered
from halfpipe.status.explanation import KINDS, REFUSED, State, together
from halfpipe.status.survey import Survey
from halfpipe.words import SIMULATED, count

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
WINE = "#882255"  # from the palette of Paul Tol
GREY, LIGHT, DARK = "#8C8C8C", "#D9D9D9", "#595959"
# By the last digit of the APID, for LPA (955-958) and LCI (965-968).
EPU_COLORS = {5: GREEN, 6: BLUE, 7: ORANGE, 8: SKY}
BAR_HEIGHT = 0.54  # as a fraction of a lane
MOST_LINES, LETTERS = 6, 118  # text below the picture
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "halfpipe",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "hatch.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xaxis.labellocation": "left",
    "path.simplify": True,
}
Axes = Any  # a class of matplotlib, which takes half a second to load


class Mark(NamedTuple):
    """How an interval of one kind is drawn, and its text in the legend."""

    label: str
    facecolor: str
    edgecolor: str = BLACK
    hatch: str = ""
    linewidth: float = 0.6


class Lane(NamedTuple):
    """A line of a picture: its label, and its intervals of sequences by mark."""

    label: str
    intervals: Mapping[Mark, Sequence[Interval]]


MISSING = Mark("missing: events may still arrive here", "white", GREY, "////")
REPEATED = Mark("arrived again", "white", BLACK, "\\\\\\\\")
SETTLED = Mark("settled: no more events can arrive", LIGHT, LIGHT)
STAGED = Mark("staged for Level-1, not submitted", "#A6A6A6", DARK)
SUBMITTED = Mark("submitted to Level-1", DARK, DARK)
NOT_DELIVERED: Mapping[str, Mark] = {
    NotDelivered.WAITING: Mark("waiting for missing data", VERMILION, "white", "////"),
    NotDelivered.WITHHELD: Mark("withheld: too few for a file", YELLOW, BLACK, "xxxx"),
    NotDelivered.LATE: Mark("late: arrived after the delivery", PURPLE, BLACK, "---"),
    NotDelivered.DUE: Mark("due: in the next delivery", WINE, "white", "++"),
    REFUSED: Mark("refused: Level-1 would not accept the run", "white", "#C00000", "||||"),
}


def run_picture(survey: Survey, run: RunId) -> bytes:
    """Return the picture of a run as SVG, with a title and a description for screen readers.

    Raises
    ------
    HalfPipeError
        If the run is unknown, or its files are damaged.
    """
    import matplotlib as mpl  # noqa: PLC0415 - takes half a second
    from matplotlib.figure import Figure  # noqa: PLC0415 - as above
    from matplotlib.patches import Patch  # noqa: PLC0415 - as above

    state = State(survey, run)
    lanes, view = list(_lanes(state)), _view(state)
    title, sentences = words(state)
    below = [line for one in sentences for line in wrap(one, LETTERS)]
    if len(below) > MOST_LINES:
        below[MOST_LINES:] = ["…"]
    simulated = [SIMULATED] if survey.settings.is_simulated else []
    with mpl.rc_context(STYLE):
        tall = 0.33 * len(lanes) + 2.1 + 0.17 * len(below + simulated)
        figure = Figure(figsize=(10, tall), layout="constrained")
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
        axes = figure.subplots()
        _draw_lanes(axes, lanes, view)
        _draw_times(axes, state, view)
        axes.set_xlabel("\n".join(["sequence of events", *below, *simulated]))
        marks = dict.fromkeys(mark for lane in lanes for mark, shown in lane.intervals.items() if shown)
        figure.legend(
            handles=[Patch(**mark._asdict()) for mark in marks],
            loc="outside lower left",
            ncols=3,
            frameon=False,
            handlelength=2.6,
            handleheight=1.2,
        )
        return _content(figure, title, " ".join([*sentences, *simulated]))


def _content(figure: Any, title: str, description: str) -> bytes:
    """Return a figure as SVG with its title and description."""
    out = io.BytesIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    head, opening, rest = out.getvalue().decode().partition("<svg ")
    attributes, end, body = rest.partition(">")
    # Smaller digits than hundredths of a point are invisible. Without them and line breaks, the file is half as large.
    body = re.sub(r'(?<=[ "(-])(\d+\.\d\d)\d+', r"\1", body)
    body = re.sub(r"\n(?=[MLQCz])|(?<=z)\n(?=\")", " ", body)
    return (
        f'{head}{opening}role="img" aria-labelledby="title description" {attributes}{end}\n'
        f'<title id="title">{escape(title)}</title>\n<desc id="description">{escape(description)}</desc>{body}'
    ).encode()


def words(state: State) -> tuple[str, list[str]]:
    """Return the title of the picture, and its description in sentences."""
    books, run = state.now.books, state.run
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


def _view(state: State) -> Interval:
    """Return the sequences to show: from the first to the last known one."""
    edges = set(state.known["sequence"][[0, -1]].tolist() if len(state.known) else ())
    for of_apid in state.segments.values():
        edges.update(edge for one in of_apid for edge in one.covers or ())
    edges -= {LOWEST, HIGHEST}
    return Interval(min(edges, default=0), max(edges, default=1))


def _lanes(state: State) -> Iterator[Lane]:
    datagrams = {dl: known.segments() for dl, known in state.datagrams.items()}
    for apid, segments in state.segments.items():
        holes = subtract([Interval(LOWEST, HIGHEST)], _covers(segments))
        mark, before = Mark(f"EPU {apid}: events that arrived", EPU_COLORS[apid % 10]), tuple[Interval, ...]()
        for downlink in state.downlinks:
            if arrived := _covers(datagrams[downlink].get(apid, ())):
                repeated = intersect(arrived, before)
                yield Lane(f"EPU {apid} · {downlink}", {MISSING: holes, mark: arrived, REPEATED: repeated})
                before = join([*before, *arrived])
    yield Lane("settled", {SETTLED: settled(state.segments, state.settings.merge.min_epus)})
    for downlink, (*_, last) in state.recorded.items():
        if last.spans:
            confirmed = submissions(state.work, downlink).last_confirmed
            submitted = confirmed is not None and confirmed.handoff >= (last.handoff or 0)
            mark, name = (SUBMITTED, "submitted") if submitted else (STAGED, "staged")
            yield Lane(f"{name} · {downlink}: {last.events:,}", {mark: last.spans})
    for kind, mark in NOT_DELIVERED.items():
        if found := [Interval(group.first, group.last) for group in state.groups if group.kind == kind]:
            yield Lane(f"{kind}: {state.count(kind):,}", {mark: found})


def _covers(segments: Sequence[Segment]) -> tuple[Interval, ...]:
    return join(one.covers for one in segments if one.covers)


def _draw_lanes(axes: Axes, lanes: Sequence[Lane], view: Interval) -> None:
    """Draw lanes from the top; even the shortest interval is visible."""
    width = max(1, view.last - view.first)
    left, right, least = -0.03 * width, 1.03 * width, width / 400
    for row, lane in enumerate(lanes):
        for mark, intervals in lane.intervals.items():
            # Sequences have 64 bits, so they are subtracted before floats are used.
            ends = [(max(a - view.first, left), min(b - view.first, right)) for a, b in intervals]
            bars = [(begin, max(end - begin, least)) for begin, end in ends if begin <= end]
            axes.broken_barh(bars, (-row - BAR_HEIGHT / 2, BAR_HEIGHT), **mark._replace(label="")._asdict())
    axes.set_xlim(left, right)
    axes.set_yticks([-row for row in range(len(lanes))], [lane.label for lane in lanes])
    axes.set_ylim(-len(lanes) + 0.4, 0.6)
    axes.tick_params(axis="y", length=0)


def _draw_times(axes: Axes, state: State, view: Interval) -> None:
    """Draw the sequences below the lanes, and their times above."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator  # noqa: PLC0415 - takes half a second

    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{view.first + round(x):,}".replace(",", " ")))
    start = f"the run started {met_of.utc_datetime(met_of.met_to_unix(state.run.met)):%Y-%m-%d %H:%M:%S} UTC"
    known = state.known
    if not len(known):
        axes.set_title(f"no events are known; {start}, MET {state.run.met}", loc="left", fontsize=10)
        return
    at = (known["sequence"] - np.uint64(view.first)).astype(np.float64)
    ticks = np.linspace(at[0], at[-1], 6)
    times = np.interp(ticks, at, known["utc"]).tolist()
    above = axes.secondary_xaxis("top")
    labels = [f"{met_of.utc_datetime(time):%H:%M:%S}\nMET {met_of.unix_to_met(time):.0f}" for time in times]
    above.set_xticks(ticks, labels, fontsize=8)
    above.set_xlabel(f"time of events, UTC and MET; {start}")
