"""The records of a downlink's hand-offs, their numbers, and the receipt that points to the last."""

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from halfpipe import paths
from halfpipe.errors import MissingInputError, StateError
from halfpipe.files.records import DamagedError, Series
from halfpipe.files.typed import values
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.intervals import Interval
from halfpipe.state import hand_offs as module
from halfpipe.state.deliveries import Deliveries, Delivery
from halfpipe.state.hand_offs import (
    NamedRun,
    Receipt,
    Text,
    current,
    hand_offs,
    last_hand_off,
    next_number,
)
from tests.support.receipts import delivery, publish, receive

DL, RUN, OTHER = DownlinkId("240601001"), RunId("2c2e5787"), RunId("2c2e8430")


def content(number: int, *named: RunId, **more: Any) -> Receipt:
    """Return a receipt with one run that its texts do not name."""
    runs = [NamedRun(run, "a seal", named=True) for run in named] + [NamedRun(OTHER, "a seal", named=False)]
    text = Text(21, "0" * 64, f"delivered_events_{DL}.txt")
    return Receipt(DL, number, "0", {}, (), (), tuple(runs), (text,), **more)


def both(work: Path, number: int) -> list[Path]:
    place = paths.receipts(DL)
    return [work / home / f"{number:06d}.json" for home in (place, paths.copies(place))]


def test_the_latest_record_of_each_hand_off_counts(tmp_path: Path) -> None:
    for receipt in (content(1, RUN), content(1, RUN, reason="added later"), content(2, RUN)):
        publish(tmp_path, receipt)
    one, two = hand_offs(tmp_path, DL)
    assert (one.number, two.number, two.record) == (1, 2, 3)
    assert one.receipt.reason == "added later"
    assert one.made == both(tmp_path, 1)[0].stat().st_mtime, "its time is that of the first record"
    assert (one.named, two.receipt) == ((RUN,), content(2, RUN))


def test_a_downlink_is_handed_off_while_its_receipt_points_to_the_last_record(tmp_path: Path) -> None:
    pointer = tmp_path / paths.receipt(DL)
    with pytest.raises(MissingInputError):
        current(tmp_path, DL)
    for number in (1, 2):
        publish(tmp_path, content(number, RUN))
        assert current(tmp_path, DL).receipt == content(number, RUN)
        if number == 1:
            older = pointer.read_bytes()
    for wrong in (older, b"{}", b"", older[:-5], older.replace(b"a", b"b")):
        pointer.write_bytes(wrong)
        with pytest.raises(MissingInputError) as caught:
            current(tmp_path, DL)
        assert caught.value.remedy.do == (f"snakemake dl={DL}",)
    for path in (*both(tmp_path, 1), *both(tmp_path, 2)):
        path.unlink()
    for read in (current, last_hand_off):
        with pytest.raises(DamagedError) as error:
            read(tmp_path, DL)
        assert all(str(path) in str(error.value) for path in both(tmp_path, 1))


def test_a_run_of_a_hand_off_is_found_by_the_seal_of_its_delivery(tmp_path: Path) -> None:
    first = receive(tmp_path, DL, [(RUN, delivery(DL))])
    assert [(one.run, one.named, one.is_latest) for one in first.runs] == [(RUN, True, True)]
    Deliveries(tmp_path, RUN).publish(delivery(DL, handoff=2))
    (one,) = current(tmp_path, DL).runs
    assert (one.delivery.handoff, one.is_latest) == (1, False)
    publish(tmp_path, replace(first.receipt, runs=(NamedRun(RUN, "0" * 64, named=True),)))
    with pytest.raises(StateError) as caught:
        current(tmp_path, DL).runs  # noqa: B018
    assert caught.value.code == "damaged"
    assert caught.value.remedy.do == (f"snakemake dl={DL} -R {paths.manifest(RUN, DL)}",)


def test_a_hand_off_during_a_look_is_not_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = module.series

    def slow(work: Path, downlink: DownlinkId, *, only_look: bool) -> Series:
        found = read(work, downlink, only_look=only_look)
        monkeypatch.setattr(module, "series", read)
        publish(work, content(1, RUN))
        return found

    monkeypatch.setattr(module, "series", slow)
    assert hand_offs(tmp_path, DL) == []


def test_a_record_that_is_not_a_receipt_names_both_copies(tmp_path: Path) -> None:
    publish(tmp_path, content(1, RUN))
    series = Series(tmp_path, paths.receipts(DL))
    series.read()
    series.publish(values(content(2, RUN)) | {"handoff": "x"})
    with pytest.raises(DamagedError) as error:
        hand_offs(tmp_path, DL)
    assert all(str(path) in str(error.value) for path in both(tmp_path, 2))


def deliver(work: Path, downlink: DownlinkId, last: int, handoff: int) -> None:
    Deliveries(work, RUN).publish(Delivery(downlink, handoff, (Interval(1, last),), {}))


def test_the_next_number_was_never_used_before(tmp_path: Path) -> None:
    """Not by a receipt, a delivery of this downlink, or a submission."""
    submitted = Series(tmp_path, paths.submissions(DL))
    submitted.read()
    for act, number in (
        (lambda: deliver(tmp_path, DL, 9, 1), 1),
        (lambda: publish(tmp_path, content(1, RUN)), 2),
        (lambda: deliver(tmp_path, DL, 10, 2), 2),
        (lambda: deliver(tmp_path, DL, 11, 7), 7),  # receipts were lost
        (lambda: deliver(tmp_path, DownlinkId("240601002"), 99, 8), 7),
        (lambda: publish(tmp_path, content(9)), 10),
        (lambda: submitted.publish({"handoff": 14, "action": "submit"}), 15),
        (lambda: submitted.publish({"action": "told"}), 15),
    ):
        act()
        assert next_number(tmp_path, DL, Deliveries(tmp_path, RUN)) == number
