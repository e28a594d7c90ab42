"""Commands that run at most once, as a submission: the records before and after, whichever process is killed when."""

import os
import signal
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from halfpipe import paths
from halfpipe.notify.submissions import submissions
from halfpipe.state.attempts import TIMED_OUT, Action, By, Outcome, UnknownOutcomeError
from tests.support.forks import ended, started
from tests.support.series import forget, values
from tests.support.servers import wait_for

PATIENCE = 30  # seconds, on a machine that is busy with other tests
COMMAND = ("pipeline", "-S", "a b", "é")
ID = "240601001"
ABOUT: dict[str, Any] = {"action": Action.SUBMIT, "handoff": 2}


def run(work: Path, *words: str, seconds: float = PATIENCE) -> list[str]:
    submissions(work, ID).run(words, StringIO(), seconds, **ABOUT)
    return recorded(work)


def recorded(work: Path) -> list[str]:
    return [attempt.outcome for attempt in submissions(work, ID).every]


def test_what_is_recorded_comes_back(tmp_path: Path) -> None:
    assert submissions(tmp_path, ID).last is None
    known = submissions(tmp_path, ID)
    for story in ([Outcome.OPEN, Outcome.SUBMITTED], [Outcome.NOT_SUBMITTED], []):
        known.intend(COMMAND, **ABOUT)
        for outcome in story:
            known.conclude(outcome, By.PERSON)
    known = submissions(tmp_path, ID)
    assert [(a.number, a.command) for a in known.every] == [(number, COMMAND) for number in (1, 2, 3)]
    assert [a.outcome for a in known.every] == [Outcome.SUBMITTED, Outcome.NOT_SUBMITTED, Outcome.OPEN]
    assert (known.last, known.is_open, known.last_confirmed) == (known.every[-1], True, known.every[0])
    forget(tmp_path, paths.submissions(ID), 6)
    forget(tmp_path, paths.submissions(ID), 5)
    assert recorded(tmp_path) == ["submitted", ""], "without its last record an attempt is open"


def test_a_person_can_record_what_happened_without_an_attempt(tmp_path: Path) -> None:
    submissions(tmp_path, ID).settle(True, By.PERSON)
    assert recorded(tmp_path) == ["submitted"]


def test_an_answer_is_recorded_whatever_others_have_settled_meanwhile(tmp_path: Path) -> None:
    """A process was suspended with its command, and another one took over."""

    def meanwhile() -> Sequence[str]:
        other = submissions(tmp_path, ID)
        other.conclude(Outcome.NOT_SUBMITTED, By.PERSON)  # so late that its command has certainly ended
        other.intend(["another"], **ABOUT)
        return ()

    submissions(tmp_path, ID).run(["true"], StringIO(), PATIENCE, meanwhile, **ABOUT)
    assert recorded(tmp_path) == ["submitted", ""]


@pytest.mark.parametrize(
    ("words", "seconds", "word", "status"),
    [
        (["true"], PATIENCE, "submitted", 0),
        (["sh", "-c", "echo received; exit 1"], PATIENCE, "failed", 1),
        (["/no/such/client"], PATIENCE, "not-submitted", None),
        (["true"], 0.0, "not-submitted", None),  # no time was left to start it
        (["sleep", "60"], 1.0, "failed", TIMED_OUT),
    ],
)
def test_the_answer_of_a_command_is_recorded(
    words: list[str], seconds: float, word: str, status: int | None, tmp_path: Path
) -> None:
    assert run(tmp_path, *words, seconds=seconds) == [word]
    intent, answer = values(tmp_path, paths.submissions(ID))
    assert intent["command"] == words
    said = ["received"] if status == 1 else []
    assert (answer["by"], answer["status"], answer["said"]) == ("answer", status, said)
    assert f"process {os.getpid()} on " in intent["who"]


def test_the_reason_of_an_unknown_outcome_names_the_check_if_the_check_disagrees(tmp_path: Path) -> None:
    known = submissions(tmp_path, ID)
    for words, disagrees in ((["true"], True), (["false"], False)):
        known.run(words, StringIO(), PATIENCE, lambda: ["none"], **ABOUT)
        assert ("submit.check" in known.every[-1].why_unknown()) is disagrees


