"""Causes that keep a hand-off from Level-1, each from its state; a good hand-off has none."""

import os
import shutil
import time
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.intervals import Interval
from halfpipe.notify import submit
from halfpipe.notify.handoff_causes import overlapping, overlaps, warnings_before
from halfpipe.notify.submissions import submissions
from halfpipe.notify.submit import SubmissionError
from halfpipe.state.attempts import Action, By, Outcome
from halfpipe.state.deliveries import Deliveries, Delivery
from halfpipe.state.hand_offs import NamedRun, current
from halfpipe.status.causes.submission import level1_causes
from halfpipe.status.survey import DownlinkFacts, Survey, read_facts
from tests.support.leases import held_by_another
from tests.support.level1 import DL, RUN, Level1, outcome_of
from tests.support.receipts import delivery, publish
from tests.support.series import damage
from tests.support.settings import told

SAY = f"halfpipe submit {DL} --settle submitted"


def facts(level1: Level1, **keys: str | None) -> DownlinkFacts:
    return read_facts(Survey(level1.settings(**keys), time.time()), DL)


def found(level1: Level1, **keys: str | None) -> list[Cause]:
    return list(level1_causes(facts(level1, **keys)))


def codes(causes: Sequence[Cause]) -> list[str]:
    return [cause.code for cause in causes]


def submitted(level1: Level1, **keys: str | None) -> dict[str, Any]:
    return outcome_of(submit.submit(level1.settings(**keys), DL, StringIO()))


def take(level1: Level1) -> None:
    """Take the hand-off as Level-1 does; a person who clears the stage leaves the same."""
    shutil.rmtree(level1.stage / DL)


def one_file(level1: Level1) -> Path:
    return level1.stage / paths.staged_run(DL, RUN.l1) / paths.event_file(RUN.l1, 1)


def taken(level1: Level1) -> bool:
    return facts(level1).is_taken


def test_a_submitted_hand_off_is_good_for_a_day(level1: Level1, monkeypatch: pytest.MonkeyPatch) -> None:
    submitted(level1)
    assert (found(level1), taken(level1)) == ([], False)
    one_file(level1).unlink()
    assert (found(level1), taken(level1)) == ([], False), "Level-1 is taking it"
    now, clock = time.time(), time.time
    monkeypatch.setattr(time, "time", lambda: clock() + 25 * 3600)
    (cause,) = found(level1)
    assert (cause.code, cause.verdict) == ("not-taken", Verdict.ACTION)
    assert cause.since == pytest.approx(now, abs=60)
    take(level1)
    assert (found(level1), taken(level1)) == ([], True)


def test_a_hand_off_that_is_not_submitted_for_a_day_needs_action(level1: Level1) -> None:
    long_ago = time.time() - 25 * 3600
    os.utime(level1.work / paths.receipt(DL), (long_ago, long_ago))
    (cause,) = found(level1)
    assert cause.verdict is Verdict.ACTION
    assert cause.since == pytest.approx(long_ago)
    (level1.work / DL / "haltL1").touch()
    assert told(found(level1)) == [("not-submitted", Verdict.NOTE, f"halfpipe hold l1 {DL} --undo")]
    level1.hand_off(files=False)
    take(level1)
    assert (found(level1), taken(level1)) == ([], False)


def test_a_harmed_stage_before_the_submission_needs_action(level1: Level1) -> None:
    one_file(level1).unlink()
    assert codes(found(level1))[0] == "stage-gone"
    (level1.stage / DL / "of-another").mkdir()
    level1.hand_off()
    assert codes(found(level1))[0] == "stage-foreign"
    take(level1)
    assert not taken(level1)
    gone = found(level1)[0]
    assert told([gone]) == [("stage-gone", Verdict.ACTION, f"snakemake dl={DL} -R deliver_run")]
    assert SAY in gone.text
    submit.settle(level1.settings(), DL, True)
    assert (found(level1), taken(level1)) == ([], True)


