"""Flow charts of the documents, drawn as SVG for `make docs`: no browser, no script, nothing from elsewhere.

GitHub draws a block in Mermaid itself. Here the little of Mermaid is understood that the documents have: boxes with
lines of text, and arrows from left to right. What is not understood is an error, so no page lacks
a part of its drawing.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape

CHARACTER, LINE, PAD, GAP, ROW_GAP = 7.3, 18, 12, 56, 24  # pixels
STYLE = "font: 12px ui-monospace, 'DejaVu Sans Mono', monospace"

_HEAD = re.compile(r"flowchart LR")
_BOX = re.compile(r'(\w+)\["([^"]+)"\]')
_ARROW = re.compile(r"(\w+) --> (\w+)")
_BOLD = re.compile(r"<b>(.*)</b>")


@dataclass(frozen=True)
class Box:
    """A box: its lines of text, and where it lies."""

    lines: tuple[str, ...]
    x: float
    y: float
    width: float
    height: float

    @property
    def middle(self) -> float:
        """How far down its arrows come and go."""
        return self.y + self.height / 2

    @property
    def right(self) -> float:
        """Where its arrows begin."""
        return self.x + self.width


def html(source: str) -> str:
    """Return the drawing of a flow chart in Mermaid as HTML: a narrow window scrolls it.

    Raises
    ------
    ValueError
        If a line is not understood, an arrow leads to no box, or arrows lead in a circle.
    """
    boxes, arrows = _read(source)
    ranks = _ranks(boxes, arrows)
    placed = _placed(boxes, ranks)
    bottom = max(box.y + box.height for box in placed.values())
    width = max(box.right for box in placed.values()) + 2
    around = bottom + ROW_GAP / 2  # an arrow goes below the boxes that lie between
    far = {(one, other) for one, other in arrows if ranks[other] - ranks[one] > 1}
    height = around if far else bottom
    body = [
        _arrow(placed[one], placed[other], around if (one, other) in far else placed[other].middle)
        for one, other in arrows
    ]
    for box in placed.values():
        body += _box(box)
    said = "; ".join(f"{one}, then {other}" for one, other in arrows)
    return "\n".join(
        [
            '<div style="overflow-x: auto" tabindex="0" role="group" aria-label="flow chart">',
            f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {width:.0f} {height + 2:.0f}" '
            f'style="{STYLE}; min-width: {width * 0.85:.0f}px; max-width: {width:.0f}px" fill="currentColor">',
            f"<title>{escape(said)}</title>",
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" '
            'orient="auto"><path d="M0 0L8 4L0 8z"/></marker></defs>',
            *body,
            "</svg></div>",
        ]
    )


def _read(source: str) -> tuple[dict[str, tuple[str, ...]], list[tuple[str, str]]]:
    head, *lines = [line.strip() for line in source.splitlines() if line.strip()] or [""]
    if not _HEAD.fullmatch(head):
        raise ValueError(
            f"{head!r}: a flow chart begins with 'flowchart LR'; docs/flowchart.py draws no other"
        )
    boxes: dict[str, tuple[str, ...]] = {}
    arrows = []
    for line in lines:
        if box := _BOX.fullmatch(line):
            boxes[box[1]] = tuple(box[2].split("<br>"))
        elif arrow := _ARROW.fullmatch(line):
            arrows.append((arrow[1], arrow[2]))
        else:
            raise ValueError(
                f'{line!r}: expected name["text"] or name --> name; docs/flowchart.py draws no other'
            )
    if not boxes:
        raise ValueError("the flow chart has no box")
    if odd := {name for arrow in arrows for name in arrow} - boxes.keys():
        raise ValueError(f"an arrow leads to what has no box: {', '.join(sorted(odd))}")
    return boxes, arrows


def _ranks(boxes: Iterable[str], arrows: Iterable[tuple[str, str]]) -> dict[str, int]:
    """Return how many arrows lead to each box at most, one behind the other."""
    ranks = dict.fromkeys(boxes, 0)
    for _ in ranks:
        before = dict(ranks)
        for one, other in arrows:
            ranks[other] = max(ranks[other], ranks[one] + 1)
        if before == ranks:
            return ranks
    raise ValueError("the arrows lead in a circle")


def _placed(boxes: Mapping[str, tuple[str, ...]], ranks: Mapping[str, int]) -> dict[str, Box]:
    """Return the boxes, those of a rank below each other, each rank in the middle of the drawing."""
    sizes = {
        name: (
            max(len(_BOLD.sub(r"\1", line)) for line in lines) * CHARACTER + 2 * PAD,
            len(lines) * LINE + PAD,
        )
        for name, lines in boxes.items()
    }
    columns = [[name for name in boxes if ranks[name] == rank] for rank in range(max(ranks.values()) + 1)]
    heights = [sum(sizes[name][1] + ROW_GAP for name in column) - ROW_GAP for column in columns]
    placed, x = {}, 2.0
    for column, height in zip(columns, heights, strict=True):
        y = 2 + (max(heights) - height) / 2
        for name in column:
            placed[name] = Box(boxes[name], x, y, *sizes[name])
            y += sizes[name][1] + ROW_GAP
        x += max(sizes[name][0] for name in column) + GAP
    return placed


def _arrow(begin: Box, end: Box, down: float) -> str:
    x0, y0, x1, y1 = begin.right, begin.middle, end.x, end.middle
    half = GAP / 2
    path = f"M{x0:.0f} {y0:.0f}C{x0 + half:.0f} {y0:.0f} {x0 + half:.0f} {down:.0f} "
    if down != y1:
        path += (
            f"{x0 + GAP:.0f} {down:.0f}H{x1 - GAP:.0f}C{x1 - half:.0f} {down:.0f} {x1 - half:.0f} {y1:.0f} "
        )
    path += f"{x1:.0f} {y1:.0f}"
    return f'<path d="{path}" fill="none" stroke="currentColor" marker-end="url(#tip)"/>'


def _box(box: Box) -> list[str]:
    shape = f'x="{box.x:.0f}" y="{box.y:.0f}" width="{box.width:.0f}" height="{box.height:.0f}" rx="4"'
    drawn = [f'<rect {shape} fill="none" stroke="currentColor"/>']
    for number, line in enumerate(box.lines):
        bold = _BOLD.fullmatch(line)
        weight = ' font-weight="bold"' if bold else ""
        at = f'x="{box.x + box.width / 2:.0f}" y="{box.y + PAD / 2 + LINE * (number + 0.72):.0f}"'
        drawn.append(f'<text {at} text-anchor="middle"{weight}>{escape(bold[1] if bold else line)}</text>')
    return drawn
