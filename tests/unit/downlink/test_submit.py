"""Submission: what is run and what is not in every state of the record, and in which words it is refused."""

import errno
import json
import os
import shlex
import shutil
import time
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from halfpipe import paths
from halfpipe.causes import Verdict
from halfpipe.config import load
from halfpipe.downlink import stage_mark, submit
from halfpipe.downlink.halts import HeldError
from halfpipe.downlink.submission_causes import troubles, warnings_before
from halfpipe.downlink.submissions import Action, Record
from halfpipe.downlink.submit import SubmissionError
from halfpipe.errors import ConfigError, HalfPipeError, MissingInputError, StageError
from halfpipe.files.json_files import write_json
from halfpipe.files.records import TakenError
from halfpipe.ids import DownlinkId
from halfpipe.process.told_once import Outcome, ask
from halfpipe.run.receipt_file import read_receipt
from halfpipe.settings import SUBMIT_CONTRACT, Settings
from tests.support.level1 import DL, RUN, VARIABLES, Level1
from tests.support.series import damage, forget, homes


@pytest.fixture
def level1(tmp_path: Path) -> Level1:
    """A downlink that was handed off once and not submitted."""
    found = Level1(tmp_path)
    found.hand_off()
    return found


def refused(what: Callable[[], object], kind: type[HalfPipeError] = SubmissionError) -> str:
    """Return the message of the error that is raised."""
    with pytest.raises(kind) as error:
        what()
    return str(error.value)


def submitted(settings: Settings) -> dict[str, Any]:
    return submit.submit(settings, DL, StringIO())


def test_the_command_gets_what_level1_wants(level1: Level1) -> None:
    log = StringIO()
    content = submit.submit(level1.settings(), DL, log)
    (line,) = level1.file.read_text().splitlines()
    rawdir = str(level1.stage / DL)
    assert json.loads(line) == {
        "command": "createStream",
        "flavor": "TEST",
        "task": "L1Proc",
        "stream": 240601001,
        "variables": {"DOWNLINK_ID": DL, "DOWNLINK_RAWDIR": rawdir},
    }
    assert content == {
        "downlink": DL,
        "handoff": 1,
        "state": "submitted",
        "submitted": 1,
        "command": level1.words(level1.client("createStream", VARIABLES)),
    }
    assert level1.recorded()[-1]["said"][-1] == "pipeline: stream 240601001, key 1001"
    assert "stream 240601001, key 1001" in log.getvalue()


def test_a_submitted_downlink_is_never_submitted_again(level1: Level1) -> None:
    first = submitted(level1.settings())
    for settings in (level1.settings(), level1.settings(check=None), level1.settings(command=None)):
        assert submitted(settings) == first
    # Level-1 has taken the files away by now.
    shutil.rmtree(level1.stage)
    assert submitted(level1.settings()) == first
    assert level1.commands() == ["createStream"]


def test_a_second_hand_off_is_a_roll_back_that_is_asked_for(
    level1: Level1, caplog: pytest.LogCaptureFixture
) -> None:
    submitted(level1.settings())
    submit.save(level1.settings(), DL, submitted(level1.settings()))
    assert caplog.messages == []
    level1.hand_off(2)
    content = submitted(level1.settings())
    assert (content["handoff"], content["submitted"]) == (2, 1)
    assert caplog.messages == [
        f"downlink {DL}: Level-1 has hand-off 1, now there is 2. It is not submitted by itself: it needs a "
        f"roll-back of the same stream. To ask for that: halfpipe submit {DL} --rollback"
    ]
    assert level1.commands() == ["createStream"]
    submit.roll_back(level1.settings(), DL, StringIO())
    assert level1.commands() == ["createStream", "rollbackStream"]
    assert not (level1.work / paths.submitted(DL)).exists(), "it does not say so yet"
    caplog.clear()
    assert submitted(level1.settings())["submitted"] == 2
    assert caplog.messages == []
    # Level-1 may fail again: the same hand-off once more.
    submit.roll_back(level1.settings(), DL, StringIO())
    assert level1.commands() == ["createStream", "rollbackStream", "rollbackStream"]


