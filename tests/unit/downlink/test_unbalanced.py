"""The books of a downlink: the step that does not balance is named."""

from typing import Any

import pytest

from halfpipe.downlink.unbalanced import findings
from halfpipe.ids import DownlinkId

DL, RUN = DownlinkId("240601001"), "2c2e5787"
CHUNK = {"chunk": "00001", "runs": [RUN], "files": [{"run": RUN, "kind": "idx", "events": 5}]}
NOTHING = dict.fromkeys(("elsewhere", "withheld", "late", "closed_events", "refused_events"), 0)
GOOD = {"run": RUN, "brought": 5, "known": 5, "delivered": 3, "waiting": 2, **NOTHING}


@pytest.mark.parametrize(
    ("run", "files", "step"),
    [
        ({}, (2, 1), None),
        ({"brought": 4}, (2, 1), None),  # an event was in two chunks
        ({"brought": 6}, (2, 1), "decoded, merged"),
        ({"known": 6}, (2, 1), "known, accounted for"),
        ({"known": 4}, (2, 1), "known, accounted for"),
        ({}, (2,), "delivered, in files"),
        ({}, (2, 1, 1), "delivered, in files"),
    ],
)
def test_an_unbalanced_step_is_named(run: dict[str, Any], files: tuple[int, ...], step: str | None) -> None:
    entry = {**GOOD, **run, "files": [{"events": events} for events in files]}
    found = list(findings(DL, [CHUNK], [entry], [1]))
    assert [cause.code for cause in found] == ["books"] * (step is not None)
    assert all(f"do not balance at {step}: " in cause.text for cause in found)
