"""Reasons: where each defect of the legacy can show, and where nothing is explained."""

import numpy as np
import pytest

from halfpipe.formats import evt
from halfpipe.formats.idx import DATAGRAM
from halfpipe.ids import RunId
from halfpipe.merge.intervals import EVERYTHING, Interval
from halfpipe.merge.settle import KnownDatagrams
from halfpipe.tools.compared_events import ROW, Where, difference, neighbours, present, series
from halfpipe.tools.comparison_reasons import (
    UNEXPLAINED,
    Facts,
    Piece,
    Reason,
    defect,
    spans_of_two,
    why,
    why_other_bytes,
)
from tests.support.legacy_merge import Piece as ModelPiece
from tests.support.legacy_merge import lpa_spans
from tests.support.original_events import ACD_RECORD, CAL_RECORD, LPA_RECORD

STOP, ABORT, GO = b"stop", b"abort", b"continue"
EVENT = np.dtype([("sequence", "u8"), ("apid", "u2"), ("datagram", "u4")])


def piece(first: int, last: int, closing: bytes = GO, *, opens: bool = False, hollow: bool = False) -> Piece:
    return Piece(first, last, opens, closing, hollow)


@pytest.mark.parametrize(
    ("one", "other", "end", "number"),
    [
        ([piece(1, 9, ABORT)], [piece(2, 12, ABORT)], 9, 5),
        ([piece(1, 9, STOP)], [piece(2, 12, ABORT)], 9, 5),
        ([piece(1, 9, STOP)], [piece(2, 15)], 9, 6),
        ([piece(1, 9, STOP)], [piece(2, 12), piece(20, 29, STOP)], 9, 20),
        ([piece(1, 13, STOP)], [piece(2, 12), piece(20, 29, STOP)], 29, 5),
        ([piece(1, 12, STOP)], [piece(2, 12), piece(20, 29, STOP)], 12, 20),
        ([piece(80, 90, STOP)], [piece(95, 99, STOP)], 99, 5),
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


def datagrams(*rows: tuple[int, int, int, int, bytes, bytes]) -> KnownDatagrams:
    """Return datagrams: APID, number, first and last sequence, how they open and close."""
    table = np.zeros(len(rows), DATAGRAM)
    for row, (apid, number, first, last, opening, closing) in zip(table, rows, strict=True):
        row["apid"], row["datagram"], row["evtseq0"], row["evtseq1"] = apid, number, first, last
        row["oaction"], row["caction"], row["nevts"] = opening, closing, 2
    return KnownDatagrams(tuple(b"%d" % n for n in range(len(rows))), table)


def events(*pairs: tuple[int, int], datagram: int = 0) -> np.ndarray:
    table = np.zeros(len(pairs), EVENT)
    table["sequence"], table["apid"] = zip(*pairs, strict=True)
    table["datagram"] = datagram
    return table


NOTHING = np.empty(0, EVENT)
TWO_EPUS = datagrams((956, 0, 1, 9, b"start", STOP), (957, 0, 2, 12, b"start", GO))


def facts(**more: object) -> Facts:
    plain: dict[str, object] = {
        "run": RunId("2c2e5787"),
        "datagrams": TWO_EPUS,
        "known": events((1, 956), (2, 957), (9, 956), (12, 957)),
        "settled": (EVERYTHING,),
        "spans": (),
        "recorded": (),
        "here_elsewhere": NOTHING,
        "there_elsewhere": NOTHING,
        "bridged": (),
        "damaged": (),
        "there_known": None,
        "apids_there": frozenset({956, 957}),
        "held": False,
        "given_up": False,
        "legacy": True,
    }
    return Facts(**{**plain, **more})  # type: ignore[arg-type]


def reasons_for(rows: np.ndarray, where: Where, known: Facts) -> list[tuple[str, int | None]]:
    codes, reasons = why(rows, where, known)
    return [reasons[code][:2] for code in codes]


UNKNOWN = UNEXPLAINED[:2]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, [UNKNOWN, ("defect", 6)]),
        ({"legacy": False}, [UNKNOWN, UNKNOWN]),
        ({"there_elsewhere": events((2, 957))}, [("elsewhere", None), ("defect", 6)]),
        ({"there_known": {956: ((0, 0),)}}, [("input", None), ("input", None)]),
        ({"there_known": {956: ((0, 0),), 957: ((0, 0),)}}, [UNKNOWN, ("defect", 6)]),
        ({"bridged": (Interval(2, 3),)}, [("defect", 4), ("defect", 6)]),
        (
            {"datagrams": datagrams((956, 0, 3, 14, b"start", STOP), (957, 0, 4, 13, GO, STOP))},
            [("defect", 16), UNKNOWN],
        ),
        ({"datagrams": datagrams((965, 0, 3, 9, b"start", STOP))}, [("defect", 22), ("defect", 22)]),
        ({"damaged": (Interval(0, 3),)}, [("defect", 31), ("defect", 6)]),
        ({"apids_there": frozenset(), "run": RunId("0fffffff")}, [("defect", 35), ("defect", 35)]),
        ({"apids_there": frozenset()}, [UNKNOWN, ("defect", 6)]),
        (
            {"apids_there": frozenset(), "datagrams": datagrams((957, 0, 2, 12, b"start", STOP))},
            [("defect", 3), ("defect", 3)],
        ),
        (
            {"datagrams": datagrams((956, 0, 5, 9, b"start", STOP), (965, 0, 2, 12, b"start", STOP))},
            [("defect", 7), ("defect", 7)],
        ),
        (
            {
                "datagrams": datagrams(
                    (965, 0, 3, 3, b"start", GO), (965, 2, 0, 13, GO, STOP), (967, 0, 0, 13, b"start", STOP)
                )
            },
            [("defect", 7), UNKNOWN],
        ),
        (
            {
                "bridged": (Interval(1, 3),),
                "datagrams": datagrams((957, 0, 5, 9, b"start", STOP), (965, 0, 2, 12, b"start", STOP)),
            },
            [("defect", 9), ("defect", 8)],
        ),
        (
            {"given_up": True, "datagrams": datagrams((956, 0, 4, 9, GO, GO), (957, 0, 2, 12, b"start", GO))},
            [("defect", 2), ("defect", 2)],
        ),
    ],
)
def test_only_here(more: dict[str, object], expected: list[tuple[str, int | None]]) -> None:
    assert reasons_for(events((2, 957), (12, 957)), Where.HERE, facts(**more)) == expected


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, [("defect", 28), ("input", None)]),
        ({"spans": (Interval(1, 9),)}, [UNKNOWN, ("input", None)]),
        ({"settled": ()}, [("orphan", None), ("input", None)]),
        ({"recorded": (Interval(1, 5),)}, [("late", None), ("input", None)]),
        ({"held": True}, [("held", None), ("input", None)]),
        ({"here_elsewhere": events((3, 957))}, [("defect", 28), ("elsewhere", None)]),
        (
            {"settled": (), "datagrams": datagrams((956, 0, 5, 9, b"start", GO), (966, 0, 2, 12, GO, GO))},
            [("defect", 7), ("input", None)],
        ),
    ],
)
def test_only_there(more: dict[str, object], expected: list[tuple[str, int | None]]) -> None:
    assert reasons_for(events((2, 957), (3, 957)), Where.THERE, facts(**more)) == expected


