"""The profile of the shadow, which processes what the legacy processes, and notifies nobody."""

from pathlib import Path

import pytest

import halfpipe_switchover
from tests.support.in_process import ROOT
from tests.support.profiles import PROFILES, check_trial, content_of, settings_of

SHADOW = Path(halfpipe_switchover.__file__).parent / "shadow"


def test_the_shadow_differs_from_production_in_places_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    differs = {"configfile", "halfpipe-jobname-prefix"}
    shadow = check_trial(SHADOW, PROFILES / "s3df", differs, tmp_path)
    trial = settings_of(PROFILES / "dev", tmp_path)
    assert not {shadow.paths.work, shadow.paths.stage} & {trial.paths.work, trial.paths.stage}
    assert not content_of(PROFILES / "default").keys() & content_of(SHADOW).keys()
