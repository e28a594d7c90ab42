"""What is usual, and what is far from it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfpipe.pages.board_figures import DAY, FEWEST, by_day, figures, odd, usual
from halfpipe.tables.latency import Latency


def run(kind: str, delivered: int, orphans: int, *spans: tuple[int, int, int]) -> dict[str, object]:
    files = [{"events": events, "seconds": [first, last]} for events, first, last in spans]
    return {"kind": kind, "delivered": delivered, "orphans": orphans, "files": files}


def test_figures_are_those_of_the_receipt() -> None:
    receipt = {
        "runs": [run("LPA", 900, 100, (600, 0, 2), (300, 10, 11)), run("LCI", 0, 0, (7, 0, 1))],
        "chunks": [{"said": {"exceptions": {"DFI": 2, "PktFile": 1}}}, {"said": {"exceptions": {}}}],
    }
    took = Latency(1, retdef=100.0, handed_off=940.0)
    assert figures(receipt, took) == {"rate": 300.0, "waiting": 0.1, "exceptions": 3.0, "latency": 840.0}
    assert figures({"runs": []}, None) == {"exceptions": 0.0}, "what is not known is not there"


def test_nothing_is_usual_among_few() -> None:
    few = [{"rate": 400.0, "exceptions": 0.0}] * (FEWEST - 1)
    assert usual(few) == {}
    assert usual([*few, {"rate": 500.0}]) == {"rate": 400.0}


@pytest.mark.parametrize(
    ("own", "names"),
    [
        ({"rate": 401.0, "waiting": 0.004, "exceptions": 3.0, "latency": 900.0}, []),
        ({"rate": 199.0}, ["event rate of LPA runs"]),
        ({"rate": 801.0}, ["event rate of LPA runs"]),
        ({"waiting": 0.009, "exceptions": 10.0, "latency": 599.0}, []),
        ({"waiting": 0.011, "exceptions": 11.0}, ["events that wait", "exceptions of the decoder"]),
        ({"latency": 1801.0}, ["RetDef to hand-off"]),
    ],
)
def test_far_is_a_multiple_of_the_median_and_no_trifle(own: dict[str, float], names: list[str]) -> None:
    medians = {"rate": 400.0, "waiting": 0.001, "exceptions": 0.0, "latency": 600.0}
    assert [each.measure.name for each in odd(own, medians)] == names
    assert odd(own, {}) == [], "without a median nothing is far"


def test_it_is_told_with_its_median() -> None:
    (slow,) = odd({"latency": 2520.0}, {"latency": 840.0 / 1.1})
    assert str(slow) == "RetDef to hand-off: 42 min, 3.3 times the median of 90 days (13 min)"
    (many,) = odd({"exceptions": 77.0}, {"exceptions": 0.0})
    assert str(many) == "exceptions of the decoder: 77, mostly none"


@given(st.lists(st.tuples(st.floats(0, 1e7), st.none() | st.floats(0, 1e5), st.integers(0, 10**6))))
def test_days_hold_every_downlink_once(entries: list[tuple[float, float | None, int]]) -> None:
    days = by_day(entries)
    assert sum(day.count for day in days) == len(entries)
    assert sum(day.waiting for day in days) == sum(waiting for _, _, waiting in entries)
    assert (
        [day.day for day in days] == list(range(days[0].day, days[0].day + len(days)))
        if days
        else not entries
    )
    for day in days:
        own = [took for when, took, _ in entries if when // DAY == day.day and took is not None]
        assert (day.middle is None) == (not own)
        if day.middle is not None and day.late is not None:
            assert min(own) <= day.middle <= day.late <= max(own)
