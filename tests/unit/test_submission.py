"""Submission: what is run and what is not in every state of the record, and in which words it is refused."""

import errno
import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from halfpipe import paths
from halfpipe.config import load
from halfpipe.errors import ConfigError, HalfPipeError, MissingInputError, StageError
from halfpipe.files import write_json
from halfpipe.halts import HeldError
from halfpipe.ids import DownlinkId, RunId
from halfpipe.submission import command, submit
from halfpipe.submission.command import CONTRACT, Template
from halfpipe.submission.record import Action, By, Outcome, Record, opened
from halfpipe.submission.submit import Job, SubmissionError

ROOT = Path(__file__).resolve().parents[2]
DL = DownlinkId("240601001")
RUN = RunId("2c2e5787")
CLIENT = f"python {ROOT / 'tests' / 'standin' / 'pipeline'}"
VARIABLES = "-D DOWNLINK_ID={dl} -D DOWNLINK_RAWDIR={rawdir}"


@dataclass
class Level1:
    """A handed-off downlink in a working directory and a stage, and a stand-in for the pipeline."""

    home: Path

    def __post_init__(self) -> None:
        self.work, self.stage, self.file = (
            self.home / "work",
            self.home / "stage",
            self.home / "streams.jsonl",
        )
        self.work.mkdir(parents=True, exist_ok=True)

    def client(self, command: str, options: str = "") -> str:
        """Return a command line of the stand-in, with placeholders."""
        return f"{CLIENT} --streams {self.file} -m TEST {command} -S {{dl}} {options} L1Proc"

    @property
    def job(self) -> Job:
        """The downlink with all commands."""
        return Job(
            self.work,
            self.stage,
            ROOT,
            DL,
            Template(self.client("createStream", VARIABLES), "submit.command"),
            Template(self.client("streamExists"), "submit.check"),
            Template(self.client("rollbackStream"), "submit.rollback"),
        )

    def hand_off(self, number: int = 1, *, files: bool = True, downlink: str = DL) -> None:
        """Write a receipt with one run, as far as submission reads it, and stage the run's file."""
        name = paths.event_file(RUN.l1, 1)
        entry = {"name": name, "events": 2, "sequences": [1, 2], "seconds": [1, 2], "size": 4, "sha256": ""}
        run = {"run": RUN, "l1_run": RUN.l1, "named": True, "files": [entry] if files else []}
        write_json(self.work / paths.receipt(downlink), {"handoff": number, "runs": [run]})
        home = self.stage / paths.staged_run(downlink, RUN.l1)
        home.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(b"evts")

    def go_wrong(self, **modes: Any) -> None:
        """Set what goes wrong in the stand-in."""
        (self.home / "modes.json").write_text(json.dumps(modes))

    def commands(self, downlink: str = DL) -> list[str]:
        """Return what the stand-in did for a downlink."""
        lines = map(json.loads, self.file.read_text().splitlines() if self.file.exists() else [])
        return [line["command"] for line in lines if line["stream"] == int(downlink)]

    def leave_open(self, action: Action = Action.SUBMIT, outcome: Outcome | None = None) -> None:
        """Record an attempt, as one that died leaves it, or with an outcome."""
        with opened(self.work, DL, print) as record:
            attempt = record.intend(action, 1, ("a", "command line"))
            if outcome is not None:
                record.conclude(attempt, outcome, By.PERSON)

    def outcomes(self) -> list[Outcome | None]:
        """Return how the attempts turned out."""
        return [attempt.outcome for attempt in Record(self.work, DL).attempts]


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


def submitted(job: Job) -> dict[str, Any]:
    return submit.submit(job, StringIO())


def test_the_command_gets_what_level1_wants(level1: Level1) -> None:
    log = StringIO()
    content = submit.submit(level1.job, log)
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
        "command": f"{sys.executable} {level1.client('createStream', VARIABLES)[7:]}".replace(
            "{dl}", DL
        ).replace("{rawdir}", rawdir),
    }
    last = (level1.work / paths.submissions(DL)).read_text().splitlines()[-1]
    assert json.loads(last)["said"][-1] == "pipeline: stream 240601001, key 1001"
    assert "stream 240601001, key 1001" in log.getvalue()


def test_a_submitted_downlink_is_never_submitted_again(level1: Level1) -> None:
    first = submitted(level1.job)
    for job in (level1.job, replace(level1.job, check=None), replace(level1.job, command=None)):
        assert submitted(job) == first
    # Level-1 has taken the files away by now.
    shutil.rmtree(level1.stage)
    assert submitted(level1.job) == first
    assert level1.commands() == ["createStream"]


