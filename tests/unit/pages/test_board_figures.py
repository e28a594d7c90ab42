"""What is usual, what is far from it, and how it went from day to day."""

from math import nan
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halfpipe import paths
from halfpipe.files.json_files import write_json
from halfpipe.ids import DownlinkId
from halfpipe.pages.board_pages import (
    FEWEST,
    HEIGHT,
    WIDTH,
    called,
    compared,
    figures,
    missing_datagrams,
    trends,
    usual,
)
from halfpipe.tables.latency import Latency

DAY = 86400.0
DL, RUN = DownlinkId("230401001"), "29d7d35d"
MEDIANS = {"rate 956": 400.0, "gaps 956": 0.0, "exceptions 956": 0.0, "waiting": 0.001, "latency": 600.0}


def run(kind: str, delivered: int, orphans: int, *spans: tuple[int, int, int]) -> dict[str, object]:
    files = [{"events": events, "seconds": [first, last]} for events, first, last in spans]
    return {"run": kind, "kind": kind, "delivered": delivered, "orphans": orphans, "files": files}


def chunk(of: str, apid: int, events: int, **exceptions: int) -> dict[str, object]:
    files = [{"run": of, "apid": f"{apid:04}", "events": events}, {"run": of, "apid": f"{apid:04}"}]
    return {"files": files, "said": {"exceptions": exceptions}}


def frame(*rows: dict[str, float]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=["when", *MEDIANS], dtype=float)


def test_figures_are_those_of_the_receipt_by_epu_and_of_two_hand_offs() -> None:
    receipt = {
        "runs": [run("LPA", 900, 100, (600, 0, 2), (300, 10, 11)), run("LCI", 0, 0, (7, 0, 1))],
        "chunks": [
            chunk("LPA", 956, 500, DFI=2, PktFile=1),
            chunk("LPA", 956, 250),
            chunk("LPA", 957, 250),
            chunk("LCI", 965, 7, DFI=1),
        ],
    }
    times = [Latency(1, retdef=100.0, handed_off=940.0), Latency(2, handed_off=2000.0, submitted=2100.0)]
    row = figures(receipt, {957: 4}, 5.0, times)
    assert {name: value for name, value in row.items() if " " in name} == {
        **{"rate 956": 225.0, "rate 957": 75.0},  # of 300 events in a second
        **{"gaps 956": 0.0, "gaps 957": 4.0, "gaps 965": 0.0},
        **{"exceptions 956": 3.0, "exceptions 957": 0.0, "exceptions 965": 1.0},
    }
    assert (row["waiting"], row["latency"]) == (0.1, 840.0)
    assert (row["when"], row["handed_off"], row["submitted"]) == (940.0, 2000.0, 2100.0)
    nothing = pd.Series(figures({"runs": []}, {}, 5.0, []))
    assert nothing.dropna().to_dict() == {"when": 5.0}


def test_datagrams_between_others_are_missing(tmp_path: Path) -> None:
    def runs(*, complete: bool) -> dict[str, list[dict[str, object]]]:
        return {"runs": [{"run": RUN, "complete": complete}]}

    assert not missing_datagrams(tmp_path, DL, runs(complete=False)), "without a manifest nobody knows"
    manifest = tmp_path / paths.manifest(RUN, DL)
    manifest.parent.mkdir(parents=True)
    write_json(manifest, {"datagrams": {"956": [[1, 5], [8, 8], [10, 20]], "957": [[3, 9]]}})
    assert +missing_datagrams(tmp_path, DL, runs(complete=False)) == {956: 3}
    assert not missing_datagrams(tmp_path, DL, runs(complete=True))


def test_nothing_is_usual_among_few() -> None:
    few = [{"rate 956": 400.0, "exceptions 956": 0.0}] * (FEWEST - 1)
    assert usual(frame(*few)).dropna().empty
    assert usual(frame(*few, {"rate 956": 500.0})).dropna().to_dict() == {"rate 956": 400.0}


@pytest.mark.parametrize(
    ("own", "names"),
    [
        ({"rate 956": 401.0, "waiting": 0.004, "exceptions 956": 3.0, "latency": 900.0, "gaps 956": 5.0}, []),
        ({"rate 956": 199.0}, ["rate 956"]),
        ({"rate 956": 801.0}, ["rate 956"]),
        ({"waiting": 0.009, "exceptions 956": 10.0, "latency": 599.0}, []),
        (
            {"gaps 956": 6.0, "exceptions 956": 11.0, "waiting": 0.011},
            ["gaps 956", "exceptions 956", "waiting"],
        ),
        ({"latency": 1801.0}, ["latency"]),
    ],
)
def test_far_is_a_multiple_of_the_median_and_no_trifle(own: dict[str, float], names: list[str]) -> None:
    row = {**dict.fromkeys(MEDIANS, nan), **own}
    far = [called(name) for name in names]
    assert [each["name"] for each in compared(row, MEDIANS) if each["unusual"]] == far
    assert len(compared(row, MEDIANS)) == len(own), "what is not known is not there"
    unknown = dict.fromkeys(MEDIANS, nan)
    assert not any(each["unusual"] for each in compared(row, unknown)), "without a median nothing is far"


def test_a_trend_has_its_limits_and_the_days_beyond_them() -> None:
    rates = [400.0, 410.0, nan, 390.0, 100.0, 900.0]
    every = frame(*({"when": day * DAY, "rate 956": rate} for day, rate in enumerate(rates)))
    (trend,) = trends(every, MEDIANS)
    assert trend["name"].startswith("EPU 956")
    assert (trend["last"], trend["median"]) == ("900.0 /s", "400.0 /s")
    assert "below 200.0 /s" in trend["limits"]
    assert "above 800.0 /s" in trend["limits"]
    low, high = trend["dashes"]
    assert [y > low or y < high for _, y in trend["line"]] == [False, False, False, True, True], (
        "below is further down"
    )
    assert trend["dots"] == trend["line"][-2:]
    assert [trend["limits"] for trend in trends(every, dict.fromkeys(MEDIANS, nan))] == [""]


@given(
    st.lists(st.tuples(st.floats(0, 1e7), st.just(nan) | st.floats(0, 1e5)), min_size=1),
    st.just(nan) | st.floats(0, 1e5),
)
@settings(max_examples=25)
def test_any_trend_stays_in_its_frame_from_day_to_day(
    entries: list[tuple[float, float]], median: float
) -> None:
    every = pd.DataFrame(entries, columns=["when", "latency"])
    found = list(trends(every, {"latency": median}))
    assert len(found) == bool(every["latency"].notna().any())
    for trend in found:
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in [*trend["line"], *trend["dots"]])
        assert all(0 <= y <= HEIGHT for y in trend["dashes"])
        days = every["when"][every["latency"].notna()] // DAY
        assert len(trend["line"]) == max(2, days.nunique())
