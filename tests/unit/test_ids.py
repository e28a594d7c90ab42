"""Identifiers: valid and invalid spellings."""

import pytest

from halfpipe.errors import IdError
from halfpipe.ids import ChunkId, DownlinkId, Downlinks, RunId


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("077000123", "077000123", "077000123"), ("230401001..230401018", "230401001", "230401018"),
        ("230401001..230401001", "230401001", "230401001"), ("2023-04", "230400000", "230499999"),
        ("2024-02-29", "240229000", "240229999"), ("2008-01..2099-12-31", "080100000", "991231999"),
    ],
)  # fmt: skip
def test_ranges_of_downlinks(text: str, first: str, last: str) -> None:
    several = Downlinks(text)
    assert (several, several.first, several.last) == (text, first, last)
    assert DownlinkId(first).number == int(first)
    assert not DownlinkId.matches(first[1:]), "a leading zero belongs to it"


@pytest.mark.parametrize(
    "text",
    ["24060100", "2023-4", "2023", "230401001...230401002", "..230401002", "2023-13", "2023-02-29", "2007-12",
     "2100-01", "230401002..230401001"],
)  # fmt: skip
def test_invalid_ranges(text: str) -> None:
    with pytest.raises(IdError, match=f"'{text}'"):
        Downlinks(text)


def test_invalid_numbers_and_names_of_runs() -> None:
    for seconds in (-1, 2**32):
        with pytest.raises(IdError, match=f"MET {seconds}"):
            RunId.from_met(seconds)
    assert [RunId.from_met(seconds) for seconds in (0, 2**32 - 1)] == ["00000000", "ffffffff"]
    wrong = ["r741234567", "0741234567", "r0741234567 ", "r0741234567\n", "R0741234567", "r4294967296", "r"]
    for name in wrong:
        with pytest.raises(IdError):
            RunId.from_l1(name)


@pytest.mark.parametrize("what", [ChunkId, DownlinkId, RunId])
@pytest.mark.parametrize("text", ["", "2304O1001", "2304010010", "230401001\n", " 230401001", "٠٧٧٠٠٠١٢٣", "2C2E5787",
                                  "2c2e578", "2c2e57870", "0x2c2e57", "0001", "000001", "-0001"])  # fmt: skip
def test_invalid_identifiers(what: type[RunId], text: str) -> None:
    assert not what.matches(text)
    with pytest.raises(IdError, match="is not a") as raised:
        what(text)
    assert repr(text) in str(raised.value)
