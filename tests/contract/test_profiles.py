"""The profiles and the site's example config, without a Slurm."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from halfpipe.config import load
from halfpipe.errors import ConfigError
from tests.support.golden_cases import GOLDEN, build, read_case
from tests.support.in_process import ROOT
from tests.support.workflow import SNAKEMAKE, Site, run

PROFILES = ROOT / "profiles"
SUBMITTED = {"decode_chunk", "deliver_run"}
CASE = read_case(GOLDEN / "complete_basic")
DL = CASE.downlinks[0]


def profile(name: str) -> dict[str, Any]:
    """Read a profile."""
    content: dict[str, Any] = yaml.safe_load((PROFILES / name / "profile.v9+.yaml").read_text())
    return content


def resources_of(said: str) -> dict[str, set[str]]:
    """Return the resources that a dry run tells, by rule."""
    found: dict[str, set[str]] = {}
    for rule, block in re.findall(r"^(?:local)?rule (\w+):\n((?: {4}.*\n)*)", said, re.MULTILINE):
        listed = re.search(r"^ {4}resources: (.*)$", block, re.MULTILINE)
        found.setdefault(rule, set()).update(listed[1].split(", ") if listed else [])
    return found


def test_default_profile_takes_nothing_from_a_site_profile() -> None:
    # profiles/default wins over --profile, key by key.
    assert not profile("default").keys() & profile("s3df").keys()
    assert (ROOT / "s3df").resolve() == PROFILES / "s3df"
    assert not (ROOT / "s3df").readlink().is_absolute()


def test_s3df_dry_run_keeps_what_the_site_needs(site: Site) -> None:
    build(CASE, site)
    configfile = os.path.relpath(site.configfile, ROOT)
    command = [str(SNAKEMAKE), "--profile", "s3df", "-n", f"dl={DL}", "--configfile", configfile]
    said = run(command).good().said
    found = resources_of(said)
    for rule in SUBMITTED:
        expected = {"slurm_partition=milano", "slurm_account=fermi:L1", "mem_mb=4000", "runtime=30"}
        assert expected <= found[rule], rule
        assert not {entry for entry in found[rule] if entry.startswith("mem_mb_per_cpu")}
    assert found.keys() == SUBMITTED | {"stage_retdef", "receipt"}
    assert not (site.work / ".snakemake" / "slurm_logs").exists()


def test_local_rules_stay_local() -> None:
    # A dry run does not tell them apart; tests/site/test_slurm.py counts what was submitted.
    text = "\n".join(path.read_text() for path in [ROOT / "Snakefile", *ROOT.glob("workflow/rules/*.smk")])
    rules = re.findall(r"^rule (\w+):\n((?:(?: {4}.*)?\n)*)", text + "\n", re.MULTILINE)
    assert {name for name, block in rules if "localrule: True" not in block} == SUBMITTED
    assert {"stage_retdef", "receipt", "outstanding", "misspelt"} <= {name for name, _ in rules}


def test_only_the_profile_retries_and_more_is_asked_each_time() -> None:
    s3df = profile("s3df")
    assert s3df["retries"] == 2
    assert s3df["set-resources"].keys() == SUBMITTED
    for asked in s3df["set-resources"].values():
        assert "attempt" in asked["mem_mb"]
        assert "attempt" in asked["runtime"]
    for path in [ROOT / "Snakefile", *ROOT.glob("workflow/**/*.smk")]:
        assert not re.search(r"^\s*(retries: [1-9]|group:)", path.read_text(), re.MULTILINE), path
        assert "milano" not in path.read_text()
    # A status query is repeated for an hour: without an answer by then the executor forgets its jobs.
    assert s3df["slurm-status-attempts"] / s3df["max-status-checks-per-second"] >= 3600


def test_config_of_s3df_can_be_used(tmp_path: Path) -> None:
    path = (PROFILES / "s3df" / profile("s3df")["configfile"]).resolve()
    assert path == ROOT / "config" / "s3df.yaml"
    content = yaml.safe_load(path.read_text())
    with pytest.raises(
        ConfigError, match=re.escape(f"paths.retdef: {content['paths']['retdef'][0]} is no directory")
    ):
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
