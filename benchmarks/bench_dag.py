"""Building the DAG: a dry run, compared with a bare Snakefile that has only the same rules and files."""

import re

from benchmarks.conftest import Race
from benchmarks.measure import SNAKEMAKE, Figure, Launcher, Usage
from benchmarks.scenes import Mission

LIMIT = 1.3  # of the time and the memory of the bare Snakefile
DRY = [SNAKEMAKE, "-n", "--quiet", "rules"]
POLICY = ["--rerun-triggers", "mtime", "input", "--ignore-incomplete", "--keep-going", "--nolock"]


def jobs(launcher: Launcher) -> int:
    """Return how many jobs the last dry run listed, without the job of the default target."""
    total = re.search(r"^total +(\d+)$", launcher.said, re.MULTILINE)
    assert total is not None, launcher.said
    return int(total[1]) - 1


def bench_dag(race: Race, launcher: Launcher, mission: Mission) -> None:
    """Race the two dry runs; both must list as many jobs as there are."""
    expected = mission.downlinks * (mission.CHUNKS + mission.RUNS + 1)
    bare: list[Usage] = []

    def baseline() -> Usage:
        bare.append(launcher.run([*DRY, *POLICY], cwd=mission.bare))
        assert jobs(launcher) == expected
        return bare[-1]

    race.rounds = min(race.rounds, 3)
    race.run(
        f"dry run, {mission.downlinks:,} downlinks with {mission.CHUNKS} chunks and {mission.RUNS} runs each",
        lambda: launcher.run([*DRY, "--configfile", mission.configfile]),
        {"a bare Snakefile": baseline},
        ready=lambda: None,
        limits={"a bare Snakefile": LIMIT},
    )
    assert jobs(launcher) == expected
    pairs = list(zip(race.usages, bare[-race.rounds :], strict=True))
    peaks = tuple((usage.peak or 0.0) / (other.peak or 1.0) for usage, other in pairs)
    race.add(Figure("peak memory / a bare Snakefile", peaks, "ratio", LIMIT))
    seconds = tuple(usage.cpu / other.cpu for usage, other in pairs)
    race.add(Figure("CPU seconds / a bare Snakefile", seconds, "ratio"))
