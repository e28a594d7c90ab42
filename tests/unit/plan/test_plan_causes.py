"""Causes that keep a downlink from being processed: code, verdict and command; and which downlinks are outstanding."""

import os
import shlex
import shutil
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.decisions import Subject, What, decide
from halfpipe.errors import ConfigError, HalfPipeError
from halfpipe.files import leases
from halfpipe.files.reading import sha256
from halfpipe.ids import ChunkId, DownlinkId
from halfpipe.plan.outstanding import Outstanding, outstanding
from halfpipe.plan.plan import Plan, retdef_to_stage
from halfpipe.plan.plan_causes import general_causes, lease_troubles, reissued, report, troubles
from halfpipe.settings import Settings
from halfpipe.state.closed import last_change, write_closed
from halfpipe.state.halts import HeldError, Switch, refuse, summary
from halfpipe.status import site_causes
from halfpipe.status.survey import Survey
from tests.support.leases import held_by_another, job_of_another, left_by_another
from tests.support.receipts import publish, receive_chunks
from tests.support.settings import RUN_A, content, put, searching, told

DL, OTHER = DownlinkId("240601001"), DownlinkId("240601002")
HOUR = 3600.0


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A site with two places on its search path."""
    places = [tmp_path / name for name in ("work", "retdefs", "more")]
    for place in places:
        place.mkdir()
    return searching(*places)


def hand_off(settings: Settings, *chunks: int, text: str | None = None, dl: str = DL) -> Path:
    receipt = settings.paths.work / paths.receipt(dl)
    receive_chunks(settings.paths.work, dl, *chunks)
    if text is not None:
        receipt.write_text(text)
    return receipt


def found(settings: Settings, age: float = 2 * HOUR, dl: DownlinkId = DL) -> list[Cause]:
    of = Plan(settings).of(dl)
    return [*troubles(of, time.time() + age), *reissued(of)]


def every(settings: Settings, age: float = 2 * HOUR, **of: Any) -> Outstanding:
    return outstanding(Plan(settings), time.time() + age, **of)


def ready(settings: Settings, age: float = 2 * HOUR) -> tuple[DownlinkId, ...]:
    return every(settings, age).ready


def reported(settings: Settings) -> list[str]:
    """Return the lines before the first job."""
    lines = list[str]()
    report(Plan(settings).of(DL), lines.append)
    return lines


def dead(settings: Settings) -> list[Cause]:
    """Return the causes in the lease of the downlink."""
    found = leases.look(settings.paths.work, paths.downlink_lease(DL))
    return list(lease_troubles(Plan(settings).of(DL), found))


def codes(causes: Iterable[Cause]) -> list[tuple[str, Verdict]]:
    return [(cause.code, cause.verdict) for cause in causes]


def test_closed_downlinks_are_skipped_until_they_change(settings: Settings) -> None:
    work, home = settings.paths.work, settings.paths.retdef[0]
    for dl in (DL, OTHER):
        put(home, 1, 2, dl=dl)
        hand_off(settings, 1, dl=dl)
    assert ready(settings) == (DL, OTHER)
    write_closed(settings, {dl: last_change(settings, dl) for dl in (DL, OTHER)})
    assert ready(settings) == ()
    put(home, 3, dl=OTHER)
    os.utime(home / OTHER, (later := time.time() + 9, later))
    assert ready(settings) == (OTHER,)
    automatic = replace(settings, submit=replace(settings.submit, automatic=True))
    assert ready(automatic) == (DL, OTHER), "not submitted"
    (work / paths.receipt(DL)).unlink()
    assert ready(settings) == (DL, OTHER)
    hand_off(settings, 1)
    (work / paths.CLOSED).write_text("damaged")
    assert ready(settings) == (DL, OTHER), "the file only makes things faster"


def test_a_downlink_is_outstanding_until_its_receipt_has_all_its_retdefs(settings: Settings) -> None:
    work, home, more = settings.paths.work, *settings.paths.retdef
    assert (found(settings), every(settings)) == ([], Outstanding((), {}, ()))
    put(home, 1)
    put(home, 1, dl=OTHER)
    for name in ("README", "240601003"):
        (home / name).write_text("no directory")
    for name in ("240601004", "24060100"):
        (home / name).mkdir()
    assert (found(settings), every(settings)) == ([], Outstanding((DL, OTHER), {}, ()))
    hand_off(settings, 1)
    put(work, 1)
    assert (found(settings), ready(settings)) == ([], (OTHER,))
    assert list(general_causes(Plan(settings))) == []
    # A copy changes nothing. A new RetDef counts in every place, and also if it is staged already.
    put(more, 1)
    assert (found(settings), ready(settings)) == ([], (OTHER,))
    put(more, 3)
    assert codes(found(settings)) == [("waits-retdef", Verdict.NOTE), ("retdef-new", Verdict.NOTE)]
    put(more, 2)
    put(work, 2)
    (cause,) = found(settings)
    assert told([cause]) == [("retdef-new", Verdict.NOTE, f"snakemake dl={DL}")]
    assert "00002, 00003" in cause.text
    assert ready(settings) == (DL, OTHER)
    # A lost RetDef of the hand-off, or an ignored one, starts no work.
    hand_off(settings, 1, 2)
    (work / paths.retdef(DL, "00001")).unlink()
    decide(work, What.LEFT_OUT, Subject(DL, chunk=ChunkId.of(3)), None, "bad")
    assert (found(settings), ready(settings)) == ([], (OTHER,))


def test_a_hole_waits_and_needs_action_after_a_day(settings: Settings) -> None:
    retdef = put(settings.paths.retdef[0], 1, 4)
    (cause,) = found(settings)
    assert codes([cause]) == [("waits-retdef", Verdict.NOTE)]
    assert "00002, 00003" in cause.text
    assert cause.remedy.do == (f"snakemake dl={DL}",)
    assert cause.remedy.accept == (f"{DL}/00002 left-out", f"{DL}/00003 left-out")
    assert cause.since == pytest.approx(retdef.stat().st_ctime, abs=1)
    assert every(settings) == Outstanding((), {}, (f"downlink {DL}: {cause.text}",))
    assert codes(found(settings, 25 * HOUR)) == [("waits-retdef", Verdict.ACTION)]
    patient = replace(settings, alarm=replace(settings.alarm, late_hours=48))
    assert codes(found(patient, 25 * HOUR)) == [("waits-retdef", Verdict.NOTE)]


def test_young_retdefs_settle_whatever_their_times_of_modification(settings: Settings) -> None:
    """`cp -p` keeps the time of modification, and never that of the last change."""
    retdef = put(settings.paths.retdef[0], 1)
    soon, years = time.time() + 300, time.time() + 5 * 365 * 24 * HOUR
    for when in (1e9, years, soon):  # `soon`: the clock of a file server is some minutes off
        os.utime(retdef, (when, when))
        assert (codes(found(settings, 30)), ready(settings, 30)) == ([("settling", Verdict.NOTE)], ())
        assert (found(settings, 90) == [], ready(settings, 90) == (DL,)) == (when != soon,) * 2


def test_retdefs_in_the_directory_of_another_downlink_are_one_cause(settings: Settings) -> None:
    home = settings.paths.retdef[0]
    put(home, 1)
    for chunk in (2, 3):
        put(home, chunk, dl=OTHER, inside=DL)
    (cause,) = found(settings)
    look = f"ls -ld {home / DL} {home / OTHER}"
    assert told([cause]) == [("retdef-elsewhere", Verdict.ACTION, look)]
    assert f"{home / DL} has 2 RetDefs of downlink {OTHER}" in cause.text
    assert ready(settings) == (DL,)
    assert reported(settings) == [f"downlink {DL}: {cause.text}: {cause.remedy}"]


@pytest.mark.parametrize(
    "name",
    [
        f"RetDef-{DL}-2.xml", f"RetDef-{DL}-00000.xml", f"RetDef-{DL}-00002.XML", f"RetDef-{DL}-00002.xml.gz",
        f"retdef_{DL}_00002.xml",
    ],
)  # fmt: skip
def test_a_misnamed_retdef_is_named(name: str, settings: Settings) -> None:
    """Without it the downlink looks complete if it is the last one."""
    retdef = put(settings.paths.retdef[0], 1)
    retdef.with_name(name).touch()
    retdef.with_name(f".{retdef.name}.part").touch()  # rsync is copying it
    (cause,) = found(settings)
    assert codes([cause]) == [("retdef-elsewhere", Verdict.ACTION)]
    assert name in cause.text
    waits = replace(settings, retdef=replace(settings.retdef, settle_seconds=3 * HOUR))
    assert ("retdef-elsewhere", Verdict.NOTE) in codes(found(waits)), "it may be a copy in progress"
    assert len(reported(settings)) == 1


def loop(path: Path) -> Path:
    """Make a link at `path` that not even root can list."""
    path.symlink_to(path.name)
    return path


def test_a_directory_that_cannot_be_listed_stops_only_its_downlink(settings: Settings) -> None:
    first, second = settings.paths.retdef
    for dl in (DL, OTHER):
        put(first, 1, dl=dl)
    place = loop(second / DL)
    (cause,) = found(settings)
    assert told([cause]) == [("file-system", Verdict.ACTION, f"ls -ld {place}")]
    assert found(settings, dl=OTHER) == []
    assert every(settings) == Outstanding((OTHER,), {}, (f"downlink {DL}: {cause.text}",))
    handed_off = hand_off(settings, 1)
    assert every(settings) == Outstanding((OTHER,), {}, (f"downlink {DL}: {cause.text}",)), "one may be late"
    handed_off.unlink()
    # A command that names the downlink uses the RetDefs that it can read.
    assert Plan(settings).of(DL).chunks == (ChunkId("00001"),)
    assert retdef_to_stage(settings, DL, ChunkId("00001")).startswith(b"<retdef")
    place.unlink()
    shutil.rmtree(settings.paths.work / DL)
    loop(settings.paths.work / DL)
    with pytest.raises(HalfPipeError, match=f"{settings.paths.work / DL} cannot be read"):
        Plan(settings).of(DL).refuse_closed()
    assert codes(found(settings)) == [("file-system", Verdict.ACTION)]
    assert (ready(settings), len(every(settings).waiting)) == ((OTHER,), 1)


def test_a_place_of_the_search_path_that_cannot_be_listed_stops_no_downlink(settings: Settings) -> None:
    first, second = settings.paths.retdef
    put(first, 1)
    (settings.paths.work / OTHER / "chunks").mkdir(parents=True)
    second.rmdir()
    loop(second)
    (cause,) = general_causes(Plan(settings))
    assert codes([cause]) == [("file-system", Verdict.ACTION)]
    assert every(settings) == Outstanding((DL,), {}, (cause.text,))
    assert found(settings) == []
    assert found(settings, dl=OTHER) == []


def test_a_directory_of_another_user_is_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user with umask 077 leaves such directories."""
    work = settings.paths.work
    put(work, 1)
    plan = Plan(settings).of(DL)
    plan.refuse_closed()
    for closed in (work, work / DL, work / paths.chunks(DL), work / paths.run(RUN_A) / DL):
        closed.mkdir(parents=True, exist_ok=True)

        def access(path: str | Path, *_: object, closed: Path = closed, **__: object) -> bool:
            return Path(path) != closed

        monkeypatch.setattr(os, "access", access)  # root may read everything
        with pytest.raises(HalfPipeError, match=rf"^{closed} cannot be read: .*{closed} belongs to "):
            plan.refuse_closed()


