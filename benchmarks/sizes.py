"""Sizes, repetitions and directory of the benchmarks: the variables in docs/performance.md."""

import os
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import ROOT


@dataclass(frozen=True)
class Sizes:
    """Sizes, repetitions and directory of the benchmarks; docs/performance.md has the variables."""

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
