"""What verbs print: tables that fit the terminal, plain aligned lines elsewhere, JSON for programs."""

import json
import os
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from textwrap import fill, wrap
from typing import TYPE_CHECKING, Any, TypeVar

import click

from halfpipe.words import aligned

if TYPE_CHECKING:
    from pandas import DataFrame

NOTHING = "-"  # in a cell, so that columns can be counted
STATES = {"HELD": "red", "open": "yellow", "outstanding": "yellow"}  # that are to be seen at once
T = TypeVar("T")


@dataclass(frozen=True)
class Marked:
    """Text that is to be seen at once, in bold and in a colour."""

    text: str
    colour: str | None = "red"


Cell = str | int | float | datetime | Marked | None
Rows = Sequence[Mapping[str, Cell]]


def on_terminal() -> bool:
    """Tell whether a person looks at what is printed, or somebody asks for what a person would see."""
    return sys.stdout.isatty() or bool(os.environ.get("FORCE_COLOR"))


def tinted(text: str, **style: Any) -> str:
    """Return text in a style of `click`, for a terminal that wants colours; click takes it out elsewhere."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if plain else click.style(text, **style)


def shown(items: Collection[T]) -> Iterator[T]:
    """Yield items, and show on a terminal how many of them are done."""
    with click.progressbar(items, show_pos=True, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        yield from bar


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
    rows = data if isinstance(data, Sequence) else records(data)
    if not rows:
        return
    names = list(rows[0])
    numbers = {name for name in names if all(isinstance(row[name], int | float | None) for row in rows)}
    if on_terminal():
        _drawn(names[:-1] if notes else names, rows, numbers, drop)
        if notes:
            _notes([(row[names[0]], row[names[-1]]) for row in rows[notes]])
        return
    lines = [names, *([_text(row[name], terminal=False) for name in names] for row in rows)]
    lines = [[*(cell.replace(" ", "_") for cell in line[:-1]), line[-1]] for line in lines]
    for line in aligned(lines, [number for number, name in enumerate(names) if name in numbers]):
        click.echo(line)


def records(data: "DataFrame") -> list[dict[str, Any]]:
    """Return a frame as JSON has it: an object for each row, null for what is not known."""
    rows: list[dict[str, Any]] = data.astype(object).where(data.notna(), None).to_dict("records")
    return rows


def _text(value: Cell, *, terminal: bool = True) -> str:
    """Return a cell for a person, or for programs."""
    if isinstance(value, Marked):
        return value.text
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):{'%Y-%m-%d %H:%M:%S' if terminal else '%Y-%m-%dT%H:%M:%SZ'}}"
    if value is None or value == "":
        return NOTHING
    grouped = "," * (terminal and isinstance(value, int | float))
    return f"{value:{grouped}.1f}" if isinstance(value, float) else f"{value:{grouped}}"


def _drawn(names: list[str], rows: Rows, numbers: Collection[str], drop: Sequence[str]) -> None:
    """Print a table as wide as the terminal: columns go, and the last one, if it is text, is folded."""
    cells = {name: [name, *(_text(row[name]) for row in rows)] for name in names}
    widths = {name: max(map(len, column)) for name, column in cells.items()}
    room, last = shutil.get_terminal_size().columns, names[-1]
    wanted = dict(widths)
    if last not in numbers and last not in drop:
        wanted[last] = min(widths[last], room // 3)
    # The first one names the row and stays, so does the last one unless it may go: nothing is cut in its middle.
    for name in [*drop, *names[-2:0:-1]]:
        if name in wanted and sum(wanted.values()) + 2 * len(wanted) - 2 > room:
            del wanted[name]
    *others, last = wanted
    before = sum(widths[name] + 2 for name in others)
    for number, row in enumerate([dict.fromkeys(names), *rows]):
        line = []
        for name in wanted:
            text, cell = cells[name][number], row[name]
            if name in numbers:
                text = text.rjust(widths[name])
            elif name == last:
                text = f"\n{' ' * before}".join(wrap(text, max(room - before, 1), break_on_hyphens=False))
            else:
                text = text.ljust(widths[name])
            colour = (
                cell.colour
                if isinstance(cell, Marked)
                else STATES.get(str(cell))
                if name == "state"
                else None
            )
            line.append(tinted(text, fg=colour, bold=True) if colour or not number else text)
        click.echo("  ".join(line), color=True)


def _notes(notes: Sequence[tuple[Cell, Cell]]) -> None:
    """Print the last column of a table below it, after what the first one has."""
    alike: dict[Cell, list[Cell]] = {}
    for name, note in notes:
        alike.setdefault(note, []).append(name)
    for note, (name, *others) in alike.items():
        if note:
            more = f" (and {len(others)} more like it)" if others else ""
            head = f"  {_text(name)}  "
            said = fill(
                _text(note) + more,
                shutil.get_terminal_size().columns,
                initial_indent=head,
                subsequent_indent=" " * len(head),
                break_on_hyphens=False,
            )
            click.echo(tinted(said, fg=note.colour) if isinstance(note, Marked) else said, color=True)


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