def test_a_begun_downlink_without_retdefs_needs_action(settings: Settings) -> None:
    work = settings.paths.work
    (work / DL).mkdir()
    (work / DL / "haltStage").touch()
    assert [cause.code for cause in found(settings)] == ["held"]
    (work / DL / "haltStage").unlink()
    (work / DL / "chunks").mkdir()
    assert told(found(settings)) == [("no-retdefs", Verdict.ACTION, "")]
    put(work, 1)
    (cause,) = found(settings)
    assert told([cause]) == [("no-retdefs", Verdict.ACTION, "")], "the file system may not be mounted"
    assert len(reported(settings)) == 1
    assert every(settings) == Outstanding((), {}, (f"downlink {DL}: {cause.text}",))
    hand_off(settings, 1)
    assert (found(settings), every(settings)) == ([], Outstanding((), {}, ()))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"series": 1}'])
def test_a_damaged_receipt_starts_no_work(settings: Settings, text: str) -> None:
    put(settings.paths.retdef[0], 1, 2)
    put(settings.paths.work, 1, 2)
    hand_off(settings, 1, 2, text=text)
    assert (found(settings), ready(settings)) == ([], ())
    put(settings.paths.retdef[0], 3)
    assert ready(settings) == (DL,)


def test_a_reissued_retdef_needs_action(settings: Settings) -> None:
    work, home = settings.paths.work, settings.paths.retdef[0]
    source, staged = put(home, 1), put(work, 1)
    assert found(settings) == []
    source.write_text(content(1, RUN_A) + "\n")
    reissued = ("retdef-reissued", Verdict.ACTION, f"snakemake -F dl={DL}")
    assert told(found(settings)) == [reissued], "before the hand-off, too"
    # Also with equal size and older times, as of a directory that was prepared earlier.
    source.write_text(content(1, RUN_A).replace("1719541787.0", "1719541788.0"))
    os.utime(source, (1e9, 1e9))
    last = receive_chunks(work, DL, 1).receipt
    chunk = structs.replace(last.chunks[0], retdef=sha256(staged))
    publish(work, structs.replace(last, chunks=(chunk,)))
    staged.write_bytes(source.read_bytes())
    assert told(found(settings)) == [reissued], "the receipt says what was processed, not the working copy"
    source.write_text(content(1, RUN_A))
    assert found(settings) == []


