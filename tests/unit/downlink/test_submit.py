"""Submission: what is run and what is not in every state of the record, and in which words it is refused."""

import json
import shlex
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from halfpipe import paths
from halfpipe.causes import Verdict
from halfpipe.downlink import stage_mark, submit
from halfpipe.downlink.halts import HeldError
from halfpipe.downlink.handoff_causes import at_level1 as troubles
from halfpipe.downlink.submissions import Record
from halfpipe.downlink.submit import SubmissionError
from halfpipe.errors import ConfigError, HalfPipeError, MissingInputError, StageError, StateError
from halfpipe.files.json_files import write_json
from halfpipe.files.records import Series, TakenError
from halfpipe.ids import DownlinkId
from halfpipe.ledger.database import Ledger as Database
from halfpipe.ledger.tables import DOWNLINKS
from halfpipe.process.told_once import Action, OpenError, Outcome, ask
from halfpipe.run import level1_acceptance
from halfpipe.run.receipt_file import read_receipt
from halfpipe.settings import Ledger, Settings, Submit
from tests.support.level1 import DL, RUN, Level1, is_unknown
from tests.support.series import damage, forget, noted


@pytest.fixture
def level1(tmp_path: Path) -> Level1:
    """A downlink that was handed off once and not submitted."""
    found = Level1(tmp_path)
    found.hand_off()
    return found


def refused(settings: Settings, kind: type[HalfPipeError] = SubmissionError) -> str:
    """Submit, and return the message of the error that is raised."""
    return raised(lambda: submitted(settings), kind)


def raised(what: Callable[[], object], kind: type[HalfPipeError] = SubmissionError) -> str:
    """Return the message of the error that is raised."""
    with pytest.raises(kind) as error:
        what()
    return str(error.value)


def submitted(settings: Settings) -> dict[str, Any]:
    return submit.submit(settings, DL, StringIO())


def settled(level1: Level1, heard: bool) -> None:
    """Have a person say how the latest attempt turned out."""
    submit.settle(level1.settings(), DL, heard)


def create(level1: Level1) -> None:
    """Create the stream by hand."""
    ask(shlex.split(level1.creates), StringIO())


def test_the_command_gets_what_level1_wants(level1: Level1) -> None:
    log = StringIO()
    content = submit.submit(level1.settings(), DL, log)
    (line,) = level1.file.read_text().splitlines()
    assert json.loads(line) == {
        "command": "createStream",
        "flavor": "TEST",
        "task": "L1Proc",
        "stream": 240601001,
        "variables": {"DOWNLINK_ID": DL, "DOWNLINK_RAWDIR": str(level1.stage / DL)},
    }
    assert content == {
        "downlink": DL,
        "handoff": 1,
        "state": "submitted",
        "submitted": 1,
        "command": level1.creates,
    }
    assert level1.recorded()[-1]["said"][-1] == "pipeline: stream 240601001, key 1001"
    assert "stream 240601001, key 1001" in log.getvalue()
    # It is never submitted again, whatever the config says and when Level-1 has taken the files away.
    shutil.rmtree(level1.stage)
    for settings in (level1.settings(), level1.settings(check=None), level1.settings(command=None)):
        assert submitted(settings) == content
    assert level1.commands() == ["createStream"]


def test_a_second_hand_off_is_a_roll_back_that_is_asked_for(level1: Level1) -> None:
    submit.save(level1.settings(), DL, submitted(level1.settings()))
    level1.hand_off(2)
    content = submitted(level1.settings())
    assert (content["handoff"], content["submitted"]) == (2, 1)
    assert level1.commands() == ["createStream"]
    submit.roll_back(level1.settings(), DL, StringIO())
    assert not (level1.work / paths.submitted(DL)).exists(), "it does not say so yet"
    assert submitted(level1.settings())["submitted"] == 2
    # Level-1 may fail again: the same hand-off once more.
    submit.roll_back(level1.settings(), DL, StringIO())
    assert level1.commands() == ["createStream", "rollbackStream", "rollbackStream"]


