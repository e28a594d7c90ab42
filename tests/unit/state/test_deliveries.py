"""The recorded deliveries of a run: which one counts, repeats, damage, and releases."""

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from halfpipe import paths
from halfpipe.errors import StateError
from halfpipe.files.records import DamagedError, Series
from halfpipe.files.typed import values
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.intervals import Interval
from halfpipe.settings import Paths, Settings
from halfpipe.state import deliveries
from halfpipe.state.deliveries import CountedSpan, Deliveries, Delivery, Entry, EventFile, Release, Unreadable

RUN = RunId("2c2e5787")
FIRST, SECOND = DownlinkId("240601001"), DownlinkId("240601002")


def event_file(first: int, last: int) -> EventFile:
    name = f"r0741234567-e{first:020d}.evt"
    return EventFile(name, last - first + 1, (first, last), (741234567, 741234600), 4096, "0" * 64)


def delivery(downlink: DownlinkId, *spans: tuple[int, int], **more: Any) -> Delivery:
    return Delivery(
        downlink,
        more.pop("handoff", 1),
        tuple(Interval(*span) for span in spans),
        {956: ((0, 9),)},
        tuple(event_file(*span) for span in spans),
        (1.5, 2.5) if spans else None,
        **more,
    )


def read(work: Path) -> Deliveries:
    return Deliveries(work, RUN)


def publish(work: Path, *entries: Entry) -> int:
    """Publish entries, each as another process would; return the number of records."""
    for entry in entries:
        read(work).publish(entry)
    return len(Series(work, paths.deliveries(RUN)).read())


def test_the_latest_delivery_of_a_downlink_counts(tmp_path: Path) -> None:
    recorded = read(tmp_path)
    assert (recorded.latest(), recorded.seal(FIRST)) == ({}, None)
    last = delivery(FIRST, (1, 9), (20, 29))
    for entry in (delivery(FIRST, (1, 9)), delivery(SECOND, (10, 19)), last):
        recorded.publish(entry)
    for each in (recorded, read(tmp_path)):
        assert each.latest() == {FIRST: last, SECOND: delivery(SECOND, (10, 19))}
    seals = [record.seal for record in Series(tmp_path, paths.deliveries(RUN)).read()]
    assert [read(tmp_path).seal(downlink) for downlink in (SECOND, FIRST)] == seals[1:]


def test_equal_deliveries_are_recorded_once(tmp_path: Path) -> None:
    first = delivery(FIRST, (1, 9))
    second = delivery(SECOND, (10, 19))
    for _ in range(3):
        assert publish(tmp_path, first, second) == 2
    assert publish(tmp_path, delivery(FIRST, (1, 8)), first) == 4, "it is equal to an earlier one only"
    assert read(tmp_path).latest()[FIRST] == first
    assert publish(tmp_path, replace(first, accepted="lost")) == 5
    assert read(tmp_path).latest()[FIRST].accepted == "lost"
    assert publish(tmp_path, delivery(FIRST), delivery(FIRST)) == 6, "also without events"


def test_the_first_hand_off_of_the_same_spans_is_known(tmp_path: Path) -> None:
    assert read(tmp_path).first_handoff(FIRST) is None
    spans = [((1, 9),), ((1, 4),), ((1, 4),)]
    publish(tmp_path, *(delivery(FIRST, *span, handoff=n) for n, span in enumerate(spans, 1)))
    publish(tmp_path, delivery(SECOND, (5, 9), handoff=7))
    assert read(tmp_path).first_handoff(FIRST) == 2


def test_a_publication_returns_the_record_that_counts(tmp_path: Path) -> None:
    recorded = read(tmp_path)
    first = recorded.publish(delivery(FIRST, (1, 9)))
    recorded.publish(delivery(SECOND, (10, 19)))
    assert recorded.publish(delivery(FIRST, (1, 9))) == first
    assert recorded.sealed(first.seal) == delivery(FIRST, (1, 9))
    assert recorded.sealed("another") is None