def test_two_places_with_different_retdefs_of_a_chunk_need_action(settings: Settings) -> None:
    home, more = settings.paths.retdef
    first, second = put(home, 1), put(more, 1)
    assert found(settings) == []
    second.write_text(content(1, RUN_A) + "\n")
    (cause,) = found(settings)
    assert told([cause]) == [("retdef-reissued", Verdict.ACTION, f"diff {first} {second}")]
    assert ready(settings) == (DL,), "the first one counts"
    second.unlink()
    assert found(settings) == []


def test_a_link_to_the_directory_of_another_downlink_is_told_without_a_command_that_changes_files(
    settings: Settings,
) -> None:
    home = settings.paths.retdef[0]
    put(home, 1, dl=OTHER)
    look = ("retdef-elsewhere", Verdict.ACTION, f"ls -ld {home / DL} {home / OTHER}")
    (home / DL).symlink_to(home / OTHER)
    assert told(found(settings)) == [look]
    (home / DL).unlink()
    # The other way round: the only RetDef of the other downlink lies in the directory of this one.
    (home / OTHER).rename(home / DL)
    (home / OTHER).symlink_to(home / DL)
    assert told(found(settings)) == [look]


@pytest.mark.parametrize("name", ["haltstage", "haltL1~", "online", "haltStge"])
def test_a_misspelt_switch_needs_action(settings: Settings, name: str) -> None:
    work = settings.paths.work
    put(settings.paths.retdef[0], 1)
    for home in (work / DL, work / "halts"):
        home.mkdir()
    for other in ("README", ".nfs0001", "haltStage", "haltCleanup"):
        (work / "halts" / other).touch()
    assert {cause.code for cause in general_causes(Plan(settings))} == {"held"}
    (work / "halts" / name).touch()
    (cause,) = (one for one in general_causes(Plan(settings)) if one.code == "misspelt")
    assert told([cause]) == [("misspelt", Verdict.ACTION, shlex.join(["rm", str(work / "halts" / name)]))]
    assert every(settings).waiting == (cause.text,)
    assert "haltCleanup" in cause.text, "one of the valid names"
    (work / DL / name).touch()
    assert ("misspelt" in {one.code for one in found(settings)}) == name.startswith("halt")
    (work / DL / "haltCleanup").touch()  # this switch is for all downlinks
    assert "misspelt" in {one.code for one in found(settings)}


