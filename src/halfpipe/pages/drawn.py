"""What pictures share: colours and hatching that tell apart without colour too, lanes, and the bytes of the file.

In a picture a colour means one thing. They are those of Okabe and Ito, which the colour-blind tell apart; what means
something has a hatching besides, for whoever prints it in grey. The same input gives the same bytes: no clock and no
random names.
"""

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from html import escape
from textwrap import wrap
from typing import Any

import numpy as np

from halfpipe.settings import Settings
from halfpipe.words import SIMULATED

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


def picture(
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
