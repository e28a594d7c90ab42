"""Fixtures of the benchmarks: sizes, scenes, and the race of a step against its baselines."""

import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from benchmarks.measure import COPY, Figure, Launcher, Usage
from benchmarks.scenes import Mission, Scene, Shape, build, build_mission
from benchmarks.sizes import Sizes
from halfpipe import __version__
from halfpipe.process.environment import without_idle_threads

without_idle_threads()  # as in the workflow; before numpy is imported, and for programs started from here


@pytest.fixture(scope="session")
def sizes() -> Sizes:
    """Sizes of the measurements."""
    found = Sizes.from_environment()
    found.home.mkdir(parents=True, exist_ok=True)
    return found


@pytest.fixture(scope="session")
def launcher(sizes: Sizes) -> Iterator[Launcher]:
    """Give the process that runs commands."""
    started = Launcher(sizes.home)
    yield started
    started.close()


@pytest.fixture(scope="session")
def scene(sizes: Sizes) -> Scene:
    """One run of one downlink in 12 chunks of two EPUs."""
    return build(sizes.home / "scenes", Shape(sizes.events))


@pytest.fixture(scope="session")
def mission(sizes: Sizes) -> Mission:
    """RetDefs of many downlinks."""
    return build_mission(sizes.home / "scenes", sizes.downlinks)


@pytest.fixture
def scratch(sizes: Sizes) -> Iterator[Path]:
    """Give an empty directory on the file system of the scenes."""
    path = sizes.home / "scratch"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@dataclass
class Race:
    """A step and its baselines, run in turn: A B A B.

    `run` adds its measurements as figures of the benchmark; `add` adds others.
    """

    benchmark: Any
    rounds: int
    usages: list[Usage] = field(default_factory=list)

    def run(
        self,
        what: str,
        step: Callable[[], Usage],
        baselines: Mapping[str, Callable[[], Usage]],
        *,
        ready: Callable[[], object],
        limits: Mapping[str, float] | None = None,
        seconds: float | None = None,
    ) -> None:
        """Run everything once to warm up, then measure it `rounds` times.

        Parameters
        ----------
        what
            The benchmark's heading in the table.
        step, baselines
            Functions that do the work and return its cost.
        ready
            Called before each of them, to remove the output of the last one.
        limits
            Maximum time of the step, as a multiple of each baseline.
        seconds
            Maximum time of the step, seconds.
        """
        every: dict[str, list[Usage]] = {name: [] for name in baselines}

        def setup() -> None:
            for name, baseline in baselines.items():
                ready()
                every[name].append(baseline())
            ready()

        def target() -> None:
            self.usages.append(step())

        self.benchmark.pedantic(target, setup=setup, rounds=self.rounds, warmup_rounds=1)
        self.usages = self.usages[-self.rounds :]
        self.benchmark.extra_info["what"] = what
        self.add(Figure("time", tuple(usage.wall for usage in self.usages), "s", seconds))
        for name, measured in every.items():
            walls = [usage.wall for usage in measured[-self.rounds :]]
            ratios = tuple(u.wall / wall for u, wall in zip(self.usages, walls, strict=True))
            self.add(
                Figure(f"time / {name}", ratios, "ratio", (limits or {}).get(name), against=tuple(walls))
            )
        peaks = tuple(usage.peak for usage in self.usages if usage.peak is not None)
        if peaks:
            self.add(Figure("peak memory", peaks, "bytes"))

    def add_peak(self, launcher: Launcher, step: str, sizes: Sizes, out: Path) -> None:
        """Add the peak memory of a process that runs only one of `benchmarks.steps`."""
        words = [sys.executable, "-m", "benchmarks.steps", step, sizes.home / "scenes", sizes.events, out]
        peak = launcher.run(words).peak
        assert peak is not None
        self.add(Figure("peak memory of a process that does only this", (peak,), "bytes"))

    def add(self, figure: Figure) -> None:
        """Add a figure to the table."""
        self.benchmark.extra_info.setdefault("figures", []).append(figure.as_json())


@pytest.fixture
def race(benchmark: Any, sizes: Sizes) -> Race:
    """Give the race of one benchmark."""
    return Race(benchmark, sizes.rounds)


def copying(launcher: Launcher, files: list[Path], out: Path) -> Callable[[], Usage]:
    """Return the baseline that copies `files` into the directory `out`."""
    return lambda: launcher.run([*COPY, *files, out])


def copying_flushed(launcher: Launcher, files: list[Path], out: Path) -> Callable[[], Usage]:
    """Return the baseline that copies `files` into `out` and flushes the copies to disk."""
    words = " ".join(COPY)
    return lambda: launcher.run(["sh", "-c", f'{words} "$@" && sync -d "$0"/*', out, *files, out])


def pytest_benchmark_generate_machine_info(config: pytest.Config) -> dict[str, Any]:
    """Describe the machine, its disk and its load in the last minute, without names of hosts or people."""
    del config
    home = Sizes.from_environment().home
    processor = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    home.mkdir(parents=True, exist_ok=True)
    disk = subprocess.run(["stat", "-f", "-c", "%T", home], capture_output=True, text=True, check=True)
    return {
        "date": datetime.fromtimestamp(time.time(), UTC).date().isoformat(),
        "processor": processor[1] if processor else "unknown",
        "cores": len(os.sched_getaffinity(0)),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "disk": disk.stdout.strip(),
        "python": platform.python_version(),
        "halfpipe": __version__,
        "load": round(os.getloadavg()[0], 1),
    }