def test_a_switch_holds_the_next_step_of_a_downlink(settings: Settings) -> None:
    work = settings.paths.work
    submitting = replace(settings, submit=replace(settings.submit, automatic=True))
    put(settings.paths.retdef[0], 1)
    for home in (work / DL, work / "halts"):
        home.mkdir()
    own, l1, everywhere = work / DL / "haltStage", work / DL / "haltL1", work / "halts" / "haltStage"
    own.touch()
    l1.touch()
    (cause,) = found(submitting)
    assert told([cause]) == [("held", Verdict.NOTE, f"halfpipe hold stage {DL} --undo")]
    assert cause.since == own.stat().st_mtime
    assert every(submitting) == Outstanding((), {DL: own}, ())
    everywhere.touch()
    assert [str(cause.remedy) for cause in found(settings)] == ["halfpipe hold"]
    assert [str(cause.remedy) for cause in general_causes(Plan(settings))] == ["halfpipe hold"]
    assert reported(settings) == [
        f"downlink {DL}: staging is held by {everywhere}",
        f"downlink {DL}: submission to Level-1 is held by {l1}",
    ]
    with pytest.raises(HeldError):
        refuse(work, Switch.STAGE, DL)
    put(work, 1)
    hand_off(settings, 1)
    assert (found(settings), every(settings).held) == ([], {})
    assert every(submitting) == Outstanding((), {DL: l1}, ())
    assert every(submitting, among={DL}) == Outstanding((), {}, ())
    l1.unlink()
    assert ready(submitting) == (DL,)
    (work / paths.submitted(DL)).touch()
    assert ready(submitting) == ()
    third = DownlinkId("240601003")
    assert summary({OTHER: own, DL: l1, third: own}) == [
        f"held by {l1}: downlink {DL}",
        f"held by {own}: 2 downlinks, {OTHER} to {third}",
    ]


