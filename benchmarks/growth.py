"""How the time grows with events, chunks, earlier downlinks of a run, and downlinks in one DAG.

`python -m benchmarks.growth` measures, and draws docs/growth.png; with ``--draw`` it draws what was
measured last. What takes long or some dozens of gigabytes of disk is left out unless `HALFPIPE_BENCH_LARGE`
is set.
"""

import argparse
import json
import shutil
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import dag, machine, report
from benchmarks.measure import ROOT, Launcher, Usage, timed, unflushed
from benchmarks.scenes import Scene, Shape, build, build_mission
from benchmarks.sizes import Sizes
from benchmarks.steps import Merge, delivering
from halfpipe.files.json_files import write_json

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
PANELS = {
    "events": "events of a run, 12 chunks",
    "chunks": f"chunks of a run, {EVENTS_IN_CHUNKS:,} events",
    "earlier": "earlier downlinks of the run",
    "downlinks": "downlinks in one DAG",
}

Curve = dict[int, float]  # seconds by size


def median(rounds: int, step: Callable[[], Usage], ready: Callable[[], object] = lambda: None) -> float:
    """Return the median of the seconds that `step` takes; `ready` is called before each time."""
    walls = []
    for _ in range(rounds):
        ready()
        walls.append(step().wall)
    return statistics.median(walls)


def merge_curves(home: Path, shapes: Mapping[int, Shape]) -> dict[str, Curve]:
    """Measure the whole merge and its part that knows no records, for scenes of these shapes."""
    whole, index = Curve(), Curve()
    site = home / "scratch"
    for size, shape in shapes.items():
        scene = build(home / "scenes", shape)
        deliver = delivering(scene, site, scene.downlinks[0], scene.runs[0], 1)
        merge = Merge(scene)
        rounds = ROUNDS if shape.events <= MOST_EVENTS else 1
        with unflushed():
            whole[size] = median(rounds, partial(timed, deliver), partial(site_of, scene, site))
        index[size] = median(rounds, partial(timed, merge.all))
        told(f"{size} events or chunks: {whole[size]:.3g} s, index {index[size]:.3g} s")
    shutil.rmtree(site, ignore_errors=True)
    return {"chunk products to event files": whole, "of it the index: parse, order, settle": index}


def site_of(scene: Scene, home: Path) -> None:
    """Make an empty stage, and a working directory in which all chunks are decoded."""
    scene.site(home)
    (home / "stage").mkdir()


def earlier_curve(home: Path) -> dict[str, Curve]:
    """Deliver one run downlink by downlink, and measure each."""
    shape = Shape(EVENTS_OF_DOWNLINK * (EARLIER + 1), chunks=2, downlinks=EARLIER + 1)
    scene, site = build(home / "scenes", shape), home / "scratch"
    site_of(scene, site)
    curve = Curve()
    with unflushed():
        for earlier, downlink in enumerate(scene.downlinks):
            curve[earlier] = timed(delivering(scene, site, downlink, scene.runs[0], 1)).wall
    del curve[0]
    told(f"1 and {EARLIER} earlier downlinks: {curve[1]:.3g} s, {curve[EARLIER]:.3g} s")
    shutil.rmtree(site, ignore_errors=True)
    return {f"merge of one more downlink, {EVENTS_OF_DOWNLINK:,} events": curve}


def dag_curves(home: Path, launcher: Launcher, counts: Iterable[int]) -> dict[str, Curve]:
    """Measure dry runs of so many downlinks, by the workflow and by the bare Snakefile."""
    ours, bare = Curve(), Curve()
    for count in counts:
        mission = build_mission(home / "scenes", count)
        rounds = ROUNDS if count <= MOST_DOWNLINKS else 1
        ours[count] = median(rounds, partial(dag.dry_run, launcher, mission))
        bare[count] = median(rounds, partial(dag.bare_dry_run, launcher, mission))
        told(f"{count} downlinks in one DAG: {ours[count]:.3g} s, bare {bare[count]:.3g} s")
    return {"dry run of the workflow": ours, "dry run of a bare Snakefile": bare}


def told(line: str) -> None:
    """Say how far it is."""
    sys.stderr.write(f"{line}\n")


def measure(sizes: Sizes, wanted: Sequence[str]) -> None:
    """Measure the panels `wanted`, and keep each with those that were measured before."""
    sizes.home.mkdir(parents=True, exist_ok=True)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    events = [count for count in EVENTS if sizes.large or count <= MOST_EVENTS]
    downlinks = [count for count in DOWNLINKS if sizes.large or count <= MOST_DOWNLINKS]
    launcher = Launcher(sizes.home)
    measured: dict[str, Callable[[], dict[str, Curve]]] = {
        "events": lambda: merge_curves(sizes.home, {count: Shape(count) for count in events}),
        "chunks": lambda: merge_curves(
            sizes.home, {count: Shape(EVENTS_IN_CHUNKS, count) for count in CHUNKS}
        ),
        "earlier": lambda: earlier_curve(sizes.home),
        "downlinks": lambda: dag_curves(sizes.home, launcher, downlinks),
    }
    try:
        for panel in wanted:
            curves = measured[panel]()
            content = json.loads(RESULTS.read_bytes()) if RESULTS.exists() else {}
            content[panel] = {"machine_info": machine.described(sizes.home), "curves": curves}
            write_json(RESULTS, content)
    finally:
        launcher.close()


def draw(content: Mapping[str, Any], picture: Path) -> None:
    """Draw one panel for each kind of size, both axes logarithmic, with the line of n log n."""
    import matplotlib as mpl  # noqa: PLC0415 - takes a second, and measuring needs none of it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - as above
    from matplotlib.ticker import NullFormatter  # noqa: PLC0415 - as above

    figure, axes = plt.subplots(2, 2, figsize=(11, 8), layout="constrained")
    for axis, (panel, size) in zip(axes.flat, PANELS.items(), strict=True):
        curves = content[panel]["curves"]
        for name, curve in curves.items():
            points = sorted((int(count), seconds) for count, seconds in curve.items())
            axis.plot(*zip(*points, strict=True), marker="." if len(points) > 20 else "o", label=name)
        axis.set(xscale="log", yscale="log", xlabel=size, ylabel="seconds")
        axis.xaxis.set_minor_formatter(NullFormatter())
        seen = axis.get_ylim()
        axis.plot(*n_log_n(next(iter(curves.values()))), linestyle="--", color="grey", label="n log n")
        axis.set_ylim(seen)  # the line may begin far below
        axis.grid(visible=True, which="major", alpha=0.3)
        axis.legend(fontsize="small")
    figure.suptitle("SIMULATED runs, one thread, not flushed to disk, input in memory")
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=90)
    plt.close(figure)


def n_log_n(curve: Mapping[Any, float]) -> tuple[Sequence[float], Sequence[float]]:
    """Return a line of n log n that ends where `curve` ends."""
    ends = {int(count): seconds for count, seconds in curve.items()}
    last = max(ends)
    sizes = np.geomspace(max(2, min(ends)), last, 50)
    return sizes.tolist(), (ends[last] * sizes * np.log(sizes) / (last * np.log(last))).tolist()


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draw", action="store_true", help="only draw what was measured last")
    parser.add_argument("--panels", nargs="+", choices=PANELS, help="measure only these again")
    parser.add_argument("--picture", type=Path, default=PICTURE)
    arguments = parser.parse_args(argv)
    if not arguments.draw:
        measure(Sizes.from_environment(), arguments.panels or list(PANELS))
    draw(json.loads(RESULTS.read_bytes()), arguments.picture)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
