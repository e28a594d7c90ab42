"""Sizes, repetitions and directory of the benchmarks, from variables; the limits apply to the defaults."""

import os
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import ROOT


@dataclass(frozen=True)
class Sizes:
    """Sizes, repetitions and directory of the benchmarks.

    Attributes
    ----------
    home
        ``HALFPIPE_BENCH_DIR``: directory of inputs, which are made once, and outputs. Its disk is measured.
    events, downlinks
        ``HALFPIPE_BENCH_EVENTS`` of a run, and ``HALFPIPE_BENCH_DOWNLINKS`` in the DAG.
    rounds
        ``HALFPIPE_BENCH_ROUNDS``: measurements of each step, at most 3 for long ones.
    large
        ``HALFPIPE_BENCH_LARGE``: also measure a run of ten times as many events, with 30 GB of disk.
    """

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