def test_a_roll_back_is_refused_where_it_makes_no_sense(level1: Level1) -> None:
    def roll_back(**keys: None) -> None:
        submit.roll_back(level1.settings(**keys), DL, StringIO())

    raised(lambda: roll_back(rollback=None), ConfigError)
    assert f"snakemake submit={DL}" in raised(roll_back)
    submitted(level1.settings())
    level1.leave_open(Action.ROLLBACK)
    assert "--settle submitted" in raised(roll_back)
    # Whether a stream exists says nothing of a roll-back: the check is no help.
    assert submitted(level1.settings())["state"] == "submitted"
    settled(level1, heard=False)
    switch = level1.work / "halts" / "haltL1"
    switch.parent.mkdir()
    switch.touch()
    raised(roll_back, HeldError)
    switch.unlink()
    assert level1.commands() == ["createStream"]
    level1.go_wrong(rollbackStream="refuse")
    assert "submit.rollback ended with exit status 3" in raised(roll_back)
    assert submitted(level1.settings())["submitted"] == 1, "the stream is there all the same"


@pytest.mark.parametrize(
    ("mode", "outcome", "after"),
    [
        ("refuse", Outcome.FAILED, [Outcome.NOT_SUBMITTED, Outcome.TOLD]),
        ("fail", Outcome.FAILED, [Outcome.TOLD]),  # after it was heard
        ("crash", None, None),
        ("not there", Outcome.NOT_SUBMITTED, [Outcome.NOT_SUBMITTED, Outcome.TOLD]),
    ],
)
def test_a_command_that_fails_is_given_again_unless_the_check_finds_that_it_was_heard(
    level1: Level1, mode: str, outcome: Outcome | None, after: list[Outcome] | None
) -> None:
    level1.go_wrong(createStream=mode)
    settings = level1.settings(command="/no/such/client {dl}") if mode == "not there" else level1.settings()
    said = refused(settings)
    assert ("--settle submitted" in said) == (mode in {"refuse", "fail"})
    assert (f"snakemake submit={DL}" in said) == (mode == "crash")
    assert str(level1.work / paths.submissions(DL)) in said
    assert level1.outcomes() == [outcome]
    level1.go_wrong()
    assert submitted(level1.settings())["state"] == "submitted"
    assert after is None or level1.outcomes() == after
    assert level1.commands() == ["createStream"]


@pytest.mark.parametrize("heard", [True, False])
@pytest.mark.parametrize("mode", ["failed", "open"])
def test_without_a_check_it_waits_for_a_person(level1: Level1, mode: str, heard: bool) -> None:
    """It may have been heard all the same: given again by itself, there would be two streams."""
    settings = level1.settings(check=None)
    if mode == "open":
        level1.leave_open()
        if heard:
            create(level1)
    else:
        level1.go_wrong(createStream="fail" if heard else "refuse")
        assert "--settle submitted" in refused(settings)
        level1.go_wrong()
    for blind in (settings, level1.settings(command=None, check=None)):
        assert "is not known: " in refused(blind)
    assert level1.commands() == ["createStream"] * heard
    assert is_unknown(level1.work, DL)
    settled(level1, heard)
    assert not is_unknown(level1.work, DL)
    assert submitted(settings)["state"] == "submitted"
    assert level1.commands() == ["createStream"]


def test_an_open_attempt_is_settled_by_the_check_if_that_can_tell(level1: Level1) -> None:
    level1.leave_open()
    level1.go_wrong(streamExists="refuse")
    for settings in (level1.settings(), level1.settings(check="/no/such/client {dl}")):
        assert "submit.check" in refused(settings)
    assert (level1.outcomes(), level1.commands()) == ([None], [])
    level1.go_wrong()
    assert submitted(level1.settings())["state"] == "submitted"
    assert level1.outcomes() == [Outcome.NOT_SUBMITTED, Outcome.TOLD]
    assert level1.commands() == ["createStream"]


