"""What keeps a downlink from being processed: each trouble with its code, its verdict and its command."""

import errno
import json
import os
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.downlink import plan as planning
from halfpipe.downlink.plan import Plan
from halfpipe.downlink.plan_causes import site_troubles, troubles
from halfpipe.downlink.receipt_inputs import chunks_of
from halfpipe.errors import HalfPipeError
from halfpipe.files.json_files import dump_json
from halfpipe.ids import ChunkId, DownlinkId
from halfpipe.settings import Settings
from tests.support.leases import held_by_another, job_of_another, left_by_another
from tests.support.settings import RUN_A, content, searching

DL, OTHER = DownlinkId("240601001"), DownlinkId("240601002")
HOUR = 3600.0


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A site with two places on its search path."""
    places = [tmp_path / name for name in ("work", "retdefs", "more")]
    for place in places:
        place.mkdir()
    return searching(*places)


def put(home: Path, *chunks: int, dl: str = DL, inside: str = "") -> Path:
    """Write RetDefs of a downlink, in the directory of another one if `inside` says so; return the last."""
    for chunk in chunks:
        path = home / (inside or dl) / f"RetDef-{dl}-{chunk:05d}.xml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(content(chunk, RUN_A))
    return path


def hand_off(settings: Settings, *chunks: int, text: str | None = None) -> Path:
    """Write a receipt that was made of `chunks`."""
    receipt = settings.paths.work / paths.receipt(DL)
    said = {"chunks": [{"chunk": f"{chunk:05d}"} for chunk in chunks], "downlink": DL, "handoff": 1}
    receipt.write_text(dump_json(said) if text is None else text)
    return receipt


def found(settings: Settings, age: float = 2 * HOUR, dl: DownlinkId = DL) -> list[Cause]:
    """Return the troubles of a downlink when all that there is is so old, seconds."""
    return list(troubles(Plan(settings), dl, time.time() + age))


def codes(causes: Iterable[Cause]) -> list[tuple[str, Verdict]]:
    return [(cause.code, cause.verdict) for cause in causes]


def test_no_trouble(settings: Settings) -> None:
    work, home, _ = settings.paths.work, *settings.paths.retdef
    assert found(settings) == []
    put(home, 1, 2)
    assert found(settings) == []
    put(work, 1, 2)
    hand_off(settings, 1, 2)
    assert found(settings) == []
    assert list(site_troubles(Plan(settings))) == []


def test_a_hole_waits_and_needs_action_after_a_day(settings: Settings) -> None:
    retdef = put(settings.paths.retdef[0], 1, 4)
    (cause,) = found(settings)
    assert codes([cause]) == [("waits-retdef", Verdict.NOTE)]
    assert cause.text == f"downlink {DL} waits for the RetDef of chunk 00002, 00003"
    assert cause.do.endswith(f"snakemake dl={DL}")
    assert cause.since == pytest.approx(retdef.stat().st_ctime, abs=1)
    (late,) = found(settings, 25 * HOUR)
    assert codes([late]) == [("waits-retdef", Verdict.ACTION)]
    assert late.text.endswith(", and has done so for 25 h")
    (after,) = found(replace(settings, alarm=replace(settings.alarm, late_hours=48)), 25 * HOUR)
    assert after.verdict is Verdict.NOTE


def test_what_was_copied_just_now_with_old_times_settles(settings: Settings) -> None:
    """As by `cp -p` of one half of them: nobody can bring the time of the last change with a copy."""
    retdef = put(settings.paths.retdef[0], 1)
    os.utime(retdef, (1e9, 1e9))
    (cause,) = found(settings, 30)
    assert codes([cause]) == [("settling", Verdict.NOTE)]
    assert cause.text == f"downlink {DL} waits: its youngest RetDef is younger than 60 s"
    assert Plan(settings).outstanding(time.time() + 30).ready == ()
    assert found(settings, 90) == []
    assert Plan(settings).outstanding(time.time() + 90).ready == (DL,)


def test_a_time_in_the_future_is_told_and_does_not_count(settings: Settings) -> None:
    retdef = put(settings.paths.retdef[0], 1)
    soon, years = time.time() + 300, time.time() + 5 * 365 * 24 * HOUR
    os.utime(retdef, (soon, soon))  # a clock that is some minutes off
    assert codes(found(settings, 90)) == [("settling", Verdict.NOTE)]
    os.utime(retdef, (years, years))
    assert codes(found(settings, 30)) == [("retdef-future", Verdict.NOTE), ("settling", Verdict.NOTE)]
    (cause,) = found(settings, 90)
    assert cause.code == "retdef-future"
    assert cause.text.startswith(
        f"downlink {DL}: the time of {retdef} lies in the future, and does not count"
    )
    assert cause.do == f"touch {retdef}"
    outstanding = Plan(settings).outstanding(time.time() + 90)
    assert outstanding.ready == (DL,)
    assert outstanding.messages == (cause.text,)


def test_a_retdef_in_the_directory_of_another_downlink_is_named(settings: Settings) -> None:
    home = settings.paths.retdef[0]
    put(home, 1)
    stray = put(home, 2, dl=OTHER, inside=DL)
    (cause,) = found(settings)
    assert codes([cause]) == [("retdef-elsewhere", Verdict.ACTION)]
    assert cause.text.startswith(
        f"{stray} is a RetDef of downlink {OTHER} and does not count here; move it: "
    )
    assert cause.do == f"mkdir -p {home / OTHER} && mv {stray} {home / OTHER}/"
    outstanding = Plan(settings).outstanding(time.time() + HOUR)
    assert outstanding.ready == (DL,)
    assert outstanding.messages == (f"downlink {DL}: {cause.text}",)
    assert Plan(settings).of(DL).complaints() == [f"downlink {DL}: {cause.text}"]
    # One that is a copy of what lies in its place is harmless.
    put(home, 2, dl=OTHER)
    (copy,) = found(settings)
    assert codes([copy]) == [("retdef-elsewhere", Verdict.NOTE)]
    assert copy.do == f"rm {stray}"


def loop(path: Path) -> Path:
    """Put something at `path` that cannot be listed, by whomever."""
    path.symlink_to(path.name)
    return path


def test_a_directory_that_cannot_be_listed_stops_its_downlink_alone(settings: Settings) -> None:
    first, second = settings.paths.retdef
    for dl in (DL, OTHER):
        put(first, 1, dl=dl)
    place = loop(second / DL)
    (cause,) = found(settings)
    assert codes([cause]) == [("search-path-unreadable", Verdict.ACTION)]
    assert cause.text == (
        f"RetDefs there are not seen: {place} cannot be read: {os.strerror(errno.ELOOP)}. A link leads to itself: "
        "remove it."
    )
    assert cause.do == f"ls -ld {place}"
    assert found(settings, dl=OTHER) == []
    outstanding = Plan(settings).outstanding(time.time() + HOUR)
    assert outstanding.ready == (OTHER,)
    assert outstanding.messages == (f"downlink {DL}: {cause.text}",)
    assert outstanding.waiting == (f"downlink {DL} waits: RetDefs of it may lie where nothing can be listed",)
    # Who names it is told, and it goes on with what there is.
    plan = Plan(settings).of(DL)
    assert plan.chunks == (ChunkId("00001"),)
    assert plan.complaints() == [f"downlink {DL}: {cause.text}"]
    assert planning.retdef_to_stage(settings, DL, ChunkId("00001")).startswith(b"<retdef")


def test_a_place_on_the_search_path_that_cannot_be_listed_stops_nobody(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = settings.paths.retdef
    put(first, 1)
    put(second, 1, dl=OTHER)
    scandir = os.scandir

    def denied(place: Path) -> "os._ScandirContextManager[os.DirEntry[str]]":  # type: ignore[name-defined]
        if place == first:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", denied)  # root may look everywhere
    outstanding = Plan(settings).outstanding(time.time() + HOUR)
    assert outstanding.ready == (OTHER,)
    (line,) = outstanding.messages
    assert line.startswith(
        f"RetDefs there are not seen: {first} cannot be listed: Permission denied. {first} belongs"
    )
    assert line.endswith(f"Ask the owner to let others read it: chmod a+rx {first}")
    (cause,) = site_troubles(Plan(settings))
    assert codes([cause]) == [("search-path-unreadable", Verdict.ACTION)]
    assert cause.text == line


def test_a_directory_of_somebody_else_is_named(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one leaves it who processes with a umask of 077."""
    work = settings.paths.work
    put(work, 1)
    plan = Plan(settings).of(DL)
    plan.refuse_closed()
    for closed in (work, work / DL, work / paths.chunks(DL), work / paths.run(RUN_A) / DL):
        closed.mkdir(parents=True, exist_ok=True)

        def access(path: Path, *_: object, closed: Path = closed, **__: object) -> bool:
            return path != closed

        monkeypatch.setattr(os, "access", access)  # root may look everywhere
        with pytest.raises(HalfPipeError) as caught:
            plan.refuse_closed()
        said = str(caught.value)
        assert said.startswith(f"{closed} cannot be listed: Permission denied. {closed} belongs to ")
        assert said.endswith(f"let others read it: chmod a+rx {closed}, then re-run the command.")


