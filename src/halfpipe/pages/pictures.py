"""Pictures: of a downlink its chunks by the times of their data; of a run what came, is settled, and was delivered.

In a picture a colour means one thing. They are those of Okabe and Ito, which the colour-blind tell apart; what means
something has a hatching besides, for whoever prints it in grey. The same input gives the same bytes: no clock and no
random names.
"""

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from html import escape
from itertools import cycle
from textwrap import wrap
from typing import Any

import numpy as np

from halfpipe import paths
from halfpipe.decode.shortfall import missing_hours
from halfpipe.downlink.plan import Plan
from halfpipe.downlink.submissions import Record
from halfpipe.errors import HalfPipeError, MissingInputError
from halfpipe.files.json_files import read_json
from halfpipe.formats import met as met_of
from halfpipe.formats.retdef import RetDef, Span, read_retdef
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.merge.intervals import HIGHEST, LOWEST, Interval, intersect, join, subtract
from halfpipe.merge.settle import Segment, settled
from halfpipe.merge.undelivered import Kind, What, missing_at
from halfpipe.run.datagrams import load_datagrams
from halfpipe.settings import Settings
from halfpipe.status.account import Site, account
from halfpipe.status.explanation import HELD, OfRun, State, explain
from halfpipe.words import SIMULATED, count, shortened

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
WINE = "#882255"  # of Tol, who has one more
GREY, LIGHT, DARK = "#8C8C8C", "#D9D9D9", "#595959"
# By the last two digits of the APID: of LPA, and of LCI, which a downlink may have besides.
OF_EPU = {
    55: GREEN,
    56: BLUE,
    57: ORANGE,
    58: SKY,
    65: "#A6DBC8",
    66: "#A9BFDE",
    67: "#F5D699",
    68: "#C4E4F7",
}
LANE = 0.54  # the height of a bar, of that of its lane
MOST_LINES = 7  # of text below a picture
LETTERS = 118  # of such a line

STYLE: dict[Any, Any] = {
    "svg.hashsalt": "halfpipe",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "hatch.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "xaxis.labellocation": "left",
    "path.simplify": True,
    "timezone": "UTC",
}
Axes = Any  # of matplotlib, which takes half a second to load


def duration(seconds: float) -> str:
    """Return a duration as ``12.0 s``, ``0:14:02`` or ``2 days 3:00:00``."""
    if abs(seconds) < 60:
        return f"{seconds:.1f} s"
    days, rest = divmod(round(seconds), 86400)
    return f"{f'{days} days ' if days else ''}{timedelta(seconds=rest)}"


@dataclass(frozen=True)
class Mark:
    """How one kind of stretch looks, and what the legend says of it."""

    says: str
    colour: str
    edge: str = BLACK
    hatch: str = ""

    def style(self) -> dict[str, Any]:
        """Return it as matplotlib takes it."""
        return {"facecolor": self.colour, "edgecolor": self.edge, "hatch": self.hatch, "linewidth": 0.6}


@dataclass(frozen=True)
class Lane:
    """A line of a picture: its label, stretches (begin, end) of some kinds, and what stands behind it.

    `begins` are where thin white lines part its stretches.
    """

    label: str
    parts: Sequence[tuple[Mark, Sequence[tuple[float, float]]]]
    says: str = ""
    begins: Sequence[float] = ()


def draw_lanes(axes: Axes, lanes: Sequence[Lane]) -> list[Mark]:
    """Draw lanes from the top, inside the limits of the axes, and return the marks for the legend."""
    for row, lane in enumerate(lanes):
        for mark, stretches in lane.parts:
            axes.broken_barh(_bars(axes, stretches), (-row - LANE / 2, LANE), **mark.style())
        uprights(axes, lane.begins, -row - LANE / 2, -row + LANE / 2, color="white", linewidth=0.5)
        axes.text(1.005, -row, lane.says, transform=axes.get_yaxis_transform(), va="center", fontsize=8)
    axes.set_yticks([-row for row in range(len(lanes))], [lane.label for lane in lanes])
    axes.set_ylim(-len(lanes) + 0.4, 0.6)
    axes.tick_params(axis="y", length=0)
    return [mark for lane in lanes for mark, stretches in lane.parts if stretches]


