"""What keeps a hand-off from Level-1: each cause from the state that it is of, and none where all is well."""

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.downlink import submit
from halfpipe.downlink.stage_state import StageState, stage_state
from halfpipe.downlink.submission_causes import troubles, warnings_after, warnings_before
from halfpipe.downlink.submissions import Action, Record
from halfpipe.downlink.submit import SubmissionError
from halfpipe.process.told_once import By, Outcome
from halfpipe.run.receipt_file import ReceiptError, read_receipt
from halfpipe.settings import Settings
from tests.support.level1 import DL, RUN, Level1
from tests.support.series import damage

SAY = f"halfpipe submit {DL} --settle submitted"


@pytest.fixture
def level1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Level1:
    """A downlink that was handed off once and not submitted; nobody waits for the pipeline."""
    monkeypatch.setattr(submit, "ASKED_AGAIN", (0.0, 0.0, 0.0))
    found = Level1(tmp_path)
    found.hand_off()
    return found


def found(level1: Level1, **keys: str | None) -> list[Cause]:
    """Return the causes as a report finds them."""
    return found_by(level1.settings(**keys))


def found_by(settings: Settings) -> list[Cause]:
    try:
        return list(troubles(settings, DL, read_receipt(settings.paths.work, DL)))
    except ReceiptError as error:
        return list(troubles(settings, DL, error))


def codes(causes: Sequence[Cause]) -> list[str]:
    return [cause.code for cause in causes]


def submitted(level1: Level1, **keys: str | None) -> dict[str, Any]:
    return submit.submit(level1.settings(**keys), DL, StringIO())


def take(level1: Level1) -> None:
    """Take the hand-off as Level-1 does; somebody who clears the stage leaves the same."""
    shutil.rmtree(level1.stage / DL)


def one_file(level1: Level1) -> Path:
    return level1.stage / paths.staged_run(DL, RUN.l1) / paths.event_file(RUN.l1, 1)


def state(level1: Level1) -> StageState:
    return stage_state(level1.settings(), DL, read_receipt(level1.work, DL), Record(level1.work, DL))


def test_what_was_submitted_and_taken_is_good(level1: Level1) -> None:
    submitted(level1)
    assert (found(level1), state(level1)) == ([], StageState.WHOLE)
    one_file(level1).unlink()
    assert (found(level1), state(level1)) == ([], StageState.PARTLY), "Level-1 is taking it"
    take(level1)
    assert (found(level1), state(level1)) == ([], StageState.TAKEN)


def test_what_waits_for_its_submission_is_told_and_after_a_day_a_person_is_wanted(level1: Level1) -> None:
    (cause,) = found(level1)
    assert (cause.code, cause.verdict, cause.do) == ("not-submitted", Verdict.NOTE, f"snakemake submit={DL}")
    assert cause.text == f"hand-off 1 (2 events of run {RUN}) is not submitted yet"
    long_ago = time.time() - 25 * 3600
    os.utime(level1.work / paths.receipts(DL) / "000001.json", (long_ago, long_ago))
    (cause,) = found(level1)
    assert cause.verdict is Verdict.ACTION
    assert cause.since == pytest.approx(long_ago)
    (level1.work / DL / "haltL1").touch()
    (cause,) = found(level1)
    assert (cause.code, cause.verdict) == ("not-submitted", Verdict.NOTE)
    assert cause.text == f"hand-off 1 is held by {level1.work / DL / 'haltL1'}"
    assert cause.do == f"halfpipe hold l1 {DL} --resume"
    level1.hand_off(files=False)
    assert found(level1) == []


def test_several_runs_are_named_as_such(level1: Level1) -> None:
    content = dict(read_receipt(level1.work, DL))
    content["runs"] = [*content["runs"], content["runs"][0] | {"run": "2c2e8430", "l1_run": "r0741245000"}]
    level1.receive(content)
    assert any(f"(4 events of runs {RUN}, 2c2e8430)" in cause.text for cause in found(level1))


def test_a_stage_wiped_before_any_submission(level1: Level1) -> None:
    take(level1)
    assert state(level1) is StageState.GONE
    gone = found(level1)[0]
    assert (gone.code, gone.verdict, gone.do) == (
        "stage-gone",
        Verdict.ACTION,
        f"snakemake dl={DL} -R deliver_run",
    )
    assert gone.text == (
        f"hand-off 1 (2 events of run {RUN}) is gone from the stage ({level1.stage / DL}), and was not submitted; if "
        f"Level-1 got it in another way, say so: {SAY}"
    )
    submit.settle(level1.settings(), DL, True)
    assert (found(level1), state(level1)) == ([], StageState.TAKEN)


