"""Environments that Snakemake deploys: each job runs the environment's own Python. With a stand-in for conda."""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.in_process import ROOT
from tests.support.workflow import Site

STAND_IN = ROOT / "tests" / "support" / "standin" / "conda"
DL = "240601001"


@pytest.mark.parametrize("deployed", [True, False])
def test_jobs_run_the_python_of_their_environment(site: Site, tmp_path: Path, deployed: bool) -> None:
    prefix, environments = tmp_path / "conda", tmp_path / "environments"
    shutil.copytree(STAND_IN, prefix / "bin")
    site.add_retdefs(ROOT / "tests" / "golden" / "complete_basic" / "in", DL)
    path = f"{prefix / 'bin'}:{os.environ['PATH']}"
    env = {"PATH": path, "CONDA_STAND_IN": str(prefix), "REAL_PYTHON": sys.executable}
    wanted = (
        ["--software-deployment-method", "conda", "--conda-prefix", str(environments)] if deployed else []
    )
    ended = site.snakemake(f"dl={DL}", "--until", "stage_retdef", *wanted, env=env)
    assert ended.status == 0, ended.said
    assert (site.work / DL).is_dir()
    asked = [
        line.split("\t") for file in environments.glob("*/asked") for line in file.read_text().splitlines()
    ]
    assert {(Path(script).name, source) for script, source in asked} == (
        {("stage_retdef.py", f"{ROOT / 'src'}")} if deployed else set()
    )


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
