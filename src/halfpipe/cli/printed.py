"""The output of verbs: tables that fit the terminal, plain aligned lines elsewhere, JSON for programs."""

import json
import os
import re
import shutil
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from halfpipe.causes import Cause, Verdict
from halfpipe.files import typed
from halfpipe.files.durable import write_bytes
from halfpipe.version import DOCUMENTS
from halfpipe.words import aligned, utc

if TYPE_CHECKING:
    from pandas import DataFrame

FORMS = ("table", "json", "csv", "ecsv", "parquet")  # of rows
NOTHING = "-"  # an empty cell, so that columns can be counted
NOT_YET = "·"  # a value that is not known yet
SIGNS = {Verdict.ACTION: "✗ ", Verdict.NOTE: "! "}  # before a cause
Rows = Sequence[Mapping[str, object]]
T = TypeVar("T")


def on_terminal() -> bool:
    """Tell whether the output goes to a terminal, or FORCE_COLOR asks for the same."""
    return sys.stdout.isatty() or bool(os.environ.get("FORCE_COLOR"))


def tinted(text: str, **style: Any) -> str:
    """Return text in a style of `click`, which is removed elsewhere, unless the terminal wants no colors."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if plain else click.style(text, **style)


def shown(items: Collection[T]) -> Iterator[T]:
    """Yield items, and show the progress on a terminal."""
    with click.progressbar(items, show_pos=True, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        yield from bar


def table(data: "Rows | DataFrame", *, drop: Sequence[str] = (), colors: Sequence[str | None] = ()) -> None:
    """Print rows: on a terminal in its width, elsewhere aligned by spaces. Without rows, print nothing.

    Numbers are right-aligned. The last column may contain any text, and is folded on a terminal. Elsewhere the cells of
    the other columns have no spaces, so that columns can be counted.

    Parameters
    ----------
    data
        A frame, or rows whose keys are the columns.
    drop
        The columns that a narrow terminal loses first, in this order; then the others from the right.
    colors
        Colors of rows that must stand out.
    """
    rows = data if isinstance(data, Sequence) else records(data)
    if not rows:
        return
    terminal = on_terminal()
    last = list(rows[0])[-1]
    room = shutil.get_terminal_size().columns if terminal else sys.maxsize
    numbers = {
        name
        for name in rows[0]
        if all(row[name] == NOT_YET or isinstance(row[name], int | float | None) for row in rows)
    }
    cells = {name: [name, *(_text(row[name], terminal) for row in rows)] for name in rows[0]}
    if not terminal:
        cells |= {name: [cell.replace(" ", "_") for cell in cells[name]] for name in cells if name != last}
    folds = last not in numbers and not (terminal and last in drop)
    widths = {name: max(map(len, column)) + 2 for name, column in cells.items()}
    widths[last] = min(widths[last], room // 3) if folds else widths[last]
    for name in [*drop, *list(cells)[-2:0:-1]]:
        if sum(widths.values()) - 2 > room:
            widths.pop(name, None)
    names = [name for name in widths if not (folds and name == last)]
    right = [place for place, name in enumerate(names) if name in numbers]
    lines = aligned(list(zip(*(cells[name] for name in names), strict=True)), right)
    wide = max(map(len, lines)) + 2
    for number, head in enumerate(lines):
        line = head
        if folds:
            text = wrap(cells[last][number], max(room - wide, 1), break_on_hyphens=False)
            line = head.ljust(wide) + f"\n{' ' * wide}".join(text)
        color = colors[number - 1] if number and colors else None
        bold = terminal and (color or not number)
        click.echo(tinted(line, fg=color, bold=True) if bold else line, color=terminal)


def records(frame: "DataFrame") -> list[dict[str, object]]:
    """Return a frame as rows by column, also those of a named index; missing values are None."""
    from halfpipe.tables.columns import flat  # noqa: PLC0415 - arrays, which most verbs do without

    found = flat(frame)
    return list(found.astype(object).where(found.notna(), None).to_dict("records"))


def _text(value: object, terminal: bool) -> str:
    """Return the text of a cell, for a terminal or for programs."""
    if value is None or value == "":
        return "–" if terminal else NOTHING
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):{'%Y-%m-%d %H:%M:%S' if terminal else '%Y-%m-%dT%H:%M:%SZ'}}"
    grouped = "," * (terminal and isinstance(value, int | float))
    return f"{value:{grouped}.1f}" if isinstance(value, float) else f"{value:{grouped}}"


def cause(what: str, one: Cause, *, err: bool = False) -> None:
    """Print a cause and its remedy, with `err` to standard error."""
    since = f", since {utc(one.since)}" if one.since and utc(one.since) not in one.text else ""
    head = f"{SIGNS[one.verdict]}{what}: {one.text}{since}"
    room = shutil.get_terminal_size().columns if on_terminal() else sys.maxsize
    for line in [head, *(f"  {line}" for line in one.lines)]:
        # Commands for pasting are not folded.
        click.echo(line if line.startswith("  → ") else folded(line, room), err=err)


def errors(found: Iterable[object]) -> None:
    """Print errors to standard error, after what was printed before."""
    sys.stdout.flush()
    for error in found:
        click.echo(f"{tinted('error: ', fg='red', bold=True)}{error}", err=True)


def folded(text: str, room: int) -> str:
    """Return a line in lines of at most `room` letters; a path is broken at a slash."""
    lines = [""]
    for piece in re.findall(r"\s*[^\s/]*/?", text):
        if len(lines[-1]) + len(piece.rstrip()) > room and lines[-1].strip():
            lines.append("    ")
            piece = piece.lstrip()  # noqa: PLW2901
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)


def listed(
    form: str,
    file: Path | None,
    name: str,
    found: "Rows | DataFrame",
    foot: str,
    *,
    simulated: bool,
    drop: Sequence[str] = (),
    colors: Sequence[str | None] = (),
    document: Mapping[str, object] | None = None,
) -> None:
    """Print rows: as a table and a line below it, as JSON by their `name`, or as a file of rows.

    Parameters
    ----------
    form, file
        One of `FORMS`, and the file; None: standard output.
    name, found, foot
        The name of the rows in JSON, the rows, and the line.
    simulated
        Whether the data are SIMULATED; JSON and files say so. For a table, the line above it has.
    drop, colors
        As for `table`.
    document
        What JSON has in addition.
    """
    if form == "table":
        table(found, drop=drop, colors=colors)
        click.echo(foot)
        return
    if form == "json":
        content = _json({name: found, "simulated": simulated, **(document or {})}).encode()
    else:
        from halfpipe.tables import files  # noqa: PLC0415 - pandas and astropy

        content = files.content(found, form, simulated=simulated)
    if file and file.parent.is_dir() and (file.is_file() or not file.exists()):
        # The whole file, or, if that fails, the file of before; devices and pipes are written to.
        write_bytes(file.resolve(), content, lasting=False, locked=False)
        return
    with click.open_file(str(file or "-"), "wb") as out:
        out.write(content)


def as_json(**values: Any) -> None:
    """Print values as one JSON object: dataclasses by their own form, else their fields, frames by rows."""
    click.echo(_json(values), nl=False)


def _json(values: Mapping[str, object]) -> str:
    return json.dumps({"version": DOCUMENTS, **values}, default=_for_json, indent=1) + "\n"


def _for_json(value: object) -> Any:
    if hasattr(value, "as_json"):
        return value.as_json()
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, msgspec.Struct):
        return typed.values(value)
    if isinstance(value, datetime):
        return value.isoformat()
    return records(value) if hasattr(value, "to_dict") else str(value)