def test_a_roll_back_is_refused_where_it_makes_no_sense(
    level1: Level1, caplog: pytest.LogCaptureFixture
) -> None:
    def roll_back() -> None:
        submit.roll_back(level1.settings(), DL, StringIO())

    record = level1.work / paths.submissions(DL)
    assert refused(lambda: submit.roll_back(level1.settings(rollback=None), DL, StringIO()), ConfigError) == (
        "submit.rollback: there is no command for a roll-back in the config. Set it, or roll stream "
        f"{DL} back in the pipeline by hand, then say so: halfpipe submit {DL} --rolled-back"
    )
    assert refused(roll_back) == (
        f"downlink {DL}: no hand-off was submitted ({record}), so there is no stream to roll back. "
        f"To submit it: snakemake submit={DL}"
    )
    submitted(level1.settings())
    level1.leave_open(Action.ROLLBACK)
    said = refused(roll_back)
    assert said.startswith(f"downlink {DL}: whether hand-off 1 was rolled back in Level-1 is not known: ")
    # Whether a stream exists says nothing of a roll-back: the check is no help.
    assert submitted(level1.settings())["state"] == "submitted"
    assert caplog.messages == [
        f"downlink {DL}: whether hand-off 1 was rolled back in Level-1 is not known, attempt 2 in {record}; "
        f"settle it: halfpipe submit {DL} --settle submitted (or not-submitted)"
    ]
    submit.settle(level1.settings(), DL, False)
    (level1.work / "halts").mkdir()
    (level1.work / "halts" / "haltL1").touch()
    refused(roll_back, HeldError)
    (level1.work / "halts" / "haltL1").unlink()
    assert level1.commands() == ["createStream"]
    level1.go_wrong(rollbackStream="refuse")
    assert "submit.rollback ended with exit status 3" in refused(roll_back)
    assert submitted(level1.settings())["submitted"] == 1, "the stream is there all the same"


def test_a_failed_command_is_recorded_and_given_again(level1: Level1) -> None:
    level1.go_wrong(createStream="refuse")
    said = refused(lambda: submitted(level1.settings()))
    words = level1.words(level1.client("createStream", VARIABLES))
    assert said == (
        f"downlink {DL}: submit.command ended with exit status 3: {words}\n"
        "Its last lines were:\n"
        f"pipeline: STAND-IN, createStream of stream {DL} of L1Proc\n"
        "pipeline: the server is down\n"
        f"Recorded as failed in {level1.work / paths.submissions(DL)}. Fix this, then re-run the command; if "
        f"Level-1 has the stream all the same, say so first: halfpipe submit {DL} --settle submitted"
    )
    assert level1.outcomes() == [Outcome.FAILED]
    level1.go_wrong()
    assert submitted(level1.settings())["state"] == "submitted"
    assert level1.outcomes() == [Outcome.NOT_SUBMITTED, Outcome.TOLD]
    assert level1.commands() == ["createStream"]


@pytest.mark.parametrize("heard", [True, False])
def test_without_a_check_a_failed_command_waits_for_a_person(level1: Level1, heard: bool) -> None:
    """It may have been heard all the same: given again by itself, there would be two streams."""
    settings = level1.settings(check=None)
    level1.go_wrong(createStream="fail" if heard else "refuse")
    said = refused(lambda: submitted(settings))
    assert said.endswith(
        "Fix this, then look whether Level-1 has the stream all the same, say so with halfpipe submit "
        f"{DL} --settle submitted (or not-submitted), and re-run the command."
    )
    level1.go_wrong()
    for blind in (settings, level1.settings(command=None, check=None)):
        again = refused(lambda blind=blind: submitted(blind))  # type: ignore[misc]
        assert (
            "is not known: its command failed, and may have been heard all the same, attempt 1 in " in again
        )
    assert level1.commands() == ["createStream"] * heard
    assert [downlink for downlink, _ in submit.open_attempts(level1.work)] == [DL]
    submit.settle(settings, DL, heard)
    assert submit.open_attempts(level1.work) == []
    assert submitted(settings)["state"] == "submitted"
    assert level1.commands() == ["createStream"]