@pytest.mark.parametrize("harm", [{"record": "release"}, {"downlink": "24060100"}, {"datagrams": {"x": []}}])
def test_a_record_that_is_not_a_delivery_names_both_copies(harm: dict[str, Any], tmp_path: Path) -> None:
    publish(tmp_path, delivery(FIRST, (1, 9)))
    series = Series(tmp_path, paths.deliveries(RUN))
    series.read()
    series.publish(values(delivery(SECOND, (10, 19))) | harm)
    with pytest.raises(DamagedError) as error:
        read(tmp_path)
    for home in (paths.deliveries(RUN), paths.copies(paths.deliveries(RUN))):
        assert str(tmp_path / home / "000002.json") in str(error.value)


def test_sequences_of_earlier_deliveries_stay_closed(tmp_path: Path) -> None:
    all_spans = [((1, 9), (20, 29)), ((1, 5), (20, 29)), ((20, 25),)]
    publish(tmp_path, *(delivery(FIRST, *spans) for spans in all_spans), delivery(SECOND, (30, 39)))
    recorded = read(tmp_path)
    assert (recorded.closed(FIRST), recorded.closed(SECOND)) == (((1, 9), (26, 29)), ())
    assert [each.spans for each in recorded.earlier()[FIRST]] == all_spans[:2]
    assert recorded.latest()[FIRST] == delivery(FIRST, (20, 25))
    assert recorded.names(FIRST) == {event_file(first, 1 + first).name for first in (1, 20)}
    assert recorded.names(DownlinkId("240601003")) == set()
    publish(tmp_path, delivery(FIRST, (1, 9), (20, 29)))
    assert (read(tmp_path).closed(FIRST), read(tmp_path).earlier()) == ((), {})


def test_a_release_opens_closed_sequences_of_its_downlink_only(tmp_path: Path) -> None:
    for downlink, start in ((FIRST, 1), (SECOND, 101)):
        publish(tmp_path, *(delivery(downlink, (start, start + last)) for last in (8, 3)))
    publish(tmp_path, Release(FIRST, "rolled back", "me on here", "2026-11-26T00:00:00+00:00"))
    recorded = read(tmp_path)
    assert (recorded.closed(FIRST), recorded.closed(SECOND)) == ((), ((105, 109),))
    assert recorded.latest()[FIRST] == delivery(FIRST, (1, 4))
    publish(tmp_path, delivery(FIRST))
    assert read(tmp_path).closed(FIRST) == ((1, 4),)


def test_only_closed_sequences_can_be_released(tmp_path: Path) -> None:
    publish(tmp_path, delivery(FIRST, (1, 9)))
    with pytest.raises(StateError):
        deliveries.release(Settings(Paths(tmp_path, tmp_path)), RUN, FIRST, "rolled back")
    publish(tmp_path, delivery(FIRST, (1, 4)))
    assert deliveries.release(Settings(Paths(tmp_path, tmp_path)), RUN, FIRST, "rolled back") == ((5, 9),)
    with pytest.raises(StateError):
        deliveries.release(Settings(Paths(tmp_path, tmp_path)), RUN, FIRST, "again")
    assert publish(tmp_path) == 3


def test_an_unreadable_record_of_the_legacy_counts_until_it_can_be_read(tmp_path: Path) -> None:
    unreadable = Unreadable(FIRST, "its spans are torn", "restore them", "halfpipe takeover it --do")
    assert publish(tmp_path, unreadable, unreadable) == 1
    assert (read(tmp_path).unreadable, read(tmp_path).latest()) == ({FIRST: unreadable}, {})
    # An empty delivery is recorded too, because it shows that the record is readable now.
    legacy = delivery(FIRST, counted=(CountedSpan((1, 9), None),))
    publish(tmp_path, legacy)
    assert (read(tmp_path).unreadable, read(tmp_path).latest()) == ({}, {FIRST: legacy})
