"""The profiles and the site's example config, without a Slurm."""

import json
import os
import re
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from halfpipe.config import DEFAULTS, schema
from tests.golden_cases import GOLDEN, read_case
from tests.test_golden_workflow import build
from tests.workflow import ROOT, SNAKEMAKE, Site, run

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


@pytest.mark.parametrize("name", ["s3df", "local"])
def test_default_profile_takes_nothing_from_a_site_profile(name: str) -> None:
    # profiles/default wins over --profile, key by key.
    assert not profile("default").keys() & profile(name).keys()
    assert (ROOT / name).resolve() == PROFILES / name
    assert not (ROOT / name).readlink().is_absolute()


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
    # A dry run does not tell them apart; tests/slurm counts what was submitted.
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


def test_local_profile_processes_a_downlink(site: Site) -> None:
    build(CASE, site)
    configfile = os.path.relpath(site.configfile, ROOT)
    run([str(SNAKEMAKE), "--profile", "local", f"dl={DL}", "--configfile", configfile]).good()
    assert site.staged(DL) == CASE.steps[0].expected.files


def merged(over: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """Return `base` with the keys of `over` over it, section by section."""
    out = dict(base)
    for key, value in over.items():
        out[key] = {**base[key], **value} if isinstance(value, dict) else value
    return out


def test_config_of_s3df_fits_the_schema() -> None:
    over = yaml.safe_load((ROOT / "config" / "s3df.yaml").read_text())
    config = merged(over, yaml.safe_load((ROOT / DEFAULTS).read_text()))
    validator = Draft202012Validator(schema("config"))
    assert list(validator.iter_errors(config)) == []
    assert list(validator.iter_errors(json.loads(json.dumps(config).replace('"retdef"', '"retdefs"', 1))))
    for section in ("decoder", "magic7"):
        _, script, *_, settings = config[section]["command"].split()
        assert (ROOT / script).is_file()
        assert (ROOT / settings).is_file()
    binds = yaml.safe_load((ROOT / "config" / "flight.yaml").read_text())["binds"]
    for inside, outside in config["paths"]["map"].items():
        assert f"{outside}:{inside}" in binds
