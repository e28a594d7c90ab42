"""Identifiers: round trips, and everything that is not one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfpipe.errors import HalfPipeError, IdError
from halfpipe.ids import Apid, ChunkId, DownlinkId, Downlinks, RunId, RunKind

CLASSES = [Apid, ChunkId, DownlinkId, RunId]


@given(st.from_regex(r"\A[0-9]{9}\Z"))
def test_a_downlink_is_its_text(text: str) -> None:
    downlink = DownlinkId(text)
    assert downlink == text
    assert f"{downlink}" == text
    assert f"{downlink.number:09d}" == text
    assert DownlinkId.matches(text)


def test_a_leading_zero_belongs_to_a_downlink() -> None:
    assert DownlinkId("077000123").number == 77000123
    with pytest.raises(IdError, match="'77000123' is not a downlink id: nine digits"):
        DownlinkId("77000123")


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("077000123", "077000123", "077000123"),
        ("230401001..230401018", "230401001", "230401018"),
        ("230401001..230401001", "230401001", "230401001"),
        ("2023-04", "230400000", "230499999"),
        ("2024-02-29", "240229000", "240229999"),
        ("2008-01..2099-12-31", "080100000", "991231999"),
    ],
)
def test_downlinks_from_one_to_another(text: str, first: str, last: str) -> None:
    several = Downlinks(text)
    assert (several, several.first, several.last) == (text, first, last)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("24060100", "is not a downlink id: nine digits, .* or several: "),
        ("2023-4", "is not a downlink id"),
        ("2023", "is not a downlink id"),
        ("230401001...230401002", "is not a downlink id"),
        ("..230401002", "is not a downlink id"),
        ("2023-13", "month must be in 1..12"),
        ("2023-02-29", "day is out of range"),
        ("2007-12", "08 to 99 for 2008 to 2099"),
        ("2100-01", "08 to 99 for 2008 to 2099"),
        ("230401002..230401001", "ends before it begins"),
    ],
)
def test_ranges_that_are_none(text: str, why: str) -> None:
    with pytest.raises(IdError, match=why):
        Downlinks(text)


@given(st.integers(0, 99999))
def test_a_chunk_and_its_number(number: int) -> None:
    assert ChunkId.of(number).number == number
    assert len(ChunkId.of(number)) == 5


@given(st.integers(0, 2**32 - 1))
def test_a_run_in_all_its_spellings(seconds: int) -> None:
    run = RunId.from_met(seconds)
    assert len(run) == 8
    assert run.met == seconds
    assert len(run.l1) == 11
    assert RunId.from_l1(run.l1) == run
    assert RunId(str(run)) == run


@pytest.mark.parametrize(
    ("run", "l1"), [("2c2e5787", "r0741234567"), ("0dbba3e9", "r0230401001"), ("00000000", "r0000000000")]
)
def test_a_run_is_padded_in_both_spellings(run: str, l1: str) -> None:
    assert RunId(run).l1 == l1
    assert RunId.from_l1(l1) == run


@pytest.mark.parametrize("seconds", [-1, 2**32])
def test_a_run_has_32_bits(seconds: int) -> None:
    with pytest.raises(IdError, match="32 bits"):
        RunId.from_met(seconds)


@pytest.mark.parametrize(
    "name", ["r741234567", "0741234567", "r0741234567 ", "r0741234567\n", "R0741234567", "r4294967296", "r"]
)
def test_what_is_no_name_of_a_run(name: str) -> None:
    with pytest.raises(IdError):
        RunId.from_l1(name)


@pytest.mark.parametrize("number", [*range(955, 959), *range(965, 969)])
def test_event_apids(number: int) -> None:
    assert Apid.of(number).number == number


@pytest.mark.parametrize("number", [954, 959, 964, 969, 1020, 0, -1])
def test_other_apids(number: int) -> None:
    with pytest.raises(IdError):
        Apid.of(number)


@pytest.mark.parametrize("what", CLASSES)
@pytest.mark.parametrize(
    "text",
    ["", " ", "2304O1001", "2304010", "2304010010", "230401001\n", " 230401001", "٠٧٧٠٠٠١٢٣", "2C2E5787",
     "2c2e578", "2c2e57870", "0x2c2e57", "0001", "000001", "-0001", "956", "0954", "0956\n"],
)  # fmt: skip
def test_what_is_no_identifier(what: type[RunId], text: str) -> None:
    assert not what.matches(text)
    with pytest.raises(IdError) as raised:
        what(text)
    assert repr(text) in str(raised.value)
    assert what.WHAT in str(raised.value)
    assert isinstance(raised.value, HalfPipeError)


@given(st.text(max_size=12))
def test_matching_and_making_agree(text: str) -> None:
    for what in CLASSES:
        if what.matches(text):
            assert what(text) == text
        else:
            with pytest.raises(IdError):
                what(text)


@given(st.sets(st.sampled_from([955, 956, 957, 958, 965, 966, 967, 968])))
def test_one_lci_apid_makes_an_lci_run(apids: set[int]) -> None:
    assert RunKind.of(apids) == ("LCI" if any(apid >= 965 for apid in apids) else "LPA")