def test_a_run_that_left_the_stage_before_a_later_hand_off_needs_action(level1: Level1) -> None:
    """The later hand-off does not name it, so Level-1 would have got it only by a submission of the first one."""
    receipt = current(level1.work, DL).receipt
    (run,) = receipt.runs
    another = RunId("2c2e5788")
    record = Deliveries(level1.work, another).publish(delivery(DL, handoff=2))
    other = NamedRun(another, record.seal, named=True)
    publish(level1.work, replace(receipt, handoff=2, runs=(replace(run, named=False), other)))
    (cause,) = found(level1)
    assert (cause.code, cause.verdict) == ("stage-gone", Verdict.ACTION)
    told = submissions(level1.work, DL)
    told.intend(("a", "command line"), action=Action.SUBMIT, handoff=2)
    told.conclude(Outcome.SUBMITTED, By.PERSON)
    assert codes(found(level1)) == ["stage-gone"]  # this submission did not name it either
    told = submissions(level1.work, DL)
    told.intend(("a", "command line"), action=Action.ROLLBACK, handoff=1)
    told.conclude(Outcome.SUBMITTED, By.PERSON)
    assert found(level1) == []


def test_a_later_hand_off_needs_a_roll_back(level1: Level1) -> None:
    submitted(level1)
    take(level1)
    level1.hand_off(2)
    assert found(level1, rollback=None)[0].remedy.do == (f"halfpipe submit {DL} --settle submitted",)
    take(level1)
    assert not taken(level1)
    assert codes(found(level1)) == ["stage-gone", "handoff-not-submitted"]
    assert SAY in found(level1)[0].text
    assert submit.settle(level1.settings(), DL, True).handoff == 2
    assert (found(level1), taken(level1)) == ([], True)


def test_a_warning_before_a_submitted_downlink_is_processed_again(level1: Level1) -> None:
    settings = level1.settings()
    assert warnings_before(settings, DL) == []
    submitted(level1)
    assert [f"halfpipe submit {DL} --rollback" in line for line in warnings_before(settings, DL)] == [True]
    damage(level1.work, paths.submissions(DL))
    (cause,) = found(level1)
    assert (cause.code, cause.verdict) == ("damaged", Verdict.ACTION)
    assert len(warnings_before(settings, DL)) == 1


def test_an_unknown_or_manual_submission_has_its_time_and_commands(level1: Level1) -> None:
    level1.leave_open()
    with held_by_another(level1.work, paths.downlink_lease(DL)):
        assert found(level1) == [], "it runs"
    assert found(level1)[0].since == pytest.approx(time.time(), abs=60)
    take(level1)
    assert "gone from the stage" in found(level1)[0].text
    submit.settle(level1.settings(), DL, False)
    level1.hand_off()
    command = submitted(level1, command=None)["command"]
    (cause,) = found(level1, command=None, check=None)
    assert cause.remedy.do == (command, SAY)


@pytest.mark.parametrize("unseen", [3, 4])
def test_a_stream_that_appears_late_is_not_created_again(level1: Level1, unseen: int) -> None:
    level1.go_wrong(unseen=unseen)  # the check runs once before the command, and three times after it
    if unseen == 4:
        with pytest.raises(SubmissionError):
            submitted(level1)
    assert submitted(level1)["state"] == "submitted"
    assert level1.words() == ["submitted"]
    assert level1.commands() == ["createStream"]


@pytest.mark.parametrize("at_level1", [(), (0,), (1,), (0, 1)])
def test_of_two_deliveries_that_overlap_one_that_level_1_lacks_is_made_again(
    at_level1: tuple[int, ...], tmp_path: Path
) -> None:
    run, pair = RunId("2c2e5787"), (DownlinkId("240601001"), DownlinkId("240601002"))
    deliveries = Deliveries(tmp_path, run)
    for dl, span in zip(pair, (Interval(1, 9), Interval(8, 12)), strict=True):
        deliveries.publish(Delivery(dl, 1, (span,), {}))
    for number in at_level1:
        submissions(tmp_path, pair[number]).settle(submitted=True, by=By.PERSON)
    again = pair[0] if at_level1 == (1,) else pair[1]
    for dl in pair:
        (cause,) = overlaps(run, dl, deliveries, overlapping(tmp_path, dl, deliveries))
        assert cause.remedy.do == (f"snakemake dl={again} -R {paths.manifest(run, again)}",)
        assert (f"Level-1 has downlink {again}" in cause.remedy.first) is (len(at_level1) == 2)
