"""Copying the records, from the chunks' event files to those of Level-1."""

import shutil
from pathlib import Path

from benchmarks.conftest import Race, copying
from benchmarks.measure import Launcher, size_of, timed
from benchmarks.scenes import Scene
from benchmarks.sizes import Sizes
from benchmarks.steps import Copy

LIMIT = 1.4  # of the time of `cp`


def bench_record_copy(race: Race, launcher: Launcher, sizes: Sizes, scene: Scene, scratch: Path) -> None:
    """Race the copy, in this process, against `cp` of the same records."""
    copy, out = Copy(scene), scratch / "out"

    def ready() -> None:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()

    race.run(
        f"record copy alone, {sizes.events:,} events",
        lambda: timed(lambda: copy.write(out)),
        {"cp": copying(launcher, scene.products(".evt"), out)},
        ready=ready,
        limits={"cp": LIMIT},
    )
    # The copy must have exactly all records and headers; otherwise it measured something else.
    records = size_of(scene.products(".evt")) - 176 * scene.shape.chunks
    assert size_of(out.iterdir()) == records + 176 * len(copy.decision.files)
    ready()
    race.add_peak(launcher, "copy", sizes, out)
