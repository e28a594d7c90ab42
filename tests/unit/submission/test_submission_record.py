"""The record of submissions: its lines, as every version has written them, and damaged ones."""

import json
from pathlib import Path
from typing import Any

import pytest

from halfpipe.errors import StateError
from halfpipe.ids import DownlinkId
from halfpipe.programs.told_once import By, Outcome
from halfpipe.storage import paths
from halfpipe.submission.record import Action, Record

DL = DownlinkId("240601001")
WHEN_AND_WHO = {"when": "2026-11-01T02:03:04+00:00", "who": "shift, process 7 on host"}
LINES: list[dict[str, Any]] = [
    {"attempt": 1, "action": "submit", "handoff": 1, "command": ["pipeline", "-S", DL, "é"]},
    {"attempt": 1, "outcome": "failed", "by": "answer", "status": 3, "said": ["the server is down"]},
    {"attempt": 1, "outcome": "not-submitted", "by": "check"},
    {"attempt": 2, "action": "submit", "handoff": 1, "command": ["pipeline", "-S", DL]},
    {"attempt": 2, "outcome": "written", "by": "answer", "status": None, "said": []},
    {"attempt": 2, "outcome": "submitted", "by": "person"},
    {"attempt": 3, "action": "rollback", "handoff": 2, "command": ["pipeline", "-R", DL]},
]


def written(work: Path, *more: str) -> Path:
    """Write the lines as they lie on disk, and others after them."""
    path = work / paths.submissions(DL)
    path.parent.mkdir()
    lines = [json.dumps(line | WHEN_AND_WHO, sort_keys=True) for line in LINES]
    path.write_text("\n".join([*lines, *more]) + "\n")
    return path


def test_lines_of_an_earlier_version_are_read_and_continued(tmp_path: Path) -> None:
    path = written(tmp_path)
    record = Record(tmp_path, DL)
    assert [(a.number, a.action, a.handoff, a.outcome) for a in record.attempts] == [
        (1, Action.SUBMIT, 1, Outcome.NOT_TOLD),
        (2, Action.SUBMIT, 1, Outcome.TOLD),
        (3, Action.ROLLBACK, 2, None),
    ]
    assert record.attempts[0].command == ("pipeline", "-S", DL, "é")
    assert record.told == record.attempts[1]
    assert record.attempts[1].when == WHEN_AND_WHO["when"]
    record.settle(told=True, by=By.PERSON)
    last = json.loads(path.read_text().splitlines()[-1])
    assert last | WHEN_AND_WHO == {"attempt": 3, "outcome": "submitted", "by": "person"} | WHEN_AND_WHO


def test_the_same_lines_are_written(tmp_path: Path) -> None:
    with Record.opened(tmp_path, DL, print) as record:
        for line in LINES:
            if "outcome" not in line:
                record.intend(line["command"], action=Action(line["action"]), handoff=line["handoff"])
                continue
            outcome = next(each for each in Outcome if record.word(each) == line["outcome"])
            record.conclude(outcome, By(line["by"]), line.get("status"), line.get("said", ()))
    found = [json.loads(line) for line in record.path.read_text().splitlines()]
    assert [line | WHEN_AND_WHO for line in found] == [line | WHEN_AND_WHO for line in LINES]


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "1",
        "{}",
        json.dumps({"attempt": 3, "outcome": "perhaps"}),
        json.dumps({"attempt": 3, "outcome": "told"}),
        json.dumps({"attempt": 4, "outcome": "failed"}),
        json.dumps({"attempt": 0, "outcome": "failed"}),
        json.dumps({"attempt": 5, "action": "submit", "handoff": 1, "command": [], "when": "", "who": ""}),
        json.dumps({"attempt": 4, "action": "repeat", "handoff": 1, "command": [], "when": "", "who": ""}),
    ],
)
def test_a_damaged_line_is_named(line: str, tmp_path: Path) -> None:
    path = written(tmp_path, line, json.dumps({"attempt": 3, "outcome": "submitted"}))
    with pytest.raises(StateError, match=rf"{path}, line 8: damaged"):
        Record(tmp_path, DL)
