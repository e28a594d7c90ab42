"""The whole merge of a run: from chunk products to staged files with checksums."""

import shutil
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.conftest import Race, copying, copying_flushed
from benchmarks.measure import ROOT, UNFLUSHED, Figure, Launcher, Usage, forget, timed, unflushed
from benchmarks.scenes import Scene, Shape, build
from benchmarks.sizes import Sizes
from benchmarks.steps import THREADS, delivering, settings
from halfpipe import paths
from halfpipe.files.durable import write_text
from halfpipe.state.deliveries import Deliveries

LIMIT = 2.5  # of the time of `cp`
MEMORY = 600e6  # bytes
LARGER = 10  # times as many events for the slope of the memory


@dataclass(frozen=True)
class Way:
    """How a run is merged: where the input is, whether the output is flushed, how many files at a time."""

    threads: int
    flushed: bool
    cold: bool = False

    def __str__(self) -> str:
        words = ["flushed to disk" if self.flushed else "not flushed"]
        words.append("input read from disk" if self.cold else "input in memory")
        return ", ".join([*words, "1 thread" if self.threads == 1 else f"{self.threads} threads"])


WAYS = (
    Way(1, flushed=False),
    Way(THREADS, flushed=False),
    Way(1, flushed=True),
    Way(THREADS, flushed=True),
    Way(1, flushed=False, cold=True),
    Way(THREADS, flushed=True, cold=True),
)


def command(scene: Scene, home: Path, threads: int) -> list[object]:
    """Return the command of the workflow's job, for the scene's first run in the site at `home`."""
    run, downlink = scene.runs[0], scene.downlinks[0]
    program = [sys.executable, ROOT / "scripts" / "deliver_run.py"]
    write_text(home / "settings.json", settings(scene, home).as_json())
    what = ["--settings", home / "settings.json", "--downlink", downlink, "--run", run]
    chunks = [paths.chunk(downlink, chunk) for chunk in scene.chunks(run)]
    which = ["--chunks", *chunks, "--runs", *scene.runs]
    return [*program, *what, *which, "--threads", str(threads), "--log", home / "deliver_run.log"]


def delivered(scene: Scene, home: Path) -> int:
    """Return the number of delivered events in the delivery of the scene's first run."""
    return Deliveries(home / "work", scene.runs[0]).latest()[scene.downlinks[0]].events


@pytest.mark.parametrize("way", WAYS, ids=str)
def bench_merge(race: Race, launcher: Launcher, sizes: Sizes, scene: Scene, scratch: Path, way: Way) -> None:
    """Race the job's program against `cp` of the records, in each way of reading and writing."""
    home, out, files = scratch / "site", scratch / "copied", scene.products(".evt")

    def ready() -> None:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        scene.site(home)
        if way.cold:
            forget([*files, *scene.products(".rows")])

    baselines = {"cp": copying(launcher, files, out)}
    if way.flushed:
        baselines = {"cp and sync": copying_flushed(launcher, files, out), **baselines}
    race.run(
        f"whole merge, {sizes.events:,} events, as a program; {way}",
        lambda: launcher.run(command(scene, home, way.threads), env=None if way.flushed else UNFLUSHED),
        baselines,
        ready=ready,
        limits={} if way.cold else {next(iter(baselines)): LIMIT},
    )
    assert delivered(scene, home) == sizes.events


@pytest.mark.parametrize("flushed", [False, True], ids=["unflushed", "flushed"])
def bench_merge_in_process(
    race: Race, launcher: Launcher, sizes: Sizes, scene: Scene, scratch: Path, flushed: bool
) -> None:
    """Race the same function without the program's start."""
    home, out, files = scratch / "site", scratch / "copied", scene.products(".evt")

    def ready() -> None:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        scene.site(home)
        (home / "stage").mkdir()

    deliver = delivering(scene, home, scene.downlinks[0], scene.runs[0], THREADS)

    def merge() -> None:
        record = deliver()
        made = Deliveries(home / "work", scene.runs[0]).sealed(record.seal)
        assert made is not None
        assert made.events == sizes.events

    def step() -> Usage:
        with nullcontext() if flushed else unflushed():
            return timed(merge)

    baselines = {"cp": copying(launcher, files, out)}
    if flushed:
        baselines = {"cp and sync": copying_flushed(launcher, files, out)}
    race.run(
        f"whole merge, {sizes.events:,} events, as a function; {Way(THREADS, flushed=flushed)}",
        step,
        baselines,
        ready=ready,
        limits={next(iter(baselines)): LIMIT},
    )


def bench_memory(race: Race, launcher: Launcher, sizes: Sizes, scratch: Path) -> None:
    """Measure the peak memory at two numbers of events, and how it grows between them."""
    counts = [sizes.events, LARGER * sizes.events] if sizes.large else [sizes.events // LARGER, sizes.events]
    smaller, larger = (build(sizes.home / "scenes", Shape(count)) for count in counts)
    home = scratch / "site"
    peaks: list[float] = []

    def step(scene: Scene) -> None:
        peaks.append(launcher.run(command(scene, home, THREADS)).peak or 0.0)

    smaller.site(home)
    step(smaller)
    larger.site(home)
    race.benchmark.pedantic(step, args=(larger,), rounds=1)
    what = f"memory of the merge, {counts[0]:,} and {counts[1]:,} events, {THREADS} threads"
    race.benchmark.extra_info["what"] = what
    for count, peak in zip(counts, peaks, strict=True):
        race.add(Figure(f"peak memory, {count:,} events", (peak,), "bytes", MEMORY))
    slope = (peaks[1] - peaks[0]) / (counts[1] - counts[0])
    race.add(Figure("slope of the memory", (slope,), "bytes per event"))
