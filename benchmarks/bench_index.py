"""Reading the indexes of a run, putting its events in order, and deciding what is delivered."""

from pathlib import Path

from benchmarks.conftest import Race
from benchmarks.measure import Figure, Launcher, timed
from benchmarks.scenes import Scene
from benchmarks.sizes import Sizes
from benchmarks.steps import THREADS, Merge

SECONDS_PER_EVENT = 0.4e-6
LINES_PER_SECOND = 3e6


def bench_index(race: Race, launcher: Launcher, sizes: Sizes, scene: Scene, scratch: Path) -> None:
    """Race all three parts against `wc -l` of the same lines, then each part for itself."""
    merge, files = Merge(scene), scene.products(".idx")
    race.run(
        f"index of {sizes.events:,} events: parse by {THREADS} threads, order, settle",
        lambda: timed(merge.all),
        {"wc -l": lambda: launcher.run(["wc", "-l", *files])},
        ready=lambda: None,
        seconds=SECONDS_PER_EVENT * sizes.events,
    )
    assert len(merge.decision.events) == sizes.events
    parts = {"parse": merge.parse, "order": merge.order, "settle": merge.settle}
    times = {name: [timed(part) for _ in range(race.rounds)] for name, part in parts.items()}
    lines = int(launcher.said.split()[-2])
    alone = [timed(lambda: merge.parse(1)) for _ in range(race.rounds)]
    rates = tuple(lines / usage.cpu for usage in alone)
    race.add(Figure("lines parsed, of each core", rates, "per second", LINES_PER_SECOND, at_least=True))
    for name, usages in times.items():
        race.add(Figure(f"of it, {name}", tuple(usage.wall for usage in usages), "s"))
    race.add_peak(launcher, "merge", sizes, scratch)
