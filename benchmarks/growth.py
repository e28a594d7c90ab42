"""How the time grows with events, chunks, earlier downlinks of a run, and downlinks in one DAG.

`python -m benchmarks.growth` measures, and draws docs/growth.png. What takes long or some dozens of gigabytes of disk
is left out unless `HALFPIPE_BENCH_LARGE` is set.
"""

import json
import shutil
import statistics
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks import dag, report
from benchmarks.measure import ROOT, Launcher, Usage, timed, unflushed
from benchmarks.scenes import Scene, Shape, build, build_mission
from benchmarks.sizes import Sizes
from benchmarks.steps import Merge, delivering

RESULTS = report.RESULTS.with_name("growth.json")
PICTURE = ROOT / "docs" / "growth.png"
EVENTS = (10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)
CHUNKS = (1, 2, 4, 10, 20, 50, 100, 200)
EVENTS_IN_CHUNKS = 200_000
EARLIER = 200
EVENTS_OF_DOWNLINK = 2_000
DOWNLINKS = (10, 30, 100, 300, 1000, 2000)
MOST_EVENTS, MOST_DOWNLINKS = 1_000_000, 300  # larger ones are opt-in
ROUNDS = 3

Curves = dict[str, dict[int, float]]  # seconds by size, by name


def median(large: bool, step: Callable[[], Usage], ready: Callable[[], object] = lambda: None) -> float:
    """Return the median of the seconds that `step` takes; `ready` is called before each time."""
    walls = []
    for _ in range(1 if large else ROUNDS):
        ready()
        walls.append(step().wall)
    return statistics.median(walls)


def merge_curves(home: Path, shapes: Mapping[int, Shape]) -> Curves:
    """Measure the whole merge and its part that knows no records, for scenes of these shapes."""
    whole, index, site = dict[int, float](), dict[int, float](), home / "scratch"
    for size, shape in shapes.items():
        scene = build(home / "scenes", shape)
        deliver = delivering(scene, site, scene.downlinks[0], scene.runs[0], 1)
        large = shape.events > MOST_EVENTS
        with unflushed():
            whole[size] = median(large, partial(timed, deliver), partial(site_of, scene, site))
        index[size] = median(large, partial(timed, Merge(scene).all))
    return {"chunk products to event files": whole, "of it the index: parse, order, settle": index}


def site_of(scene: Scene, home: Path) -> None:
    """Make an empty stage, and a working directory in which all chunks are decoded."""
    scene.site(home)
    (home / "stage").mkdir()


def earlier_curve(home: Path) -> Curves:
    """Deliver one run downlink by downlink, and measure each."""
    shape = Shape(EVENTS_OF_DOWNLINK * (EARLIER + 1), chunks=2, downlinks=EARLIER + 1)
    scene, site = build(home / "scenes", shape), home / "scratch"
    site_of(scene, site)
    with unflushed():
        walls = [timed(delivering(scene, site, dl, scene.runs[0], 1)).wall for dl in scene.downlinks]
    return {f"merge of one more downlink, {EVENTS_OF_DOWNLINK:,} events": dict(enumerate(walls[1:], 1))}


def dag_curves(home: Path, counts: Iterable[int]) -> Curves:
    """Measure dry runs of so many downlinks, by the workflow and by the bare Snakefile."""
    ours, bare, launcher = dict[int, float](), dict[int, float](), Launcher(home)
    for count in counts:
        mission, large = build_mission(home / "scenes", count), count > MOST_DOWNLINKS
        ours[count] = median(large, partial(dag.dry_run, launcher, mission))
        bare[count] = median(large, partial(dag.bare_dry_run, launcher, mission))
    launcher.close()
    return {"dry run of the workflow": ours, "dry run of a bare Snakefile": bare}


def measure(sizes: Sizes) -> dict[str, Curves]:
    """Measure the curves of each panel."""
    home = sizes.home
    home.mkdir(parents=True, exist_ok=True)
    events = [count for count in EVENTS if sizes.large or count <= MOST_EVENTS]
    downlinks = [count for count in DOWNLINKS if sizes.large or count <= MOST_DOWNLINKS]
    many = {count: Shape(EVENTS_IN_CHUNKS, count) for count in CHUNKS}
    found = {
        "events of a run, 12 chunks": merge_curves(home, {count: Shape(count) for count in events}),
        f"chunks of a run, {EVENTS_IN_CHUNKS:,} events": merge_curves(home, many),
        "earlier downlinks of the run": earlier_curve(home),
        "downlinks in one DAG": dag_curves(home, downlinks),
    }
    shutil.rmtree(home / "scratch", ignore_errors=True)
    return found


def draw(panels: Mapping[str, Curves], picture: Path) -> None:
    """Draw one panel for each kind of size, both axes logarithmic, with the line of n log n."""
    figure = Figure(figsize=(11, 8), layout="constrained")
    for axes, (size, curves) in zip(figure.subplots(2, 2).flat, panels.items(), strict=True):
        for name, curve in curves.items():
            axes.plot(list(curve), list(curve.values()), marker="." if len(curve) > 20 else "o", label=name)
        axes.set(xscale="log", yscale="log", xlabel=size, ylabel="seconds")
        axes.set_ylim(axes.get_ylim())  # the line may begin far below
        curve = next(iter(curves.values()))
        last = max(curve)
        n = np.geomspace(max(2, min(curve)), last, 50)
        line = curve[last] * n * np.log(n) / (last * np.log(last))
        axes.plot(n, line, linestyle="--", color="grey", label="n log n")
        axes.grid(visible=True, which="major", alpha=0.3)
        axes.legend(fontsize="small")
    figure.suptitle("SIMULATED runs, one thread, not flushed to disk, input in memory")
    figure.savefig(picture, dpi=90)


if __name__ == "__main__":
    measured = measure(Sizes.from_environment())
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(measured, indent=1))
    draw(measured, PICTURE)
