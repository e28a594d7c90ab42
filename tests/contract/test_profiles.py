"""The profiles and the site's example config, without a Slurm."""

import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from halfpipe.config import find_profile, load
from halfpipe.errors import ConfigError
from halfpipe.settings import BUILT_IN, Submit
from tests.support import in_process
from tests.support.golden_cases import build
from tests.support.in_process import ROOT
from tests.support.workflow import Ended, Site

PROFILES = ROOT / "profiles"
SUBMITTED = {"decode_chunk", "deliver_run"}
DL = "240601001"


def profile(name: str) -> dict[str, Any]:
    """Read a profile."""
    content: dict[str, Any] = yaml.safe_load((PROFILES / name / "profile.v9+.yaml").read_text())
    return content


def test_the_default_profile_hides_no_key_of_a_site_profile() -> None:
    # Each key of profiles/default goes before --profile.
    assert not profile("default").keys() & profile("s3df").keys()
    for name in ("s3df", "shadow"):
        assert (ROOT / name).resolve() == PROFILES / name
        assert not (ROOT / name).readlink().is_absolute()


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
    of_the_head = {name for name in asked if name.startswith("snakemake")} | {"pandas", "orjson"}  # no job's
    assert {entry.split()[0] for entry in named} - {"python"} == asked - of_the_head


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


def test_the_shadow_differs_from_production_in_places_and_messages_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = profile("shadow"), profile("s3df")
    differs = {key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)}
    assert differs == {"configfile", "halfpipe-jobname-prefix"}
    monkeypatch.chdir(ROOT)
    here = {"paths": {"retdef": [str(tmp_path)]}, "moot": {"file": None}}
    # On the day of the switch production submits, by the commented lines of its config.
    lines = re.findall(
        r"^  # (command|check|rollback): (.*)$", Path("config/s3df.yaml").read_text(), re.MULTILINE
    )
    assert len(lines) == 3
    switched = tmp_path / "switched.yaml"
    switched.write_text(yaml.safe_dump({"submit": dict(lines)}))
    (production, shadow) = (
        load([found.configfiles[0], switched, *found.configfiles[1:]], here)
        for name in ("s3df", "shadow")
        if (found := find_profile(name))
    )
    assert None not in (production.submit.command, production.submit.check, production.submit.rollback)
    places = [each for one in (production, shadow) for each in (one.paths.work, one.paths.stage)]
    assert len(set(places)) == 4
    legacys = "/sdf/group/fermi/a/isoc/flightOps"
    assert not [place for place in places if place.is_relative_to(legacys)]
    assert shadow.submit == Submit(seconds=production.submit.seconds)
    assert (shadow.ledger.url, shadow.moot.update, shadow.paths.online) == (BUILT_IN, None, None)


def test_streams_use_local_cores_and_trials_have_their_own_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    ours, trials = profile("pipeline"), profile("dev")
    assert {"executor", "jobs", "slurm"}.isdisjoint(ours)
    assert not profile("default").keys() & ours.keys()
    assert {key for key in ours.keys() | trials.keys() if ours.get(key) != trials.get(key)} == {"configfile"}
    here = {"paths": {"retdef": [str(tmp_path)]}, "moot": {"file": None}}
    settings = {
        name: load(found.configfiles, here)
        for name in ("s3df", "pipeline", "shadow", "dev")
        if (found := find_profile(str(PROFILES / name)))
    }
    assert settings["pipeline"] == settings["s3df"]
    of = [settings[name].paths for name in ("s3df", "shadow", "dev")]
    assert len({each for paths in of for each in (paths.work, paths.stage)}) == 6
    dev = settings["dev"]
    assert dev.submit == Submit(seconds=settings["s3df"].submit.seconds)
    assert dev.ledger.url == BUILT_IN
    assert not any((dev.moot.update, dev.paths.online, dev.alarm.command))