def test_a_working_directory_that_cannot_be_listed_stops_its_downlink_alone(settings: Settings) -> None:
    for dl in (DL, OTHER):
        put(settings.paths.retdef[0], 1, dl=dl)
    place = loop(settings.paths.work / DL)
    with pytest.raises(HalfPipeError, match=f"{place} cannot be read"):
        Plan(settings).of(DL)
    outstanding = Plan(settings).outstanding(time.time() + HOUR)
    assert outstanding.ready == (OTHER,)
    (line,) = outstanding.waiting
    assert line.startswith(f"downlink {DL} waits: {place}")
    assert codes(found(settings)) == [("work-unreadable", Verdict.ACTION)]


def test_a_place_that_is_gone_stale_costs_nobody_else_anything(settings: Settings) -> None:
    first, second = settings.paths.retdef
    put(first, 1)
    (settings.paths.work / OTHER / "chunks").mkdir(parents=True)
    second.rmdir()
    loop(second)
    outstanding = Plan(settings).outstanding(time.time() + HOUR)
    assert outstanding.ready == (DL,)
    assert outstanding.waiting == ()
    (cause,) = site_troubles(Plan(settings))
    assert codes([cause]) == [("search-path-unreadable", Verdict.ACTION)]
    assert outstanding.messages == (cause.text,)
    assert found(settings) == []
    assert found(settings, dl=OTHER) == []  # what is gone nobody knows


