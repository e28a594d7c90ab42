"""What verbs print: tables that fit the terminal, plain aligned lines elsewhere, JSON for programs."""

import json
import os
import sys
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from halfpipe.words import aligned

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
Rows = Sequence[Mapping[str, Cell]]


def on_terminal() -> bool:
    """Tell whether a person looks at what is printed, or somebody asks for what a person would see."""
    return sys.stdout.isatty() or bool(os.environ.get("FORCE_COLOR"))


def tinted(text: str, **style: Any) -> str:
    """Return text in a style of `click`, for a terminal that wants colours; click takes it out elsewhere."""
    return text if _plain_terminal() else click.style(text, **style)


def _plain_terminal() -> bool:
    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"


def table(data: "Rows | DataFrame", *, drop: Sequence[str] = (), notes: slice | None = None) -> None:
    """Print rows, nothing without any: on a terminal as wide as it is, elsewhere aligned by spaces.

    Numbers stand to the right. Elsewhere cells have no spaces, so that columns can be counted, but for the last one,
    which may hold any text.

    Parameters
    ----------
    data
        A frame, or rows whose keys are the columns.
    drop
        The columns that go first where a terminal is narrow, in this order.
    notes
        On a terminal the last column has no place in the table: it is printed below, of these rows, once
        what several have. None: it is folded.
    """
    every = data if isinstance(data, Sequence) else records(data)
    if not every:
        return
    states = [row.get("state") for row in every]
    rows = [
        {**row, "state": Marked(state, STATES[state])} if isinstance(state, str) and state in STATES else row
        for row, state in zip(every, states, strict=True)
    ]
    names = list(rows[0])
    numbers = {name for name in names if all(isinstance(row[name], int | float | None) for row in rows)}
    if on_terminal():
        _drawn(names[:-1] if notes else names, rows, numbers, drop)
        if notes:
            _notes([(row[names[0]], row[names[-1]]) for row in rows[notes]])
        return
    lines = [names, *([_plain(row[name]) for name in names] for row in rows)]
    lines = [[*(cell.replace(" ", "_") for cell in line[:-1]), line[-1]] for line in lines]
    for line in aligned(lines, [number for number, name in enumerate(names) if name in numbers]):
        click.echo(line)


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


def _drawn(names: Sequence[str], rows: Rows, numbers: Container[str], drop: Sequence[str]) -> None:
    from rich.table import Table  # noqa: PLC0415 - not in a pipe

    console = _console()
    cells = [{name: _styled(row[name]) for name in names} for row in rows]
    kept = _fitting(names, cells, numbers, drop, console.width)
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in kept:
        folded = name == names[-1] and name not in numbers
        side: Literal["right", "left"] = "right" if name in numbers else "left"
        drawn.add_column(_styled(name), justify=side, no_wrap=not folded, overflow="fold")
    for row in cells:
        drawn.add_row(*(row[name] for name in kept))
    console.print(drawn)


def _notes(notes: Sequence[tuple[Cell, Cell]]) -> None:
    """Print the last column of a table below it, after what the first one has."""
    from rich.table import Table  # noqa: PLC0415

    drawn = Table.grid(padding=(0, 2))
    drawn.add_column(no_wrap=True)
    alike: dict[Cell, list[Cell]] = {}
    for name, note in notes:
        alike.setdefault(note, []).append(name)
    for note, (name, *others) in alike.items():
        if note:
            more = f" (and {len(others)} more like it)" if others else ""
            drawn.add_row("", _styled(name), _styled(note).append(more))
    _console().print(drawn)


def _styled(value: Cell) -> "Text":
    from rich.text import Text  # noqa: PLC0415

    return Text(_text(value, grouped=True), value.style if isinstance(value, Marked) else "")


def _fitting(
    names: Sequence[str],
    cells: Sequence[Mapping[str, "Text"]],
    numbers: Container[str],
    drop: Sequence[str],
    width: int,
) -> list[str]:
    """Return the columns that fit; the last one, if it is text, is folded and wants a third of the width."""
    widths = {name: max(len(name), *(row[name].cell_len for row in cells)) + 2 for name in names}
    last = names[-1]
    if last not in numbers and last not in drop:
        widths[last] = min(widths[last], width // 3)
    kept = list(names)
    # The first one names the row and stays, so does the last one unless it may go: nothing is cut in its middle.
    for name in [*drop, *names[-2:0:-1]]:
        if name in kept and sum(widths[one] for one in kept) - 2 > width:
            kept.remove(name)
    return kept


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