def test_a_stage_that_somebody_took_a_file_from(level1: Level1) -> None:
    one_file(level1).unlink()
    assert codes(found(level1))[0] == "stage-partly-gone"


def test_a_run_that_left_the_stage_before_a_later_hand_off_is_not_forgotten(level1: Level1) -> None:
    """The later one does not name it, so only a submission of the first would have brought it to Level-1."""
    run = read_receipt(level1.work, DL)["runs"][0] | {"held": False, "handoff": 1}
    other = run | {"run": "2c2e5788", "files": []}
    level1.receive({"handoff": 2, "runs": [run | {"named": False}, other]})
    (cause,) = found(level1)
    assert (cause.code, cause.verdict) == ("stage-partly-gone", Verdict.ACTION)
    assert cause.text.startswith(f"2 events of run {RUN} left the stage before hand-off 2")
    record = Record(level1.work, DL)
    record.intend(("a", "command line"), action=Action.SUBMIT, handoff=2)
    record.conclude(Outcome.TOLD, By.PERSON)
    assert codes(found(level1)) == ["stage-partly-gone"]  # that submission did not name it either
    record = Record(level1.work, DL)
    record.intend(("a", "command line"), action=Action.ROLLBACK, handoff=1)
    record.conclude(Outcome.TOLD, By.PERSON)
    assert found(level1) == []


def test_a_later_hand_off_is_not_that_which_was_submitted(level1: Level1) -> None:
    submitted(level1)
    take(level1)
    level1.hand_off(2)
    (cause,) = found(level1)
    assert (cause.code, cause.verdict) == ("handoff-not-submitted", Verdict.ACTION)
    assert cause.do == f"halfpipe submit {DL} --rollback"
    assert found(level1, rollback=None)[0].do == (
        f"roll stream {DL} back in the pipeline by hand, then: halfpipe submit {DL} --rolled-back"
    )
    take(level1)
    assert state(level1) is StageState.GONE
    assert codes(found(level1)) == ["stage-gone", "handoff-not-submitted"]
    assert found(level1)[0].text.endswith(f"say so: halfpipe submit {DL} --rolled-back")
    assert submit.rolled_back(level1.settings(), DL).handoff == 2
    assert (found(level1), state(level1)) == ([], StageState.TAKEN)


def test_a_roll_back_by_hand_is_refused_where_there_is_none(level1: Level1) -> None:
    with pytest.raises(SubmissionError, match="no hand-off was submitted"):
        submit.rolled_back(level1.settings(), DL)
    submitted(level1)
    level1.leave_open(Action.ROLLBACK)
    with pytest.raises(SubmissionError, match="rolled back in Level-1 is not known"):
        submit.rolled_back(level1.settings(), DL)


def test_what_is_said_before_and_after_a_downlink_is_processed_again(level1: Level1) -> None:
    settings = level1.settings()
    assert warnings_before(settings, DL) == []
    assert warnings_after(settings, DL, read_receipt(level1.work, DL)) == []
    submitted(level1)
    assert warnings_after(settings, DL, read_receipt(level1.work, DL)) == []
    (before,) = warnings_before(settings, DL)
    assert before.endswith(f" only by a roll-back: halfpipe submit {DL} --rollback")
    level1.hand_off(2)
    assert warnings_after(settings, DL, read_receipt(level1.work, DL)) == [
        f"downlink {DL}: this is hand-off 2, and Level-1 has hand-off 1. To have it take this one: "
        f"halfpipe submit {DL} --rollback"
    ]
    assert level1.commands() == ["createStream"]


def test_what_is_open_failed_or_written_down_needs_action(level1: Level1) -> None:
    look = f"look in the pipeline, then: {SAY} (or not-submitted)"
    level1.leave_open()
    for keys, do in (({}, f"snakemake submit={DL}"), ({"check": None}, look)):
        (cause,) = found(level1, **keys)
        assert (cause.code, cause.verdict, cause.do) == ("submission-open", Verdict.ACTION, do)
        assert cause.since == pytest.approx(time.time(), abs=60)
    take(level1)
    assert found(level1)[0].text.endswith("; its files are gone from the stage, so it may have been")
    submit.settle(level1.settings(), DL, False)
    level1.hand_off()
    level1.go_wrong(createStream="refuse")
    with pytest.raises(SubmissionError):
        submitted(level1)
    for keys, do in (({}, f"snakemake submit={DL}"), ({"check": None}, look)):
        (cause,) = found(level1, **keys)
        assert (cause.code, cause.verdict, cause.do) == ("submission-failed", Verdict.ACTION, do)
    submit.settle(level1.settings(), DL, False)
    submitted(level1, command=None)
    (cause,) = found(level1, command=None, check=None)
    assert (cause.code, cause.verdict) == ("written-for-person", Verdict.ACTION)
    line = (level1.work / paths.submit_line(DL)).read_text().strip()
    assert cause.do == f"{line}; then: {SAY}"