def test_begun_and_its_retdefs_gone(settings: Settings) -> None:
    work = settings.paths.work
    (work / DL).mkdir()
    (work / DL / "haltStage").touch()
    assert [cause.code for cause in found(settings)] == ["switch-holds"]
    (work / DL / "haltStage").unlink()
    (work / DL / "chunks").mkdir()
    (bare,) = found(settings)
    assert codes([bare]) == [("retdefs-gone", Verdict.ACTION)]
    assert bare.text.endswith(
        "its RetDefs are gone from the search path (paths.retdef). Have them copied again"
    )
    put(work, 1)
    (cause,) = found(settings)
    assert codes([cause]) == [("retdefs-gone", Verdict.ACTION)]
    assert cause.text.startswith(f"downlink {DL} was begun and is not handed off, and its RetDefs are gone")
    assert cause.do == f"snakemake dl={DL}"
    assert Plan(settings).outstanding(time.time()).messages == (cause.text,)
    hand_off(settings, 1)
    assert found(settings) == []
    assert Plan(settings).outstanding(time.time()).messages == ()


def test_a_retdef_that_came_after_the_receipt(settings: Settings) -> None:
    work, home, more = settings.paths.work, *settings.paths.retdef
    put(home, 1, 2)
    put(work, 1, 2)
    hand_off(settings, 1, 2)
    put(more, 3)
    (cause,) = found(settings)
    assert codes([cause]) == [("retdef-new", Verdict.NOTE)]
    assert "the RetDef of chunk 00003 has come since it was handed off" in cause.text
    assert cause.do == f"snakemake dl={DL}"
    assert Plan(settings).outstanding(time.time() + HOUR).ready == (DL,)
    assert Plan(settings).of(DL).new == (ChunkId("00003"),)
    # That it was staged already, by a job that a crash has cut off from its followers, changes nothing.
    put(work, 3)
    assert [cause.code for cause in found(settings)] == ["retdef-new"]
    assert Plan(settings).outstanding(time.time() + HOUR).ready == (DL,)
    # Neither does the loss of a staged one that the receipt was made of: no turn starts for nothing.
    hand_off(settings, 1, 2, 3)
    (work / paths.retdef(DL, "00002")).unlink()
    assert found(settings) == []
    assert Plan(settings).outstanding(time.time() + HOUR).ready == ()
    put(more, 5)
    assert [cause.code for cause in found(settings)] == ["waits-retdef", "retdef-new"]


