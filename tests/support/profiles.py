"""The profiles of a site, and trials beside production."""

import re
from pathlib import Path
from typing import Any

import yaml

from halfpipe.config import find_profile, load
from halfpipe.settings import BUILT_IN, Settings, Submit
from tests.support.in_process import ROOT

PROFILES = ROOT / "profiles"


def content_of(profile: Path) -> dict[str, Any]:
    """Return the keys of a profile."""
    content: dict[str, Any] = yaml.safe_load((profile / "profile.v9+.yaml").read_text())
    return content


def settings_of(profile: Path, at: Path) -> Settings:
    """Return the settings of a profile on the day of the switch, when the commented lines of s3df.yaml are in use.

    The search path is `at`, where a config file is written.
    """
    found = find_profile(str(profile))
    assert found is not None
    first, *others = found.configfiles
    lines = re.findall(
        r"^  # (command|check|rollback): (.*)$", (ROOT / "config" / "s3df.yaml").read_text(), re.MULTILINE
    )
    assert sorted(key for key, _ in lines) == ["check", "command", "rollback"]
    assert all("{dl}" in command for _, command in lines)
    switched = at / "switched.yaml"
    switched.write_text(yaml.safe_dump({"submit": dict(lines)}))
    return load([first, switched, *others], {"paths": {"retdef": [str(at)]}, "moot": {"file": None}})


def check_trial(trial: Path, beside: Path, differs: set[str], at: Path) -> Settings:
    """Check that a trial is like production except for these keys and its places, and notifies nobody."""
    one = content_of(trial)
    other = content_of(beside)
    assert {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)} == differs
    settings = settings_of(trial, at)
    production = settings_of(beside, at)
    assert settings.submit == Submit(seconds=production.submit.seconds)
    assert (settings.ledger.url, settings.moot.update, settings.paths.online) == (BUILT_IN, None, None)
    places = [place for each in (settings, production) for place in (each.paths.work, each.paths.stage)]
    assert len(set(places)) == 4
    assert not [place for place in places if place.is_relative_to("/sdf/group/fermi/a/isoc/flightOps")]
    return settings
