"""How long a tree of SIMULATED downlinks takes to count: `python -m benchmarks.bench_inventory DIR [DOWNLINKS]`.

The tree is made below DIR, which must not exist, and removed again. Its files hold nothing.
"""

import argparse
import resource
import shutil
import sys
import time
from pathlib import Path

from halfpipe.inventory.copying import plan
from halfpipe.inventory.tree import take_inventory

DOWNLINKS = 60_000
FIRST_YEAR, PER_YEAR = 8, 3400
CHUNKS = 4


def simulate(root: Path, downlinks: int) -> int:
    """Make a tree of that many downlinks, named by their years, and return the number of its files."""
    files = 0
    for number in range(downlinks):
        year, of_year = divmod(number, PER_YEAR)
        day, pass_ = divmod(of_year, 10)
        name = f"{FIRST_YEAR + year:02d}{1 + day // 28:02d}{1 + day % 28:02d}{pass_ + 1:03d}"
        met = 300_000_000 + 5000 * number
        home = root / name / str(met)
        home.mkdir(parents=True)
        made = [home.parent / f"RetDef-{name}-{chunk:05d}.xml" for chunk in range(1, CHUNKS + 1)]
        made += [home.parent / f"{text}_{name}.txt" for text in ("delivered_events", "retired_runs")]
        made += [home / f"r{met:010d}-{text}.txt" for text in ("spans", "delivered")]
        for path in made:
            path.touch()
        files += len(made)
    return files


def main() -> None:
    """Make a tree, measure, and remove it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("downlinks", type=int, nargs="?", default=DOWNLINKS)
    arguments = parser.parse_args()
    arguments.home.mkdir()
    try:
        tree = arguments.home / "tree"
        files = simulate(tree, arguments.downlinks)
        sys.stdout.write(f"{arguments.downlinks:,} SIMULATED downlinks, {files:,} files\n")
        for what, work in (
            ("counted", lambda: take_inventory(tree)),
            ("planned", lambda: plan(tree, arguments.home / "plan")),
        ):
            begun = time.monotonic()
            work()
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            sys.stdout.write(f"{what} in {time.monotonic() - begun:.1f} s, at most {peak:.0f} MB so far\n")
    finally:
        shutil.rmtree(arguments.home)


if __name__ == "__main__":
    main()
