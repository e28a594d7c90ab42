"""The record of submissions: what cannot be one of its records, and what only the product says."""

from pathlib import Path
from typing import Any

import pytest

from halfpipe import paths
from halfpipe.downlink.submissions import Kept, Record, lost
from halfpipe.errors import StateError
from halfpipe.files.json_files import write_json
from halfpipe.files.records import Series
from halfpipe.ids import DownlinkId
from halfpipe.process.told_once import Action, By, Outcome
from halfpipe.settings import Paths, Settings
from tests.support.series import forget, values

DL = DownlinkId("240601001")
PLACE = paths.submissions(DL)
INTENT = {"attempt": 3, "action": "submit", "handoff": 1, "command": [], "seconds": 0}


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A downlink whose first hand-off was submitted, and with a roll-back to the second that is open: five records."""
    record = Record(tmp_path, DL)
    record.intend(["pipeline"], action=Action.SUBMIT, handoff=1)
    record.conclude(Outcome.FAILED, By.ANSWER, 3, ["the server is down"])
    record.settle(False, By.CHECK)
    record.done(Outcome.TOLD, By.PERSON, action=Action.SUBMIT, handoff=1)
    record.intend(["pipeline"], action=Action.ROLLBACK, handoff=2)
    return tmp_path


def kept(work: Path) -> Kept:
    """Return the record as whoever adds to it has it."""
    return Kept(Settings(Paths(work, work.with_name("stage"))), DL)


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
    with pytest.raises(StateError, match=rf"{series.home}/000006\.json"):
        Record(work, DL)


@pytest.mark.parametrize(
    ("gone", "told"),
    [((), None), ((5, 4, 3, 2, 1), 1), ((5, 4), 1)],
    ids=["nothing", "all", "the last two"],
)
def test_what_only_the_product_says_is_recorded_again(
    gone: tuple[int, ...], told: int | None, work: Path
) -> None:
    write_json(work / paths.submitted(DL), {"downlink": DL, "handoff": 2, "submitted": 1})
    for number in gone:
        forget(work, PLACE, number)
    assert lost(work, Record(work, DL)) == told
    before = len(values(work, PLACE))
    for _ in range(2):
        last = kept(work).last_confirmed
        assert last is not None
        assert (last.action, last.handoff) == (Action.SUBMIT, 1)
        assert last.by is (By.PRODUCT if gone else By.PERSON)
        assert len(values(work, PLACE)) == before + bool(gone)


def test_a_roll_back_that_only_the_product_says_is_one(work: Path) -> None:
    forget(work, PLACE, 5)
    write_json(work / paths.submitted(DL), {"submitted": 2})
    told = kept(work).last_confirmed
    assert told is not None
    assert (told.action, told.handoff) == (Action.ROLLBACK, 2)


@pytest.mark.parametrize("content", ['{"submitted": null}', "{}", "[]", '{"submitted": "one"}', "{"])
def test_a_product_that_says_nothing_of_a_submission_is_passed_over(content: str, tmp_path: Path) -> None:
    (tmp_path / paths.submitted(DL)).write_text(content)
    assert kept(tmp_path).attempts == []
