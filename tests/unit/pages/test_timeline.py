"""The time axis of the board: its days, latencies and events."""

from datetime import date

import pytest

from halfpipe.ids import DownlinkId
from halfpipe.pages.board_pages import timeline
from halfpipe.status.account import Account

HOUR = 3600.0


def accounts(*names: str) -> list[Account]:
    return [Account(DownlinkId(name), "handed off 1") for name in names]


def test_days_have_their_downlinks_in_order_and_days_without_any_are_there() -> None:
    line = timeline(accounts("230403001", "230401002", "230401001", "230499001"), {})
    assert [day.date for day in line.days] == [date(2023, 4, number) for number in (1, 2, 3)]
    names = [[one.downlink for one in day.downlinks] for day in line.days]
    assert names == [["230401001", "230401002"], [], ["230403001"]], "99 is no day"
    assert (line.downlinks, line.hours, line.events) == (2, 9.0, 1)


def test_a_day_has_the_latencies_and_the_events_of_what_was_handed_off() -> None:
    handed_off: dict[str, dict[str, float | None]] = {
        "230401001": {"latency": 12 * HOUR, "events": 5},
        "230401002": {"latency": 2 * HOUR, "events": 70},
        "230401003": {"latency": None, "events": 0},
    }
    line = timeline(accounts(*handed_off, "230401004"), handed_off)
    assert [(day.hours, day.events) for day in line.days] == [([2.0, 12.0], 75)]
    assert (line.downlinks, line.hours, line.events) == (4, 12.0, 75)


@pytest.mark.parametrize(("names", "days"), [(("230401001", "220401001"), 1), ((), 0)])
def test_old_days_are_left_out_and_a_board_may_be_empty(names: tuple[str, ...], days: int) -> None:
    assert len(timeline(accounts(*names), {}).days) == days
    assert len(timeline(accounts("230401001", "230101001"), {}).days) == 91
