"""The list of a downlink's hand-offs."""

import json
from pathlib import Path

import pytest
from halfpipe.handoff.handoffs import HandOff
from hypothesis import given
from hypothesis import strategies as st

from halfpipe.errors import StateError
from halfpipe.handoff import handoffs
from halfpipe.handoff.receipt_form import Text
from halfpipe.ids import DownlinkId, RunId
from halfpipe.storage import paths

DL = DownlinkId("240601001")
TEXT: Text = {"name": f"delivered_events_{DL}.txt", "size": 21, "sha256": "0" * 64}
RUNS = st.lists(st.integers(0, 2**32 - 1).map(RunId.from_met), max_size=3).map(tuple)


def test_before_the_first(tmp_path: Path) -> None:
    assert handoffs.read(tmp_path, DL) == []
    assert handoffs.last_number(tmp_path, DL) == 0
    assert not (tmp_path / DL).exists()


@given(st.lists(RUNS, min_size=1, max_size=5))
def test_what_is_recorded_comes_back_in_order(
    tmp_path_factory: pytest.TempPathFactory, named: list[tuple[RunId, ...]]
) -> None:
    work = tmp_path_factory.mktemp("work")
    every = [HandOff(number, runs, (TEXT,)) for number, runs in enumerate(named, 1)]
    for number, new in enumerate(every, 1):
        handoffs.record(work, DL, new)
        assert handoffs.last_number(work, DL) == number
    assert handoffs.read(work, DL) == every
    assert handoffs.read(work, DownlinkId("240601002")) == []


def test_a_torn_last_line_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / paths.handoffs(DL)
    one, two = (HandOff(number, (RunId("2c2e5787"),), (TEXT,)) for number in (1, 2))
    handoffs.record(tmp_path, DL, one)
    whole = path.read_bytes()
    handoffs.record(tmp_path, DL, two)
    content = path.read_bytes()
    for cut in range(len(whole), len(content)):
        path.write_bytes(content[:cut])
        assert handoffs.read(tmp_path, DL) == [one]
        assert handoffs.last_number(tmp_path, DL) == 1
    handoffs.record(tmp_path, DL, two)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "1",
        "{}",
        json.dumps({"handoff": 1, "named": ["2C2E5787"], "texts": []}),
        json.dumps({"handoff": 1}),
    ],
)
def test_another_damaged_line_is_named(line: str, tmp_path: Path) -> None:
    path = tmp_path / paths.handoffs(DL)
    handoffs.record(tmp_path, DL, HandOff(1, (), ()))
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(StateError, match=rf"{path}, line 2: damaged"):
        handoffs.read(tmp_path, DL)
