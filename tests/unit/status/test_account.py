"""When a downlink leaves the account, and what an account counts."""

import os
import shutil
import time
from dataclasses import replace
from io import StringIO
from pathlib import Path

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.decisions import Subject, What, decide
from halfpipe.merge.books import Books, Standing
from halfpipe.notify import submit
from halfpipe.settings import Paths, Settings
from halfpipe.staging import stage_mark
from halfpipe.state.closed import write_closed
from halfpipe.status.account import Account, account
from halfpipe.status.causes.books import books_causes
from halfpipe.status.overview import note_closed, recent
from halfpipe.status.survey import Survey, read_facts
from tests.support.level1 import DL, RUN, Level1
from tests.support.receipts import receive_chunks
from tests.support.settings import put, searching, told

DAY = 86400.0


def after(settings: Settings, days: float) -> Survey:
    """Return the survey as it is some days from now."""
    return Survey(settings, time.time() + days * DAY)


def look(settings: Settings, days: float) -> Account:
    """Look at the downlink as a turn does, some days from now."""
    survey = after(settings, days)
    one = account(survey, DL)
    note_closed(survey, [one])
    return one


def test_a_downlink_stays_in_the_account_until_it_is_taken_and_good_for_two_weeks(level1: Level1) -> None:
    settings = level1.settings()
    assert look(settings, 15).closed is None, "it is not submitted"
    assert recent(after(settings, 100), 7) == [DL]
    submit.submit(settings, DL, StringIO())
    assert look(settings, 15).closed is None, "it is not taken"
    shutil.rmtree(level1.stage / DL)
    assert look(settings, 13).closed is None, "level-0 may still arrive"
    assert recent(after(settings, 13), 7) == [DL]
    assert look(settings, 15).closed is not None
    assert recent(after(settings, 15), 7) == []
    assert recent(after(settings, 15), 16) == [DL]


def test_a_closed_downlink_that_is_handed_off_again_is_looked_at_until_it_is_closed_again(
    level1: Level1,
) -> None:
    settings = level1.settings()
    submit.submit(settings, DL, StringIO())
    shutil.rmtree(level1.stage / DL)
    look(settings, 15)
    level1.hand_off(2)
    receipt = level1.work / paths.receipt(DL)
    os.utime(receipt, (later := time.time() + 20 * DAY, later))
    assert recent(after(settings, 30), 7) == [DL], "a rollback may be forgotten"
    one = look(settings, 40)
    assert (one.closed, one.causes[0].code) == (None, "handoff-not-submitted")
    (level1.work / paths.CLOSED).unlink()
    assert recent(after(settings, 40), 7) == [DL], "the file only makes things faster"


def test_a_hand_off_without_files_closes_by_itself(level1: Level1) -> None:
    level1.hand_off(files=False)
    shutil.rmtree(level1.stage / DL)
    assert look(level1.settings(), 15).closed is not None


def test_a_closed_downlink_of_a_run_that_was_abandoned_is_looked_at(level1: Level1) -> None:
    settings = level1.settings()
    index = level1.work / paths.datagrams(RUN, DL)
    index.touch()
    write_closed(settings, {DL: read_facts(after(settings, 15), DL).changed})
    assert recent(after(settings, 15), 7) == []
    decide(level1.work, What.ABANDONED, Subject(None, run=RUN), None, "a test")
    assert recent(after(settings, 1), 0.5) == []
    assert recent(after(settings, 1), 7) == [DL]


def test_due_events_need_action_when_no_downlink_delivers_them(level1: Level1) -> None:
    def due(hours: float) -> list[Cause]:
        facts = read_facts(after(level1.settings(), hours / 24), DL)
        return list(books_causes(facts, RUN, Standing(Books(known=64, delivered=2, due=62))))

    again = f"snakemake dl={DL} -R {paths.manifest(RUN, DL)}"
    assert told(due(23)) == [("events-due", Verdict.NOTE, again)]
    assert told(due(25)) == [("events-due", Verdict.ACTION, again)]


def test_a_late_retdef_is_a_chunk_that_is_not_decoded(tmp_path: Path) -> None:
    work, home = tmp_path / "work", tmp_path / "retdefs"
    settings = searching(work, home)
    put(home, 1, dl=DL)
    put(work, 1, dl=DL)
    receive_chunks(work, DL, 1)
    assert account(Survey(settings), DL).chunks == (1, 1)
    put(home, 2, dl=DL)
    assert account(Survey(settings), DL).chunks == (1, 2)


def test_files_in_a_stage_of_another_working_directory_are_not_the_business_of_a_downlink(
    level1: Level1, tmp_path: Path
) -> None:
    """An empty mount point in the place of the working directory: to move files away would take them from Level-1."""
    put(tmp_path / "retdefs", 1, dl=DL)
    settings = replace(
        level1.settings(), paths=Paths(level1.work, level1.stage, retdef=(tmp_path / "retdefs",))
    )
    stage_mark.note(settings, ())
    level1.work.rename(tmp_path / "unmounted")
    level1.work.mkdir()
    survey = Survey(settings)
    assert survey.plan.stage_trouble is not None
    assert survey.plan.stage_trouble.code == "stage-foreign"
    assert {cause.code for cause in account(survey, DL).causes} <= {"settling", "outstanding"}
    (tmp_path / "unmounted" / paths.receipt(DL)).unlink()
    level1.work.rmdir()
    (tmp_path / "unmounted").rename(level1.work)
    (level1.stage / DL / "log").touch()
    assert "stage-foreign" in {cause.code for cause in account(Survey(settings), DL).causes}, (
        "in our own stage"
    )