def test_what_a_person_has_found_submitted_is_not_submitted_again(level1: Level1) -> None:
    level1.leave_open()
    write_json(level1.work / paths.submitted(DL), {})
    settled(level1, heard=True)
    assert not (level1.work / paths.submitted(DL)).exists()
    assert submitted(level1.settings())["submitted"] == 1
    assert level1.commands() == []
    raised(lambda: settled(level1, heard=False))
    assert level1.outcomes() == [Outcome.TOLD]


def test_what_was_submitted_otherwise_can_be_said(level1: Level1) -> None:
    level1.hand_off(3)
    raised(lambda: settled(level1, heard=False))
    settled(level1, heard=True)
    raised(lambda: settled(level1, heard=True))
    content = submitted(level1.settings())
    assert (content["handoff"], content["submitted"], content["command"]) == (3, 3, None)
    assert level1.commands() == []
    # Nothing is recorded of a downlink that was never handed off.
    misspelt = DownlinkId("240601011")
    for heard in (True, False):
        raised(lambda heard=heard: submit.settle(level1.settings(), misspelt, heard), MissingInputError)  # type: ignore[misc]
    assert not (level1.work / misspelt).exists()


def test_a_stream_that_nobody_recorded_is_not_ours_to_count(level1: Level1) -> None:
    submitted(level1.settings())
    forget(level1.work, paths.submissions(DL))
    assert "Level-1 has stream" in refused(level1.settings())
    assert (level1.commands(), level1.outcomes()) == (["createStream"], [])


def test_without_a_command_the_line_is_written_and_nothing_is_run(level1: Level1) -> None:
    settings = level1.settings(command=None, check=None)
    line = f"pipeline -m PROD createStream -S {DL} -D DOWNLINK_ID={DL} -D DOWNLINK_RAWDIR={level1.stage / DL} L1Proc"
    expected = {"downlink": DL, "handoff": 1, "state": "written", "submitted": None, "command": line}
    for _ in range(2):
        assert submitted(settings) == expected
        assert (level1.work / paths.submit_line(DL)).read_text() == line + "\n"
        assert level1.outcomes() == [Outcome.WRITTEN]
    level1.hand_off(2)
    assert submitted(settings) == expected | {"handoff": 2}
    assert level1.outcomes() == [Outcome.WRITTEN] * 2
    assert level1.commands() == []
    # Whether somebody gave that line, nobody knows when there is a command.
    assert "is not confirmed: " in refused(level1.settings(check=None))
    assert is_unknown(level1.work, DL)
    assert submitted(level1.settings())["state"] == "submitted"
    assert level1.outcomes() == [Outcome.WRITTEN, Outcome.NOT_SUBMITTED, Outcome.TOLD]
    assert not (level1.work / paths.submit_line(DL)).exists(), "somebody might give it besides"


@pytest.mark.parametrize("command", ["as it is", None])
def test_what_is_not_as_it_was_handed_off_is_not_submitted(command: str | None, level1: Level1) -> None:
    file = level1.stage / paths.staged_run(DL, RUN.l1) / paths.event_file(RUN.l1, 1)
    content, token = file.read_bytes(), level1.stage / paths.tokens(RUN.l1) / file.stem
    settings = level1.settings() if command else level1.settings(command=None, check=None)
    for harmed in (None, content[:-1] + b"?"):
        file.unlink()
        if harmed is not None:
            file.write_bytes(harmed)
        assert str(file) in refused(settings, StageError)
        file.write_bytes(content)
    token.unlink()
    assert str(token) in refused(settings, StageError)
    token.touch()
    for strange in (file.with_name("of-another"), file.parents[1] / "r0000000001"):
        strange.mkdir()
        assert str(strange) in refused(settings, StageError)
        strange.rmdir()
    with pytest.MonkeyPatch.context() as level1_is:
        level1_is.setattr(level1_acceptance, "failures", lambda *_: iter(["Level-1 would not read this"]))
        assert "Level-1 would not read this" in refused(settings, StageError)
    assert level1.outcomes() == []
    assert submitted(settings)["handoff"] == 1


