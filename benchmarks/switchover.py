"""Cost of taking over a mission from the legacy: `python -m benchmarks.switchover [NUMBER]`.

Makes a SIMULATED tree of the legacy with its 60,000 downlinks, all but the last of them cleaned up long ago, and
measures `halfpipe takeover` on it: a preview, the takeover itself, and a later turn that finds nothing new.
"""

import datetime
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.measure import Launcher, Usage
from benchmarks.sizes import Sizes
from halfpipe import paths
from halfpipe.ids import ChunkId, DownlinkId, RunId

DOWNLINKS = 60_000
LAUNCH = datetime.date(2008, 6, 11)
A_DAY = 10  # downlinks
CHUNKS = 10
FIRST_RUN, RUN_SECONDS = 235_224_000, 5_700  # MET
RUNS_SHARED = 2  # runs of a downlink; it shares the last one with the next downlink
RETDEF = b"""<?xml version="1.0" encoding="US-ASCII" standalone="no"?>
<!-- SIMULATED -->
<retdef type="LSEP"><arch scid="77">/level0</arch><run runid="%d" start="%d"/></retdef>
"""


def downlinks(number: int) -> Iterator[DownlinkId]:
    """Yield the ids of the first downlinks of the mission."""
    for n in range(number):
        day = LAUNCH + datetime.timedelta(days=n // A_DAY)
        yield DownlinkId(f"{day:%y%m%d}{n % A_DAY + 1:03d}")


def build(home: Path, number: int) -> Path:
    """Make the tree if it does not exist."""
    root = home / f"legacy-{number}"
    done = home / f"legacy-{number}.done"
    if not done.exists():
        for n, downlink in enumerate(downlinks(number)):
            _downlink(root, downlink, [RunId.from_met(FIRST_RUN + (n + m) * RUN_SECONDS) for m in (0, 1)])
        done.touch()
    return root


def _downlink(root: Path, downlink: DownlinkId, runs: Sequence[RunId]) -> None:
    """Write the files that the legacy leaves for a downlink after its runs are cleaned up."""
    home = root / downlink
    home.mkdir(parents=True)
    for number in range(1, CHUNKS + 1):
        start = runs[number % len(runs)].met
        (root / paths.retdef(downlink, ChunkId.of(number))).write_bytes(RETDEF % (start, start))
    texts = dict.fromkeys(("delivered_events", "retired_runs", "event_gaps", "moot_keys"), "")
    for place, run in enumerate(runs):
        (home / f"r0{run.met}_doMerge.txt").write_text(f"HALFPIPE_RUNSTART_DEX={run.met}\n")
        of_run = home / str(run.met)
        of_run.mkdir()
        # The first part of a run is the last run in its first downlink; the rest is the first run in the next.
        first, last = ((500_001, 1_000_000), (1, 500_000))[place]
        (of_run / f"{run.l1}-spans.txt").write_text(f"(lp1\n(L{first}L\nL{last}L\ntp2\na.")
        delivered = f"{run.l1} 500000 0 LPA\n"
        (of_run / f"{run.l1}-delivered.txt").write_text(delivered)
        texts["delivered_events"] += delivered
        texts["moot_keys"] += f"{run.l1} 2959 nomSciOps\n"
        if place == 0:
            (of_run / f"{run.l1}-retired.txt").write_text(f"{run.l1} COMPLETE\n")
            texts["retired_runs"] += f"{run.l1} COMPLETE\n"
    for name, content in texts.items():
        (home / paths.text(name, downlink)).write_text(content)


def measure(home: Path, number: int) -> dict[str, Usage]:
    """Take the tree over, and return the cost of each step."""
    root, site = build(home, number), home / "site"
    shutil.rmtree(site, ignore_errors=True)
    for place in (site / "work", site / "stage"):
        place.mkdir(parents=True)
    config = site / "config.yaml"
    config.write_text(f"paths: {{work: {site}/work, stage: {site}/stage, retdef: [{root}]}}\n")
    command = [sys.executable, "-m", "halfpipe", "takeover", str(root), "--configfile", str(config)]
    launcher = Launcher(home)
    steps = {"a look": [], "the takeover": ["--do"], "a later turn": ["--do"]}
    try:
        return {name: launcher.run([*command, *words]) for name, words in steps.items()}
    finally:
        launcher.close()


def main() -> None:
    """Measure, and print the results."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else DOWNLINKS
    home = Sizes.from_environment().home / "takeover"
    home.mkdir(parents=True, exist_ok=True)
    for name, usage in measure(home, number).items():
        peak = (usage.peak or 0) / 1e6
        sys.stdout.write(
            f"{name:14} {number:,} downlinks: {usage.wall:7.1f} s, {usage.cpu:7.1f} s of CPU, {peak:.0f} MB\n"
        )


if __name__ == "__main__":
    main()
