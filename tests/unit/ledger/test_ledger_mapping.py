"""The MOOT mapping as a function over rows."""

import itertools
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfpipe.ids import RunId, RunKind
from halfpipe.ledger.mapping import UNKNOWN, Acquisition, Default, map_moot
from halfpipe.run.moot_keys import Moot

RUN, OTHER = RunId("2c2e5787"), RunId("2c2e8000")
GROUND = 7799117
START = datetime(2024, 6, 28, 2, 29, 27)
A, B, C = Moot(1, "nomSciOps"), Moot(2, "calibOps"), Moot(2**32 - 2, "conSciOps_noCal")


def before(seconds: float) -> datetime:
    return START - timedelta(seconds=seconds)


def requested(seconds: float, **other: object) -> Acquisition:
    values = {"ground_id": GROUND, "requested": before(seconds), "startedat": None, "type": "LPA", "moot": B}
    values |= other
    return Acquisition(**values)  # type: ignore[arg-type]


def mapped(defaults: list[Default], acquisitions: list[Acquisition], kind: RunKind = RunKind.LPA) -> Moot:
    return map_moot(RUN, kind, GROUND, START, defaults, acquisitions)


def test_nothing_is_known() -> None:
    assert mapped([], [], RunKind.LCI) == mapped([], []) == UNKNOWN == Moot(0xFFFFFFFF, "UNKNOWN")


def test_an_lpa_run_has_the_latest_default_before_its_first_datagram() -> None:
    defaults = [Default(before(9), A), Default(before(1), B), Default(before(0), C), Default(before(-5), C)]
    for order in itertools.permutations(defaults):
        assert mapped(list(order), []) == B
    assert mapped(defaults, [], RunKind.LCI) == UNKNOWN, "defaults are for LPA runs"


def test_the_latest_request_under_the_ground_id_wins() -> None:
    defaults = [Default(before(1), A)]
    assert mapped(defaults, [requested(2, moot=B), requested(1, moot=C)]) == C
    assert mapped([], [requested(2)], RunKind.LCI) == B
    for wrong in (
        requested(0),
        requested(-1),
        requested(1, ground_id=GROUND + 1),
        requested(1, startedat=OTHER.met),
        requested(1, startedat=-1),
        requested(1, moot=None),
    ):
        assert mapped(defaults, [wrong]) == A, wrong
    # Written into the row after it was mapped: mapping it again must give the same.
    assert mapped(defaults, [requested(1, startedat=RUN.met)]) == B


def test_a_request_of_another_type_does_not_count_and_lpa_or_lci_is_the_same() -> None:
    for kind in RunKind:
        assert mapped([], [requested(2, type="LPA"), requested(3, type="LCI", moot=C)], kind) == B
        assert mapped([], [requested(3, type="LPA"), requested(2, type="LCI", moot=C)], kind) == C
        for other in (None, "", "lpa", "MAGIC7"):
            assert mapped([], [requested(1, type=other), requested(2, moot=C)], kind) == C, other


@given(st.permutations([requested(1, moot=A), requested(1, moot=B), requested(1, moot=None), requested(3)]))
def test_the_order_of_rows_does_not_matter(rows: list[Acquisition]) -> None:
    assert mapped([], rows) == B


@pytest.mark.parametrize("ground_id", [0, 2**32 - 1])
def test_ground_ids_of_32_bits(ground_id: int) -> None:
    row = requested(1, ground_id=ground_id)
    assert map_moot(RUN, RunKind.LPA, ground_id, START, [], [row]) == B