def test_held_or_not_handed_off_nothing_is_asked_and_nothing_recorded(level1: Level1) -> None:
    held = level1.work / DL / "haltL1"
    held.parent.mkdir(exist_ok=True)
    held.touch()
    assert str(held) in refused(level1.settings(), HeldError)
    held.unlink()
    (level1.work / paths.receipt(DL)).unlink()
    refused(level1.settings(), MissingInputError)
    assert not (level1.work / paths.submissions(DL)).exists()
    assert level1.commands() == []


def left_behind(level1: Level1, seconds: float = 300.0) -> None:
    """Record an attempt whose process was killed, and whose command may run for some time."""
    Record(level1.work, DL).intend(("a", "line"), seconds=seconds, action=Action.SUBMIT, handoff=1)


def test_a_check_that_says_no_is_believed_when_the_command_has_surely_ended(
    level1: Level1, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its process was killed, it runs on, and is heard while the next command waits."""
    left_behind(level1)
    slept: list[float] = []

    def heard(seconds: float) -> None:
        if seconds > 20:
            slept.append(seconds)
            create(level1)
            later = time.time() + seconds
            monkeypatch.setattr("time.time", lambda: later)

    monkeypatch.setattr("time.sleep", heard)
    assert submitted(level1.settings())["state"] == "submitted"
    assert slept == [pytest.approx(300, abs=30)]
    assert level1.outcomes() == [Outcome.TOLD]
    assert level1.commands() == ["createStream"]
    assert len([one for one in caplog.records if one.levelname == "WARNING"]) == 1


def test_a_person_who_looks_too_early_is_told_to_look_again(level1: Level1) -> None:
    left_behind(level1, seconds=1.0)
    assert "Look again" in raised(lambda: settled(level1, heard=False), OpenError)
    assert level1.outcomes() == [None]
    time.sleep(1.1)
    settled(level1, heard=False)
    left_behind(level1)
    settled(level1, heard=True)
    assert level1.outcomes() == [Outcome.NOT_SUBMITTED, Outcome.TOLD]


@pytest.mark.parametrize(
    ("check", "harm", "number"),
    [(True, forget, 2), (True, damage, 2), (True, forget, 1), (False, forget, 2), (False, damage, 1)],
)
def test_a_record_that_is_lost_in_both_copies_is_never_a_second_stream(
    level1: Level1, check: bool, harm: Callable[..., None], number: int
) -> None:
    settings = level1.settings(seconds=1.5, **({} if check else {"check": None}))
    submitted(settings)
    harm(level1.work, paths.submissions(DL), number)
    if check and number == 2 and harm is forget:
        assert submitted(settings)["submitted"] == 1  # it is as one that was cut off
    else:
        refused(settings, HalfPipeError)
    assert level1.commands() == ["createStream"]


def test_the_stage_knows_of_a_submission_before_level1_hears(level1: Level1) -> None:
    seen = level1.home / f"seen-{DL}"
    submitted(level1.settings(command=f"cp -r {level1.stage} {level1.home}/seen-{{dl}}", check=None))
    assert (paths.submissions(DL), 1) in noted(seen)
    assert (paths.submissions(DL), 2) in noted(level1.stage)


def test_what_a_killed_submission_has_not_noted_in_the_stage_the_next_one_notes(level1: Level1) -> None:
    settings = level1.settings(check=None)
    with pytest.MonkeyPatch.context() as killed:
        killed.setattr(stage_mark, "note", lambda *_: None)
        submitted(settings)
    assert not (level1.stage / paths.STAGE_MARK).exists()
    submitted(settings)
    assert (paths.submissions(DL), 2) in noted(level1.stage)
    assert level1.commands() == ["createStream"]


def test_a_product_goes_before_what_it_does_not_say_is_recorded(level1: Level1) -> None:
    """A roll-back that is killed between the two would leave it, and nothing would make it anew."""
    settings = level1.settings()
    submit.save(settings, DL, submitted(settings))
    level1.hand_off(2)
    product = level1.work / paths.submitted(DL)
    submit.roll_back(
        level1.settings(rollback=f"test ! -e {product.with_name('submit={dl}')}"), DL, StringIO()
    )
    assert not product.exists()


def test_another_process_that_submits_is_found_out(level1: Level1, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the downlink because this one stood still for too long, just before it recorded what it would do."""

    def stands_still(*_: object, **_more: object) -> list[object]:
        monkeypatch.undo()
        submitted(level1.settings())
        return []

    monkeypatch.setattr(submit, "look", stands_still)
    refused(level1.settings(), TakenError)
    assert level1.commands() == ["createStream"]
    assert submitted(level1.settings())["state"] == "submitted"
    assert level1.commands() == ["createStream"]


@pytest.mark.parametrize(
    ("by", "code"),
    [("mark", "work-restored"), ("ledger", "submission-damaged"), ("product", "submission-damaged")],
)
def test_a_submission_of_which_all_records_are_lost_has_a_second_witness(
    level1: Level1, by: str, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = level1.settings(check=None)
    if by == "ledger":
        settings = replace(settings, ledger=Ledger())
        monkeypatch.setattr("halfpipe.ledger.check.lacks", lambda *_, **_more: None)
        row = {"id": int(DL), "indir": "", "outbase": "", "handoff": 1}
        Database.of(settings).write(lambda connection: connection.execute(insert(DOWNLINKS), [row]))
        (level1.work / paths.loaded(DL)).write_text("{}")
    submit.save(settings, DL, submitted(settings))
    forget(level1.work, paths.submissions(DL))
    if by != "product":
        (level1.work / paths.submitted(DL)).unlink()
    if by != "mark":
        shutil.rmtree(level1.stage / paths.STAGE_MARK)
        shutil.rmtree(level1.work / paths.STAGE_MARK_COPY)
    (cause,) = troubles(settings, DL, read_receipt(level1.work, DL))
    assert (cause.code, cause.verdict) == ("submission-damaged", Verdict.ACTION)
    for commands in (settings.submit, Submit()):
        with pytest.raises(HalfPipeError) as error:
            submitted(replace(settings, submit=commands))
        assert error.value.code == code
    assert level1.commands() == ["createStream"]
    submit.settle(settings, DL, True)
    assert list(troubles(settings, DL, read_receipt(level1.work, DL))) == []


INTENT = {"attempt": 3, "action": "submit", "handoff": 1, "command": [], "seconds": 0}


@pytest.mark.parametrize(
    "one",
    [
        {},
        {"attempt": 2, "outcome": "perhaps", "by": "person"},
        {"attempt": 2, "outcome": "told", "by": "person"},
        {"attempt": 2, "outcome": "submitted", "by": "nobody"},
        {"attempt": 4, "outcome": "failed", "by": "person"},
        {"attempt": 0, "outcome": "failed", "by": "person"},
        INTENT | {"attempt": 5},
        INTENT | {"action": "repeat"},
        INTENT | {"command": 7},
        INTENT | {"seconds": "a while"},
    ],
)
def test_what_cannot_be_a_record_is_named(one: dict[str, Any], level1: Level1) -> None:
    settled(level1, heard=True)
    level1.leave_open(Action.ROLLBACK)
    series = Series(level1.work, paths.submissions(DL))
    series.read()
    series.publish(one | {"when": "2026-11-01T02:03:04.000+00:00", "who": "shift, process 7 on host"})
    with pytest.raises(StateError, match=rf"{series.home}/000003\.json"):
        Record(level1.work, DL)
