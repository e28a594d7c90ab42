"""The texts for Level-1, line by line (ground-chain §6): a line that it cannot read fails the delivery."""

from collections import Counter
from typing import Any

import pytest

from halfpipe.downlink.receipt import texts

RUN: dict[str, Any] = {
    "l1_run": "r0741234567", "kind": "LPA", "epus": [956, 957], "complete": True, "abandoned": False,
    "delivered": 50, "waiting": 3, "refused": [], "gaps": [[1049, 1060], [1100, 1131]], "files": [{}],
    "times": [1719541768.0662724, 1719541785.7613216], "moot": {"key": 2959, "alias": "nomSciOps"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "retired"),
    [
        ({}, "COMPLETE"),
        ({"abandoned": True}, "COMPLETE"),
        ({"complete": False}, None),
        ({"complete": False, "abandoned": True}, "INCOMPLETE"),
        ({"files": []}, None),  # Level-1 fails on a retired run that brings no files
        ({"files": [], "complete": False, "abandoned": True}, None),
        ({"refused": ["why"]}, None),
        ({"refused": ["why"], "complete": False, "abandoned": True}, None),
    ],
)
def test_a_run_is_retired_only_together_with_its_files(change: dict[str, Any], retired: str | None) -> None:
    line = f"r0741234567 {retired}\n" if retired else ""
    assert texts([RUN | change])["retired_runs"] == line


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        ({"epus": []}, [0, 0, 0, 0, 0]),
        ({"files": [], "times": None, "delivered": 0}, [1, 0, 2, 0, 1]),
        ({"gaps": [], "times": [0.0, 1e10]}, [1, 1, 0, 1, 1]),
    ],
)
def test_how_many_lines_there_are_and_none_is_blank(change: dict[str, Any], lines: list[int]) -> None:
    found = texts([RUN | change])
    names = ("delivered_events", "retired_runs", "event_gaps", "event_times", "moot_keys")
    assert [found[name].count("\n") for name in names] == lines
    assert all(line for text in found.values() for line in text.splitlines())


def test_exceptions_of_decoders_stand_in_a_text_of_their_own() -> None:
    assert "chunk_exceptions" not in texts([])
    found = texts([], Counter({("2c2e5787", "PktRetriever"): 3, ("2c2e5787", "DFI"): 1}))
    assert found["chunk_exceptions"] == "r0741234567 DFI 1\nr0741234567 PktRetriever 3\n"