def test_a_second_hand_off_is_a_roll_back_that_is_asked_for(
    level1: Level1, caplog: pytest.LogCaptureFixture
) -> None:
    submitted(level1.job)
    submit.save(level1.job, submitted(level1.job))
    assert caplog.messages == []
    level1.hand_off(2)
    content = submitted(level1.job)
    assert (content["handoff"], content["submitted"]) == (2, 1)
    assert caplog.messages == [
        f"downlink {DL}: Level-1 has hand-off 1, now there is 2. It is not submitted by itself, for it is a "
        f"roll-back of the same stream; to ask for that: scripts/submit.py --rollback --downlink {DL}"
    ]
    assert level1.commands() == ["createStream"]
    submit.roll_back(level1.job, StringIO())
    assert level1.commands() == ["createStream", "rollbackStream"]
    assert not (level1.work / paths.submitted(DL)).exists(), "it does not say so yet"
    caplog.clear()
    assert submitted(level1.job)["submitted"] == 2
    assert caplog.messages == []
    # Level-1 may fail again: the same hand-off once more.
    submit.roll_back(level1.job, StringIO())
    assert level1.commands() == ["createStream", "rollbackStream", "rollbackStream"]


def test_a_roll_back_is_refused_where_it_makes_no_sense(
    level1: Level1, caplog: pytest.LogCaptureFixture
) -> None:
    def roll_back() -> None:
        submit.roll_back(level1.job, StringIO())

    record = level1.work / paths.submissions(DL)
    assert refused(lambda: submit.roll_back(replace(level1.job, rollback=None), StringIO()), ConfigError) == (
        "submit.rollback: there is no command for a roll-back in the config. Set it, or roll stream "
        f"{DL} back in the pipeline by hand."
    )
    assert refused(roll_back) == (
        f"downlink {DL}: no hand-off was submitted ({record}), so there is no stream to roll back. "
        f"To submit it: snakemake submit={DL}"
    )
    submitted(level1.job)
    level1.leave_open(Action.ROLLBACK)
    said = refused(roll_back)
    assert said.startswith(f"downlink {DL}: whether hand-off 1 was rolled back in Level-1 is not known: ")
    # Whether a stream exists says nothing of a roll-back: the check is no help.
    assert submitted(level1.job)["state"] == "submitted"
    assert caplog.messages == [
        f"downlink {DL}: whether hand-off 1 was rolled back in Level-1 is not known, attempt 2 in {record}; "
        f"settle it: scripts/submit.py --settle submitted (or not-submitted) --downlink {DL}"
    ]
    submit.settle(level1.job, False)
    (level1.work / "halts").mkdir()
    (level1.work / "halts" / "haltL1").touch()
    refused(roll_back, HeldError)
    (level1.work / "halts" / "haltL1").unlink()
    assert level1.commands() == ["createStream"]
    level1.go_wrong(rollbackStream="refuse")
    assert "submit.rollback ended with exit status 3" in refused(roll_back)
    assert submitted(level1.job)["submitted"] == 1, "the stream is there all the same"


def test_a_failed_command_is_recorded_and_given_again(level1: Level1) -> None:
    level1.go_wrong(createStream="refuse")
    said = refused(lambda: submitted(level1.job))
    words = level1.job.command.words(DL, level1.stage / DL) if level1.job.command else []
    assert said == (
        f"downlink {DL}: submit.command ended with exit status 3: {shlex.join(words)}\n"
        "Its last lines were:\n"
        f"pipeline: STAND-IN, createStream of stream {DL} of L1Proc\n"
        "pipeline: the server is down\n"
        f"Recorded as failed in {level1.work / paths.submissions(DL)}. Mend the cause, then give the same command "
        "again; if Level-1 has the stream all the same, say so first: scripts/submit.py --settle submitted "
        f"--downlink {DL}"
    )
    assert level1.outcomes() == [Outcome.FAILED]
    level1.go_wrong()
    assert submitted(level1.job)["state"] == "submitted"
    assert level1.outcomes() == [Outcome.NOT_SUBMITTED, Outcome.SUBMITTED]
    assert level1.commands() == ["createStream"]


