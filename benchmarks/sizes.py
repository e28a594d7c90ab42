"""How much is measured, how often, and where: the variables that docs/performance.md explains."""

import os
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import ROOT


@dataclass(frozen=True)
class Sizes:
    """How much is measured, how often, and where; docs/performance.md has the variables."""

    home: Path
    events: int
    downlinks: int
    rounds: int
    large: bool

    @classmethod
    def from_environment(cls) -> "Sizes":
        """Read the variables."""
        env = os.environ
        return cls(
            Path(env.get("HALFPIPE_BENCH_DIR") or ROOT / "build" / "bench").absolute(),
            int(env.get("HALFPIPE_BENCH_EVENTS", "1000000")),
            int(env.get("HALFPIPE_BENCH_DOWNLINKS", "1000")),
            int(env.get("HALFPIPE_BENCH_ROUNDS", "5")),
            env.get("HALFPIPE_BENCH_LARGE", "") not in ("", "0"),
        )
