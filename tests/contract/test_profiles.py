"""The profiles and the site's example config, without a Slurm."""

import os
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from halfpipe.config import load
from halfpipe.errors import ConfigError
from halfpipe.settings import SUBMIT_CONTRACT
from tests.support import in_process
from tests.support.golden_cases import build
from tests.support.in_process import ROOT
from tests.support.profiles import PROFILES, check_trial, content_of, settings_of
from tests.support.workflow import Ended, Site

SUBMITTED = {"decode_chunk", "deliver_run"}
DL = "240601001"


def profile(name: str) -> dict[str, Any]:
    return content_of(PROFILES / name)


def test_the_default_profile_hides_no_key_of_a_site_profile() -> None:
    # Each key of profiles/default goes before --profile.
    for name in ("s3df", "pipeline"):
        assert not profile("default").keys() & profile(name).keys()
    assert (ROOT / "s3df").resolve() == PROFILES / "s3df"
    assert not (ROOT / "s3df").readlink().is_absolute()


def test_a_dry_run_at_s3df_has_the_resources_of_the_profile(site: Site) -> None:
    build("complete_basic", site)
    configfile = os.path.relpath(site.configfile, ROOT)
    words = ["--profile", "s3df", "-n", f"dl={DL}", "--configfile", configfile]
    listed = Ended(*in_process.snakemake(words)).good().listed
    for each in listed:
        expected = {"slurm_partition=milano", "slurm_account=fermi:L1", "mem_mb=4000", "runtime=30"}
        assert each.job.rule not in SUBMITTED or expected <= each.resources, each
        assert not {entry for entry in each.resources if entry.startswith("mem_mb_per_cpu")}
    assert {each.job.rule for each in listed} == SUBMITTED | {"receipt"}
    assert not (site.work / ".snakemake" / "slurm_logs").exists()


def test_the_conda_environment_has_the_dependencies_of_jobs() -> None:
    named = yaml.safe_load((ROOT / "envs" / "halfpipe.yaml").read_text())["dependencies"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = {re.split("[=<>]", entry)[0] for entry in project["dependencies"]}
    of_the_head = {name for name in asked if name.startswith("snakemake")} | {"pandas", "astropy"}  # no job's
    assert {entry.split()[0] for entry in named} - {"python"} == asked - of_the_head


# conda itself comes from no registry that tests may use. This stand-in answers what Snakemake asks, and makes an
# environment with our packages, but without HalfPipe.
CONDA = """#!/bin/bash
case "$1 $2" in
  "--version "*) echo conda 25.1.0 ;;
  "clean -y") ;;
  "info --json") echo '{"conda_prefix": "HOME", "platform": "linux-64"}' ;;
  "config --get") echo '{"get": {"channel_priority": "strict"}}' ;;
  "env create")
    file=$(sed 's/.*--file \\([^ ]*\\).*/\\1/' <<<"$*") home=$(sed 's/.*--prefix \\([^ ]*\\).*/\\1/' <<<"$*")
    cmp "$file" ENVIRONMENT && PYTHON -m venv --without-pip "$home" || exit 1
    started='import sys; print(sys.argv[1:], file=open("HOME/started", "a"))'
    printf '%s\\n' PACKAGES "$started" >"$(echo "$home"/lib/python3*/site-packages)/our.pth" ;;
  *) exit 1 ;;
esac
"""
ACTIVATE = "PATH=$1/bin:$PATH"


@pytest.mark.workflow
def test_jobs_run_in_the_conda_environment(site: Site, tmp_path: Path) -> None:
    build("complete_basic", site)
    home = tmp_path / "conda"
    values = {
        "HOME": home,
        "ENVIRONMENT": ROOT / "envs" / "halfpipe.yaml",
        "PYTHON": sys.executable,
        "PACKAGES": Path(pytest.__file__).parents[1],
    }
    (home / "bin").mkdir(parents=True)
    for name, text in (("conda", CONDA), ("activate", ACTIVATE)):
        for key, value in values.items():
            text = text.replace(key, str(value))  # noqa: PLW2901
        (home / "bin" / name).write_text(text)
        (home / "bin" / name).chmod(0o755)
    path = f"{home / 'bin'}:{os.environ['PATH']}"
    site.typed(f"dl={DL}", "--sdm", "conda", "--conda-prefix", str(home / "envs"), env={"PATH": path}).good()
    assert site.has_receipt(DL)
    logs = set(re.findall(rf"'logs/{DL}/(\S+)'", (home / "started").read_text()))
    jobs = site.snakemake("-n", "-F", f"dl={DL}").good().jobs
    assert sorted(re.split("[-.]", log)[0] for log in logs) == sorted(job.rule for job in jobs)


def test_the_config_of_s3df_is_valid(tmp_path: Path) -> None:
    path = (PROFILES / "s3df" / profile("s3df")["configfile"]).resolve()
    assert path == ROOT / "config" / "s3df.yaml"
    content = yaml.safe_load(path.read_text())
    with pytest.raises(ConfigError, match=re.escape(f"paths.retdef: {content['paths']['retdef'][0]}")):
        load([path])  # this is not s3df
    settings = load([path], {"paths": {"retdef": [str(tmp_path)]}, "moot": {"file": None}})
    assert settings.paths.work == Path(content["paths"]["work"])
    for command in (settings.decoder.command, settings.magic7.command):
        assert command is not None
        _, script, *_, flight = command.split()
        assert (ROOT / script).is_file()
        assert (ROOT / flight).is_file()
    binds = yaml.safe_load((ROOT / "config" / "flight.yaml").read_text())["binds"]
    for inside, outside in settings.paths.map.items():
        assert f"{outside}:{inside}" in binds


def test_trials_differ_from_production_in_places_and_messages_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    production, streams = (settings_of(PROFILES / name, tmp_path) for name in ("s3df", "pipeline"))
    assert production.submit.command is not None
    assert production.submit.command.partition(" ")[2] == SUBMIT_CONTRACT.partition(" ")[2]
    assert streams == production, "streams use local cores, and nothing else is different"
    assert {"executor", "jobs", "slurm"}.isdisjoint(profile("pipeline"))
    trial = check_trial(PROFILES / "dev", PROFILES / "pipeline", {"configfile"}, tmp_path)
    assert trial.alarm.command is None
