"""What is told once, as a submission: the records before and after a command, whoever is killed when."""

import os
import signal
import time
from collections.abc import Sequence
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from halfpipe import paths
from halfpipe.downlink.submissions import Record
from halfpipe.files.records import TakenError
from halfpipe.process.told_once import TIMED_OUT, Action, By, OpenError, Outcome
from tests.support.forks import ended, started
from tests.support.series import forget, values
from tests.support.servers import wait_for

PATIENCE = 30  # seconds, on a machine that is busy with other tests
COMMAND = ("pipeline", "-S", "a b", "é")


ID = "240601001"
ABOUT: dict[str, Any] = {"action": Action.SUBMIT, "handoff": 2}


def tell(work: Path, story: Sequence[Sequence[Outcome]]) -> None:
    """Record attempts that each turned out in one way after the other."""
    record = Record(work, ID)
    for outcomes in story:
        record.intend(COMMAND, **ABOUT)
        for outcome in outcomes:
            record.conclude(outcome, By.PERSON)


def run(work: Path, *words: str, seconds: float = PATIENCE) -> list[Outcome | None]:
    """Run a command, and return the outcomes of all attempts."""
    Record(work, ID).tell(words, StringIO(), seconds, **ABOUT)
    return outcomes(work)


def outcomes(work: Path) -> list[Outcome | None]:
    """Return how the attempts turned out."""
    return [attempt.outcome for attempt in Record(work, ID).attempts]


def test_what_is_recorded_comes_back(tmp_path: Path) -> None:
    assert Record(tmp_path, ID).last is None
    tell(tmp_path, [[Outcome.FAILED, Outcome.TOLD], [Outcome.NOT_SUBMITTED], []])
    record = Record(tmp_path, ID)
    assert [(a.number, a.command) for a in record.attempts] == [(number, COMMAND) for number in (1, 2, 3)]
    assert outcomes(tmp_path) == [Outcome.TOLD, Outcome.NOT_SUBMITTED, None]
    assert (record.last, record.is_open) == (record.attempts[-1], True)
    assert record.last_confirmed == record.attempts[0]


def test_without_its_last_record_an_attempt_is_open(tmp_path: Path) -> None:
    tell(tmp_path, [[Outcome.TOLD]])
    forget(tmp_path, Record.place(ID), 2)
    assert outcomes(tmp_path) == [None]


def test_of_two_that_decide_at_once_one_runs_nothing(tmp_path: Path) -> None:
    first, second = (Record(tmp_path, ID) for _ in "ab")
    first.tell(["true"], StringIO(), PATIENCE, **ABOUT)
    ran = tmp_path / "ran"
    with pytest.raises(TakenError):
        second.tell(["touch", str(ran)], StringIO(), PATIENCE, **ABOUT)
    assert not ran.exists()
    assert outcomes(tmp_path) == [Outcome.TOLD]


def test_an_answer_is_recorded_whatever_others_have_settled_meanwhile(tmp_path: Path) -> None:
    """A process stood still with its command, and another one took over what it held."""
    record = Record(tmp_path, ID)

    def meanwhile() -> list[str]:
        other = Record(tmp_path, ID)
        other.conclude(Outcome.NOT_SUBMITTED, By.PERSON)  # so late that its command has surely ended
        other.intend(["another"], **ABOUT)
        return []

    record.tell(["true"], StringIO(), PATIENCE, meanwhile, **ABOUT)
    assert outcomes(tmp_path) == [Outcome.TOLD, None]


@pytest.mark.parametrize(
    ("words", "seconds", "outcome", "status"),
    [
        (["true"], PATIENCE, Outcome.TOLD, 0),
        (["sh", "-c", "echo heard; exit 3"], PATIENCE, Outcome.FAILED, 3),
        (["/no/such/client"], PATIENCE, Outcome.NOT_SUBMITTED, None),
        (["true"], 0.0, Outcome.NOT_SUBMITTED, None),  # no time was left to start it
        (["sleep", "60"], 2.0, Outcome.FAILED, TIMED_OUT),
    ],
)
def test_the_answer_of_a_command_is_recorded(
    words: list[str], seconds: float, outcome: Outcome, status: int | None, tmp_path: Path
) -> None:
    assert run(tmp_path, *words, seconds=seconds) == [outcome]
    intent, answer = values(tmp_path, Record.place(ID))
    assert intent["command"] == words
    said = ["heard"] if status == 3 else []
    assert (answer["by"], answer["status"], answer["said"]) == ("answer", status, said)
    assert f"process {os.getpid()} on " in intent["who"]