class Full(StringIO):
    """A log on a disk that is full."""

    def write(self, _: str) -> int:
        """Write nothing."""
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_log_that_cannot_be_written_costs_a_command_that_runs_nothing(level1: Level1) -> None:
    """Else it would be taken for one that could not be started, and be given again."""
    assert submit.submit(level1.settings(check=None), DL, Full())["state"] == "submitted"
    assert level1.outcomes() == [Outcome.TOLD]
    assert level1.recorded()[-1]["said"][-1] == "pipeline: stream 240601001, key 1001"
    assert level1.commands() == ["createStream"]


def test_a_command_that_fails_after_it_was_heard_is_found_out(level1: Level1) -> None:
    level1.go_wrong(createStream="fail")
    refused(lambda: submitted(level1.settings()))
    assert submitted(level1.settings())["state"] == "submitted"
    assert level1.outcomes() == [Outcome.TOLD]
    assert level1.commands() == ["createStream"]


def test_a_command_that_cannot_be_started_was_not_heard(level1: Level1) -> None:
    settings = level1.settings(command="/no/such/client {dl}")
    said = refused(lambda: submitted(settings))
    assert said.startswith(
        f"downlink {DL}: submit.command cannot be started: No such file or directory: /no/such/client {DL}\n"
        "Its last lines were:\n(none)\nRecorded as not-submitted in "
    )
    assert said.endswith("Fix this, then re-run the command.")
    assert level1.outcomes() == [Outcome.NOT_SUBMITTED]
    assert submitted(level1.settings(check=None))["state"] == "submitted"
    assert level1.commands() == ["createStream"]


def test_a_command_that_is_killed_leaves_it_open(level1: Level1) -> None:
    level1.go_wrong(createStream="crash")
    said = refused(lambda: submitted(level1.settings()))
    record = level1.work / paths.submissions(DL)
    assert said.startswith(
        f"downlink {DL}: whether hand-off 1 was submitted to Level-1 is not known: "
        "its command was ended by a crash (SIGSEGV), "
        f"attempt 1 in {record}: "
    )
    assert said.endswith(
        "\nNothing more was done. Given the same command again, submit.check is asked; without waiting for that: "
        f"Look whether Level-1 has it, and say so: halfpipe submit {DL} --settle submitted (or not-submitted)"
    )
    assert level1.outcomes() == [None]
    assert submitted(level1.settings())["state"] == "submitted"
    assert level1.commands() == ["createStream"]


def test_an_open_attempt_is_settled_by_the_check(level1: Level1) -> None:
    level1.leave_open()
    assert submitted(level1.settings())["state"] == "submitted"
    assert level1.outcomes() == [Outcome.NOT_SUBMITTED, Outcome.TOLD]
    assert level1.commands() == ["createStream"]


def test_a_check_that_cannot_tell_settles_nothing(level1: Level1) -> None:
    level1.leave_open()
    level1.go_wrong(streamExists="refuse")
    said = refused(lambda: submitted(level1.settings()))
    words = level1.words(level1.client("streamExists"))
    assert said == (
        f"downlink {DL}: submit.check ended with exit status 3, where 0 means that Level-1 has the stream and 1 that "
        f"it has not: {words}\nIts last lines were:\npipeline: STAND-IN, streamExists of stream {DL} of L1Proc\n"
        "pipeline: the server is down\nNothing was submitted. Fix this, then re-run the command."
    )
    missing = level1.settings(check="/no/such/client {dl}")
    assert "submit.check cannot be started: No such file or directory, where" in refused(
        lambda: submitted(missing)
    )
    assert level1.outcomes() == [None]
    assert level1.commands() == []


