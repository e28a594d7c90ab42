"""What status tells of the doctor: open problems, a month, another site."""

from dataclasses import replace
from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.causes import Verdict
from halfpipe.settings import Alarm, Decoder, Paths, Settings
from halfpipe.status.site_causes import doctor_troubles, keep_findings

NOW = 1_800_000_000.0  # Unix seconds
DAY = 86400.0


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "work").mkdir()
    return Settings(Paths(tmp_path / "work", tmp_path / "stage"), decoder=Decoder("flight"))


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    path = tmp_path / "profile.yaml"
    path.write_text("jobs: 1\n")
    return path


def told(settings: Settings, now: float = NOW) -> list[tuple[str, Verdict]]:
    return [(cause.code, cause.verdict) for cause in doctor_troubles(settings, now)]


def test_a_site_that_no_doctor_saw_is_noted_unless_it_is_simulated(settings: Settings) -> None:
    assert told(settings) == [("doctor", Verdict.NOTE)]
    assert told(replace(settings, decoder=Decoder())) == []
    (settings.paths.work / paths.EXAMINED).write_text("{")
    assert told(settings) == [("doctor", Verdict.NOTE)]


def test_open_problems_need_action_until_the_doctor_finds_none(settings: Settings, profile: Path) -> None:
    keep_findings(settings, [profile], ["path-full", "path-full"], NOW)
    (cause,) = doctor_troubles(settings, NOW + DAY)
    assert (cause.code, cause.verdict, cause.since) == ("doctor", Verdict.ACTION, NOW)
    assert "2 problems" in cause.text
    assert "path-full" in cause.text
    keep_findings(settings, [profile], [], NOW + DAY)
    assert told(settings, NOW + DAY) == []


@pytest.mark.parametrize(("days", "old"), [(0, False), (31, False), (31.1, True), (-32, True)])
def test_it_is_old_after_a_month(settings: Settings, profile: Path, days: float, old: bool) -> None:
    keep_findings(settings, [profile], [], NOW)
    assert told(settings, NOW + days * DAY) == [("doctor", Verdict.NOTE)] * old


def test_it_is_old_once_settings_or_profile_change(settings: Settings, profile: Path) -> None:
    keep_findings(settings, [profile], [], NOW)
    other = replace(settings, alarm=Alarm(command="mail -s {subject} shift"))
    assert told(other) == [("doctor", Verdict.NOTE)]
    assert told(replace(settings, reason="again")) == [], "of every day"
    profile.write_text("jobs: 2\n")
    (cause,) = doctor_troubles(settings, NOW)
    assert str(profile) in cause.text
    profile.unlink()
    assert told(settings) == [("doctor", Verdict.NOTE)]
