"""Receipts: the records of a downlink's hand-offs, their numbers, and `dl=<id>`."""

from pathlib import Path
from typing import Any

import pytest

from halfpipe import paths
from halfpipe.errors import MissingInputError
from halfpipe.files.records import DamagedError, Series
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.intervals import Interval
from halfpipe.run import receipt_file
from halfpipe.run.deliveries import Deliveries, Delivery
from halfpipe.run.receipt_file import hand_offs, last_hand_off, next_number, publish_receipt, read_receipt

DL, RUN = DownlinkId("240601001"), RunId("2c2e5787")
TEXT = {"name": f"delivered_events_{DL}.txt", "size": 21, "sha256": "0" * 64}


def content(number: int, *named: RunId, **more: Any) -> dict[str, Any]:
    """Return the part of a receipt that is read here, with one run that its texts do not name."""
    runs = [{"run": run, "named": True} for run in named] + [{"run": "2c2e8430", "named": False}]
    return {"handoff": number, "runs": runs, "texts": [TEXT]} | more


def both(work: Path, number: int) -> list[Path]:
    place = paths.receipts(DL)
    return [work / home / f"{number:06d}.json" for home in (place, paths.copies(place))]


def test_an_equal_receipt_is_recorded_once(tmp_path: Path) -> None:
    first = publish_receipt(tmp_path, DL, content(1, RUN))
    assert publish_receipt(tmp_path, DL, content(1, RUN)) == first
    assert both(tmp_path, 1)[0].read_bytes() == first.content
    publish_receipt(tmp_path, DL, content(1, RUN, reason="added later"))
    publish_receipt(tmp_path, DL, content(2, RUN))
    assert [path.exists() for path in (*both(tmp_path, 3), *both(tmp_path, 4))] == [True] * 2 + [False] * 2
    one, two = hand_offs(tmp_path, DL)
    assert (one.number, two.number) == (1, 2)
    assert one.receipt["reason"] == "added later", "the latest record of a hand-off counts"
    assert one.made == both(tmp_path, 1)[0].stat().st_mtime, "its time is that of the first record"


def test_the_receipt_is_the_last_record_even_if_its_copy_was_edited(tmp_path: Path) -> None:
    copy = tmp_path / paths.receipt(DL)
    with pytest.raises(MissingInputError):
        read_receipt(tmp_path, DL)
    for number in (1, 2):
        written = publish_receipt(tmp_path, DL, content(number, RUN)).content
        copy.write_bytes(written.replace(b'"handoff": 2', b'"handoff": 3'))
        assert read_receipt(tmp_path, DL) == content(number, RUN) == hand_offs(tmp_path, DL)[-1].receipt
    for path in (*both(tmp_path, 1), *both(tmp_path, 2)):
        path.unlink()
    for read in (read_receipt, last_hand_off):
        with pytest.raises(DamagedError) as error:
            read(tmp_path, DL)
        assert all(str(path) in str(error.value) for path in both(tmp_path, 1))


def test_a_hand_off_during_a_look_is_not_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = receipt_file.series

    def slow(work: Path, downlink: DownlinkId, *, only_look: bool) -> Series:
        found, other = read(work, downlink, only_look=only_look), read(work, downlink)
        record = publish_receipt(work, downlink, content(1, RUN), other)
        (work / paths.receipt(downlink)).write_bytes(record.content)
        return found

    monkeypatch.setattr(receipt_file, "series", slow)
    assert hand_offs(tmp_path, DL) == []


@pytest.mark.parametrize(
    "harm",
    [{"handoff": None}, {"handoff": "x"}, {"runs": [{"run": "2C2E5787", "named": True}]}, {"texts": 1}],
)
def test_a_record_that_is_not_a_receipt_names_both_copies(tmp_path: Path, harm: dict[str, Any]) -> None:
    publish_receipt(tmp_path, DL, content(1, RUN))
    series = Series(tmp_path, paths.receipts(DL))
    series.read()
    series.publish(content(2, RUN) | harm)
    with pytest.raises(DamagedError) as error:
        hand_offs(tmp_path, DL)
    assert all(str(path) in str(error.value) for path in both(tmp_path, 2))


def deliver(work: Path, downlink: DownlinkId, last: int, handoff: int) -> None:
    spans = (Interval(1, last),)
    Deliveries(work, RUN).publish(Delivery(downlink, spans, {}, (), (1.0, 2.0), (1.0, 2.0), handoff))


def test_the_next_number_was_never_used_before(tmp_path: Path) -> None:
    """Not by a receipt, a delivery of this downlink, or a submission."""
    submitted = Series(tmp_path, paths.submissions(DL))
    submitted.read()
    for act, number in (
        (lambda: deliver(tmp_path, DL, 9, 1), 1),
        (lambda: publish_receipt(tmp_path, DL, content(1, RUN)), 2),
        (lambda: deliver(tmp_path, DL, 10, 2), 2),
        (lambda: deliver(tmp_path, DL, 11, 7), 7),  # receipts were lost
        (lambda: deliver(tmp_path, DownlinkId("240601002"), 99, 8), 7),
        (lambda: publish_receipt(tmp_path, DL, content(9)), 10),
        (lambda: submitted.publish({"handoff": 14, "action": "submit"}), 15),
        (lambda: submitted.publish({"action": "told"}), 15),
    ):
        act()
        assert next_number(tmp_path, DL, Deliveries(tmp_path, RUN)) == number
