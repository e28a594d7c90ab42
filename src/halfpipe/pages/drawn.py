"""What pictures share: colours and hatching that tell apart without colour too, and the bytes of the file.

Colours are those of Okabe and Ito, which the colour-blind tell apart; what means something has a hatching besides, for
whoever prints it in grey. The same input gives the same bytes: no clock, no random names.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from html import escape
from typing import TYPE_CHECKING, Any

from halfpipe.errors import HalfPipeError
from halfpipe.settings import BUILT_IN, Settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
GREY, LIGHT = "#8C8C8C", "#D9D9D9"
OF_EPU = {5: GREEN, 6: BLUE, 7: ORANGE, 8: SKY}  # by the last digit of the APID
FORMATS = ("svg", "png")

STYLE: dict[Any, Any] = {
    "svg.hashsalt": "halfpipe",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "hatch.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "path.simplify": True,
    "savefig.dpi": 110,
}


def simulated(settings: Settings) -> str:
    """Return what has to stand below every picture of a site; nothing where its data may be flight data."""
    return (
        "SIMULATED: the built-in decoder reads nothing else." if settings.decoder.command == BUILT_IN else ""
    )


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


def bars(
    axes: "Axes", at: float, height: float, stretches: Sequence[tuple[float, float]], mark: Mark
) -> None:
    """Draw stretches (begin, end) in a lane around `at`; the shortest can still be seen."""
    left, right = axes.get_xlim()
    least = (right - left) / 400
    wide: list[tuple[float, float]] = []
    for first, last in stretches:
        begin, end = max(first, left), min(last, right)
        if end < begin:
            continue
        short = max(0.0, least - (end - begin)) / 2
        begin, end = begin - short, end + short
        if wide and begin <= wide[-1][1]:
            wide[-1] = (wide[-1][0], max(end, wide[-1][1]))
        else:
            wide.append((begin, end))
    axes.broken_barh([(a, b - a) for a, b in wide], (at - height / 2, height), **mark.style())


def legend(figure: "Figure", marks: Sequence[Mark]) -> None:
    """Put a legend below everything."""
    from matplotlib.patches import Patch  # noqa: PLC0415 - takes half a second

    patches = [Patch(label=mark.says, **mark.style()) for mark in dict.fromkeys(marks)]
    figure.legend(
        handles=patches, loc="outside lower left", ncols=3, frameon=False, handlelength=2.6, handleheight=1.2
    )


def content(figure: "Figure", kind: str, title: str, description: str) -> bytes:
    """Return the bytes of a picture; `kind` is one of `FORMATS`.

    An SVG has the title and the description in it, which readers for the blind read out.

    Raises
    ------
    HalfPipeError
        If `kind` is none of them.
    """
    if kind not in FORMATS:
        raise HalfPipeError(
            f".{kind}: no kind of picture that is made here. Name a file that ends in .svg or .png."
        )
    out = io.BytesIO()
    if kind == "png":
        figure.savefig(
            out, format="png", metadata={"Software": None, "Title": title, "Description": description}
        )
        return out.getvalue()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    head, opening, rest = out.getvalue().decode().partition("<svg ")
    attributes, end, rest = rest.partition(">")
    said = (
        f'{opening}role="img" aria-labelledby="title description" {attributes}{end}\n'
        f'<title id="title">{escape(title)}</title>\n<desc id="description">{escape(description)}</desc>'
    )
    return (head + said + _short(rest)).encode()


def _short(body: str) -> str:
    """Return the body of an SVG with hundredths of a point, which nobody sees, and without breaks in its paths."""
    drawn = re.sub(r'(?<=[ "(-])(\d+\.\d\d)\d+', r"\1", body)
    return re.sub(r"\n(?=[MLQCz])|(?<=z)\n(?=\")", " ", drawn)
