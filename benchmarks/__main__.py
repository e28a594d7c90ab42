"""Run the benchmarks and print their table: `python -m benchmarks [arguments of pytest]`.

Without arguments, which may select some of them, the figures with a limit are also written to docs/performance.md,
between two markers.
"""

import json
import os
import statistics
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

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
    """Return the cells of one figure: name, median with the smallest and largest value, limit."""
    median = shown(figure.median, figure.unit)
    if len(figure.values) > 1:
        ends = [shown(each, figure.unit) for each in (min(figure.values), max(figure.values))]
        same = len({text.partition(" ")[2] for text in (median, *ends)}) == 1  # one unit, shown once
        median += f" ({'–'.join(text.split()[0] if same else text for text in ends)})"
    limit = ""
    if figure.limit is not None:
        limit = f"{'≥' if figure.at_least else '≤'} {shown(figure.limit, figure.unit)}"
        limit += "" if figure.is_met else ", **missed**"
    against = f" ({shown(statistics.median(figure.against), 's')})" if figure.against else ""
    return [figure.name + against, median, limit]


def table(content: Mapping[str, Any], *, limited: bool = False) -> str:
    """Return the table as Markdown with aligned columns: all figures, or those with a limit."""
    rows = [["", "median (range)", "limit"], [], *_rows(content, limited=limited)]
    widths = [max(len(cells[column]) for cells in rows if cells) for column in range(3)]
    lines = []
    for cells in rows:
        filled = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)] if cells else None
        lines.append("| " + " | ".join(filled or ["-" * width for width in widths]) + " |")
    return f"{about(content['machine_info'])}\n\n" + "\n".join(lines) + "\n"


def _rows(content: Mapping[str, Any], *, limited: bool) -> Iterator[list[str]]:
    for benchmark in content["benchmarks"]:
        info = benchmark["extra_info"]
        figures = [figure for figure in map(Figure.of, info["figures"]) if figure.limit or not limited]
        if figures:
            yield [f"**{info['what']}**", "", ""]
            yield from map(row, figures)


def about(machine: Mapping[str, Any]) -> str:
    """Describe the machine and the versions."""
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
        If the markers are missing.
    """
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(
            f"{DOCUMENT}: expected the lines {BEGIN} and {END}. Put them where the table belongs."
        )
    return f"{before}{begin}\n\n{text}\n{end}{after}"


def main() -> int:
    """Run all benchmarks and write the document, or run those that pytest's ``-k`` selects."""
    arguments = sys.argv[1:]
    os.chdir(ROOT)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.unlink(missing_ok=True)
    storage = f"--benchmark-storage=file://{RESULTS.parent}"
    named = ["-o", "python_files=bench_*.py", "-o", "python_functions=bench_*"]
    options = [*named, "-p", "no:xdist", "-p", "benchmark", "-q"]
    written = [f"--benchmark-json={RESULTS}", storage, "--benchmark-columns=median,min,max,rounds"]
    status = int(pytest.main(["benchmarks", *options, *written, *arguments]))
    if RESULTS.exists():  # after a failure, print the results so far, but do not write the document
        content = json.loads(RESULTS.read_bytes())
        sys.stdout.write(table(content))
        if not arguments and not status:
            DOCUMENT.write_text(put(DOCUMENT.read_text(), table(content, limited=True)))
    return status


if __name__ == "__main__":
    raise SystemExit(main())
