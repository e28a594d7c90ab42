"""Measuring commands and functions next to a baseline, and the figures of the table."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

ROOT = Path(__file__).resolve().parents[1]
SNAKEMAKE = Path(sys.executable).with_name("snakemake")
INJECTED = ROOT / "benchmarks" / "injected"
# Every Python process reads this at its start, before the rest of the path.
WATCHED = {"PYTHONPATH": os.pathsep.join(filter(None, [str(INJECTED), os.environ.get("PYTHONPATH")]))}
UNFLUSHED = {**WATCHED, "HALFPIPE_BENCH_UNFLUSHED": "1"}
COPY = [
    "cp",
    "--reflink=never",
    "--sparse=never",
]  # really copy bytes, even if the file system could share them


@dataclass(frozen=True)
class Usage:
    """Cost of a command or a function: wall-clock and CPU seconds, and peak memory in bytes."""

    wall: float
    cpu: float
    peak: float | None = None


@dataclass(frozen=True)
class Figure:
    """One line of the table: a value for each round, and a limit, if any.

    `against` are the seconds of the baseline, if the values are ratios to it.
    """

    name: str
    values: tuple[float, ...]
    unit: Literal["s", "ratio", "bytes", "per second", "share", "bytes per event"]
    limit: float | None = None
    at_least: bool = False
    against: tuple[float, ...] = ()

    @property
    def median(self) -> float:
        """The value in the table."""
        return statistics.median(self.values)

    @property
    def is_met(self) -> bool:
        """Tell whether the median is within the limit."""
        if self.limit is None:
            return True
        return self.median >= self.limit if self.at_least else self.median <= self.limit

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Self:
        """Read one from JSON."""
        return cls(
            **{**content, "values": tuple(content["values"]), "against": tuple(content.get("against", ()))}
        )

    def as_json(self) -> dict[str, Any]:
        """Write it as JSON."""
        return asdict(self)


class Launcher:
    """Runs commands one after the other with `benchmarks/launch.py`; start it before using much memory."""

    def __init__(self, scratch: Path) -> None:
        self._said = scratch / "said.txt"
        program = str(ROOT / "benchmarks" / "launch.py")
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(
        self,
        command: Iterable[object],
        *,
        cwd: Path = ROOT,
        env: Mapping[str, str] | None = None,
        statuses: Sequence[int] = (0,),
    ) -> Usage:
        """Run a command, of words and paths, and return its cost.

        Raises
        ------
        RuntimeError
            If it does not end with one of `statuses`; with its last lines.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        words = [str(word) for word in command]
        order = {
            "command": words,
            "cwd": str(cwd),
            "env": {**os.environ, **(env or {})},
            "said": str(self._said),
        }
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if answer["status"] not in statuses:
            last = "".join(self._said.read_text(errors="replace").splitlines(keepends=True)[-20:])
            raise RuntimeError(f"{' '.join(words)[:500]}\nended with {answer['status']}:\n{last}")
        return Usage(answer["wall"], answer["cpu"], answer["peak"])

    @property
    def said(self) -> str:
        """The output of the last command."""
        return self._said.read_text(errors="replace")

    def close(self) -> None:
        """End the process that runs the commands."""
        self._process.communicate()


def timed(function: Callable[[], object]) -> Usage:
    """Call a function in this process and return its cost."""
    cpu, wall = time.process_time(), time.perf_counter()
    function()
    return Usage(time.perf_counter() - wall, time.process_time() - cpu)


@contextmanager
def unflushed() -> Iterator[None]:
    """Disable flushing to disk in this process."""
    kept = os.fsync
    os.fsync = lambda _: None  # type: ignore[assignment]
    try:
        yield
    finally:
        os.fsync = kept


def forget(files: Iterable[Path]) -> None:
    """Drop `files` from the kernel's cache, so that they are read from disk again."""
    for path in files:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fdatasync(handle)  # pages that are not on disk yet cannot be dropped
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)


def size_of(files: Iterable[Path]) -> int:
    """Return the total number of bytes of `files`."""
    return sum(path.stat().st_size for path in files)
