"""The table of the last benchmarks: on the terminal, and between two markers in docs/performance.md."""

import argparse
import json
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT, Figure

RESULTS = ROOT / "benchmarks" / "results" / "bench.json"
DOCUMENT = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- the table: begin -->", "<!-- the table: end -->"


def shown(value: float, unit: str) -> str:
    """Write a value with its unit."""
    forms = {
        "s": lambda: f"{value:.3g} s",
        "ratio": lambda: f"{value:.2f}",
        "bytes": lambda: f"{value / 1e6:,.0f} MB" if value >= 1e6 else f"{value / 1e3:,.0f} kB",
        "per second": lambda: f"{value:,.0f} /s",
        "share": lambda: f"{100 * value:.0f} %",
        "bytes per event": lambda: f"{value:.0f} B/event",
    }
    return forms[unit]()


def row(figure: Figure) -> list[str]:
    """Return the cells of one figure: what, median, smallest to largest, limit, whether it is kept."""
    spread = f"{shown(min(figure.values), figure.unit)} to {shown(max(figure.values), figure.unit)}"
    if figure.limit is None:
        limit, met = "", ""
    else:
        limit = f"{'≥' if figure.at_least else '≤'} {shown(figure.limit, figure.unit)}"
        met = "kept" if figure.is_met else "**missed**"
    against = f" ({shown(statistics.median(figure.against), 's')})" if figure.against else ""
    return [
        figure.name + against,
        shown(figure.median, figure.unit),
        spread if len(figure.values) > 1 else "",
        limit,
        met,
    ]


def table(content: Mapping[str, Any]) -> str:
    """Return the whole table as Markdown that is readable on a terminal too."""
    rows = [["", "median", "from, to", "limit", ""], [], *_rows(content)]
    widths = [max(len(cells[column]) for cells in rows if cells) for column in range(5)]
    lines = []
    for cells in rows:
        filled = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)] if cells else None
        lines.append("| " + " | ".join(filled or ["-" * width for width in widths]) + " |")
    return f"{about(content['machine_info'])}\n\n" + "\n".join(lines) + "\n"


def _rows(content: Mapping[str, Any]) -> Iterator[list[str]]:
    for benchmark in content["benchmarks"]:
        info = benchmark["extra_info"]
        yield [f"**{info['what']}**", "", "", "", ""]
        for figure in map(Figure.of, info["figures"]):
            yield row(figure)


def about(machine: Mapping[str, Any]) -> str:
    """Say where the figures are from."""
    return (
        f"{machine['date']}, HalfPipe {machine['halfpipe']}, Python {machine['python']}; {machine['cores']} cores "
        f"({machine['processor']}), {machine['memory'] / 2**30:.0f} GiB of memory, disk: {machine['disk']}; "
        f"load before the first benchmark: {machine['load']}."
    )


def put(document: str, text: str) -> str:
    """Return `document` with `text` between the markers.

    Raises
    ------
    ValueError
        If the markers are not there.
    """
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(
            f"{DOCUMENT}: expected the lines {BEGIN} and {END}. Put them where the table belongs."
        )
    return f"{before}{begin}\n\n{text}\n{end}{after}"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; with ``--docs`` put it into the document too."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--docs", action="store_true", help="put the table into docs/performance.md too")
    parser.add_argument("--results", type=Path, default=RESULTS, help="what the benchmarks wrote")
    arguments = parser.parse_args(argv)
    text = table(json.loads(arguments.results.read_bytes()))
    sys.stdout.write(text)
    if arguments.docs:
        DOCUMENT.write_text(put(DOCUMENT.read_text(), text))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