def test_a_roll_back_that_was_cut_off_is_one_cause(level1: Level1) -> None:
    submitted(level1)
    level1.hand_off(2)
    Record(level1.work, DL).intend(("roll",), action=Action.ROLLBACK, handoff=2)
    (cause,) = found(level1)
    assert cause.code == "submission-open"
    assert cause.text.startswith("whether Level-1 has hand-off 2 by a roll-back is not known since 20")


def test_a_damaged_record_is_named(level1: Level1) -> None:
    submitted(level1)
    path = level1.work / paths.submissions(DL)
    damage(level1.work, paths.submissions(DL))
    (cause,) = found(level1)
    assert cause.code == "submission-damaged"
    assert str(path) in cause.text
    assert str(path) in warnings_before(level1.settings(), DL)[0]


def test_a_command_that_ends_well_and_creates_nothing(level1: Level1) -> None:
    level1.go_wrong(createStream="lie")
    for _ in range(2):
        with pytest.raises(SubmissionError) as error:
            submitted(level1)
        assert "is not known: its command ended well, and submit.check finds no stream, attempt 1" in str(
            error.value
        )
    assert level1.outcomes() == [Outcome.FAILED], "it is not given again by itself"
    last = level1.recorded()[-1]
    assert (last["by"], last["status"]) == ("check", 0)
    assert last["said"][-1] == f"pipeline: STAND-IN, streamExists of stream {DL} of L1Proc"
    (cause,) = found(level1)
    assert (cause.code, cause.do) == (
        "submission-failed",
        f"look in the pipeline, then: {SAY} (or not-submitted)",
    )
    assert cause.text.endswith(" ended well, and submit.check finds no stream")
    ((_, attempt),) = submit.open_attempts(level1.work)
    assert submit.what_is_open(DL, attempt).endswith(" ended well, and submit.check finds no stream")
    level1.go_wrong()
    submit.settle(level1.settings(), DL, False)
    assert submitted(level1)["state"] == "submitted"
    assert level1.commands() == ["createStream"]


def test_a_stream_that_is_seen_late_is_waited_for(level1: Level1) -> None:
    level1.go_wrong(unseen=3)  # it is asked for before the command, and twice after it
    assert submitted(level1)["state"] == "submitted"
    assert level1.outcomes() == [Outcome.TOLD]


def test_a_stream_that_is_seen_after_all_is_found_out_by_the_next_command(level1: Level1) -> None:
    level1.go_wrong(unseen=4)
    with pytest.raises(SubmissionError):
        submitted(level1)
    assert submitted(level1)["state"] == "submitted"
    assert level1.outcomes() == [Outcome.TOLD]
    assert level1.commands() == ["createStream"]


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ('"handoff": 1', '"handoff": 2', "receipt-edited"),
        ('"sha256": "', '"sha256": "0', "receipt-edited"),
        ('"named": true', '"named": false', "receipt-edited"),
        ("}", "", "receipt-damaged"),
    ],
)
def test_a_receipt_that_was_changed_is_not_submitted(level1: Level1, old: str, new: str, code: str) -> None:
    path = level1.work / paths.receipt(DL)
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new, 1))
    with pytest.raises(ReceiptError) as error:
        submitted(level1)
    assert str(error.value).startswith(f"{path}: ")
    assert f"snakemake dl={DL} -R receipt" in str(error.value)
    assert level1.commands() == []
    (cause,) = found(level1)
    assert (cause.code, cause.verdict, cause.do) == (code, Verdict.ACTION, f"snakemake dl={DL} -R receipt")


def test_many_downlinks_where_all_is_well_take_little(level1: Level1) -> None:
    """60,000 downlinks are to be looked at in seconds; a tenth of a millisecond each leaves room."""
    submitted(level1)
    take(level1)
    settings, receipt = level1.settings(), read_receipt(level1.work, DL)
    fastest = min(timed(settings, receipt) for _ in range(20))
    assert fastest < 0.001


def timed(settings: Settings, receipt: Mapping[str, Any]) -> float:
    begin = time.perf_counter()
    assert list(troubles(settings, DL, receipt)) == []
    return time.perf_counter() - begin
