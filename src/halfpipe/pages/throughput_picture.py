"""The picture of how fast jobs were from day to day: events, speed, and how long a job took."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd

from halfpipe.errors import MissingInputError
from halfpipe.pages.drawn import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    VERMILION,
    Axes,
    Mark,
    uprights,
)
from halfpipe.pages.drawn import picture as drawn
from halfpipe.tables.job_figures import RULES, Rate
from halfpipe.words import count

LINES = {  # colour, marker and stroke of each rule: it is told apart without colour too
    "stage_retdef": (GREEN, "v", ":"),
    "decode_chunk": (BLUE, "o", "-"),
    "deliver_run": (ORANGE, "s", "--"),
    "receipt": (PURPLE, "^", "-."),
    "submit": (VERMILION, "D", (0, (1, 1))),
}
OTHER = (GREY, "P", "-")
MAKE_EVENTS = ("decode_chunk", "deliver_run")
MOST_MARKED = 14  # days above which points and whiskers would run into each other
MOST_LABELS = 7
ASIDE = 0.14  # days, so that no rule hides another


def picture(days: Mapping[str, Sequence[Rate]], kind: str, note: str = "") -> bytes:
    """Return the picture of `days`, as `halfpipe.tables.job_figures.rates_by_day` has them.

    Parameters
    ----------
    days
        The rates of each day by its date; a day without jobs need not be there.
    kind
        ``svg`` or ``png``.
    note
        A word that stands below it.

    Raises
    ------
    MissingInputError
        If there is no day.
    HalfPipeError
        If there is no such kind of picture.
    """
    if not days:
        raise MissingInputError("no job has a record of what it took, so there is nothing to draw")
    frame = pd.DataFrame([{"day": day, **asdict(rate)} for day, of_day in days.items() for rate in of_day])
    first, last = min(days), max(days)
    sentences = [
        f"{count(int(frame['jobs'].sum()), 'job')} on {count(len(days), 'day')}. On {last}:",
        *(
            f"{rate.rule}: {count(rate.jobs, 'job')}, median {rate.median_seconds:g} s, "
            f"longest {rate.max_seconds:g} s"
            + (f", {rate.events_per_second:,.0f} events/s." if rate.events else ".")
            for rate in days[last]
        ),
    ]

    def paint(made: Axes, fast: Axes, long: Axes) -> list[Mark]:
        _paint(made, fast, long, frame)
        return []

    title = f"Throughput on {first}" if first == last else f"Throughput from {first} to {last}"
    return drawn(kind, title, sentences, note, [1.9, 1.9, 3.0], paint)


def _paint(made: Axes, fast: Axes, long: Axes, frame: pd.DataFrame) -> None:
    # A day without jobs is a row without figures: a line breaks there.
    table = frame.assign(day=pd.to_datetime(frame["day"])).pivot(index="day", columns="rule").asfreq("D")
    days, few = len(table), len(table) <= MOST_MARKED
    rules = sorted(set(frame["rule"]), key=lambda rule: (RULES.index(rule) if rule in RULES else 9, rule))
    making = [rule for rule in rules if rule in MAKE_EVENTS]
    panels = (
        (made, making, table["events"] / 1e6, "events that jobs decoded (decode_chunk) and delivered (deliver_run)",
         "million events / day", "{x:g}"),
        (fast, making, table["events_per_second"].replace(0, np.nan), "how fast one job was while it ran",
         "events / s", "{x:,.0f}"),
        (long, rules, table["median_seconds"], "how long a job took: the median, and a thin line up to the longest"
         if few else "how long a job took: the median", "seconds", "{x:g}"),
    )  # fmt: skip
    for axes, shown, values, title, unit, form in panels:
        axes.grid(axis="y", color="#E5E5E5", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set(title=title, ylabel=unit)
        for rule in shown:
            colour, marker, stroke = LINES.get(rule, OTHER)
            at = np.arange(days) + ASIDE * (rules.index(rule) - (len(rules) - 1) / 2)
            style = {"color": colour, "linestyle": stroke, "linewidth": 1.2, "label": rule}
            axes.plot(
                at, values[rule], marker=marker if few else "", markersize=6, markeredgewidth=0, **style
            )
            if axes is long and few:
                uprights(axes, at, values[rule], table["max_seconds"][rule], color=colour, linewidth=0.8)
        if axes is long:
            axes.set_yscale("log")
            axes.minorticks_off()
        else:
            axes.sharex(long)
            axes.tick_params(axis="x", labelbottom=False)
            axes.set_ylim(0, 1.12 * axes.get_ylim()[1])
        axes.yaxis.set_major_formatter(form)
    made.legend(
        *long.get_legend_handles_labels(),
        loc="upper left",
        bbox_to_anchor=(1.005, 1.06),
        frameon=False,
        handlelength=3.5,
    )
    step = -(-days // MOST_LABELS)
    form = "%m-%d" if table.index[0].year == table.index[-1].year else "%Y-%m-%d"
    long.set_xticks(range(0, days, step), table.index[::step].strftime(form))
    middle, half = (days - 1) / 2, max(days / 2 + 0.1, 3)
    long.set_xlim(middle - half, middle + half)
    long.set_xlabel("day on which the jobs began, UTC")
