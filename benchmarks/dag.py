"""Dry runs of many downlinks, by the workflow and by a Snakefile of nothing but the same rules and files."""

import re

from benchmarks.measure import ROOT, SNAKEMAKE, Launcher, Usage
from benchmarks.scenes import Mission

DRY = [SNAKEMAKE, "-n", "--quiet", "rules"]
POLICY = ["--rerun-triggers", "mtime", "input", "--ignore-incomplete", "--keep-going", "--nolock"]


def dry_run(launcher: Launcher, mission: Mission) -> Usage:
    """Have the workflow list what is outstanding of all downlinks."""
    return launcher.run([*DRY, "--configfile", mission.configfile], cwd=ROOT)


def bare_dry_run(launcher: Launcher, mission: Mission) -> Usage:
    """Have the bare Snakefile do the same."""
    return launcher.run([*DRY, *POLICY], cwd=mission.bare)


def jobs(launcher: Launcher) -> int:
    """Return how many jobs the last dry run listed, but for that of the default target."""
    total = re.search(r"^total +(\d+)$", launcher.said, re.MULTILINE)
    assert total is not None, launcher.said
    return int(total[1]) - 1