def test_without_a_check_an_open_attempt_waits_for_a_person(level1: Level1) -> None:
    settings = level1.settings(check=None)
    level1.leave_open()
    attempt = Record(level1.work, DL).attempts[0]
    record = level1.work / paths.submissions(DL)
    for blind in (settings, level1.settings(command=None, check=None)):
        assert refused(lambda blind=blind: submitted(blind)) == (  # type: ignore[misc]
            f"downlink {DL}: whether hand-off 1 was submitted to Level-1 is not known: a process ended between its "
            f"command and the record of its answer, attempt 1 in {record}: a 'command line'\n"
            f"Nothing more was done. Look whether Level-1 has it, and say so: halfpipe submit {DL} --settle submitted "
            "(or not-submitted)"
        )
    assert submit.open_attempts(level1.work) == [(DL, attempt)]
    assert level1.commands() == []
    submit.settle(settings, DL, False)
    assert submit.open_attempts(level1.work) == []
    assert submitted(settings)["state"] == "submitted"
    assert level1.commands() == ["createStream"]


def test_what_a_person_has_found_submitted_is_not_submitted_again(level1: Level1) -> None:
    level1.leave_open()
    write_json(level1.work / paths.submitted(DL), {})
    submit.settle(level1.settings(), DL, True)
    assert not (level1.work / paths.submitted(DL)).exists()
    assert submitted(level1.settings())["submitted"] == 1
    assert level1.commands() == []
    record = level1.work / paths.submissions(DL)
    assert refused(lambda: submit.settle(level1.settings(), DL, False)) == (
        f"downlink {DL}: there is nothing to settle, the last attempt is known: submitted ({record}). "
        "halfpipe submit --open lists what is open."
    )


def test_what_was_submitted_otherwise_can_be_said(level1: Level1) -> None:
    level1.hand_off(3)
    record = level1.work / paths.submissions(DL)
    assert refused(lambda: submit.settle(level1.settings(), DL, False)) == (
        f"downlink {DL}: there is nothing to settle, nothing was attempted ({record}). "
        "halfpipe submit --open lists what is open."
    )
    submit.settle(level1.settings(), DL, True)
    assert submitted(level1.settings()) == {
        "downlink": DL,
        "handoff": 3,
        "state": "submitted",
        "submitted": 3,
        "command": None,
    }
    assert level1.commands() == []


def test_nothing_is_recorded_of_a_downlink_that_was_never_handed_off(level1: Level1) -> None:
    misspelt = DownlinkId("240601011")
    for found in (True, False):
        with pytest.raises(MissingInputError, match="no such file"):
            submit.settle(level1.settings(), misspelt, found)
    assert not (level1.work / misspelt).exists()


def test_a_stream_that_nobody_recorded_is_not_ours_to_count(level1: Level1) -> None:
    submitted(level1.settings())
    forget(level1.work, paths.submissions(DL))
    said = refused(lambda: submitted(level1.settings()))
    assert said == (
        f"downlink {DL}: Level-1 has stream {DL} (submit.check says so), though no submission is recorded in "
        f"{level1.work / paths.submissions(DL)}. Nothing was submitted. If it was created by hand for the hand-off of "
        f"now, say so: halfpipe submit {DL} --settle submitted; if for an earlier one, roll it back "
        f"after that: halfpipe submit {DL} --rollback"
    )
    assert level1.commands() == ["createStream"]
    assert level1.outcomes() == []


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
    said = refused(lambda: submitted(level1.settings(check=None)))
    assert "is not known: its command line is written down for a person to give, attempt 2" in said
    assert submit.open_attempts(level1.work)[0][0] == DL
    assert submitted(level1.settings())["state"] == "submitted"
    assert level1.outcomes() == [Outcome.WRITTEN, Outcome.NOT_SUBMITTED, Outcome.TOLD]
    assert not (level1.work / paths.submit_line(DL)).exists(), "somebody might give it besides"
    assert SUBMIT_CONTRACT.startswith("pipeline -m PROD createStream -S {dl} ")