def _bars(axes: Axes, stretches: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return begin and width of stretches within the limits: the shortest can still be seen, none hides another."""
    left, right = axes.get_xlim()
    least = (right - left) / 400
    bars: list[list[float]] = []
    for first, last in stretches:
        begin, end = max(first, left), min(last, right)
        short = max(0.0, least - (end - begin)) / 2
        if end < begin:
            continue
        if bars and begin - short <= bars[-1][1]:
            bars[-1][1] = max(end + short, bars[-1][1])
        else:
            bars.append([begin - short, end + short])
    return [(begin, end - begin) for begin, end in bars]


def uprights(axes: Axes, at: Any, low: Any, high: Any, **style: Any) -> None:
    """Draw upright lines as one path, which is short in an SVG."""
    lows, highs = np.broadcast_to(low, np.shape(at)), np.broadcast_to(high, np.shape(at))
    nothing = np.full(np.shape(at), np.nan)
    axes.plot(np.repeat(at, 3), np.stack([lows, highs, nothing], axis=-1).ravel(), **style)


def drawn(
    settings: Settings,
    title: str,
    sentences: Sequence[str],
    heights: Sequence[float],
    paint: Callable[..., Sequence[Mark]],
) -> bytes:
    """Return a picture as SVG.

    Parameters
    ----------
    settings
        The site's: all its pictures say so where its data are simulated.
    title, sentences
        What stands above and below it; it has them as title and description too, which readers for the blind read out.
    heights
        Of its panels, inches.
    paint
        Draws into the axes of all panels, and returns the marks that the legend explains.
    """
    import matplotlib as mpl  # noqa: PLC0415 - takes half a second
    from matplotlib.figure import Figure  # noqa: PLC0415 - as above
    from matplotlib.patches import Patch  # noqa: PLC0415 - as above

    lines = [line for one in sentences for line in wrap(one, LETTERS)]
    lines = [*lines[: MOST_LINES - 1], "…"] if len(lines) > MOST_LINES else lines
    note = [SIMULATED] * settings.is_simulated
    below = [*lines, *note]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, sum(heights) + 1.5 + 0.17 * len(below)), layout="constrained")
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
        panels = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False).ravel()
        marks = dict.fromkeys(paint(*panels))
        panels[-1].set_xlabel("\n".join([panels[-1].get_xlabel(), *below]))
        figure.legend(
            handles=[Patch(label=mark.says, **mark.style()) for mark in marks],
            loc="outside lower left",
            ncols=3,
            frameon=False,
            handlelength=2.6,
            handleheight=1.2,
        )
        return _content(figure, title, " ".join([*sentences, *note]))


def _content(figure: Any, title: str, description: str) -> bytes:
    """Return a figure, with its title and description."""
    out = io.BytesIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    head, opening, rest = out.getvalue().decode().partition("<svg ")
    attributes, end, body = rest.partition(">")
    # Hundredths of a point nobody sees; without them and breaks in its paths it is half as large.
    body = re.sub(r'(?<=[ "(-])(\d+\.\d\d)\d+', r"\1", body)
    body = re.sub(r"\n(?=[MLQCz])|(?<=z)\n(?=\")", " ", body)
    return (
        f'{head}{opening}role="img" aria-labelledby="title description" {attributes}{end}\n'
        f'<title id="title">{escape(title)}</title>\n<desc id="description">{escape(description)}</desc>{body}'
    ).encode()


MOST_CHUNKS = 40
DAY, HOUR = 86400.0, 3600.0

NOT_DECODED = Mark("announced, not decoded yet", "white", GREY)
MISSING_HOUR = Mark("an hour without data in the archive", "white", VERMILION, "xxx")


def downlink_picture(site: Site, downlink: DownlinkId) -> bytes:
    """Return the picture of a downlink.

    Raises
    ------
    MissingInputError
        If nothing is known of it.
    HalfPipeError
        If what is known is damaged.
    """
    chunks = list(_chunks(site, downlink))
    if not chunks:
        raise MissingInputError(f"nothing is known of downlink {downlink}: it has no RetDefs")
    lanes = [_lane(*each) for each in chunks[:MOST_CHUNKS]]

    def paint(top: Axes) -> list[Mark]:
        more = f" (the first {len(lanes)} of {len(chunks)})" if len(lanes) < len(chunks) else ""
        top.set_title(f"chunks{more}, by the times of their data")
        _time_axis(top, lanes)
        return draw_lanes(top, lanes)

    state = account(Site(site.settings, site.now, site.now), downlink)
    delivered = f", {count(state.events, 'event')} staged, {state.orphans:,} waiting" if state.handoff else ""
    decoded = [(chunk, made) for chunk, _, made in chunks if made]
    sentences = [f"{len(decoded)} of {count(len(chunks), 'chunk')} decoded."]
    sentences += [
        f"Chunk {chunk}: no data of {each['hour']}, APID {each['apid']}."
        for chunk, made in decoded
        for each in missing_hours(made)
    ]
    title, height = f"Downlink {downlink}: {state.state}{delivered}", 0.28 * len(lanes) + 0.6
    return drawn(site.settings, title, sentences, [height], paint)


def _chunks(
    site: Site, downlink: DownlinkId
) -> Iterator[tuple[ChunkId, RetDef | None, Mapping[str, Any] | None]]:
    """Yield each chunk with its RetDef and what vouches for its products; None without them."""
    found = Plan(site.settings).of(downlink)
    for chunk in found.chunks if found.retdefs else ():
        retdef, made = None, None
        with suppress(KeyError, HalfPipeError):
            retdef = read_retdef(found.retdefs[chunk])
        with suppress(MissingInputError):
            made = read_json(site.work / paths.chunk(downlink, chunk))
        yield chunk, retdef, made


def _lane(chunk: ChunkId, retdef: RetDef | None, made: Mapping[str, Any] | None) -> Lane:
    """Return the lane of a chunk; times are days, as matplotlib has them."""
    if retdef is None:
        return Lane(chunk, [], "has no RetDef")
    apids = sorted({span.apid for span in retdef.spans})
    label = f"{chunk} · run {retdef.run} · EPU {', '.join(map(str, apids))}"
    parts = [
        (Mark(f"EPU {apid}", OF_EPU[apid % 100]) if made else NOT_DECODED, _days(retdef, apid))
        for apid in apids
    ]
    if made is None:
        return Lane(label, parts, "not decoded yet")
    hours = missing_hours(made)
    gone = [part for span in retdef.spans for part in _missing_parts(hours, span)]
    seconds = sum(span.end - span.begin for span in retdef.spans)
    events = sum(file.get("events", 0) for file in made["files"])
    size = sum(file["size"] for file in made["files"] if file["kind"] == "evt")
    exceptions = sum(made["said"]["exceptions"].values())
    says = [count(events, "event"), f"{size / 1e6:.1f} MB"]
    says += [f"{events / seconds:.1f} / s"] if seconds else []
    says += [count(exceptions, "exception")] if exceptions else []
    says += [f"{count(len(hours), 'hour')} missing"] if hours else []
    return Lane(label, [*parts, (MISSING_HOUR, gone)], ", ".join(says))


def _days(retdef: RetDef, apid: int) -> list[tuple[float, float]]:
    return [(span.begin / DAY, span.end / DAY) for span in retdef.spans if span.apid == apid]


def _missing_parts(hours: Sequence[Mapping[str, Any]], span: Span) -> Iterator[tuple[float, float]]:
    """Yield the parts of a span in which the archive had nothing, days."""
    gone = {each["hour"] for each in hours if each["apid"] == span.apid}
    hour = span.begin // HOUR * HOUR
    while hour < span.end:
        if any(name.endswith(str(met_of.hour_directory(hour))) for name in gone):
            yield max(hour, span.begin) / DAY, min(hour + HOUR, span.end) / DAY
        hour += HOUR


def _time_axis(axes: Axes, lanes: list[Lane]) -> None:
    from matplotlib.dates import AutoDateLocator, DateFormatter  # noqa: PLC0415 - takes half a second

    times = [at for lane in lanes for _, spans in lane.parts for span in spans for at in span] or [0.0, 1.0]
    margin = max(0.02 * (max(times) - min(times)), 1 / DAY)
    axes.set_xlim(min(times) - margin, max(times) + margin)
    axes.xaxis.set_major_locator(AutoDateLocator(maxticks=8))  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(DateFormatter("%H:%M:%S"))  # type: ignore[no-untyped-call]
    axes.set_xlabel(f"UTC, from {met_of.utc(min(times) * DAY):%Y-%m-%d}")


BINS = 120
MOST_DATAGRAMS = 100  # of a lane, that are parted
MOST_LETTERS = 40  # behind a lane

MISSING = Mark("missing: events may still come here", "white", GREY, "////")
AGAIN = Mark("came again", "white", BLACK, "\\\\\\\\")
SETTLED = Mark("settled: no more events can come", LIGHT, LIGHT)
STAGED = Mark("staged for Level-1, not submitted", "#A6A6A6", DARK)
SUBMITTED = Mark("submitted to Level-1", DARK, DARK)
NOT_DELIVERED: Mapping[str, tuple[str, Mark]] = {
    Kind.ORPHAN: ("waiting", Mark("waiting for missing data", VERMILION, "white", "////")),
    Kind.WITHHELD: ("withheld", Mark("withheld: too few for a file", YELLOW, BLACK, "xxxx")),
    Kind.LATE: ("late", Mark("late: came after the delivery", PURPLE, BLACK, "---")),
    Kind.DUE: ("due", Mark("due: the next delivery takes them", WINE, "white", "++")),
    HELD: ("held", Mark("held: Level-1 would refuse the run", "white", "#C00000", "||||")),
}


def run_picture(site: Site, run: RunId) -> bytes:
    """Return the picture of a run.

    Raises
    ------
    MissingInputError, HalfPipeError
        As `halfpipe.status.explanation.explain`.
    """
    state, told = State(site, run), explain(site, run)
    view = _view(state)
    lanes = list(_lanes(state, told, view))

    def paint(top: Axes, below: Axes) -> list[Mark]:
        width = max(1, view.last - view.first)
        below.sharex(top)
        top.set_xlim(-0.03 * width, 1.03 * width)
        top.tick_params(axis="x", labelbottom=False)
        _draw_rates(top, below, state, view)
        return draw_lanes(top, lanes)

    title, described = words(told)
    return drawn(site.settings, title, described, [0.33 * len(lanes) + 0.6, 1.3], paint)


def words(told: OfRun) -> tuple[str, list[str]]:
    """Return the title of the picture, and its description in sentences."""
    parts = [f"{count(told.delivered, 'event')} staged"]
    for kind, (says, _) in NOT_DELIVERED.items():
        parts += [f"{told.events(kind):,} {says}"] if told.events(kind) else []
    alike: dict[tuple[str, str], list[str]] = {}
    for group in told.groups:
        of = f"{count(group.events, 'event')} of EPU {group.apid}"
        alike.setdefault((NOT_DELIVERED[group.kind][0], " ".join(group.why[:2])), []).append(of)
    described = [f"{' and '.join(several)} {says}. {why}" for (says, why), several in alike.items()]
    if told.repeated:
        described.append(f"{count(told.repeated, 'event')} came more than once and went out once.")
    title = f"Run {told.run} ({told.l1_run}, {told.kind}): {', '.join(parts)}"
    return title, described or ["All events that are known are staged."]


def _view(state: State) -> Interval:
    """Return the sequences that are shown: all at which anything is known."""
    edges = set(state.known["sequence"][[0, -1]].tolist() if len(state.known) else ())
    for of_apid in state.segments.values():
        edges.update(edge for one in of_apid for edge in one.covers or ())
    edges -= {LOWEST, HIGHEST}
    return Interval(min(edges, default=0), max(edges, default=1))


def _lanes(state: State, told: OfRun, view: Interval) -> Iterator[Lane]:
    def shown(stretches: Sequence[Interval]) -> list[tuple[float, float]]:
        # Numbers of 64 bits: the difference first.
        return [(float(first - view.first), float(last - view.first)) for first, last in stretches]

    datagrams = {dl: load_datagrams(state.work, state.run, dl) for dl in state.downlinks}
    for apid, segments in state.segments.items():
        holes = subtract([Interval(LOWEST, HIGHEST)], _covers(segments))
        says = _missing_of_epu(apid, segments, holes)
        before: tuple[Interval, ...] = ()
        mark = Mark(f"EPU {apid}: events that came", OF_EPU[apid % 100])
        for downlink in state.downlinks:
            brought = _covers(datagrams[downlink].segments().get(apid, ()))
            if brought:
                lines = datagrams[downlink].by_apid()[apid]
                begins = [float(int(at) - view.first) for at in lines["evtseq0"][lines["nevts"] > 0]]
                parts = [
                    (MISSING, shown(holes)),
                    (mark, shown(brought)),
                    (AGAIN, shown(intersect(brought, before))),
                ]
                few = begins if len(begins) <= MOST_DATAGRAMS else ()
                yield Lane(f"EPU {apid} · {downlink}", parts, says, few)
                before, says = join([*before, *brought]), ""
    yield Lane("settled", [(SETTLED, shown(settled(state.segments, state.site.settings.merge.min_epus)))])
    for downlink, (*_, last) in state.recorded.items():
        if last.spans:
            told_of = Record(state.work, downlink).last_confirmed
            submitted = told_of is not None and told_of.handoff >= (last.handoff or 0)
            mark, name = (SUBMITTED, "submitted") if submitted else (STAGED, "staged")
            yield Lane(f"{name} · {downlink}: {last.events:,}", [(mark, shown(last.spans))])
    for kind, (name, mark) in NOT_DELIVERED.items():
        stretches = [Interval(group.first, group.last) for group in told.groups if group.kind == kind]
        if stretches:
            yield Lane(f"{name}: {told.events(kind):,}", [(mark, shown(stretches))])


def _covers(segments: Sequence[Segment]) -> tuple[Interval, ...]:
    return join(one.covers for one in segments if one.covers)


def _missing_of_epu(apid: int, segments: Sequence[Segment], holes: Sequence[Interval]) -> str:
    """Say in some words what is missing of an EPU."""
    lacks = [lack for one in holes for lack in missing_at({apid: segments}, 0, (one.first + one.last) // 2)]
    numbers = [
        f"{lack.first}" if lack.first == lack.last else f"{lack.first}-{lack.last}"
        for lack in lacks
        if lack.what is What.DATAGRAMS
    ]
    many = len(numbers) > 1 or "-" in "".join(numbers)
    said = [f"datagram{'s' if many else ''} {', '.join(numbers)} missing"] if numbers else []
    said += [f"{lack.what} missing" for lack in lacks if lack.what in {What.START, What.END}]
    return shortened("\n".join(dict.fromkeys(said)), MOST_LETTERS)


def _draw_rates(top: Axes, axes: Axes, state: State, view: Interval) -> None:
    """Draw the events in a second by EPU, below; and the times of the sequences, on top."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator  # noqa: PLC0415 - takes half a second

    run, known = state.run, state.known
    start = f"the run started {met_of.utc(met_of.met_to_unix(run.met)):%Y-%m-%d %H:%M:%S} UTC"
    axes.set(ylabel="events / s", xlabel="sequence of events")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{view.first + round(x):,}".replace(",", " ")))
    if not len(known):
        axes.text(0.5, 0.5, "no events are known", transform=axes.transAxes, ha="center", va="center")
        top.set_title(f"{start}, MET {run.met}")
        return
    at = (known["sequence"] - np.uint64(view.first)).astype(np.float64)
    utc = known["utc"]
    edges = np.linspace(0, max(1, view.last - view.first), BINS + 1)
    seconds = np.diff(np.interp(edges, at, utc))
    for apid, stroke in zip(state.segments, cycle(("-", "--", "-.", ":")), strict=False):
        events, _ = np.histogram(at[known["apid"] == apid], edges)
        rate = np.divide(events, seconds, out=np.full(BINS, np.nan), where=seconds > 0)
        style = {"color": OF_EPU[apid % 100], "linestyle": stroke, "linewidth": 1.4, "label": f"EPU {apid}"}
        axes.stairs(np.round(rate, 3), edges, **style)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 0.95), ncols=4, frameon=False, fontsize=8)
    axes.set_ylim(bottom=0)
    ticks = np.linspace(at[0], at[-1], 6)
    times = np.interp(ticks, at, utc).tolist()
    above = top.secondary_xaxis("top")
    labels = [f"{met_of.utc(time):%H:%M:%S}\nMET {met_of.unix_to_met(time):.0f}" for time in times]
    above.set_xticks(ticks, labels, fontsize=8)
    above.set_xlabel(f"time of events, UTC and MET; {start}")
