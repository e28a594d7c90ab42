"""Receipts: the records of a downlink's hand-offs, their numbers, and `dl=<id>`."""

from pathlib import Path
from typing import Any

import pytest

from halfpipe import paths
from halfpipe.errors import MissingInputError
from halfpipe.files.records import DamagedError, Series
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.intervals import Interval
from halfpipe.run.deliveries import Deliveries, Delivery
from halfpipe.run.receipt_file import hand_offs, last_hand_off, next_number, publish_receipt, read_receipt

DL, RUN = DownlinkId("240601001"), RunId("2c2e5787")
TEXT = {"name": f"delivered_events_{DL}.txt", "size": 21, "sha256": "0" * 64}


def content(number: int, *named: RunId, **more: Any) -> dict[str, Any]:
    """Return as much of a receipt as counts here; it has a run that the texts do not name."""
    runs = [{"run": run, "named": True} for run in named] + [{"run": "2c2e8430", "named": False}]
    return {"handoff": number, "runs": runs, "texts": [TEXT]} | more


def both(work: Path, number: int) -> list[Path]:
    """Return both copies of a record."""
    place = paths.receipts(DL)
    return [work / home / f"{number:06d}.json" for home in (place, paths.copies(place))]


def test_a_receipt_that_is_made_again_is_recorded_only_if_it_says_something_else(tmp_path: Path) -> None:
    first = publish_receipt(tmp_path, DL, content(1, RUN))
    assert publish_receipt(tmp_path, DL, content(1, RUN)) == first
    assert both(tmp_path, 1)[0].read_bytes() == first.content
    assert not both(tmp_path, 2)[0].exists()
    publish_receipt(tmp_path, DL, content(1, RUN, reason="said later"))
    publish_receipt(tmp_path, DL, content(2, RUN))
    assert both(tmp_path, 3)[1].exists()
    found = hand_offs(tmp_path, DL)
    assert [handoff.number for handoff in found] == [1, 2]
    assert found[0].receipt["reason"] == "said later", "the latest record of a hand-off counts"
    assert found[0].made == both(tmp_path, 1)[0].stat().st_mtime, "but it was made when it was made first"


def test_the_receipt_is_the_last_record(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError):
        read_receipt(tmp_path, DL)
    for number in (1, 2):
        (tmp_path / paths.receipt(DL)).write_bytes(
            publish_receipt(tmp_path, DL, content(number, RUN)).content
        )
    assert read_receipt(tmp_path, DL) == content(2, RUN) == hand_offs(tmp_path, DL)[-1].receipt
    assert (tmp_path / paths.receipt(DL)).read_bytes() == both(tmp_path, 2)[1].read_bytes()


def test_a_receipt_of_which_there_is_no_record_is_not_believed(tmp_path: Path) -> None:
    written = publish_receipt(tmp_path, DL, content(1, RUN)).content
    (tmp_path / paths.receipt(DL)).write_bytes(written.replace(b'"handoff": 1', b'"handoff": 2'))
    assert read_receipt(tmp_path, DL)["handoff"] == 1, "the record counts"
    for copy in both(tmp_path, 1):
        copy.unlink()
    for read in (read_receipt, last_hand_off):
        with pytest.raises(DamagedError) as error:
            read(tmp_path, DL)
        assert all(str(path) in str(error.value) for path in both(tmp_path, 1))


@pytest.mark.parametrize(
    "harm",
    [{"handoff": None}, {"handoff": "x"}, {"runs": [{"run": "2C2E5787", "named": True}]}, {"texts": 1}],
)
def test_a_record_that_is_no_receipt_stops_with_both_names(tmp_path: Path, harm: dict[str, Any]) -> None:
    publish_receipt(tmp_path, DL, content(1, RUN))
    series = Series(tmp_path, paths.receipts(DL))
    series.read()
    series.publish(content(2, RUN) | harm)
    with pytest.raises(DamagedError) as error:
        hand_offs(tmp_path, DL)
    assert all(str(path) in str(error.value) for path in both(tmp_path, 2))


def delivered(work: Path, downlink: DownlinkId, last: int, handoff: int) -> Deliveries:
    """Record a delivery for a hand-off; return what is recorded now."""
    recorded = Deliveries(work, RUN)
    recorded.publish(Delivery(downlink, (Interval(1, last),), {}, (), (1.0, 2.0), (1.0, 2.0), handoff))
    return Deliveries(work, RUN)


def test_the_next_number_is_more_than_that_of_any_hand_off(tmp_path: Path) -> None:
    """And at least what this downlink's deliveries say: Level-1 must never hear of one number twice."""
    assert next_number(tmp_path, DL, delivered(tmp_path, DL, 9, 1)) == 1
    publish_receipt(tmp_path, DL, content(1, RUN))
    assert next_number(tmp_path, DL, Deliveries(tmp_path, RUN)) == 2
    assert next_number(tmp_path, DL, delivered(tmp_path, DL, 10, 2)) == 2
    assert next_number(tmp_path, DL, delivered(tmp_path, DL, 11, 7)) == 7, "its receipts were lost"
    assert next_number(tmp_path, DL, delivered(tmp_path, DownlinkId("240601002"), 99, 8)) == 7
    publish_receipt(tmp_path, DL, content(9))
    assert next_number(tmp_path, DL, Deliveries(tmp_path, RUN)) == 10


def test_the_next_number_is_more_than_that_of_any_submission(tmp_path: Path) -> None:
    submitted = Series(tmp_path, paths.submissions(DL))
    submitted.read()
    submitted.publish({"handoff": 4, "action": "submit"})
    submitted.publish({"action": "told"})
    assert next_number(tmp_path, DL, Deliveries(tmp_path, RUN)) == 5
