"""Text for people: plurals, times in UTC, lists by subject, plain-text tables, and the label of simulated data."""

from collections.abc import Container, Iterable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")
MOST_NAMED = 5  # things in one message
SIMULATED = "SIMULATED: none of these events was recorded by the Large Area Telescope."


def count(number: int, one: str, many: str = "") -> str:
    """Return a number with a noun: ``1 downlink``, ``2 downlinks``, ``1,204 events``."""
    return f"{number:,} {one if number == 1 else many or one + ('es' if one.endswith('x') else 's')}"


def first_names(names: Sequence[str], between: str = ", ") -> str:
    """Return the first few names, and how many more there are."""
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"{between.join(names[:MOST_NAMED])}{more}"


def utc(unix: float) -> str:
    """Format Unix seconds as ``2023-04-01 01:23:20 UTC``."""
    return f"{datetime.fromtimestamp(unix, UTC):%Y-%m-%d %H:%M:%S} UTC"


def lasted(seconds: float) -> str:
    """Format a duration in a suitable unit: ``45 s``, ``12 min``, ``3.2 h``, ``9.1 days``."""
    for unit, most, per, digits in (("s", 60, 1, 0), ("min", 5400, 60, 0), ("h", 172800, 3600, 1)):
        if seconds < most:
            return f"{seconds / per:.{digits}f} {unit}"
    return f"{seconds / 86400:.1f} days"


def grouped(pairs: Iterable[tuple[K, V]]) -> dict[K, list[V]]:
    """Return the values of each key, both in order of first appearance."""
    found: dict[K, list[V]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found


def aligned(rows: Sequence[Sequence[str]], right: Container[int] = ()) -> list[str]:
    """Format rows as lines with columns aligned by spaces. `right` has the indexes of right-aligned columns."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    sides = [str.rjust if number in right else str.ljust for number in range(len(widths))]
    return [
        "  ".join(side(cell, width) for side, cell, width in zip(sides, row, widths, strict=True)).rstrip()
        for row in rows
    ]


def shortened(text: str, most: int) -> str:
    """Shorten a text to at most `most` characters. The middle is cut, because the remedy is at the end."""
    if len(text) <= most:
        return text
    last = most * 2 // 3
    head = text[: most - last - 3]
    tail = text[-last:]
    return f"{head.rpartition(' ')[0] or head} … {tail.partition(' ')[2] or tail}"
