"""The built-in decoder: SIMULATED level-0 to event records and their index."""

import shutil
import sys
from pathlib import Path

import pytest

from benchmarks.conftest import Race, copying, copying_flushed
from benchmarks.measure import ROOT, UNFLUSHED, Figure, Launcher
from benchmarks.scenes import APIDS, Shape, build
from benchmarks.sizes import Sizes

EVENTS_PER_SECOND = 300_000  # of each core


@pytest.mark.parametrize("flushed", [False, True], ids=["unflushed", "flushed"])
def bench_decoder(race: Race, launcher: Launcher, sizes: Sizes, scratch: Path, flushed: bool) -> None:
    """Race the program against `cp` of its input packets and its products."""
    # A chunk of a real downlink has some hundred megabytes.
    scene = build(sizes.home / "scenes", Shape(sizes.events // 2, chunks=2, level0=True))
    chunk = scene.chunks(scene.runs[0])[0]
    packets = [path for path in scene.packets if f"a{APIDS[0]:04d}t" in path.name]
    products = [path for kind in (".evt", ".idx") for path in scene.products(kind) if str(chunk) in path.name]
    made, copied = scratch / "made", scratch / "copied"
    program = [sys.executable, ROOT / "scripts" / "simulated_decoder.py"]

    def ready() -> None:
        for home in (made, copied):
            shutil.rmtree(home, ignore_errors=True)
            home.mkdir()

    copy = (copying_flushed if flushed else copying)(launcher, [*packets, *products], copied)
    race.run(
        f"built-in decoder, one chunk of SIMULATED level-0, {'flushed to disk' if flushed else 'not flushed'}",
        lambda: launcher.run(
            [*program, "-r", scene.retdef(chunk), "-o", made, "--level0", scene.level0],
            env=None if flushed else UNFLUSHED,
        ),
        {"cp and sync" if flushed else "cp": copy},
        ready=ready,
    )
    events = int(launcher.said.split()[-3])
    assert [path.read_bytes() for path in sorted(made.iterdir())] == [
        path.read_bytes() for path in sorted(products)
    ]
    started = [launcher.run([*program, "--help"]) for _ in range(race.rounds)]
    rates = tuple(events / usage.cpu for usage in race.usages)
    race.add(Figure("events, of each core", rates, "per second", EVENTS_PER_SECOND, at_least=True))
    rates = tuple(events / (usage.cpu - start.cpu) for usage, start in zip(race.usages, started, strict=True))
    race.add(Figure("events, of each core, without the program's start", rates, "per second"))
    race.add(Figure("of it, the program's start", tuple(usage.wall for usage in started), "s"))