@pytest.mark.parametrize("lost", [False, True], ids=["killed", "answer lost"])
def test_what_nobody_saw_the_end_of_stays_open(lost: bool, tmp_path: Path) -> None:
    record, away = Record(tmp_path, ID), tmp_path / "away"
    unwritable = f"mv {record.path} {away}; touch {record.path}"
    with pytest.raises(OpenError) as error:
        record.tell(["sh", "-c", unwritable if lost else "kill -SEGV $$"], StringIO(), PATIENCE, **ABOUT)
    assert record.is_open
    how = (
        "ended with exit status 0, which could not be recorded: "
        if lost
        else "was ended by a crash (SIGSEGV)"
    )
    assert str(error.value).startswith(how)
    if lost:
        record.path.unlink()
        away.rename(record.path)
    assert outcomes(tmp_path) == [None]
    assert (Record(tmp_path, ID).may_run > 0) == lost, "it has ended, and that is recorded"


def test_a_command_whose_keeper_alone_was_killed_is_waited_for(tmp_path: Path) -> None:
    """Else a check that is asked too early says that it was not heard, and it is given a second time."""
    late = tmp_path / "late"
    words = ["sh", "-c", f"exec > /dev/null 2>&1; kill -KILL $PPID; sleep 0.5; touch {late}"]
    with pytest.raises(OpenError):
        Record(tmp_path, ID).tell(words, StringIO(), 1.0, **ABOUT)
    assert not late.exists()
    Record(tmp_path, ID).wait(lambda _: None)
    assert late.exists()


def killed(work: Path, script: str, seconds: float) -> None:
    """Begin to tell, with a script for sh as the command, and kill that process, and not its command."""
    begun = work / "begun"
    child = started(partial(run, work, "sh", "-c", f"touch {begun}; {script}", seconds=seconds))
    wait_for("its command", begun.exists, PATIENCE)
    os.kill(child, signal.SIGKILL)
    ended(child)


def test_a_command_that_was_left_behind_is_waited_for(tmp_path: Path) -> None:
    late = tmp_path / "late"
    killed(tmp_path, f"sleep 0.3; touch {late}", seconds=1.0)
    record = Record(tmp_path, ID)
    assert record.is_open
    assert 0 < record.may_run <= 1.2
    said: list[str] = []
    for _ in range(2):
        record.wait(said.append)
    assert (late.exists(), record.is_open, record.may_run, len(said)) == (True, True, 0, 1)


def test_a_command_that_was_left_behind_and_does_not_end_is_ended(tmp_path: Path) -> None:
    """Whatever it has started and however deaf it is: what it would do later, nobody would have waited for."""
    late = tmp_path / "late"
    killed(tmp_path, f"trap '' TERM; (sleep 1.0; touch {late}) & wait; wait", seconds=0.5)
    record = Record(tmp_path, ID)
    record.wait(lambda _: None)
    assert record.may_run == 0
    time.sleep(1.0)
    assert not late.exists()


@pytest.mark.parametrize("ahead", [600.0, -600.0, 1e9])
def test_the_time_of_a_command_that_was_left_behind_is_the_file_servers(
    ahead: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The head was killed, and the node that goes on has another clock: the command would be run twice."""
    late, real = tmp_path / "late", time.time
    (tmp_path / paths.HEARTBEATS).mkdir(parents=True)  # as for every process that holds a lease
    killed(tmp_path, f"sleep 0.3; touch {late}", seconds=1.0)
    monkeypatch.setattr(time, "time", lambda: real() + ahead)
    record = Record(tmp_path, ID)
    assert 0 < record.may_run <= 1.2
    record.wait(lambda _: None)
    assert (late.exists(), record.may_run) == (True, 0)


@pytest.mark.parametrize(("written", "seconds"), [(4e9, 7.0), (1.0, 0.0), (None, 7.0)])
def test_an_intent_of_an_absurd_time_costs_no_more_than_a_command_may_take(
    written: float | None, seconds: float, tmp_path: Path
) -> None:
    record = Record(tmp_path, ID)
    record.intend([], seconds=7.0, **ABOUT)
    (file,) = record.path.iterdir()
    if written is None:
        file.unlink()
    else:
        os.utime(file, (written, written))
    assert record.may_run == seconds
