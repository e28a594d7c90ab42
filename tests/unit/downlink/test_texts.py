"""The texts for Level-1, line by line (ground-chain §6): a line that it cannot read fails the delivery."""

import re
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfpipe.downlink.texts import texts

RUN: dict[str, Any] = {
    "l1_run": "r0741234567",
    "kind": "LPA",
    "epus": [956, 957],
    "complete": True,
    "given_up": False,
    "delivered": 50,
    "orphans": 3,
    "held": [],
    "gaps": [[1049, 1060], [1100, 1131]],
    "files": [{}],
    "times": [1719541768.0662724, 1719541785.7613216],
    "moot": {"key": 2959, "alias": "nomSciOps"},
}
COLUMNS = {
    "delivered_events": r"r\d{10} \d+ \d+ (LPA|LCI)",
    "retired_runs": r"r\d{10} (COMPLETE|INCOMPLETE)",
    "event_gaps": r"r\d{10} \d+ \d+",
    "event_times": r"r\d{10} \d+\.\d{6} \d+\.\d{6}",
    "moot_keys": r"r\d{10} \d+ \S+",
}


def test_one_complete_run() -> None:
    assert texts([RUN]) == {
        "delivered_events": "r0741234567 50 3 LPA\n",
        "retired_runs": "r0741234567 COMPLETE\n",
        "event_gaps": "r0741234567 1049 1060\nr0741234567 1100 1131\n",
        "event_times": "r0741234567 1719541768.066272 1719541785.761322\n",
        "moot_keys": "r0741234567 2959 nomSciOps\n",
    }


@pytest.mark.parametrize(
    ("change", "retired"),
    [
        ({}, "COMPLETE"),
        ({"given_up": True}, "COMPLETE"),
        ({"complete": False}, None),
        ({"complete": False, "given_up": True}, "INCOMPLETE"),
        ({"files": []}, None),  # Level-1 fails on a retired run that brings no files
        ({"files": [], "complete": False, "given_up": True}, None),
        ({"held": ["why"]}, None),
        ({"held": ["why"], "complete": False, "given_up": True}, None),
    ],
)
def test_a_run_is_retired_only_with_files_in_the_same_hand_off(
    change: dict[str, Any], retired: str | None
) -> None:
    line = f"r0741234567 {retired}\n" if retired else ""
    assert texts([RUN | change])["retired_runs"] == line


def test_a_run_without_known_datagrams_has_no_line() -> None:
    assert set(texts([RUN | {"epus": []}]).values()) == {""}
    assert set(texts([]).values()) == {""}


def test_a_run_without_events_has_no_times() -> None:
    found = texts([RUN | {"files": [], "times": None, "delivered": 0}])
    assert found["event_times"] == ""
    assert found["delivered_events"] == "r0741234567 0 3 LPA\n"


numbers = st.integers(0, 2**64 - 1)
runs = st.fixed_dictionaries(
    {
        "l1_run": st.integers(0, 2**32 - 1).map(lambda n: f"r{n:010d}"),
        "kind": st.sampled_from(["LPA", "LCI"]),
        "epus": st.lists(st.integers(955, 958), max_size=2),
        "complete": st.booleans(),
        "given_up": st.booleans(),
        "delivered": numbers,
        "orphans": numbers,
        "held": st.lists(st.just("why"), max_size=1),
        "gaps": st.lists(st.tuples(numbers, numbers), max_size=3),
        "files": st.lists(st.just({}), max_size=1),
        "times": st.none() | st.tuples(st.floats(0, 1e10), st.floats(0, 1e10)),
        "moot": st.fixed_dictionaries(
            {"key": st.integers(0, 2**32 - 1), "alias": st.sampled_from(["a", "b_c"])}
        ),
    }
)


@given(st.lists(runs, max_size=4))
def test_every_line_has_its_columns_and_there_are_no_blank_ones(manifests: list[dict[str, Any]]) -> None:
    found = texts(manifests)
    assert found.keys() == COLUMNS.keys()
    for name, content in found.items():
        assert re.fullmatch(rf"({COLUMNS[name]}\n)*", content, re.ASCII), name
    named = {line.split()[0] for line in found["delivered_events"].splitlines()}
    assert named == {m["l1_run"] for m in manifests if m["epus"]}


def test_exceptions_of_decoders_stand_in_a_text_of_their_own() -> None:
    assert "chunk_exceptions" not in texts([])
    found = texts([], Counter({("2c2e5787", "PktRetriever"): 3, ("2c2e5787", "DFI"): 1}))
    assert found["chunk_exceptions"] == "r0741234567 DFI 1\nr0741234567 PktRetriever 3\n"