@pytest.mark.parametrize("heard", [True, False])
def test_without_a_check_a_failed_command_waits_for_a_person(level1: Level1, heard: bool) -> None:
    """It may have been heard all the same: given again by itself, there would be two streams."""
    job = replace(level1.job, check=None)
    level1.go_wrong(createStream="fail" if heard else "refuse")
    said = refused(lambda: submitted(job))
    assert said.endswith(
        "Mend the cause, then look whether Level-1 has the stream all the same, say so with scripts/submit.py --settle "
        f"submitted --downlink {DL} (or not-submitted), and give the same command again."
    )
    level1.go_wrong()
    for blind in (job, replace(job, command=None)):
        again = refused(lambda blind=blind: submitted(blind))  # type: ignore[misc]
        assert (
            "is not known: its command failed, and may have been heard all the same, attempt 1 in " in again
        )
    assert level1.commands() == ["createStream"] * heard
    assert [downlink for downlink, _ in submit.open_attempts(level1.work)] == [DL]
    submit.settle(job, heard)
    assert submit.open_attempts(level1.work) == []
    assert submitted(job)["state"] == "submitted"
    assert level1.commands() == ["createStream"]


class Full(StringIO):
    """A log on a disk that is full."""

    def write(self, _: str) -> int:
        """Write nothing."""
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_log_that_cannot_be_written_costs_a_command_that_runs_nothing(level1: Level1) -> None:
    """Else it would be taken for one that could not be started, and be given again."""
    assert submit.submit(replace(level1.job, check=None), Full())["state"] == "submitted"
    assert level1.outcomes() == [Outcome.SUBMITTED]
    last = (level1.work / paths.submissions(DL)).read_text().splitlines()[-1]
    assert json.loads(last)["said"][-1] == "pipeline: stream 240601001, key 1001"
    assert level1.commands() == ["createStream"]


def test_a_command_that_fails_after_it_was_heard_is_found_out(level1: Level1) -> None:
    level1.go_wrong(createStream="fail")
    refused(lambda: submitted(level1.job))
    assert submitted(level1.job)["state"] == "submitted"
    assert level1.outcomes() == [Outcome.SUBMITTED]
    assert level1.commands() == ["createStream"]


def test_a_command_that_cannot_be_started_was_not_heard(level1: Level1) -> None:
    job = replace(level1.job, command=Template("/no/such/client {dl}", "submit.command"))
    said = refused(lambda: submitted(job))
    assert said.startswith(
        f"downlink {DL}: submit.command cannot be started: No such file or directory: /no/such/client {DL}\n"
        "Its last lines were:\n(none)\nRecorded as not-submitted in "
    )
    assert said.endswith("Mend the cause, then give the same command again.")
    assert level1.outcomes() == [Outcome.NOT_SUBMITTED]
    assert submitted(replace(level1.job, check=None))["state"] == "submitted"
    assert level1.commands() == ["createStream"]


def test_a_command_that_is_killed_leaves_it_open(level1: Level1) -> None:
    level1.go_wrong(createStream="crash")
    said = refused(lambda: submitted(level1.job))
    record = level1.work / paths.submissions(DL)
    assert said.startswith(
        f"downlink {DL}: whether hand-off 1 was submitted to Level-1 is not known: its command was killed by SIGSEGV, "
        f"attempt 1 in {record}: "
    )
    assert said.endswith(
        "\nNothing more was done. Given the same command again, submit.check is asked; without waiting for that: "
        "Look whether Level-1 has it, say so with "
        f"scripts/submit.py --settle submitted --downlink {DL} (or not-submitted), and give the same command again."
    )
    assert level1.outcomes() == [None]
    assert submitted(level1.job)["state"] == "submitted"
    assert level1.commands() == ["createStream"]


def test_an_open_attempt_is_settled_by_the_check(level1: Level1) -> None:
    level1.leave_open()
    assert submitted(level1.job)["state"] == "submitted"
    assert level1.outcomes() == [Outcome.NOT_SUBMITTED, Outcome.SUBMITTED]
    assert level1.commands() == ["createStream"]


def test_a_check_that_cannot_tell_settles_nothing(level1: Level1) -> None:
    level1.leave_open()
    level1.go_wrong(streamExists="refuse")
    said = refused(lambda: submitted(level1.job))
    words = shlex.join(level1.job.check.words(DL, level1.stage / DL)) if level1.job.check else ""
    assert said == (
        f"downlink {DL}: submit.check ended with exit status 3, where 0 means that Level-1 has the stream and 1 that "
        f"it has not: {words}\nIts last lines were:\npipeline: STAND-IN, streamExists of stream {DL} of L1Proc\n"
        "pipeline: the server is down\nNothing was submitted. Mend the cause, then give the same command again."
    )
    missing = replace(level1.job, check=Template("/no/such/client {dl}", "submit.check"))
    assert "submit.check cannot be started: No such file or directory, where" in refused(
        lambda: submitted(missing)
    )
    assert level1.outcomes() == [None]
    assert level1.commands() == []


