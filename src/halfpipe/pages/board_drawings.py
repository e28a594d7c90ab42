"""Drawings of the board, as the numbers that its templates put into SVG: few long paths make small pages."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from halfpipe.pages.board_figures import DAY, Day
from halfpipe.pages.board_level0 import Hour

WIDTH, HEIGHT = 640, 150
LEFT, TOP, BOTTOM, RIGHT = 72, 10, 24, 22  # room for axes
LINE = 20  # from an APID to the next
WEEK_HOURS = 168
MOST_LABELS = 8
STEPS = (1, 2, 5)


@dataclass(frozen=True)
class Drawing:
    """A drawing with its axes.

    Attributes
    ----------
    height
        Of the drawing; all are `WIDTH` wide.
    lines
        Heights of lines across, each with its label.
    labels
        Places of labels below, from the left.
    shapes
        Paths of SVG, each by the name of its style.
    """

    height: int
    lines: tuple[tuple[float, str], ...]
    labels: tuple[tuple[float, str], ...]
    shapes: dict[str, str]

    width = WIDTH
    left = LEFT
    bottom = BOTTOM
    right = WIDTH - RIGHT


def date(day: int) -> str:
    """Return a day, counted from the Unix epoch, as ``11-26``."""
    return f"{datetime.fromtimestamp(day * DAY, UTC):%m-%d}"


def latency(days: Sequence[Day]) -> Drawing | None:
    """Draw the median of each day as a dot, with a line up to what 95 % were within; None if no time is known."""
    late = [day.late for day in days if day.late is not None]
    if not late:
        return None
    top = _nice(max(late) / 60)
    dots, whiskers = [], []
    for place, day in zip(_places(len(days)), days, strict=True):
        if day.middle is not None and day.late is not None:
            middle, end = (_height(value / 60, top) for value in (day.middle, day.late))
            dots.append(f"M{place:.1f} {middle:.1f}h0")
            whiskers.append(f"M{place:.1f} {middle:.1f}V{end:.1f}")
    shapes = {"whisker": "".join(whiskers), "dot": "".join(dots)}
    return Drawing(HEIGHT, _lines(top, " min"), _dates(days), shapes)


def waiting(days: Sequence[Day]) -> Drawing | None:
    """Draw the events that waited each day as columns; None without any day."""
    if not days:
        return None
    top = _nice(max(day.waiting for day in days))
    wide = 0.7 * (WIDTH - LEFT - RIGHT) / len(days)
    columns = [
        f"M{place - wide / 2:.1f} {HEIGHT - BOTTOM}V{_height(day.waiting, top):.1f}h{wide:.1f}V{HEIGHT - BOTTOM}z"
        for place, day in zip(_places(len(days)), days, strict=True)
        if day.waiting
    ]
    return Drawing(HEIGHT, _lines(top, ""), _dates(days), {"column": "".join(columns)})


def level0(hours: Iterable[Hour]) -> Drawing | None:
    """Draw the hours of each APID in the week before the last one as a lane; None without any hour."""
    states = {(each.apid, each.hour): each.found for each in hours}
    if not states:
        return None
    last = max(hour for _, hour in states)
    first = last - WEEK_HOURS + 1
    apids = sorted({apid for apid, hour in states if hour >= first})
    wide = (WIDTH - LEFT - RIGHT) / WEEK_HOURS
    shapes = {"found": "", "unknown": "", "missing": ""}
    for row, apid in enumerate(apids):
        lane = [_named(states, (apid, hour)) for hour in range(first, last + 1)]
        begin = 0
        for place in range(1, WEEK_HOURS + 1):
            if place == WEEK_HOURS or lane[place] != lane[begin]:
                if name := lane[begin]:
                    x, length = LEFT + begin * wide, (place - begin) * wide
                    shapes[name] += f"M{x:.1f} {TOP + row * LINE}h{length:.1f}v{LINE - 6}h-{length:.1f}z"
                begin = place
    middle = [(TOP + row * LINE + (LINE - 6) / 2, str(apid)) for row, apid in enumerate(apids)]
    midnights = [hour for hour in range(first, last - 11) if hour % 24 == 0]
    labels = [(LEFT + (hour - first) * wide, date(hour // 24)) for hour in midnights]
    return Drawing(TOP + len(apids) * LINE + BOTTOM, tuple(middle), tuple(labels), shapes)


def _named(states: dict[tuple[int, int], bool | None], place: tuple[int, int]) -> str:
    if place not in states:
        return ""
    return {True: "found", False: "missing", None: "unknown"}[states[place]]


def _places(number: int) -> list[float]:
    """Return the middles of so many days, from the left."""
    return [LEFT + (n + 0.5) * (WIDTH - LEFT - RIGHT) / number for n in range(number)]


def _height(value: float, top: float) -> float:
    return HEIGHT - BOTTOM - value / top * (HEIGHT - BOTTOM - TOP)


def _nice(value: float) -> float:
    """Return a round number that is no smaller, and 1 at least."""
    scale = 1.0
    while True:
        for step in STEPS:
            if step * scale >= value:
                return step * scale
        scale *= 10


def _lines(top: float, unit: str) -> tuple[tuple[float, str], ...]:
    shown = [(part * top) for part in (0, 0.5, 1)]
    return tuple((_height(value, top), f"{value:,.10g}{unit}") for value in shown)


def _dates(days: Sequence[Day]) -> tuple[tuple[float, str], ...]:
    step = -(-len(days) // MOST_LABELS)
    named = list(zip(_places(len(days)), days, strict=True))[::-1][::step]
    return tuple((place, date(day.day)) for place, day in reversed(named))
