"""What is told once: the lines before and after a command, for submission and Online, and whoever is killed when."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halfpipe.online.record import Record as OnlineRecord
from halfpipe.programs.told_once import By, OpenError, Outcome, Record
from halfpipe.submission.record import Action
from halfpipe.submission.record import Record as SubmissionRecord

PATIENCE = 30  # seconds, on a machine that is busy with other tests
COMMAND = ("pipeline", "-S", "a b", "é")


@dataclass(frozen=True)
class Owner:
    """Who keeps such a record: for which downlink or run, and what it adds to an intent."""

    record: type[Record[Any]]
    id: str
    about: dict[str, Any] = field(default_factory=dict)

    def path(self, work: Path) -> Path:
        """Return where the record lies."""
        return self.record(work, self.id).path

    def tell(self, work: Path, story: Sequence[Sequence[Outcome]]) -> None:
        """Record attempts that each turned out in one way after the other."""
        with self.record.opened(work, self.id, silent) as record:
            for outcomes in story:
                record.intend(COMMAND, **self.about)
                for outcome in outcomes:
                    record.conclude(outcome, By.PERSON)

    def run(self, work: Path, *words: str) -> list[Outcome | None]:
        """Run a command, and return the outcomes of all attempts."""
        with self.record.opened(work, self.id, silent) as record:
            record.tell(words, StringIO(), **self.about)
        return self.outcomes(work)

    def outcomes(self, work: Path) -> list[Outcome | None]:
        """Return how the attempts turned out."""
        return [attempt.outcome for attempt in self.record(work, self.id).attempts]


OWNERS = [
    Owner(SubmissionRecord, "240601001", {"action": Action.SUBMIT, "handoff": 2}),
    Owner(OnlineRecord, "2c2e5787"),
]


@pytest.fixture(params=OWNERS, ids=["submission", "online"])
def owner(request: pytest.FixtureRequest) -> Owner:
    """Each of the owners."""
    found: Owner = request.param
    return found


def silent(said: str) -> None:
    raise AssertionError(said)


@settings(max_examples=30)  # each flushes some lines to disk
@given(st.sampled_from(OWNERS), st.lists(st.lists(st.sampled_from(Outcome), max_size=2), max_size=4))
def test_what_is_recorded_comes_back(
    tmp_path_factory: pytest.TempPathFactory, owner: Owner, story: list[list[Outcome]]
) -> None:
    work = tmp_path_factory.mktemp("work")
    owner.tell(work, story)
    record = owner.record(work, owner.id)
    assert [(a.number, a.command) for a in record.attempts] == [
        (number, COMMAND) for number in range(1, len(story) + 1)
    ]
    ends = [outcomes[-1] if outcomes else None for outcomes in story]
    assert [a.outcome for a in record.attempts] == ends
    assert record.last == (record.attempts[-1] if story else None)
    assert record.is_open == (bool(ends) and ends[-1] is None)
    known = [number for number, end in enumerate(ends, 1) if end is Outcome.TOLD]
    assert (record.told.number if record.told else None) == (known[-1] if known else None)


def test_a_torn_last_line_does_not_count(owner: Owner, tmp_path: Path) -> None:
    owner.tell(tmp_path, [[]])
    path = owner.path(tmp_path)
    intent = path.read_bytes()
    with owner.record.opened(tmp_path, owner.id, silent) as record:
        record.settle(told=True, by=By.CHECK)
    content = path.read_bytes()
    for cut in range(len(content)):
        path.write_bytes(content[:cut])
        assert owner.outcomes(tmp_path) == ([None] if cut >= len(intent) else [])


@pytest.mark.parametrize(
    ("words", "outcome", "status"),
    [
        (["true"], Outcome.TOLD, 0),
        (["sh", "-c", "echo heard; exit 3"], Outcome.FAILED, 3),
        (["/no/such/client"], Outcome.NOT_TOLD, None),
    ],
)
def test_the_answer_of_a_command_is_recorded(
    words: list[str], outcome: Outcome, status: int | None, owner: Owner, tmp_path: Path
) -> None:
    assert owner.run(tmp_path, *words) == [outcome]
    intent, answer = map(json.loads, owner.path(tmp_path).read_text().splitlines())
    assert intent["command"] == words
    said = ["heard"] if status == 3 else []
    assert (answer["by"], answer["status"], answer["said"]) == ("answer", status, said)
    assert f"process {os.getpid()} on " in intent["who"]


@pytest.mark.parametrize("lost", [False, True], ids=["killed", "answer lost"])
def test_what_nobody_saw_the_end_of_stays_open(lost: bool, owner: Owner, tmp_path: Path) -> None:
    path, away = owner.path(tmp_path), tmp_path / "away"
    unwritable = f"mv {path} {away}; mkdir {path}"
    with owner.record.opened(tmp_path, owner.id, silent) as record:
        with pytest.raises(OpenError) as error:
            record.tell(["sh", "-c", unwritable if lost else "kill -SEGV $$"], StringIO(), **owner.about)
        assert record.is_open
    assert str(error.value) == ("ended with exit status 0" if lost else "was killed by SIGSEGV")
    assert error.value.lost.startswith(f"\nThe answer was lost: {path}: cannot be written: ") == lost
    if lost:
        path.rmdir()
        away.rename(path)
    assert owner.outcomes(tmp_path) == [None]


def test_a_command_that_was_left_behind_is_waited_for(owner: Owner, tmp_path: Path) -> None:
    """A process begins to tell and is killed, its command still runs."""
    begun, late = tmp_path / "begun", tmp_path / "late"
    tells = (
        "import json, sys\nfrom pathlib import Path\n"
        f"from {owner.record.__module__} import Record\n"
        "with Record.opened(Path(sys.argv[1]), sys.argv[2], print) as record:\n"
        "    record.tell(sys.argv[4:], sys.stderr, **json.loads(sys.argv[3]))\n"
    )
    words = [str(tmp_path), owner.id, json.dumps(owner.about)]
    words += ["sh", "-c", f"touch {begun}; sleep 0.3; touch {late}"]
    with subprocess.Popen([sys.executable, "-c", tells, *words]) as process:
        until = time.monotonic() + PATIENCE
        while not begun.exists():
            assert time.monotonic() < until
            time.sleep(0.001)
        process.kill()
    said: list[str] = []
    with owner.record.opened(tmp_path, owner.id, said.append) as record:
        assert late.exists()
        assert record.is_open
    left_behind = f"{owner.record.COMMAND} that a killed process left behind"
    assert said == [f"waiting for the end of {left_behind}; it keeps {owner.path(tmp_path)}"]


def test_what_a_command_that_answered_has_started_is_not_waited_for(owner: Owner, tmp_path: Path) -> None:
    """It may be a server, that keeps the record open for ever."""
    owner.run(tmp_path, "sh", "-c", f"sleep {PATIENCE} > /dev/null 2>&1 & echo $! > {tmp_path / 'server'}")
    try:
        assert owner.run(tmp_path, "true") == [Outcome.TOLD, Outcome.TOLD]
    finally:
        os.kill(int((tmp_path / "server").read_text()), signal.SIGKILL)