@pytest.mark.parametrize("lost", [False, True], ids=["killed", "answer lost"])
def test_an_attempt_without_a_recorded_answer_is_open(lost: bool, tmp_path: Path) -> None:
    known = submissions(tmp_path, ID)
    away = tmp_path / "away"
    unwritable = f"mv {known.path} {away}; touch {known.path}"
    with pytest.raises(UnknownOutcomeError):
        known.run(["sh", "-c", unwritable if lost else "kill -SEGV $$"], StringIO(), PATIENCE, **ABOUT)
    assert known.is_open
    assert ("killed" in known.every[-1].why_unknown()) is not lost
    if lost:
        Path(known.path).unlink()
        away.rename(known.path)
    assert recorded(tmp_path) == [""]
    assert (submissions(tmp_path, ID).may_run > 0) == lost, "it has ended, and that is recorded"


def test_a_command_whose_timeout_alone_was_killed_is_waited_for(tmp_path: Path) -> None:
    """Otherwise a check that runs too early finds nothing, and the command is run twice."""
    late = tmp_path / "late"
    words = ["sh", "-c", f"exec > /dev/null 2>&1; kill -KILL $PPID; sleep 0.5; touch {late}"]
    with pytest.raises(UnknownOutcomeError):
        submissions(tmp_path, ID).run(words, StringIO(), 1.0, **ABOUT)
    assert not late.exists()
    submissions(tmp_path, ID).wait(lambda _: None)
    assert late.exists()


def killed(work: Path, script: str, seconds: float) -> None:
    """Run a script for sh as the command, and kill this process, but not the script."""
    begun = work / "begun"
    child = started(partial(run, work, "sh", "-c", f"touch {begun}; {script}", seconds=seconds))
    wait_for("its command", begun.exists, PATIENCE)
    os.kill(child, signal.SIGKILL)
    ended(child)


@pytest.mark.parametrize("ahead", [0.0, 1e9])
def test_a_command_that_a_killed_process_left_is_waited_for_by_the_file_servers_clock(
    ahead: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that waits may run on another host: with its own clock it would run the command twice."""
    late = tmp_path / "late"
    real = time.time
    messages = list[str]()
    (tmp_path / paths.HEARTBEATS).mkdir(parents=True)  # as for every process that holds a lease
    killed(tmp_path, f"sleep 0.3; touch {late}", seconds=1.0)
    monkeypatch.setattr(time, "time", lambda: real() + ahead)
    known = submissions(tmp_path, ID)
    assert known.is_open
    assert 0 < known.may_run <= 1.2
    soon = [datetime.fromtimestamp(time.time() + seconds, UTC) for seconds in range(PATIENCE)]
    for _ in range(2):
        known.wait(messages.append)
    assert messages[0].split()[2] in [f"{each:%H:%M:%S}" for each in soon]
    assert (late.exists(), known.is_open, known.may_run, len(messages)) == (True, True, 0, 1)


def test_a_command_that_was_left_and_does_not_end_is_ended(tmp_path: Path) -> None:
    """With everything that it started, even if it ignores SIGTERM."""
    late = tmp_path / "late"
    killed(tmp_path, f"trap '' TERM; (sleep 1.0; touch {late}) & wait; wait", seconds=0.5)
    known = submissions(tmp_path, ID)
    known.wait(lambda _: submissions(tmp_path, ID).settle(True, By.PERSON))
    assert (known.may_run, known.is_open) == (0, False), "a person settled it meanwhile"
    time.sleep(0.7)
    assert not late.exists()


@pytest.mark.parametrize(("written", "seconds"), [(4e9, 7.0), (1.0, 0.0), (None, 7.0)])
def test_an_intent_with_an_absurd_time_costs_no_more_than_a_command_may_take(
    written: float | None, seconds: float, tmp_path: Path
) -> None:
    known = submissions(tmp_path, ID)
    known.intend([], seconds=7.0, **ABOUT)
    (file,) = Path(known.path).iterdir()
    if written is None:
        file.unlink()
    else:
        os.utime(file, (written, written))
    assert known.may_run == seconds
