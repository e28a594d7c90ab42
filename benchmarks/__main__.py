"""Run the benchmarks and print their table: `python -m benchmarks [--docs] [arguments of pytest]`."""

import os
import sys
from collections.abc import Sequence

import pytest

from benchmarks import report
from benchmarks.measure import ROOT


def main(argv: Sequence[str] | None = None) -> int:
    """Run everything, or what pytest's ``-k`` selects; with ``--docs`` the document gets the table too."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    docs = [arguments.pop(arguments.index("--docs"))] if "--docs" in arguments else []
    os.chdir(ROOT)
    report.RESULTS.parent.mkdir(parents=True, exist_ok=True)
    report.RESULTS.unlink(missing_ok=True)
    storage = f"--benchmark-storage=file://{report.RESULTS.parent}"
    options = [
        "-o",
        "python_files=bench_*.py",
        "-o",
        "python_functions=bench_*",
        "-p",
        "no:xdist",
        "-p",
        "benchmark",
        "-q",
    ]
    written = [f"--benchmark-json={report.RESULTS}", storage, "--benchmark-columns=median,min,max,rounds"]
    status = int(pytest.main(["benchmarks", *options, *written, *arguments]))
    if report.RESULTS.exists():  # what was measured before a benchmark failed is shown too, but not put down
        report.main([] if status else docs)
    return status


if __name__ == "__main__":
    raise SystemExit(main())