def test_what_a_receipt_was_made_of(tmp_path: Path) -> None:
    path = tmp_path / "receipt"
    assert chunks_of(str(path)) is None
    chunks = [
        {"chunk": f"{n:05d}", "files": [{"chunk": "00077"}], "said": {"lines": ["\n ],\n"]}} for n in (1, 2)
    ]
    says: list[dict[str, Any]] = [
        {"chunks": chunks, "ignored": [{"chunk": "00009", "reason": "lost"}]},
        {"accepted": ["x"], "chunks": chunks, "runs": [{"chunks": ["00008"]}]},
        {"chunks": [], "ignored": [{"chunk": "00009", "reason": "lost"}]},
        {"chunks": chunks},
    ]
    for said in says:
        expected = frozenset(chunk["chunk"] for chunk in said["chunks"])
        for text in (dump_json(said), json.dumps(said), json.dumps(said, indent=2)):
            path.write_text(text)
            assert chunks_of(str(path)) == expected, text
    for damaged in (
        "",
        "{",
        "[]",
        "null",
        '{"chunks": 1}',
        '{"chunks": [1]}',
        dump_json({"chunks": chunks})[:80],
    ):
        path.write_text(damaged)
        assert chunks_of(str(path)) is None, damaged


def test_a_receipt_that_does_not_say_makes_no_work(settings: Settings) -> None:
    put(settings.paths.retdef[0], 1, 2)
    put(settings.paths.work, 1, 2)
    hand_off(settings, text="")
    assert found(settings) == []
    assert Plan(settings).outstanding(time.time() + HOUR).ready == ()
    put(settings.paths.retdef[0], 3)
    assert Plan(settings).outstanding(time.time() + HOUR).ready == (DL,)


def test_a_retdef_that_was_issued_again(settings: Settings) -> None:
    work, home, _ = settings.paths.work, *settings.paths.retdef
    source, staged = put(home, 1), put(work, 1)
    hand_off(settings, 1)
    assert found(settings) == []
    source.write_text(content(1, RUN_A) + "\n")
    (cause,) = found(settings)
    assert codes([cause]) == [("retdef-reissued", Verdict.ACTION)]
    assert cause.text.startswith(f"RetDef of chunk 00001 of downlink {DL} was issued again: {source} differs")
    assert cause.do == f"snakemake dl={DL} -F"
    # Of the same size too, whatever times were set.
    source.write_text(content(1, RUN_A).replace("1719541787.0", "1719541788.0"))
    os.utime(source, (1e9, 1e9))
    assert [cause.code for cause in found(settings)] == ["retdef-reissued"]
    staged.write_bytes(source.read_bytes())
    assert found(settings) == []


