"""The record of submissions: what its records hold, what cannot be one, and what only the product says."""

from pathlib import Path
from typing import Any

import pytest

from halfpipe import paths
from halfpipe.downlink.submissions import Action, Kept, Record, lost
from halfpipe.errors import StateError
from halfpipe.files.json_files import write_json
from halfpipe.files.records import Series
from halfpipe.ids import DownlinkId
from halfpipe.process.told_once import By, Outcome
from halfpipe.settings import Paths, Settings
from tests.support.series import forget, values

DL = DownlinkId("240601001")
WHEN_AND_WHO = {"when": "2026-11-01T02:03:04.000+00:00", "who": "shift, process 7 on host"}
SEALS = {"sha256", "previous", "when", "who"}
RECORDS: list[dict[str, Any]] = [
    {
        "attempt": 1,
        "action": "submit",
        "handoff": 1,
        "command": ["pipeline", "-S", DL, "é"],
        "seconds": 360.0,
    },
    {"attempt": 1, "outcome": "failed", "by": "answer", "status": 3, "said": ["the server is down"]},
    {"attempt": 1, "outcome": "not-submitted", "by": "check"},
    {
        "attempt": 2,
        "action": "submit",
        "handoff": 1,
        "command": ["pipeline", "-S", DL],
        "seconds": 0.0,
        "outcome": "written",
        "by": "answer",
    },
    {"attempt": 2, "outcome": "submitted", "by": "person"},
    {"attempt": 3, "action": "rollback", "handoff": 2, "command": ["pipeline", "-R", DL], "seconds": 360.0},
]


def kept(work: Path) -> Kept:
    """Return the record as whoever adds to it has it."""
    return Kept(Settings(Paths(work, work.with_name("stage"))), DL)


def written(work: Path, *more: Any) -> Path:
    """Publish the records as they lie on disk, and others after them."""
    series = Series(work, paths.submissions(DL))
    series.read()
    for one in (*RECORDS, *more):
        series.publish(one | WHEN_AND_WHO if isinstance(one, dict) else one)
    return series.home


def test_the_records_are_these_are_read_again_and_continued(tmp_path: Path) -> None:
    record = Record(tmp_path, DL)
    for one in RECORDS:
        outcome = next((each for each in Outcome if record.word(each) == one.get("outcome")), None)
        if "command" not in one:
            record.conclude(outcome, By(one["by"]), one.get("status"), one.get("said", ()))
            continue
        about = {"action": Action(one["action"]), "handoff": one["handoff"]}
        if outcome is None:
            record.intend(one["command"], seconds=one["seconds"], **about)
        else:
            record.done(outcome, By(one["by"]), one["command"], **about)
    record = Record(tmp_path, DL)
    assert [(a.number, a.action, a.handoff, a.outcome) for a in record.attempts] == [
        (1, Action.SUBMIT, 1, Outcome.NOT_SUBMITTED),
        (2, Action.SUBMIT, 1, Outcome.TOLD),
        (3, Action.ROLLBACK, 2, None),
    ]
    assert record.attempts[0].command == ("pipeline", "-S", DL, "é")
    assert record.last_confirmed == record.attempts[1]
    record.settle(told=True, by=By.PERSON)
    found = values(tmp_path, paths.submissions(DL))
    settled = {"attempt": 3, "outcome": "submitted", "by": "person"}
    assert [{key: one[key] for key in one.keys() - SEALS} for one in found] == [*RECORDS, settled]


INTENT = {"attempt": 4, "action": "submit", "handoff": 1, "command": [], "seconds": 0}


@pytest.mark.parametrize(
    "one",
    [
        {},
        {"attempt": 3, "outcome": "perhaps", "by": "person"},
        {"attempt": 3, "outcome": "told", "by": "person"},
        {"attempt": 3, "outcome": "submitted", "by": "nobody"},
        {"attempt": 4, "outcome": "failed", "by": "person"},
        {"attempt": 0, "outcome": "failed", "by": "person"},
        INTENT | {"attempt": 5},
        INTENT | {"action": "repeat"},
        INTENT | {"command": 7},
        INTENT | {"seconds": "a while"},
    ],
)
def test_what_cannot_be_a_record_is_named(one: dict[str, Any], tmp_path: Path) -> None:
    home = written(tmp_path, one)
    with pytest.raises(StateError, match=rf"{home}/000007\.json"):
        Record(tmp_path, DL)


@pytest.mark.parametrize(
    ("gone", "told"),
    [((), None), ((6, 5, 4, 3, 2, 1), 1), ((6, 5), 1)],
    ids=["nothing", "all", "the last two"],
)
def test_what_only_the_product_says_is_recorded_again(
    gone: tuple[int, ...], told: int | None, tmp_path: Path
) -> None:
    written(tmp_path)
    write_json(tmp_path / paths.submitted(DL), {"downlink": DL, "handoff": 2, "submitted": 1})
    for number in gone:
        forget(tmp_path, paths.submissions(DL), number)
    assert lost(tmp_path, Record(tmp_path, DL)) == told
    before = len(values(tmp_path, paths.submissions(DL)))
    for _ in range(2):
        record = kept(tmp_path)
        assert record.last_confirmed is not None
        assert record.last_confirmed.handoff == 1
        assert record.last_confirmed.by is (By.PRODUCT if gone else By.PERSON)
        assert record.is_open is not bool(gone)
        assert len(values(tmp_path, paths.submissions(DL))) == before + bool(gone)


def test_a_roll_back_that_only_the_product_says_is_one(tmp_path: Path) -> None:
    Record(tmp_path, DL).done(Outcome.TOLD, By.PERSON, action=Action.SUBMIT, handoff=1)
    write_json(tmp_path / paths.submitted(DL), {"submitted": 2})
    told = kept(tmp_path).last_confirmed
    assert told is not None
    assert (told.action, told.handoff) == (Action.ROLLBACK, 2)


@pytest.mark.parametrize("content", ['{"submitted": null}', "{}", "[]", '{"submitted": "one"}', "{"])
def test_a_product_that_says_nothing_of_a_submission_is_passed_over(content: str, tmp_path: Path) -> None:
    (tmp_path / paths.submitted(DL)).write_text(content)
    assert kept(tmp_path).attempts == []
