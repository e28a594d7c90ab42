"""The legacy's spans and files, and the reasons for which two deliveries differ: in events, bytes and texts."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from halfpipe.formats import evt
from halfpipe.ids import DownlinkId, RunId
from halfpipe.legacy.compared_run import Candidate, Inputs
from halfpipe.legacy.comparison_reasons import (
    MOOT,
    PUT_IN,
    TIMES,
    UNEXPLAINED,
    Reason,
    defect,
    handlers_of,
    texts_of_run,
    why,
    why_other_bytes,
)
from halfpipe.legacy.comparison_sides import Where
from halfpipe.legacy.legacy_replay import EIGHT_DIGITS, Piece, spans_of_two
from halfpipe.merge.settle import KnownDatagrams
from halfpipe.settings import Merge
from tests.support.legacy_beside import RUN, known_of, table
from tests.support.legacy_merge import Piece as ModelPiece
from tests.support.legacy_merge import lpa_spans
from tests.support.model import Datagram
from tests.support.original_events import ACD_RECORD, CAL_RECORD, LPA_RECORD

STOP, ABORT, GO = b"stop", b"abort", b"continue"


def piece(first: int, last: int, closing: bytes = GO, *, opens: bool = False, hollow: bool = False) -> Piece:
    return Piece(first, last, opens, closing, hollow)


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
    models = [
        [ModelPiece(p.first, p.last, b"start" if p.opens else GO, p.closing) for p in side]
        for side in (one, other)
    ]
    assert list(spans) == lpa_spans(*models)
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
TAIL = bytes(2)
LATC = LPA_RECORD[-16:-12]
OTHER = b"\x11\x12\x00\x00"


def with_latc(record: bytes, value: bytes) -> bytes:
    return record[:-16] + value + record[-12:]


@pytest.mark.parametrize(
    ("ours", "theirs", "handlers", "there", "expected"),
    [
        (LPA_RECORD, with_latc(LPA_RECORD, OTHER), b"", OTHER, defect(29)),
        (LPA_RECORD, with_latc(LPA_RECORD, OTHER), b"", LATC, UNEXPLAINED),
        (LPA_RECORD, changed(LPA_RECORD, -17), b"", LATC, UNEXPLAINED),
        (CAL_RECORD, CAL_RECORD[:-18] + b"ab" + CAL_RECORD[-16:], b"", b"ab", defect(30)),
        (CAL_RECORD, CAL_RECORD[:-18] + b"ac" + CAL_RECORD[-16:], b"", b"ab", UNEXPLAINED),
        (CAL_RECORD, changed(CAL_RECORD, -19), b"", CAL_RECORD[-18:-16], UNEXPLAINED),
        (ACD_RECORD, changed(ACD_RECORD, -17), b"", TAIL, UNEXPLAINED),
        (WITHOUT, LPA_RECORD, handlers_of(LPA_RECORD), LATC, defect(26)),
        (WITHOUT, LPA_RECORD, b"", LATC, UNEXPLAINED),
        (LPA_RECORD, WITHOUT, handlers_of(LPA_RECORD), LATC, UNEXPLAINED),
        (LPA_RECORD, LPA_RECORD[:-1], b"", LATC, UNEXPLAINED),
        (LPA_RECORD, b"", b"", LATC, UNEXPLAINED),
    ],
)
def test_other_bytes(ours: bytes, theirs: bytes, handlers: bytes, there: bytes, expected: Reason) -> None:
    most = dict.fromkeys(PUT_IN, there)
    assert why_other_bytes(ours, theirs, ours, handlers, most, lambda: [ours]) == expected


def test_another_copy_and_one_that_is_none() -> None:
    other = changed(LPA_RECORD, 310)
    assert why_other_bytes(LPA_RECORD, other, other, b"", {}, lambda: [LPA_RECORD, other]) == defect(34)
    spoiled_here = why_other_bytes(LPA_RECORD, other, other, b"", {}, lambda: [other])
    assert spoiled_here.kind == "unexplained"
    assert int.from_bytes(LPA_RECORD[300:304], "little") == evt.EBF_MARKER


LINE = "r1 1.000000 2.000000"
EDGES, LATER = ((5, 956), (9, 957)), ((5, 956), (12, 957))


@pytest.mark.parametrize(
    ("there", "theirs", "kind"),
    [
        (EDGES, ["r1 1.000001 2.000000"], "rounded"),
        (EDGES, ["r1 1.000010 2.000000"], "unexplained"),
        (EDGES, ["r1 1.0 2.0"], "unexplained"),
        (EDGES, ["r1 one two"], "unexplained"),
        (EDGES, [], "unexplained"),
        ((), [], "follows"),
        (LATER, ["r1 1.000000 3.000000"], "follows"),
        (LATER, ["r1 1.000000 1.500000"], "unexplained"),
    ],
)
def test_why_times_differ(there: tuple[tuple[int, int], ...], theirs: list[str], kind: str) -> None:
    sides = [
        SimpleNamespace(rows=[{"sequence": n, "apid": apid} for n, apid in edges]) for edges in (EDGES, there)
    ]
    pair: Any = SimpleNamespace(ours=sides[0], theirs=sides[1])
    (found,) = texts_of_run({TIMES: [LINE]}, {TIMES: theirs}, "r1", pair)
    assert found.kind == kind


@pytest.mark.parametrize(
    ("met", "text", "theirs", "number"),
    [
        (EIGHT_DIGITS, "event_gaps", " 5 9", 10),
        (EIGHT_DIGITS - 1, MOOT, "", 35),
        (EIGHT_DIGITS, MOOT, "", None),
    ],
)
def test_a_gap_that_was_told_before_and_a_moot_key_that_is_missing(
    met: int, text: str, theirs: str, number: int | None
) -> None:
    run = RunId.from_met(met)
    there = [run.l1 + theirs] * bool(theirs)
    given = SimpleNamespace(
        lines={text: there}, merged=SimpleNamespace(refused=False), left=False, reordered=False
    )
    pair: Any = SimpleNamespace(run=run, nearest=[given], differed=False, legacy=True)
    (found,) = texts_of_run({text: [f"{run.l1} 2000 nomSciOps"]}, {text: there}, run.l1, pair)
    assert found.defect == number


FIRST, SECOND = DownlinkId("240601001"), DownlinkId("240601002")


def line(apid: int, first: int, last: int, events: int, *, closing: str = "stop", utc: float = 1.0) -> bytes:
    return Datagram(apid, 0, "start", closing, events, first, last, utc).line


def given(events: list[tuple[int, int]], first: list[bytes], second: list[bytes], limits: Merge) -> Candidate:
    """Return what the legacy makes of the second of two downlinks, which brings all events."""
    tables = {FIRST: table([]), SECOND: table([(*event, 0) for event in events])}
    lines = {FIRST: KnownDatagrams.of(first), SECOND: KnownDatagrams.of(second)}
    then = KnownDatagrams.together(lines.values()).ranges()
    return Inputs(RUN, SECOND, tables, lines, then, {}, limits).candidate(frozenset({FIRST}), legacy=True)


def numbers(rows: np.ndarray, candidate: Candidate) -> list[int | None]:
    codes, reasons = why(rows, Where.HERE, candidate, known_of(RUN))
    return [reasons[code].defect for code in codes]


EVENTS = [(1, 956), (2, 957), (5, 956), (7, 957), (9, 957)]


def test_the_smaller_of_two_lines_of_a_datagram() -> None:
    part, whole = line(957, 2, 2, 1), line(957, 2, 9, 3, utc=2.0)
    found = given(EVENTS, [whole], [line(956, 1, 5, 2), part], Merge(max_events=0))
    assert found.rows["sequence"].tolist() == [1, 2, 5]
    assert numbers(table([(7, 957, 0), (9, 957, 0)]), found) == [34, 34]
    found = given(EVENTS, [part], [line(956, 1, 5, 2), whole], Merge(max_events=0))
    assert found.rows["sequence"].tolist() == [1, 2, 5, 7, 9], "its own line goes before those of others"


def test_a_file_of_one_event_is_overwritten() -> None:
    events = [(1, 956), (2, 957), (5, 956), (5, 957), (6, 957), (7, 957)]
    lines = [line(956, 1, 5, 2), line(957, 2, 7, 4)]
    found = given(events, [], lines, Merge(max_events=2, chunk_scale=0.5, chunk_floor=0.1))
    assert [file.end - file.begin for file in found.merged.files] == [2, 1, 3]  # type: ignore[union-attr]
    assert found.overwritten[["sequence", "apid"]].tolist() == [(5, 956)]
    assert numbers(table([(5, 956, 0)]), found) == [40]
