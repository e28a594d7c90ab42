"""The record of submissions: what is written comes back, a torn line does not count, others are named."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halfpipe import paths
from halfpipe.errors import StateError
from halfpipe.ids import DownlinkId
from halfpipe.submission.record import Action, By, Outcome, Record, opened

DL = DownlinkId("240601001")
COMMAND = ("pipeline", "-S", DL, "a b", "é")
STORIES = st.lists(
    st.tuples(
        st.sampled_from(Action), st.integers(1, 3), st.lists(st.sampled_from(Outcome), max_size=2).map(tuple)
    ),
    max_size=4,
)


def silent(said: str) -> None:
    raise AssertionError(said)


def tell(work: Path, story: list[tuple[Action, int, tuple[Outcome, ...]]]) -> None:
    with opened(work, DL, silent) as record:
        for action, handoff, outcomes in story:
            attempt = record.intend(action, handoff, COMMAND)
            for outcome in outcomes:
                record.conclude(attempt, outcome, By.PERSON)


@settings(max_examples=30)  # each flushes some lines to disk
@given(STORIES)
def test_what_is_recorded_comes_back(
    tmp_path_factory: pytest.TempPathFactory, story: list[tuple[Action, int, tuple[Outcome, ...]]]
) -> None:
    work = tmp_path_factory.mktemp("work")
    tell(work, story)
    record = Record(work, DL)
    assert [(a.number, a.action, a.handoff, a.command) for a in record.attempts] == [
        (number, action, handoff, COMMAND) for number, (action, handoff, _) in enumerate(story, 1)
    ]
    ends = [outcomes[-1] if outcomes else None for _, _, outcomes in story]
    assert [a.outcome for a in record.attempts] == ends
    assert record.last == (record.attempts[-1] if story else None)
    known = [number for number, end in enumerate(ends, 1) if end is Outcome.SUBMITTED]
    assert (record.submitted.number if record.submitted else None) == (known[-1] if known else None)


def test_the_answer_of_a_command_stands_in_the_record(tmp_path: Path) -> None:
    with opened(tmp_path, DL, silent) as record:
        attempt = record.intend(Action.SUBMIT, 2, COMMAND)
        record.conclude(attempt, Outcome.SUBMITTED, By.ANSWER, 0, ("stream 1, key 7",))
    one, other = map(json.loads, (tmp_path / paths.submissions(DL)).read_text().splitlines())
    assert (
        one.items()
        >= {
            "attempt": 1,
            "action": "submit",
            "handoff": 2,
            "command": list(COMMAND),
        }.items()
    )
    assert (
        other.items()
        >= {
            "attempt": 1,
            "outcome": "submitted",
            "by": "answer",
            "status": 0,
            "said": ["stream 1, key 7"],
        }.items()
    )
    assert f"process {os.getpid()} on " in one["who"]


def test_a_torn_last_line_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / paths.submissions(DL)
    tell(tmp_path, [(Action.SUBMIT, 1, ())])
    intent = path.read_bytes()
    with opened(tmp_path, DL, silent) as record:
        record.conclude(record.attempts[0], Outcome.SUBMITTED, By.CHECK)
    content = path.read_bytes()
    for cut in range(len(content)):
        path.write_bytes(content[:cut])
        found = [attempt.outcome for attempt in Record(tmp_path, DL).attempts]
        assert found == ([None] if cut >= len(intent) else [])


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "1",
        "{}",
        json.dumps({"attempt": 1, "outcome": "perhaps"}),
        json.dumps({"attempt": 2, "outcome": "failed"}),
        json.dumps({"attempt": 0, "outcome": "failed"}),
        json.dumps({"attempt": 3, "action": "submit", "handoff": 1, "command": [], "when": "", "who": ""}),
        json.dumps({"attempt": 2, "action": "repeat", "handoff": 1, "command": [], "when": "", "who": ""}),
    ],
)
def test_another_damaged_line_is_named(line: str, tmp_path: Path) -> None:
    path = tmp_path / paths.submissions(DL)
    tell(tmp_path, [(Action.SUBMIT, 1, ())])
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(StateError, match=rf"{path}, line 2: damaged"):
        Record(tmp_path, DL)


def test_a_command_that_was_left_behind_is_waited_for(tmp_path: Path) -> None:
    """A process hands the open record down to its command and is gone, the command still runs."""
    path = tmp_path / paths.submissions(DL)
    tell(tmp_path, [(Action.SUBMIT, 1, ())])
    handle = os.open(path, os.O_RDWR)
    fcntl.flock(handle, fcntl.LOCK_EX)
    late = f"import time; time.sleep(0.3); open({str(tmp_path / 'late')!r}, 'w').close()"
    with subprocess.Popen([sys.executable, "-c", late], pass_fds=[handle]):
        os.close(handle)
        said: list[str] = []
        with opened(tmp_path, DL, said.append):
            assert (tmp_path / "late").exists()
    assert said == [
        f"waiting for the end of a submission command that a killed process left behind; it keeps {path}"
    ]
