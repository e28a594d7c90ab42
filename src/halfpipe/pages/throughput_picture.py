"""The picture of how fast jobs were from day to day: events, speed, and how long a job took."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from math import nan
from typing import TYPE_CHECKING

from halfpipe.errors import MissingInputError
from halfpipe.pages.drawn import BLUE, GREEN, GREY, ORANGE, PURPLE, STYLE, VERMILION, content
from halfpipe.tables.job_figures import RULES, Rate
from halfpipe.words import count

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Days = Mapping[str, Sequence[Rate]]
Table = Mapping[date, Mapping[str, Rate]]

LINES = {  # colour, marker and stroke of each rule: it is told apart without colour too
    "stage_retdef": (GREEN, "v", ":"),
    "decode_chunk": (BLUE, "o", "-"),
    "deliver_run": (ORANGE, "s", "--"),
    "receipt": (PURPLE, "^", "-."),
    "submit": (VERMILION, "D", (0, (1, 1))),
}
OTHER = (GREY, "P", "-")
MAKE_EVENTS = ("decode_chunk", "deliver_run")
MOST_MARKED = (
    14  # days above which points and whiskers would run into each other, and an SVG grow beyond 50 kB
)
MOST_LABELS = 7
ASIDE = 0.14  # days


def picture(days: Days, kind: str, note: str = "") -> bytes:
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
    import matplotlib as mpl  # noqa: PLC0415 - takes half a second

    if not days:
        raise MissingInputError("no job has a record of what it took, so there is nothing to draw")
    title, described = _words(days)
    with mpl.rc_context(STYLE):
        figure = _figure(_every_day(days), title, note)
        return content(figure, kind, title, " ".join([*described, *([note] if note else [])]))


def _words(days: Days) -> tuple[str, list[str]]:
    """Return the title, and a sentence for each rule and the last day."""
    first, last = min(days), max(days)
    title = f"Throughput on {first}" if first == last else f"Throughput from {first} to {last}"
    jobs = sum(rate.jobs for of_day in days.values() for rate in of_day)
    said = [f"{count(jobs, 'job')} on {count(len(days), 'day')}. On {last}:"]
    for rate in days[last]:
        fast = f", {rate.events_per_second:,.0f} events/s" if rate.events else ""
        said.append(
            f"{rate.rule}: {count(rate.jobs, 'job')}, median {rate.median_seconds:g} s, "
            f"longest {rate.max_seconds:g} s{fast}."
        )
    return title, said


def _every_day(days: Days) -> dict[date, dict[str, Rate]]:
    """Return the rates by day and rule, days without jobs between them too: a line breaks there."""
    dates = [date.fromisoformat(day) for day in days]
    found = {min(dates) + timedelta(n): dict[str, Rate]() for n in range((max(dates) - min(dates)).days + 1)}
    for day, of_day in zip(dates, days.values(), strict=True):
        found[day] = {rate.rule: rate for rate in of_day}
    return found


def _figure(days: Table, title: str, note: str) -> "Figure":
    from matplotlib.figure import Figure  # noqa: PLC0415

    present = {rule for of_day in days.values() for rule in of_day}
    rules = [*(rule for rule in RULES if rule in present), *sorted(present - set(RULES))]
    making = [rule for rule in rules if rule in MAKE_EVENTS]
    few = len(days) <= MOST_MARKED
    figure = Figure(figsize=(10, 7.5), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    made, fast, long = figure.subplots(3, 1, sharex=True, height_ratios=[1, 1, 1.6])
    _lines(made, days, making, lambda rate: rate.events / 1e6)
    made.set_title("events that jobs decoded (decode_chunk) and delivered (deliver_run)", fontsize=10)
    made.set_ylabel("million events / day")
    _lines(fast, days, making, lambda rate: rate.events_per_second or nan)
    fast.set_title("how fast one job was while it ran", fontsize=10)
    fast.set_ylabel("events / s")
    _lines(long, days, rules, lambda rate: rate.median_seconds)
    if few:
        _whiskers(long, days, rules)
    whiskers = ", and a thin line up to the longest" if few else ""
    long.set_title(f"how long a job took: the median{whiskers}", fontsize=10)
    long.set_ylabel("seconds")
    long.set_yscale("log")
    long.minorticks_off()
    for axes in (made, fast):
        axes.set_ylim(0, 1.12 * axes.get_ylim()[1])
    fast.yaxis.set_major_formatter("{x:,.0f}")
    for axes in (made, long):
        axes.yaxis.set_major_formatter("{x:g}")
    made.legend(
        *long.get_legend_handles_labels(),
        loc="upper left",
        bbox_to_anchor=(1.005, 1.06),
        frameon=False,
        handlelength=3.5,
    )
    _day_axis(long, list(days))
    long.set_xlabel("\n".join(["day on which the jobs began, UTC", *([note] if note else [])]), loc="left")
    return figure


def _lines(axes: "Axes", days: Table, rules: Sequence[str], value: Callable[[Rate], float]) -> None:
    """Draw a line for each rule."""
    axes.grid(axis="y", color="#E5E5E5", linewidth=0.6)
    axes.set_axisbelow(True)
    for rule in rules:
        colour, marker, stroke = LINES.get(rule, OTHER)
        values = [value(of_day[rule]) if rule in of_day else nan for of_day in days.values()]
        axes.plot(
            _places(rule, len(days)),
            values,
            color=colour,
            linestyle=stroke,
            linewidth=1.2,
            marker=marker if len(days) <= MOST_MARKED else "",
            markersize=6,
            markeredgewidth=0,
            label=rule,
        )


def _whiskers(axes: "Axes", days: Table, rules: Sequence[str]) -> None:
    """Draw a thin line from each median up to the longest: those of a rule are one path, which is short in an SVG."""
    for rule in rules:
        at, values = list[float](), list[float]()
        for place, of_day in zip(_places(rule, len(days)), days.values(), strict=True):
            if rule in of_day:
                at += [place, place, nan]
                values += [of_day[rule].median_seconds, of_day[rule].max_seconds, nan]
        axes.plot(at, values, color=LINES.get(rule, OTHER)[0], linewidth=0.8)


def _places(rule: str, days: int) -> list[float]:
    """Return where a rule has its points: beside those of other rules, so that none hides another."""
    aside = ((RULES.index(rule) if rule in RULES else len(RULES)) - len(RULES) // 2) * ASIDE
    return [day + aside for day in range(days)]


def _day_axis(axes: "Axes", days: Sequence[date]) -> None:
    step = -(-len(days) // MOST_LABELS)
    form = "%m-%d" if days[0].year == days[-1].year else "%Y-%m-%d"
    axes.set_xticks(range(0, len(days), step), [format(day, form) for day in days[::step]])
    middle, half = (len(days) - 1) / 2, max(len(days) / 2 + 0.1, 3)
    axes.set_xlim(middle - half, middle + half)
