"""What is usual, what is far from it, and what each day was like."""

from math import nan

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halfpipe.pages.board_figures import COLUMNS, FEWEST, MEASURES, by_day, compared, figures, unusual, usual
from halfpipe.tables.latency import Latency

DAY = 86400.0
MEDIANS = {"rate": 400.0, "waiting": 0.001, "exceptions": 0.0, "latency": 600.0}


def run(kind: str, delivered: int, orphans: int, *spans: tuple[int, int, int]) -> dict[str, object]:
    files = [{"events": events, "seconds": [first, last]} for events, first, last in spans]
    return {"kind": kind, "delivered": delivered, "orphans": orphans, "files": files}


def frame(*rows: dict[str, float]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=COLUMNS, dtype=float)


def test_figures_are_those_of_the_receipt_and_of_two_hand_offs() -> None:
    receipt = {
        "runs": [run("LPA", 900, 100, (600, 0, 2), (300, 10, 11)), run("LCI", 0, 0, (7, 0, 1))],
        "chunks": [{"said": {"exceptions": {"DFI": 2, "PktFile": 1}}}, {"said": {"exceptions": {}}}],
    }
    times = [Latency(1, retdef=100.0, handed_off=940.0), Latency(2, handed_off=2000.0, submitted=2100.0)]
    row = figures(receipt, 5.0, times)
    assert row.keys() == set(COLUMNS)
    assert {name: row[name] for name in MEASURES} == {
        "rate": 300.0,
        "waiting": 0.1,
        "exceptions": 3.0,
        "latency": 840.0,
    }
    assert (row["when"], row["orphans"], row["handed_off"], row["submitted"]) == (940.0, 100, 2000.0, 2100.0)
    nothing = pd.Series(figures({"runs": []}, 5.0, []))
    assert nothing.dropna().to_dict() == {"when": 5.0, "orphans": 0.0, "exceptions": 0.0}


def test_nothing_is_usual_among_few() -> None:
    few = [{"rate": 400.0, "exceptions": 0.0}] * (FEWEST - 1)
    assert usual(frame(*few)).dropna().empty
    assert usual(frame(*few, {"rate": 500.0})).dropna().to_dict() == {"rate": 400.0}


@pytest.mark.parametrize(
    ("own", "names"),
    [
        ({"rate": 401.0, "waiting": 0.004, "exceptions": 3.0, "latency": 900.0}, []),
        ({"rate": 199.0}, ["rate"]),
        ({"rate": 801.0}, ["rate"]),
        ({"waiting": 0.009, "exceptions": 10.0, "latency": 599.0}, []),
        ({"waiting": 0.011, "exceptions": 11.0}, ["waiting", "exceptions"]),
        ({"latency": 1801.0}, ["latency"]),
    ],
)
def test_far_is_a_multiple_of_the_median_and_no_trifle(own: dict[str, float], names: list[str]) -> None:
    (row,) = unusual(frame(own), pd.Series(MEDIANS)).to_dict("records")
    assert [name for name, far in row.items() if far] == names
    unknown = pd.Series(dict.fromkeys(MEASURES, nan))
    assert not unusual(frame(own), unknown).any(axis=None), "without a median nothing is far"


def test_it_is_shown_with_its_median() -> None:
    slow = compared("latency", 2520.0, 840.0 / 1.1)
    assert all(figure in slow for figure in ("42 min", "3.3 times", "90 days", "13 min"))
    assert "77" in compared("exceptions", 77.0, 0.0)


@given(
    st.lists(
        st.tuples(st.floats(0, 1e7), st.just(nan) | st.floats(0, 1e5), st.integers(0, 10**6)), min_size=1
    )
)
@settings(max_examples=25)
def test_days_hold_every_downlink_once(entries: list[tuple[float, float, int]]) -> None:
    every = pd.DataFrame(entries, columns=["when", "latency", "orphans"])
    days = by_day(every)
    assert days["downlinks"].sum() == len(entries)
    assert days["orphans"].sum() == every["orphans"].sum()
    dates = [day.timestamp() / DAY for day in days["day"]]
    assert dates == [dates[0] + number for number in range(len(dates))]
    for date, middle, late in zip(dates, days["middle"], days["late"], strict=True):
        own = every["latency"][every["when"] // DAY == date].dropna()
        assert pd.isna(middle) == own.empty
        assert own.empty or own.min() <= middle <= late <= own.max() + 1e-6