def test_a_written_line_that_a_person_gave_is_found_by_the_check(level1: Level1) -> None:
    submitted(level1.settings(command=None))
    assert submitted(level1.settings(command=None))["state"] == "written"
    ask(shlex.split(level1.words(level1.client("createStream", VARIABLES))), StringIO())
    assert submitted(level1.settings())["state"] == "submitted"
    assert level1.outcomes() == [Outcome.TOLD]
    assert level1.commands() == ["createStream"]


def test_what_is_gone_from_the_stage_is_not_submitted(level1: Level1) -> None:
    gone = level1.stage / paths.staged_run(DL, RUN.l1) / paths.event_file(RUN.l1, 1)
    gone.unlink()
    assert refused(lambda: submitted(level1.settings()), StageError) == (
        f"{gone}: missing, so the stage does not hold hand-off 1, and Level-1 would fail. Nothing was submitted. "
        f"To have it as it was: snakemake dl={DL} -R {paths.manifest(RUN, DL)}"
    )
    assert level1.outcomes() == []


@pytest.mark.parametrize("command", ["as it is", None])
def test_what_is_not_as_it_was_handed_off_is_not_submitted(command: str | None, level1: Level1) -> None:
    file = level1.stage / paths.staged_run(DL, RUN.l1) / paths.event_file(RUN.l1, 1)
    content, token = file.read_bytes(), level1.stage / paths.tokens(RUN.l1) / file.stem
    settings = level1.settings() if command else level1.settings(command=None, check=None)
    file.write_bytes(content[:-1] + b"?")
    assert str(file) in refused(lambda: submitted(settings), StageError)
    file.write_bytes(content)
    token.unlink()
    assert str(token) in refused(lambda: submitted(settings), StageError)
    token.touch()
    for strange in (file.with_name("of-another"), file.parents[1] / "r0000000001"):
        strange.mkdir()
        assert str(strange) in refused(lambda: submitted(settings), StageError)
        strange.rmdir()
    assert level1.outcomes() == []
    assert submitted(settings)["handoff"] == 1


def test_a_hand_off_without_files_is_not_submitted_until_there_are_some(level1: Level1) -> None:
    level1.hand_off(files=False)
    nothing = {"downlink": DL, "handoff": 1, "state": "nothing to submit", "submitted": None, "command": None}
    assert submitted(level1.settings()) == nothing
    assert level1.outcomes() == []
    level1.hand_off(2)
    assert submitted(level1.settings())["submitted"] == 2


def test_held_or_not_handed_off_nothing_is_asked_and_nothing_recorded(level1: Level1) -> None:
    held = level1.work / DL / "haltL1"
    held.parent.mkdir(exist_ok=True)
    held.touch()
    assert refused(lambda: submitted(level1.settings()), HeldError).startswith(
        f"downlink {DL}: submission to Level-1 is held by {held}. Nothing was done."
    )
    held.unlink()
    receipt = level1.work / paths.receipt(DL)
    receipt.unlink()
    assert refused(lambda: submitted(level1.settings()), MissingInputError) == (
        f"{receipt}: no such file. Only what was handed off can be submitted. Process the downlink first: "
        f"snakemake dl={DL}"
    )
    assert not (level1.work / paths.submissions(DL)).exists()
    assert level1.commands() == []