def changed(record: bytes, *places: int) -> bytes:
    content = bytearray(record)
    for place in places:
        content[place] ^= 0xFF
    return bytes(content)


def without_handlers(record: bytes) -> bytes:
    at = 300 + int.from_bytes(record[296:300], "little") + 36
    return record[:at] + bytes(4) + record[-20:]


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        (LPA_RECORD, changed(LPA_RECORD, -16, -13), defect(29)),
        (LPA_RECORD, changed(LPA_RECORD, -16, -12), UNEXPLAINED),
        (LPA_RECORD, changed(LPA_RECORD, -17), UNEXPLAINED),
        (ACD_RECORD, changed(ACD_RECORD, -16), UNEXPLAINED),
        (CAL_RECORD, changed(CAL_RECORD, -17, -18), defect(30)),
        (CAL_RECORD, changed(CAL_RECORD, -19), UNEXPLAINED),
        (CAL_RECORD, changed(CAL_RECORD, -16), UNEXPLAINED),
        (ACD_RECORD, changed(ACD_RECORD, -17), UNEXPLAINED),
        (without_handlers(LPA_RECORD), LPA_RECORD, defect(26)),
        (LPA_RECORD, without_handlers(LPA_RECORD), UNEXPLAINED),
        (without_handlers(LPA_RECORD), changed(LPA_RECORD, 310), UNEXPLAINED),
        (LPA_RECORD, LPA_RECORD[:-1], UNEXPLAINED),
        (LPA_RECORD, b"", UNEXPLAINED),
    ],
)
def test_other_bytes(ours: bytes, theirs: bytes, expected: Reason) -> None:
    assert why_other_bytes(ours, theirs, tuple) == expected


