"""The legacy's rule: its spans, its records, and its choice among several lines of a datagram."""

from pathlib import Path

import numpy as np
import pytest

from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.settle import KnownDatagrams
from halfpipe.settings import Merge
from halfpipe_switchover.legacy_replay import (
    EIGHT_DIGITS,
    Merged,
    Piece,
    cut,
    defect_of_copy,
    is_written,
    merged,
    spans_of_two,
)
from halfpipe_switchover.replayed import Inputs, expected_of
from halfpipe_switchover.sides import MOOT_KEYS, Side
from tests.support.model import Datagram
from tests.support.original_events import ACD_RECORD, CAL_RECORD, LPA_RECORD
from tests.switchover.support.legacy_beside import RUN, table

STOP, ABORT, GO = b"stop", b"abort", b"continue"


def piece(first: int, last: int, closing: bytes = GO) -> Piece:
    return Piece(first, last, opens=False, closing=closing)


def test_files_shrink_down_to_the_floor_and_then_begin_again() -> None:
    limits = Merge(max_events=100, chunk_scale=0.5, chunk_floor=0.25)
    assert list(cut(300, limits)) == [(0, 100), (100, 150), (150, 175), (175, 275), (275, 300)]


@pytest.mark.parametrize(
    ("one", "other", "end"),
    [
        ([piece(1, 9, ABORT)], [piece(2, 12, ABORT)], 9),
        ([piece(1, 9, STOP)], [piece(2, 12, ABORT)], 9),
        ([piece(1, 9, STOP)], [piece(2, 12), piece(20, 29, STOP)], 9),
        ([piece(1, 13, STOP)], [piece(2, 12), piece(20, 29, STOP)], 29),
        ([piece(1, 12, STOP)], [piece(2, 12), piece(20, 29, STOP)], 12),
        ([piece(80, 90, STOP)], [piece(95, 99, STOP)], 99),
        ([piece(1, 0, STOP)], [piece(2, 8, STOP)], 8),
    ],
)
def test_last_span_of_two_epus(one: list[Piece], other: list[Piece], end: int) -> None:
    first, second = ([side[0]._replace(opens=True), *side[1:]] for side in (one, other))
    assert spans_of_two(first, second)[-1].last == end


def changed(record: bytes, *places: int) -> bytes:
    content = bytearray(record)
    for place in places:
        content[place] ^= 0xFF
    return bytes(content)


def without_handlers(record: bytes) -> bytes:
    at = 300 + int.from_bytes(record[296:300], "little") + 36
    return record[:at] + bytes(4) + record[-20:]


WITHOUT = without_handlers(LPA_RECORD)


@pytest.mark.parametrize(
    ("original", "written", "before", "number"),
    [
        (LPA_RECORD, changed(LPA_RECORD, -10), LPA_RECORD, None),
        (CAL_RECORD, changed(CAL_RECORD, -18, -17), b"", 30),
        (CAL_RECORD, changed(CAL_RECORD, -19, -18), b"", None),
        (ACD_RECORD, changed(ACD_RECORD, -17), ACD_RECORD, None), (WITHOUT, LPA_RECORD, LPA_RECORD, 26),
        (WITHOUT, WITHOUT, LPA_RECORD, None), (WITHOUT, LPA_RECORD, WITHOUT, None),
        (WITHOUT, LPA_RECORD, b"", None), (WITHOUT, changed(LPA_RECORD, 310), LPA_RECORD, None),
        (LPA_RECORD, WITHOUT, WITHOUT, None),
    ],
)  # fmt: skip
def test_bytes_of_the_legacy(original: bytes, written: bytes, before: bytes, number: int | None) -> None:
    assert is_written(original, before, written) == (number is not None)
    assert number in {None, defect_of_copy(original)}


def line(apid: int, first: int, last: int, events: int, *, utc: float = 1.0) -> bytes:
    return Datagram(apid, 0, "start", "stop", events, first, last, utc).line


EVENTS = table([(1, 956), (2, 957), (5, 956), (7, 957), (9, 957)])


def test_line_of_the_own_downlink_wins() -> None:
    part, whole = line(957, 2, 2, 1), line(957, 2, 9, 3, utc=2.0)
    for own, other, delivered in ((part, whole, [1, 2, 5]), (whole, part, [1, 2, 5, 7, 9])):
        parts = [KnownDatagrams.of([line(956, 1, 5, 2), own]), KnownDatagrams.of([other])]
        found = merged(RUN, parts, EVENTS, [])
        assert EVENTS.sequence[found.delivered].tolist() == delivered


@pytest.mark.parametrize(
    ("met", "delivered", "retired"),
    [(EIGHT_DIGITS, ["{} 5 0 LPA"], ["{} COMPLETE"]), (EIGHT_DIGITS - 1, [], [])],
)
def test_an_early_run_is_refused(met: int, delivered: list[str], retired: list[str]) -> None:
    run = RunId.from_met(met)
    found = merged(run, [KnownDatagrams.of([line(956, 1, 5, 2), line(957, 2, 9, 3)])], EVENTS, [])
    lines = [[text.format(run.l1) for text in texts] for texts in (delivered, retired)]
    assert found.lines(run) == {"delivered_events": lines[0], "event_gaps": [], "retired_runs": lines[1]}


def test_an_index_begins_behind_each_event_that_is_skipped(tmp_path: Path) -> None:
    """There the legacy has no handlers of an event before."""
    delivered, downlink = np.array([1, 1, 0, 1, 1], bool), DownlinkId("240601001")
    one, there = (
        Merged(EVENTS, delivered, ~delivered, "LPA", False, False),
        Side({}, {MOOT_KEYS: []}, None, True),
    )
    found = expected_of([(downlink, one)], downlink, Inputs(tmp_path, RUN, None), there, Merge())
    assert found.begins.tolist() == [True, False, True, False]
