"""What was delivered of a run: what counts, what is not recorded twice, and what it survives."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from halfpipe import paths
from halfpipe.errors import StateError
from halfpipe.files.records import DamagedError, Series, TakenError
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.intervals import Interval
from halfpipe.run.deliveries import Deliveries, Delivery, EventFile, LegacySpan, Release, Unreadable, release
from halfpipe.settings import Paths, Settings

RUN = RunId("2c2e5787")
FIRST, SECOND = DownlinkId("240601001"), DownlinkId("240601002")


def event_file(first: int, last: int) -> EventFile:
    name = f"r0741234567-e{first:020d}.evt"
    return EventFile(name, last - first + 1, (first, last), (741234567, 741234600), 4096, "0" * 64)


def delivery(downlink: DownlinkId, *spans: tuple[int, int]) -> Delivery:
    return Delivery(
        downlink,
        tuple(Interval(*span) for span in spans),
        {956: ((0, 9),)},
        tuple(event_file(*span) for span in spans),
        (1.5, 2.5) if spans else None,
        (1.25, 2.75) if spans else None,
    )


def read(work: Path) -> Deliveries:
    return Deliveries(work, RUN)


def kinds(work: Path) -> list[str]:
    """Return of which kind each record is."""
    return [record.values["kind"] for record in Series(work, paths.deliveries(RUN)).read()]


def test_the_latest_of_a_downlink_counts(tmp_path: Path) -> None:
    recorded = read(tmp_path)
    assert recorded.latest() == {}
    assert recorded.seal(FIRST) is None
    recorded.publish(delivery(FIRST, (1, 9)))
    recorded.publish(delivery(SECOND, (10, 19)))
    recorded.publish(delivery(FIRST, (1, 9), (20, 29)))
    expected = {FIRST: delivery(FIRST, (1, 9), (20, 29)), SECOND: delivery(SECOND, (10, 19))}
    assert recorded.latest() == expected
    assert read(tmp_path).latest() == expected
    assert len(kinds(tmp_path)) == 3
    seals = [record.seal for record in Series(tmp_path, paths.deliveries(RUN)).read()]
    assert [read(tmp_path).seal(downlink) for downlink in (SECOND, FIRST)] == seals[1:]


def test_nothing_is_recorded_twice(tmp_path: Path) -> None:
    for handoff in range(1, 4):  # the same again for a later hand-off is no other delivery
        read(tmp_path).publish(replace(delivery(FIRST, (1, 9)), handoff=handoff))
        read(tmp_path).publish(delivery(SECOND, (10, 19)))
    assert len(kinds(tmp_path)) == 2
    assert read(tmp_path).latest()[FIRST].handoff == 1
    # A downlink that delivers what it had delivered before last says so.
    read(tmp_path).publish(delivery(FIRST, (1, 8)))
    read(tmp_path).publish(delivery(FIRST, (1, 9)))
    assert len(kinds(tmp_path)) == 4
    assert read(tmp_path).latest()[FIRST] == delivery(FIRST, (1, 9))
    # With fewer events, as was accepted: that is something else.
    read(tmp_path).publish(replace(delivery(FIRST, (1, 9)), accepted="lost"))
    assert len(kinds(tmp_path)) == 5
    assert read(tmp_path).latest()[FIRST].accepted == "lost"


def test_nothing_delivered_is_recorded_only_if_something_was_before(tmp_path: Path) -> None:
    recorded = read(tmp_path)
    recorded.publish(delivery(FIRST))
    assert list(tmp_path.iterdir()) == []
    recorded.publish(delivery(FIRST, (1, 9)))
    recorded.publish(delivery(FIRST))
    recorded.publish(delivery(FIRST))
    assert len(kinds(tmp_path)) == 2
    assert read(tmp_path).latest() == {FIRST: delivery(FIRST)}


def test_who_decided_on_what_it_had_read_before_another_delivered_finds_out(tmp_path: Path) -> None:
    slow, fast = read(tmp_path), read(tmp_path)
    fast.publish(delivery(FIRST, (1, 9)))
    with pytest.raises(TakenError):
        slow.publish(delivery(SECOND, (1, 9)))
    assert read(tmp_path).latest() == {FIRST: delivery(FIRST, (1, 9))}
    assert slow.latest() == {}, "what was not recorded is not known either"


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: entry.pop("spans"),
        lambda entry: entry.pop("kind"),
        lambda entry: entry.update(kind="another"),
        lambda entry: entry.update(kind="release"),
        lambda entry: entry.update(downlink="24060100"),
        lambda entry: entry.update(spans=[[1, 2, 3]]),
        lambda entry: entry.update(files=[{"name": "x"}]),
        lambda entry: entry.update(datagrams=[1]),
        lambda entry: entry.update(datagrams={"x": []}),
    ],
)
def test_a_record_that_is_no_delivery_stops_with_both_names(damage: Any, tmp_path: Path) -> None:
    read(tmp_path).publish(delivery(FIRST, (1, 9)))
    entry = {"kind": "delivery"} | delivery(SECOND, (10, 19)).as_json()
    damage(entry)
    series = Series(tmp_path, paths.deliveries(RUN))
    series.read()
    series.publish(entry)
    with pytest.raises(DamagedError) as error:
        read(tmp_path)
    for home in (paths.deliveries(RUN), paths.copies(paths.deliveries(RUN))):
        assert str(tmp_path / home / "000002.json") in str(error.value)


def test_what_earlier_deliveries_covered_stays_closed(tmp_path: Path) -> None:
    recorded = read(tmp_path)
    for spans in [(1, 9), (20, 29)], [(1, 5), (20, 29)], [(20, 25)]:
        recorded.publish(delivery(FIRST, *spans))
    recorded.publish(delivery(SECOND, (30, 39)))
    for each in (recorded, read(tmp_path)):
        assert each.closed(FIRST) == ((1, 9), (26, 29))
        assert [d.spans for d in each.earlier()[FIRST]] == [((1, 9), (20, 29)), ((1, 5), (20, 29))]
        assert each.closed(SECOND) == ()
        assert each.latest()[FIRST] == delivery(FIRST, (20, 25))
    assert read(tmp_path).names(FIRST) == {event_file(first, 1 + first).name for first in (1, 20)}
    assert read(tmp_path).names(DownlinkId("240601003")) == set()
    recorded.publish(delivery(FIRST, (1, 9), (20, 29)))
    assert recorded.closed(FIRST) == ()
    assert recorded.earlier() == {}


def test_a_release_opens_what_was_closed_and_nothing_else(tmp_path: Path) -> None:
    recorded = read(tmp_path)
    for downlink in (FIRST, SECOND):
        start = 1 if downlink == FIRST else 101
        recorded.publish(delivery(downlink, (start, start + 8)))
        recorded.publish(delivery(downlink, (start, start + 3)))
    recorded.publish(Release(FIRST, "rolled back", "me on here", "2026-11-26T00:00:00+00:00"))
    for each in (recorded, read(tmp_path)):
        assert each.closed(FIRST) == ()
        assert each.closed(SECOND) == ((105, 109),)
        assert each.latest()[FIRST] == delivery(FIRST, (1, 4))
    recorded.publish(delivery(FIRST))
    assert recorded.closed(FIRST) == ((1, 4),)


def test_only_what_is_closed_can_be_released(tmp_path: Path) -> None:
    settings = Settings(Paths(tmp_path, tmp_path))
    read(tmp_path).publish(delivery(FIRST, (1, 9)))
    with pytest.raises(StateError):
        release(settings, RUN, FIRST, "rolled back")
    read(tmp_path).publish(delivery(FIRST, (1, 4)))
    assert release(settings, RUN, FIRST, "rolled back") == ((5, 9),)
    assert kinds(tmp_path) == ["delivery", "delivery", "release"]
    with pytest.raises(StateError):
        release(settings, RUN, FIRST, "again")
    assert len(kinds(tmp_path)) == 3


def test_what_the_legacy_recorded_and_nobody_can_read_stands_until_it_can_be_read(tmp_path: Path) -> None:
    said = Unreadable(FIRST, "its spans are torn", "restore them", "halfpipe takeover it --do")
    for _ in range(2):
        read(tmp_path).publish(said)
    assert kinds(tmp_path) == ["unreadable"]
    assert read(tmp_path).unreadable == {FIRST: said}
    assert read(tmp_path).latest() == {}
    # Even if it turns out that nothing was delivered: that it can be read now must be known.
    legacy = replace(delivery(FIRST), legacy=(LegacySpan((1, 9), None),))
    read(tmp_path).publish(legacy)
    assert read(tmp_path).unreadable == {}
    assert read(tmp_path).latest() == {FIRST: legacy}
