"""A dead timer, a turn that hangs, silence; and the week's summary."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.decisions import Subject, What, decide
from halfpipe.files.leases import Lease
from halfpipe.ids import DownlinkId, RunId
from halfpipe.settings import Alarm, Paths, Settings
from halfpipe.status.site_causes import LIGHTS, light, site_troubles
from halfpipe.status.survey import Survey
from tests.support.leases import held_by_another, left_by_another

DL = DownlinkId("240601001")
NOW = 1_800_000_000.0  # Unix seconds, and later than now: what is made by this test is older
HOUR = 3600.0


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    for name in ("work", "retdefs"):
        (tmp_path / name).mkdir()
    return Settings(Paths(tmp_path / "work", tmp_path / "stage", retdef=(tmp_path / "retdefs",)))


def codes(settings: Settings, now: float = NOW) -> dict[str, Verdict]:
    return {cause.code: cause.verdict for cause in site_troubles(Survey(settings, now))}


@pytest.mark.parametrize(
    ("free", "total", "low"),
    [(5e9, 1e12, True), (30e9, 4e12, False), (15e9, 1e12, False), (0.5e9, 24e9, False)],
)
def test_a_disk_is_low_by_its_share_and_by_what_a_downlink_needs(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, free: float, total: float, low: bool
) -> None:
    usage = SimpleNamespace(total=total, free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert codes(settings) == ({"disk-low": Verdict.ACTION} if low else {})
    causes = list(site_troubles(Survey(settings, NOW)))
    lights = {name: light(name, causes) for name in LIGHTS}
    assert lights == {**dict.fromkeys(LIGHTS), "disk": causes[0] if low else None}, (
        "one file system is told once"
    )


def test_what_cannot_be_looked_at_is_a_cause(settings: Settings) -> None:
    decide(settings.paths.work, What.ABANDONED, Subject(None, run=RunId("2c2e5787")), None, "lost")
    for file in settings.paths.work.rglob("decisions/000001.json"):
        file.write_text("{}")
    away = replace(settings, paths=replace(settings.paths, level0=Path("/no/such")))
    assert codes(away) == {"damaged": Verdict.ACTION, "not-mounted": Verdict.ACTION}


def test_a_light_tells_the_worst() -> None:
    note, bad = (Cause("ledger", verdict, "") for verdict in (Verdict.NOTE, Verdict.ACTION))
    assert light("ledger", [note, Cause("silence", Verdict.ACTION, ""), bad, note]) == bad


def test_a_turn_that_lives_and_does_not_get_on_needs_action(settings: Settings) -> None:
    lease = Lease.of(settings, paths.UNATTENDED_LEASE)
    assert lease.try_take()
    (number,) = lease.home.iterdir()
    os.utime(number, (NOW - 3599, NOW - 3599))
    assert codes(settings) == {}
    os.utime(number, (NOW - 3601, NOW - 3601))
    (cause,) = site_troubles(Survey(settings, NOW))
    assert (cause.code, cause.verdict) == ("unattended-stopped", Verdict.ACTION)
    assert f"end process {os.getpid()} on " in cause.remedy.first
    lease.release()
    assert codes(settings) == {}
    left_by_another(settings.paths.work, paths.UNATTENDED_LEASE, silent=1e6)
    assert codes(settings) == {}, "the next turn takes over what a dead one held"


def test_a_timer_is_dead_if_no_turn_ended_for_an_hour_and_none_runs(settings: Settings) -> None:
    path = settings.paths.work / paths.LAST_TURN
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"ended": NOW - 3601, "status": 0, "host": "here"}))
    (cause,) = site_troubles(Survey(settings, NOW))
    assert (cause.code, cause.verdict, cause.since) == ("unattended-stopped", Verdict.ACTION, NOW - 3601)
    assert codes(settings, NOW - 10) == {}
    with held_by_another(settings.paths.work, paths.UNATTENDED_LEASE):
        (number,) = (settings.paths.work / paths.UNATTENDED_LEASE).iterdir()
        os.utime(number, (NOW - 60, NOW - 60))
        assert codes(settings) == {"in-progress": Verdict.NOTE}, "a turn runs"
    path.write_text(json.dumps({"ended": NOW + 400 * 86400, "status": 0, "host": "here"}))
    (cause,) = site_troubles(Survey(settings, NOW))
    assert (cause.code, cause.verdict, cause.since) == ("unattended-stopped", Verdict.ACTION, None)
    for damage in ("", "[]", "{}", '{"ended": "x"}'):
        path.write_text(damage)
        assert codes(settings) == {}


def test_silence_is_the_time_since_a_retdef_came(settings: Settings) -> None:
    home = settings.paths.retdef[0] / "230401001"
    home.mkdir()
    path = home / "RetDef-230401001-00001.xml"
    path.touch()
    came = path.stat().st_ctime
    os.utime(path, (1e9, 1e9))  # as a copy that keeps the time
    assert codes(settings, came + 5.9 * HOUR) == {}
    assert codes(settings, came + 6.1 * HOUR) == {"silence": Verdict.ACTION}
    os.utime(path, (came + 1e8, came + 1e8))  # a time that is to come
    assert codes(settings, came + 6.1 * HOUR) == {"silence": Verdict.ACTION}
    (home / "RetDef-230401001-00001.xml.part").touch()
    assert Survey(settings, came + HOUR).last_retdef == path.stat().st_ctime
    assert codes(replace(settings, alarm=Alarm(silence_hours=None)), came + 99 * HOUR) == {}
    assert codes(replace(settings, alarm=Alarm(silence_hours=1.0)), came + 1.1 * HOUR) == {
        "silence": Verdict.ACTION
    }
