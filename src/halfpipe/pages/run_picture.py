"""The picture of a run: what came of each EPU, what is settled, what was delivered by whom, and what was not."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle

import numpy as np
from numpy.typing import NDArray

from halfpipe.downlink.submissions import Record
from halfpipe.formats import met as met_of
from halfpipe.ids import RunId
from halfpipe.merge.intervals import HIGHEST, LOWEST, Interval, intersect, join, subtract
from halfpipe.merge.settle import Segment, settled
from halfpipe.merge.undelivered import Kind, What, missing_at
from halfpipe.pages.drawn import (
    BLACK,
    DARK,
    GREY,
    LIGHT,
    OF_EPU,
    PURPLE,
    VERMILION,
    WINE,
    YELLOW,
    Axes,
    Lane,
    Mark,
    draw_lanes,
)
from halfpipe.pages.drawn import picture as drawn
from halfpipe.run.datagrams import load_datagrams
from halfpipe.run.event_table import load_events
from halfpipe.status.account import Site
from halfpipe.status.explanation import HELD, OfRun, State, explain
from halfpipe.words import count, shortened

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


def picture(site: Site, run: RunId) -> bytes:
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
        says = _missing(apid, segments, holes)
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


def _missing(apid: int, segments: Sequence[Segment], holes: Sequence[Interval]) -> str:
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
    utc = _times(state)
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


def _times(state: State) -> NDArray[np.float64]:
    """Return the time of each event that is known, Unix seconds."""
    utc = np.empty(len(state.known))
    there = [dl for dl in state.downlinks if dl not in state.unread]
    for number, downlink in enumerate(there):
        own = state.known["source"] == number
        utc[own] = load_events(state.work, state.run, downlink).events["utc"][state.known["row"][own]]
    return utc
