"""The environment that the rules name."""

import re

import yaml

from tests.support.in_process import ROOT


def test_the_environment_has_what_the_project_depends_on() -> None:
    named = {
        entry.split()[0]
        for entry in yaml.safe_load((ROOT / "envs" / "halfpipe.yaml").read_text())["dependencies"]
    }
    project = (ROOT / "pyproject.toml").read_text()
    listed = project.partition("dependencies = [")[2].partition("]")[0]
    asked = {re.split('[="]', line.strip().strip('"'))[0] for line in listed.splitlines() if '"' in line}
    of_the_head = {name for name in asked if name.startswith("snakemake") or name == "pandas"}  # no job's
    assert named - {"python"} == asked - of_the_head
