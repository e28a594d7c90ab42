"""What verbs print: tables that fit the terminal, plain aligned lines elsewhere, JSON for programs."""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

if TYPE_CHECKING:
    from pandas import DataFrame
    from rich.console import Console
    from rich.text import Text

NOTHING = "-"  # in a cell, so that columns can be counted
STATES = {"HELD": "bold red", "open": "yellow", "outstanding": "yellow"}  # that are to be seen at once


@dataclass(frozen=True)
class Marked:
    """Text that is to be seen at once, in a style of `rich`."""

    text: str
    style: str = "bold red"


Cell = str | int | float | datetime | Marked | None


@dataclass(frozen=True)
class Column:
    """A column: numbers stand to the right; where the terminal is narrow, the highest `drop` goes first."""

    title: str
    number: bool = False
    drop: int = 0


def on_terminal() -> bool:
    """Tell whether a person looks at what is printed, or somebody asks for what a person would see."""
    return sys.stdout.isatty() or bool(os.environ.get("FORCE_COLOR"))


def tinted(text: str, **style: Any) -> str:
    """Return text in a style of `click`, for a terminal that wants colours; click takes it out elsewhere."""
    return text if _plain_terminal() else click.style(text, **style)


def _plain_terminal() -> bool:
    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"


def table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], *, notes: bool = False) -> None:
    """Print a table, nothing without rows: on a terminal as wide as it is, elsewhere aligned by spaces.

    Elsewhere cells have no spaces, so that columns can be counted, but for the last one, which may hold any text. On
    a terminal it is folded; with `notes` it is left out there, for `notes_below` to print.
    """
    if not rows:
        return
    if on_terminal():
        _drawn(columns[:-1] if notes else columns, rows)
        return
    cells = [[_plain(value) for value in row] for row in rows]
    lines = [[column.title for column in columns], *cells]
    for line in lines:
        line[:-1] = [cell.replace(" ", "_") for cell in line[:-1]]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    for line in lines:
        parts = (
            cell.rjust(width) if column.number else cell.ljust(width)
            for cell, width, column in zip(line, widths, columns, strict=True)
        )
        click.echo("  ".join(parts).rstrip())


def frame(data: "DataFrame", *, drop: Sequence[str] = (), notes: bool = False) -> None:
    """Print a frame as `table` does: its columns have their names; where it is narrow, those of `drop` go in order."""
    found = records(data)
    columns = []
    for name in data:
        values = [one[name] for one in found if one[name] is not None]
        number = data[name].dtype.kind in "iuf" or all(isinstance(value, int | float) for value in values)
        columns.append(Column(name, number, len(drop) - drop.index(name) if name in drop else 0))
    for one in found:
        if one.get("state") in STATES:
            one["state"] = Marked(one["state"], STATES[one["state"]])
    rows = [list(one.values()) for one in found]
    table(columns, rows, notes=notes)
    if notes:
        notes_below(rows)


def records(data: "DataFrame") -> list[dict[str, Any]]:
    """Return a frame as JSON has it: an object for each row, null for what is not known."""
    rows: list[dict[str, Any]] = data.astype(object).where(data.notna(), None).to_dict("records")
    return rows


def _plain(value: Cell) -> str:
    """Return a cell for programs."""
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return _text(value, grouped=False)


def _text(value: Cell, *, grouped: bool) -> str:
    if isinstance(value, Marked):
        return value.text
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    if value is None or value == "":
        return NOTHING
    if isinstance(value, float):
        return f"{value:,.1f}" if grouped else f"{value:.1f}"
    return f"{value:,}" if grouped and isinstance(value, int) else str(value)


def _drawn(columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> None:
    from rich.table import Table  # noqa: PLC0415 - not in a pipe

    console = _console()
    cells = [[_styled(value) for value in row] for row in rows]
    kept = _fitting(columns, cells, console.width)
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for number in kept:
        column = columns[number]
        folded = number == len(columns) - 1 and not column.number
        side: Literal["right", "left"] = "right" if column.number else "left"
        drawn.add_column(_styled(column.title), justify=side, no_wrap=not folded, overflow="fold")
    for row in cells:
        drawn.add_row(*(row[number] for number in kept))
    console.print(drawn)


def notes_below(rows: Sequence[Sequence[Cell]]) -> None:
    """Print on a terminal what the last column of a table with `notes` has, after what the first one has."""
    if not on_terminal():
        return
    from rich.table import Table  # noqa: PLC0415

    drawn = Table.grid(padding=(0, 2))
    drawn.add_column(no_wrap=True)
    for row in rows:
        if row[-1]:
            drawn.add_row("", _styled(row[0]), _styled(row[-1]))
    _console().print(drawn)


def _styled(value: Cell) -> "Text":
    from rich.text import Text  # noqa: PLC0415

    return Text(_text(value, grouped=True), value.style if isinstance(value, Marked) else "")


def _fitting(columns: Sequence[Column], cells: Sequence[Sequence["Text"]], width: int) -> list[int]:
    """Return the columns that fit; the last one, if it is text, is folded and wants a third of the width."""
    widths = [max(len(c.title), *(row[n].cell_len for row in cells)) + 2 for n, c in enumerate(columns)]
    if not columns[-1].number and not columns[-1].drop:
        widths[-1] = min(widths[-1], width // 3)
    left = set(range(len(columns)))
    # The first one names the row and stays, so does the last one unless it may go: nothing is cut in its middle.
    may_go = [n for n, column in enumerate(columns) if n and (column.drop or n < len(columns) - 1)]
    for number in sorted(may_go, key=lambda n: (columns[n].drop, n), reverse=True):
        if sum(widths[n] for n in left) - 2 > width:
            left.remove(number)
    return sorted(left)


def _console() -> "Console":
    from rich.console import Console  # noqa: PLC0415

    return Console(
        file=sys.stdout,
        force_terminal=True,
        color_system=None if _plain_terminal() else "auto",
        highlight=False,
        markup=False,
    )


def as_json(**values: Any) -> None:
    """Print values as one JSON object: dataclasses by their fields, frames by rows, times in ISO 8601."""
    click.echo(json.dumps(values, default=_for_json, indent=1))


def _for_json(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "to_dict"):
        return records(value)
    raise TypeError(repr(value))