def test_without_a_check_an_open_attempt_waits_for_a_person(level1: Level1) -> None:
    job = replace(level1.job, check=None)
    level1.leave_open()
    attempt = Record(level1.work, DL).attempts[0]
    record = level1.work / paths.submissions(DL)
    for blind in (job, replace(job, command=None)):
        assert refused(lambda blind=blind: submitted(blind)) == (  # type: ignore[misc]
            f"downlink {DL}: whether hand-off 1 was submitted to Level-1 is not known: a process ended between its "
            f"command and the record of its answer, attempt 1 in {record}: a 'command line'\n"
            "Nothing more was done. Look whether Level-1 has it, say so with scripts/submit.py --settle submitted "
            f"--downlink {DL} (or not-submitted), and give the same command again."
        )
    assert submit.open_attempts(level1.work) == [(DL, attempt)]
    assert level1.commands() == []
    submit.settle(job, False)
    assert submit.open_attempts(level1.work) == []
    assert submitted(job)["state"] == "submitted"
    assert level1.commands() == ["createStream"]


def test_what_a_person_has_found_submitted_is_not_submitted_again(level1: Level1) -> None:
    level1.leave_open()
    write_json(level1.work / paths.submitted(DL), {})
    submit.settle(level1.job, True)
    assert not (level1.work / paths.submitted(DL)).exists()
    assert submitted(level1.job)["submitted"] == 1
    assert level1.commands() == []
    record = level1.work / paths.submissions(DL)
    assert refused(lambda: submit.settle(level1.job, False)) == (
        f"downlink {DL}: there is nothing to settle, the last attempt is known: submitted ({record}). "
        "scripts/submit.py --open lists what is open."
    )


def test_what_was_submitted_otherwise_can_be_said(level1: Level1) -> None:
    level1.hand_off(3)
    record = level1.work / paths.submissions(DL)
    assert refused(lambda: submit.settle(level1.job, False)) == (
        f"downlink {DL}: there is nothing to settle, nothing was attempted ({record}). "
        "scripts/submit.py --open lists what is open."
    )
    submit.settle(level1.job, True)
    assert submitted(level1.job) == {
        "downlink": DL,
        "handoff": 3,
        "state": "submitted",
        "submitted": 3,
        "command": None,
    }
    assert level1.commands() == []


def test_nothing_is_recorded_of_a_downlink_that_was_never_handed_off(level1: Level1) -> None:
    misspelt = replace(level1.job, downlink=DownlinkId("240601011"))
    assert "no such file" in refused(lambda: submit.settle(misspelt, True), MissingInputError)
    assert "no such file" in refused(lambda: submit.settle(misspelt, False), MissingInputError)
    assert not (level1.work / misspelt.downlink).exists()


def test_a_stream_that_nobody_recorded_is_not_ours_to_count(level1: Level1) -> None:
    submitted(level1.job)
    shutil.rmtree(level1.work / DL)
    said = refused(lambda: submitted(level1.job))
    assert said == (
        f"downlink {DL}: Level-1 has stream {DL} (submit.check says so), though no submission is recorded in "
        f"{level1.work / paths.submissions(DL)}. Nothing was submitted. If it was created by hand for the hand-off of "
        f"now, say so: scripts/submit.py --settle submitted --downlink {DL}; if for an earlier one, roll it back "
        f"after that: scripts/submit.py --rollback --downlink {DL}"
    )
    assert level1.commands() == ["createStream"]
    assert level1.outcomes() == []