@pytest.mark.parametrize("key", ["command", "check", "rollback"])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pipeline 'L1", '"pipeline \'L1" cannot be split into words: No closing quotation'),
        ("pipeline L1", "'pipeline L1' does not use {dl}: write it where it belongs"),
        ("pipeline {dl} {stage}", "{stage} stands for nothing; what is filled in: {dl}, {rawdir}"),
    ],
)
def test_a_command_of_the_config_is_looked_at_when_it_is_read(
    key: str, text: str, said: str, tmp_path: Path
) -> None:
    config = {"paths": {"work": str(tmp_path), "stage": str(tmp_path)}, "submit": {key: text}}
    assert f"submit.{key}: {said}" in refused(lambda: load((), config), ConfigError)


def test_words_are_filled_in_whole_and_no_shell_reads_them(level1: Level1) -> None:
    level1.stage = level1.home / "a stage; {dl} $HOME"
    level1.hand_off()
    command = "python -c 'import sys; print(sys.argv)' --in={rawdir} 'two words' {dl}"
    settings = level1.settings(command=command, check=None)
    output = StringIO()
    submit.submit(settings, DL, output)
    assert output.getvalue() == f"{['-c', f'--in={level1.stage}/{DL}', 'two words', str(DL)]}\n"


def left_behind(level1: Level1, seconds: float = 2.0) -> None:
    """Record an attempt whose process was killed, and whose command may run for some time."""
    Record(level1.work, DL).intend(("a", "line"), seconds=seconds, action=Action.SUBMIT, handoff=1)