def test_too_many_outstanding_downlinks_are_refused_unless_named(tmp_path: Path) -> None:
    work, home = tmp_path / "work", tmp_path / "retdefs"
    work.mkdir()
    home.mkdir()
    names = [f"24060{day}001" for day in range(1, 6)]
    for name in names:
        put(home, 1, dl=name)
    put(home, 2, dl="240609001")  # waits for chunk 1, and does not count
    few, enough = searching(work, home, most=4), searching(work, home, most=5)
    assert list(ready(enough)) == names
    with pytest.raises(ConfigError, match=rf"^5 downlinks .*halfpipe process {names[0]}\.\.{names[-1]}$"):
        ready(few)
    causes = site_causes.site_troubles(Survey(few, time.time() + 2 * HOUR))
    every_one = f"halfpipe process {names[0]}..{names[-1]}"
    assert told(causes) == [("outstanding-many", Verdict.ACTION, every_one)]
    assert list(site_causes.site_troubles(Survey(enough, time.time() + 2 * HOUR))) == []
    assert list(every(few, among=set(names)).ready) == names


def test_a_process_at_work_is_a_note(settings: Settings) -> None:
    work = settings.paths.work
    put(settings.paths.retdef[0], 1)
    with held_by_another(work, paths.downlink_lease(DL)) as holder:
        (cause,) = dead(settings)
        assert (codes([cause]), str(holder) in cause.text) == ([("in-progress", Verdict.NOTE)], True)
    assert list(dead(settings)) == []
    job = job_of_another(work, paths.downlink_lease(DL))
    (cause,) = dead(settings)
    assert (codes([cause]), job.name in cause.text) == ([("in-progress", Verdict.NOTE)], True)
    with held_by_another(work, paths.run_lease("2c2e5787"), silent=100) as holder:
        (cause,) = general_causes(Plan(settings))
        assert (codes([cause]), str(holder) in cause.text) == ([("in-progress", Verdict.NOTE)], True)
        left_by_another(work, paths.UNATTENDED_LEASE, silent=1e4)
        assert len(list(general_causes(Plan(settings)))) == 1, "a dead process holds nothing"


def test_a_process_that_died_at_work_needs_action(settings: Settings) -> None:
    work = settings.paths.work
    put(settings.paths.retdef[0], 1)
    holder = left_by_another(work, paths.downlink_lease(DL), silent=1e4)
    (cause,) = dead(settings)
    assert told([cause]) == [("killed", Verdict.ACTION, f"snakemake dl={DL}")]
    assert (holder.host in cause.text, holder.since in cause.text) == (True, False), "the cause has the time"
    put(work, 1)
    hand_off(settings, 1)
    assert list(dead(settings)) == [], "it died after the hand-off"