def test_another_copy() -> None:
    other = changed(LPA_RECORD, 310)
    assert why_other_bytes(LPA_RECORD, other, lambda: [LPA_RECORD, other]) == defect(34)
    assert int.from_bytes(LPA_RECORD[300:304], "little") == evt.EBF_MARKER


def table(*events_: tuple[int, int, int]) -> np.ndarray:
    found = np.zeros(len(events_), ROW)
    for row, (sequence, apid, digest) in zip(found, events_, strict=True):
        row["sequence"], row["apid"], row["digest"] = sequence, apid, digest
    return found


def test_a_difference_against_plain_sets() -> None:
    random = np.random.default_rng(1)
    for _ in range(200):
        sides = []
        for _ in range(2):
            keys = sorted({(int(s), 956 + int(a)) for s, a in random.integers(0, (12, 2), (10, 2))})
            sides.append([(s + 2**63, a, int(random.integers(2))) for s, a in keys])
        ours, theirs = sides
        found = difference(table(*ours), table(*theirs))
        one, other = ({event[:2]: event[2] for event in side} for side in sides)
        assert [ours[n][:2] for n in found.here] == sorted(one.keys() - other.keys())
        assert [theirs[n][:2] for n in found.there] == sorted(other.keys() - one.keys())
        differ = sorted(key for key in one.keys() & other.keys() if one[key] != other[key])
        assert [ours[n][:2] for n in found.ours] == [theirs[n][:2] for n in found.theirs] == differ
        assert found.same == len(one.keys() & other.keys()) - len(differ)
        among = present(table(*ours), table(*theirs)).tolist()
        assert among == [event[:2] in other for event in ours]


def test_spans_end_where_an_event_was_skipped() -> None:
    delivered, skipped = np.array([9, 1, 2, 20, 30], np.uint64), np.array([15, 40], np.uint64)
    assert series(delivered, skipped) == ((1, 9), (20, 30))
    assert series(delivered, skipped[:0]) == ((1, 30),)
    assert series(delivered[:0], skipped) == ()


def test_groups() -> None:
    numbers, codes = np.array([1, 2, 4, 5, 9]), np.array([0, 0, 0, 1, 1])

    def groups(apart: bool) -> list[tuple[int, int]]:
        found = neighbours(numbers, codes, np.full(5, apart))
        return [(part.start, part.stop) for part in found]

    assert groups(apart=False) == [(0, 3), (3, 5)]
    assert groups(apart=True) == [(0, 2), (2, 3), (3, 4), (4, 5)]
    assert neighbours(numbers[:0], codes[:0], np.empty(0, bool)) == []
