"""The legacy's spans, and the reasons for which two deliveries differ: in events, bytes and texts."""

import pytest

from halfpipe.ids import RunId
from halfpipe.legacy.difference_reasons import Decided, other_bytes, why, why_other_bytes, why_text
from halfpipe.legacy.legacy_replay import EIGHT_DIGITS, Piece, is_written, merged, spans_of_two
from halfpipe.merge.settle import KnownDatagrams
from tests.support.legacy_beside import RUN, table
from tests.support.model import Datagram
from tests.support.original_events import ACD_RECORD, CAL_RECORD, LPA_RECORD

STOP, ABORT, GO = b"stop", b"abort", b"continue"


def piece(first: int, last: int, closing: bytes = GO, *, hollow: bool = False) -> Piece:
    return Piece(first, last, False, closing, hollow)


@pytest.mark.parametrize(
    ("one", "other", "end", "number"),
    [
        ([piece(1, 9, ABORT)], [piece(2, 12, ABORT)], 9, 5),
        ([piece(1, 9, STOP)], [piece(2, 12, ABORT)], 9, 5),
        ([piece(1, 9, STOP)], [piece(2, 15)], 9, 6),
        ([piece(1, 9, STOP)], [piece(2, 12), piece(20, 29, STOP)], 9, 20),
        ([piece(1, 13, STOP)], [piece(2, 12), piece(20, 29, STOP)], 29, 16),
        ([piece(1, 12, STOP)], [piece(2, 12), piece(20, 29, STOP)], 12, 20),
        ([piece(80, 90, STOP)], [piece(95, 99, STOP)], 99, 16),
        ([piece(1, 0, STOP, hollow=True)], [piece(2, 8, STOP)], 8, 22),
    ],
)
def test_spans_of_the_legacy(one: list[Piece], other: list[Piece], end: int, number: int) -> None:
    one, other = ([side[0]._replace(opens=True), *side[1:]] for side in (one, other))
    spans, found = spans_of_two(one, other)
    assert (spans[-1].last, found) == (end, number)


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
        (ACD_RECORD, changed(ACD_RECORD, -17), ACD_RECORD, None),
        (WITHOUT, LPA_RECORD, LPA_RECORD, 26),
        (WITHOUT, WITHOUT, LPA_RECORD, None),
        (WITHOUT, LPA_RECORD, WITHOUT, None),
        (WITHOUT, LPA_RECORD, b"", None),
        (WITHOUT, changed(LPA_RECORD, 310), LPA_RECORD, None),
        (LPA_RECORD, WITHOUT, WITHOUT, None),
    ],
)
def test_what_the_legacy_writes(original: bytes, written: bytes, before: bytes, number: int | None) -> None:
    assert is_written(original, before, written) == (number is not None)
    if number is not None:
        assert why_other_bytes(original, written).defect == number
    elif original != written:
        assert other_bytes(original, written).text.startswith("other bytes: ")


def test_another_copy_of_an_event_is_one_of_several() -> None:
    assert why_other_bytes(LPA_RECORD, changed(LPA_RECORD, 310)).defect == 34


def line(apid: int, first: int, last: int, events: int, *, utc: float = 1.0) -> bytes:
    return Datagram(apid, 0, "start", "stop", events, first, last, utc).line


EVENTS = table([(1, 956), (2, 957), (5, 956), (7, 957), (9, 957)])


def test_of_several_lines_of_a_datagram_the_own_one_counts() -> None:
    part, whole = line(957, 2, 2, 1), line(957, 2, 9, 3, utc=2.0)
    for own, other, delivered in ((part, whole, [1, 2, 5]), (whole, part, [1, 2, 5, 7, 9])):
        parts = [KnownDatagrams.of([line(956, 1, 5, 2), own]), KnownDatagrams.of([other])]
        found = merged(RUN, parts, EVENTS, [])
        assert EVENTS["sequence"][found.delivered].tolist() == delivered
        missing = EVENTS[~found.delivered]
        codes, reasons = why(missing, Decided(found, EVENTS[:0], {}), here=True)
        assert {reasons[code].defect for code in codes} == ({34} if len(missing) else set())


@pytest.mark.parametrize(
    ("met", "text", "theirs", "number"),
    [
        (EIGHT_DIGITS, "event_gaps", [], 10),
        (EIGHT_DIGITS, "delivered_events", ["{} 5 0 LPA"], 1),
        (EIGHT_DIGITS, "retired_runs", ["{} COMPLETE"], 34),
        (EIGHT_DIGITS, "event_times", ["{} 1.000000 2.000000"], None),
        (EIGHT_DIGITS, "moot_keys", [], 25),
        (EIGHT_DIGITS - 1, "delivered_events", [], 35),
    ],
)
def test_lines_of_texts(met: int, text: str, theirs: list[str], number: int | None) -> None:
    run = RunId.from_met(met)
    found = merged(run, [KnownDatagrams.of([line(956, 1, 5, 2), line(957, 2, 9, 3)])], EVENTS, [])
    theirs = [each.format(run.l1) for each in theirs]
    if text in {"event_gaps", "delivered_events", "retired_runs"}:
        assert found.lines(run)[text] == theirs
    decided = Decided(found, EVENTS[:0], {})
    assert why_text(text, [f"{run.l1} 2000 0 LPA"], theirs, decided, differs=False).defect == number