def test_a_misspelt_switch_is_named(settings: Settings) -> None:
    work = settings.paths.work
    put(settings.paths.retdef[0], 1)
    (work / DL).mkdir()
    (work / "halts").mkdir()
    for file, right in (
        (work / "halts" / "haltstage", "haltStage"),
        (work / "halts" / "haltL1~", "haltL1"),
        (work / "halts" / "online", "haltOnline"),
        (work / DL / "haltStge", "haltStage"),
        (work / DL / "HALTL1", "haltL1"),
    ):
        file.touch()
        of_all = file.parent.name == "halts"
        (cause,) = site_troubles(Plan(settings)) if of_all else found(settings)
        assert codes([cause]) == [("switch-misspelt", Verdict.ACTION)]
        assert cause.text.startswith(
            f"{file} holds nothing: the switches here are haltStage, haltL1, haltOnline"
        )
        assert cause.do == f"mv {file} {file.with_name(right)}"
        if of_all:
            assert Plan(settings).outstanding(time.time() + HOUR).messages == (cause.text,)
        file.unlink()
    for name in ("README", ".nfs0001", "haltStage", "haltCleanup"):
        (work / "halts" / name).touch()
    assert "switch-misspelt" not in {cause.code for cause in site_troubles(Plan(settings))}
    (work / DL / "haltCleanup").touch()  # is for all downlinks at once
    assert "switch-misspelt" in {cause.code for cause in found(settings)}


def test_switches_hold(settings: Settings) -> None:
    work = settings.paths.work
    put(settings.paths.retdef[0], 1)
    (work / DL).mkdir()
    own, everywhere = work / DL / "haltStage", work / "halts" / "haltStage"
    own.touch()
    (cause,) = found(settings)
    assert codes([cause]) == [("switch-holds", Verdict.NOTE)]
    assert cause.do == f"halfpipe hold stage {DL} --resume"
    assert cause.since == own.stat().st_mtime
    everywhere.parent.mkdir()
    everywhere.touch()
    assert [cause.do for cause in found(settings)] == ["halfpipe hold stage --resume"]
    assert [(cause.code, cause.do) for cause in site_troubles(Plan(settings))] == [
        ("switch-holds", "halfpipe hold stage --resume")
    ]
    put(work, 1)
    hand_off(settings, 1)
    assert found(settings) == []
    (work / DL / "haltL1").touch()
    assert found(settings) == []
    submitting = replace(settings, submit=replace(settings.submit, automatic=True))
    assert [cause.do for cause in found(submitting)] == [f"halfpipe hold l1 {DL} --resume"]


def test_who_is_at_work(settings: Settings) -> None:
    work = settings.paths.work
    put(settings.paths.retdef[0], 1)
    with held_by_another(work, paths.downlink_lease(DL)) as holder:
        (cause,) = found(settings)
        assert codes([cause]) == [("in-work", Verdict.NOTE)]
        assert cause.text == f"in work by {holder}"
        assert cause.since == pytest.approx(time.time(), abs=30)
    assert found(settings) == []
    job = job_of_another(work, paths.downlink_lease(DL))
    (cause,) = found(settings)
    assert codes([cause]) == [("in-work", Verdict.NOTE)]
    assert job.name in cause.text


def test_a_head_that_died_at_work(settings: Settings) -> None:
    work = settings.paths.work
    put(settings.paths.retdef[0], 1)
    holder = left_by_another(work, paths.downlink_lease(DL), silent=1e4)
    log = work / paths.benchmarks(DL) / "decode_chunk-00001.log"
    log.parent.mkdir(parents=True)
    log.touch()
    os.utime(log, (1_717_200_000, 1_717_200_000))
    (cause,) = found(settings)
    assert codes([cause]) == [("head-died", Verdict.NOTE)]
    assert cause.text == f"begun by {holder}, which died after 2024-06-01 00:00:00 UTC"
    assert (cause.do, cause.since) == (f"snakemake dl={DL}", 1_717_200_000)
    put(work, 1)
    hand_off(settings, 1)
    assert found(settings) == [], "it died after its hand-off"


def test_who_is_at_work_on_what_is_no_downlink(settings: Settings) -> None:
    with held_by_another(settings.paths.work, paths.run_lease("2c2e5787"), silent=100) as holder:
        (cause,) = site_troubles(Plan(settings))
        assert codes([cause]) == [("leased", Verdict.NOTE)]
        assert cause.text.startswith(f"run-2c2e5787 is in work by {holder}, last heard of 100 s ago")
        left_by_another(settings.paths.work, paths.unattended_lease(), silent=1e4)
        assert len(list(site_troubles(Plan(settings)))) == 1, "who has died is in nobody's way"
