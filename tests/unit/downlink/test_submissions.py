"""The record of submissions: what cannot be one of its records."""

from pathlib import Path
from typing import Any

import pytest

from halfpipe import paths
from halfpipe.downlink.submissions import Record
from halfpipe.errors import StateError
from halfpipe.files.records import Series
from halfpipe.ids import DownlinkId
from halfpipe.process.told_once import Action, By, Outcome

DL = DownlinkId("240601001")
PLACE = paths.submissions(DL)
INTENT = {"attempt": 3, "action": "submit", "handoff": 1, "command": [], "seconds": 0}


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A downlink whose first hand-off was submitted, and with a roll-back to the second that is open: two records."""
    record = Record(tmp_path, DL)
    record.done(Outcome.TOLD, By.PERSON, action=Action.SUBMIT, handoff=1)
    record.intend(["pipeline"], action=Action.ROLLBACK, handoff=2)
    return tmp_path


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
def test_what_cannot_be_a_record_is_named(one: dict[str, Any], work: Path) -> None:
    series = Series(work, PLACE)
    series.read()
    series.publish(one | {"when": "2026-11-01T02:03:04.000+00:00", "who": "shift, process 7 on host"})
    with pytest.raises(StateError, match=rf"{series.home}/000003\.json"):
        Record(work, DL)