def test_a_check_that_says_no_is_believed_when_the_command_has_surely_ended(
    level1: Level1, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its process was killed, it runs on, and is heard while the next command waits."""
    left_behind(level1, seconds=300.0)
    slept: list[float] = []

    def heard(seconds: float) -> None:
        if seconds > 20:
            slept.append(seconds)
            ask(shlex.split(level1.words(level1.client("createStream", VARIABLES))), StringIO())
            later = time.time() + seconds
            monkeypatch.setattr("time.time", lambda: later)

    monkeypatch.setattr("time.sleep", heard)
    assert submitted(level1.settings())["state"] == "submitted"
    assert slept == [pytest.approx(300, abs=30)]
    assert level1.outcomes() == [Outcome.TOLD]
    assert level1.commands() == ["createStream"]
    assert len([one for one in caplog.records if one.levelname == "WARNING"]) == 1


def test_a_check_that_says_yes_is_believed_at_once(level1: Level1) -> None:
    left_behind(level1, seconds=300.0)
    ask(shlex.split(level1.words(level1.client("createStream", VARIABLES))), StringIO())
    assert submitted(level1.settings())["state"] == "submitted"
    assert level1.commands() == ["createStream"]


def test_a_person_who_looks_too_early_is_told_to_look_again(level1: Level1) -> None:
    left_behind(level1)
    assert "Look again after that" in refused(lambda: submit.settle(level1.settings(), DL, False))
    assert level1.outcomes() == [None]
    time.sleep(2.1)
    submit.settle(level1.settings(), DL, False)
    left_behind(level1, seconds=300.0)
    submit.settle(level1.settings(), DL, True)
    assert level1.outcomes() == [Outcome.NOT_SUBMITTED, Outcome.TOLD]


@pytest.mark.parametrize("copy", [0, 1])
@pytest.mark.parametrize("number", [1, 2])
def test_a_copy_of_its_record_that_is_lost_costs_nothing(level1: Level1, copy: int, number: int) -> None:
    first = submitted(level1.settings(check=None))
    path = homes(level1.work, paths.submissions(DL))[copy] / f"{number:06d}.json"
    content = path.read_bytes()
    for harm in (b"", content[:-5]):
        path.write_bytes(harm)
        assert submitted(level1.settings(check=None)) == first
    path.unlink()
    assert submitted(level1.settings(check=None)) == first
    assert len(level1.recorded()) == 2
    assert level1.commands() == ["createStream"]


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("harm", [damage, forget])
@pytest.mark.parametrize("check", [True, False])
def test_a_record_that_is_lost_in_both_copies_is_never_a_second_stream(
    level1: Level1, check: bool, harm: Callable[..., None], number: int
) -> None:
    settings = level1.settings(seconds=2.0) if check else level1.settings(check=None, seconds=2.0)
    submitted(settings)
    harm(level1.work, paths.submissions(DL), number)
    if check and number == 2 and harm is forget:
        assert submitted(settings)["submitted"] == 1  # it is as one that was cut off
    else:
        refused(lambda: submitted(settings), HalfPipeError)
    assert level1.commands() == ["createStream"]


def test_what_only_the_product_says_is_told_and_not_submitted_again(level1: Level1) -> None:
    settings = level1.settings(check=None)
    submit.save(settings, DL, submitted(settings))
    forget(level1.work, paths.submissions(DL))
    (cause,) = troubles(settings, DL, read_receipt(level1.work, DL))
    assert (cause.code, cause.verdict, cause.do) == (
        "submission-damaged",
        Verdict.ACTION,
        f"halfpipe submit {DL}",
    )
    assert submitted(settings)["submitted"] == 1
    assert list(troubles(settings, DL, read_receipt(level1.work, DL))) == []
    # The head of a workflow has it recorded before Snakemake removes the product.
    forget(level1.work, paths.submissions(DL))
    warnings_before(settings, DL)
    assert level1.outcomes() == [], "a dry run changes nothing"
    warnings_before(settings, DL, removes=True)
    (level1.work / paths.submitted(DL)).unlink()
    assert submitted(settings)["submitted"] == 1
    assert level1.commands() == ["createStream"]


def test_a_backup_without_a_submission_is_refused(level1: Level1) -> None:
    level1.go_wrong(createStream="fail")
    refused(lambda: submitted(level1.settings(check=None)))
    forget(level1.work, paths.submissions(DL))
    with pytest.raises(ConfigError, match=paths.submissions(DL)):
        stage_mark.refuse(level1.settings())


def known(level1: Level1) -> list[int]:
    """Return which records of the submissions the stage's mark knows."""
    marks = (level1.stage / paths.stage_mark()).glob("*.json")
    last = [entry for mark in marks for entry in json.loads(mark.read_bytes())["last"]]
    return [number for place, number, _ in last if place == paths.submissions(DL)]


def test_the_stage_knows_of_a_submission_before_level1_hears(level1: Level1) -> None:
    seen = level1.home / "seen"
    words = f"cp -r {level1.stage / paths.stage_mark()} {seen}-{{dl}}"
    submitted(level1.settings(command=words, check=None))
    assert json.loads(max(Path(f"{seen}-{DL}").iterdir()).read_bytes())["last"][-1][:2] == [
        paths.submissions(DL),
        1,
    ]
    assert known(level1) == [2]


def test_what_a_killed_submission_has_not_noted_in_the_stage_the_next_one_notes(level1: Level1) -> None:
    settings = level1.settings(check=None)
    with pytest.MonkeyPatch.context() as killed:
        killed.setattr(stage_mark, "note", lambda *_: None)
        submitted(settings)
    assert known(level1) == []
    submitted(settings)
    assert known(level1) == [2]
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


def test_one_that_takes_too_long_is_ended(level1: Level1) -> None:
    settings = level1.settings(command="sleep 60 {dl}", check=None, seconds=0.3)
    assert "took more than 0.3 s, and was ended" in refused(lambda: submitted(settings))
    assert level1.outcomes() == [Outcome.FAILED]


def test_another_process_that_submits_is_found_out(level1: Level1, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the downlink because this one stood still for too long, just before it recorded what it would do."""

    def stands_still(*_: object) -> None:
        monkeypatch.undo()
        submitted(level1.settings())

    monkeypatch.setattr(submit, "_check_ledger", stands_still)
    refused(lambda: submitted(level1.settings()), TakenError)
    assert level1.commands() == ["createStream"]
    assert submitted(level1.settings())["state"] == "submitted"
    assert level1.commands() == ["createStream"]