def test_without_a_command_the_line_is_written_and_nothing_is_run(level1: Level1) -> None:
    job = replace(level1.job, command=None, check=None)
    line = f"pipeline -m PROD createStream -S {DL} -D DOWNLINK_ID={DL} -D DOWNLINK_RAWDIR={level1.stage / DL} L1Proc"
    expected = {"downlink": DL, "handoff": 1, "state": "written", "submitted": None, "command": line}
    for _ in range(2):
        assert submitted(job) == expected
        assert (level1.work / paths.submit_line(DL)).read_text() == line + "\n"
        assert level1.outcomes() == [Outcome.WRITTEN]
    level1.hand_off(2)
    assert submitted(job) == expected | {"handoff": 2}
    assert level1.outcomes() == [Outcome.WRITTEN] * 2
    assert level1.commands() == []
    # Whether somebody gave that line, nobody knows when there is a command.
    said = refused(lambda: submitted(replace(level1.job, check=None)))
    when = Record(level1.work, DL).attempts[1].when
    assert (
        f"is not known: the command line was written down at {when} for a person to give, attempt 2" in said
    )
    assert submit.open_attempts(level1.work)[0][0] == DL
    assert submitted(level1.job)["state"] == "submitted"
    assert level1.outcomes() == [Outcome.WRITTEN, Outcome.NOT_SUBMITTED, Outcome.SUBMITTED]
    assert not (level1.work / paths.submit_line(DL)).exists(), "somebody might give it besides"
    assert CONTRACT.startswith("pipeline -m PROD createStream -S {dl} ")


def test_a_written_line_that_a_person_gave_is_found_by_the_check(level1: Level1) -> None:
    submitted(replace(level1.job, command=None))
    assert submitted(replace(level1.job, command=None))["state"] == "written"
    given = level1.job.command
    assert given is not None
    command.run(given.words(DL, level1.stage / DL), ROOT, StringIO())
    assert submitted(level1.job)["state"] == "submitted"
    assert level1.outcomes() == [Outcome.SUBMITTED]
    assert level1.commands() == ["createStream"]


def test_what_is_gone_from_the_stage_is_not_submitted(level1: Level1) -> None:
    (level1.stage / paths.staged_run(DL, RUN.l1) / paths.event_file(RUN.l1, 1)).unlink()
    assert refused(lambda: submitted(level1.job), StageError) == (
        f"{level1.stage / paths.staged_run(DL, RUN.l1)}: files of hand-off 1 are gone, and Level-1 would fail. "
        f"Nothing was submitted. To stage them again: snakemake dl={DL} -R deliver_run"
    )
    assert level1.outcomes() == []


def test_a_hand_off_without_files_is_not_submitted_until_there_are_some(level1: Level1) -> None:
    level1.hand_off(files=False)
    nothing = {"downlink": DL, "handoff": 1, "state": "nothing to submit", "submitted": None, "command": None}
    assert submitted(level1.job) == nothing
    assert level1.outcomes() == []
    level1.hand_off(2)
    assert submitted(level1.job)["submitted"] == 2


def test_held_or_not_handed_off_nothing_is_asked_and_nothing_recorded(level1: Level1) -> None:
    held = level1.work / DL / "haltL1"
    held.parent.mkdir()
    held.touch()
    assert refused(lambda: submitted(level1.job), HeldError).startswith(
        f"downlink {DL}: submission to Level-1 is held by {held}. Nothing was done."
    )
    held.unlink()
    receipt = level1.work / paths.receipt(DL)
    receipt.unlink()
    assert refused(lambda: submitted(level1.job), MissingInputError) == (
        f"{receipt}: no such file. Only what was handed off can be submitted: process the downlink first, "
        f"snakemake dl={DL}"
    )
    assert not (level1.work / paths.submissions(DL)).exists()
    assert level1.commands() == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pipeline 'L1", 'submit.command: "pipeline \'L1" cannot be split into words: No closing quotation.'),
        ("pipeline L1", "submit.command: 'pipeline L1' names no downlink; write {dl} where it belongs."),
        (
            "pipeline {dl} {stage}",
            "submit.command: {stage} stands for nothing; only {dl} and {rawdir} are filled in.",
        ),
    ],
)
def test_a_template_that_cannot_be_used_says_why(text: str, said: str) -> None:
    assert refused(lambda: Template(text, "submit.command"), ConfigError) == said


@pytest.mark.parametrize("key", ["command", "check", "rollback"])
def test_a_template_of_the_config_is_looked_at_when_it_is_read(key: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"submit: {{{key}: pipeline L1}}")
    said = f"submit.{key}: 'pipeline L1' names no downlink; write {{dl}} where it belongs."
    assert refused(lambda: load(ROOT, [path]), ConfigError) == said


def test_words_are_filled_in_whole_and_no_shell_reads_them(tmp_path: Path) -> None:
    stage = tmp_path / "a stage; {dl} $HOME" / DL
    template = Template("python -m client --in={rawdir} 'two words' {dl}", "submit.command")
    assert template.words(DL, stage) == [
        sys.executable,
        "-m",
        "client",
        f"--in={tmp_path}/a stage; {{dl}} $HOME/{DL}",
        "two words",
        DL,
    ]
