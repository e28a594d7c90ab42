"""Identifiers: text of a fixed form.

Each class has one regular expression, which also constrains the wildcard of the same name, and refuses any other text.
Numbers are derived from the text.
"""

import re
from collections.abc import Iterable
from datetime import date
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Self

from halfpipe.errors import IdError

if TYPE_CHECKING:
    from pydantic_core import CoreSchema

LPA_APIDS = range(955, 959)
LCI_APIDS = range(965, 969)


class _Id(str):
    """Text of a fixed form."""

    PATTERN: ClassVar[str]
    WHAT: ClassVar[str]
    _shape: ClassVar[re.Pattern[str]]  # compiled once, because it is used for all downlinks of the mission
    __slots__ = ()

    def __init_subclass__(cls) -> None:
        cls._shape = re.compile(cls.PATTERN, re.ASCII)

    def __new__(cls, text: str) -> Self:
        if cls._shape.fullmatch(text) is None:
            raise IdError(f"{text!r} is not {cls.WHAT}")
        return super().__new__(cls, text)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: object) -> "CoreSchema":
        """Return how pydantic checks a config value: as text of this form."""
        from pydantic_core import core_schema  # noqa: PLC0415 - jobs do not need it

        return core_schema.no_info_after_validator_function(cls, core_schema.str_schema(strict=True))

    @classmethod
    def matches(cls, text: str) -> bool:
        """Tell whether `text` has the form of this identifier."""
        return cls._shape.fullmatch(text) is not None


class DownlinkId(_Id):
    """One downlink, ``YYMMDDnnn`` (ground-chain §4): nine digits; YY keeps its leading zero.

    The telescope was launched in 2008, so YY from 08 to 99 means the years 2008 to 2099.
    """

    PATTERN = r"[0-9]{9}"
    WHAT = "a downlink id: nine digits, YYMMDDnnn with its leading zero, as in 230401001"
    __slots__ = ()

    @property
    def number(self) -> int:
        """The number in the evt header (evt-layout, `LSEHeader.m_runid`)."""
        return int(self)


class Downlinks(_Id):
    """A range of downlinks, or one downlink.

    A range is ``230401001..230401018``, or all downlinks of a month or day (UTC): ``2023-04``, ``2023-04-01``. The ends
    of a range may be months and days too.

    Raises
    ------
    IdError
        If the text has another form or an invalid date, or the range ends before it begins.
    """

    _END = r"(?:[0-9]{9}|[0-9]{4}-[0-9]{2}(?:-[0-9]{2})?)"
    PATTERN = rf"{_END}(?:\.\.{_END})?"
    WHAT = f"{DownlinkId.WHAT}, or several: 230401001..230401018, 2023-04, 2023-04-01"
    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Refuse invalid dates, and ranges that end before they begin."""
        found = super().__new__(cls, text)
        if found.first > found.last:
            raise IdError(f"{text!r} ends before it begins: write the earlier downlink first")
        return found

    @property
    def first(self) -> DownlinkId:
        """The lowest id in the range."""
        return _bound(self.partition("..")[0], "0")

    @property
    def last(self) -> DownlinkId:
        """The highest id in the range."""
        return _bound(self.rpartition("..")[2], "9")


def _bound(text: str, digit: str) -> DownlinkId:
    """Return a downlink, or the lowest or highest id of a month or day, filled up with `digit`."""
    if "-" not in text:
        return DownlinkId(text)
    year, month, *day = map(int, text.split("-"))
    try:
        date(year, month, *(day or [1]))
    except ValueError as error:
        raise IdError(f"{text!r}: {error}") from error
    if not 2008 <= year <= 2099:
        raise IdError(f"{text!r}: the year must be 2008 to 2099 (08 to 99 in a downlink id)")
    return DownlinkId(text[2:].replace("-", "").ljust(9, digit))


class ChunkId(_Id):
    """One chunk of a downlink, counted from 1: five digits (ground-chain §4)."""

    PATTERN = r"[0-9]{5}"
    WHAT = "a chunk id: five digits, as in 00001"
    __slots__ = ()

    @classmethod
    def of(cls, number: int) -> Self:
        """Return the id of chunk `number` (from 1)."""
        return cls(f"{number:05d}")

    @property
    def number(self) -> int:
        """The count within the downlink, from 1."""
        return int(self)


class RunId(_Id):
    """One acquisition, named by its start: MET seconds as eight lower-case hex digits."""

    PATTERN = r"[0-9a-f]{8}"
    WHAT = "a run id: eight lower-case hex digits, as in 2c2e5787"
    __slots__ = ()

    @classmethod
    def from_met(cls, seconds: int) -> Self:
        """Return the id of the run that started at MET `seconds`.

        Raises
        ------
        IdError
            If `seconds` does not fit into 32 bits.
        """
        if not 0 <= seconds < 2**32:
            raise IdError(f"a run cannot start at MET {seconds}: not a 32-bit number")
        return cls(f"{seconds:08x}")

    @classmethod
    def from_l1(cls, name: str) -> Self:
        """Return the id of the run with the Level-1 name `name` (``r%010d``)."""
        if re.fullmatch(r"r[0-9]{10}", name, re.ASCII) is None:
            raise IdError(f"{name!r} is not a Level-1 run name: r and ten digits, as in r0741234567")
        return cls.from_met(int(name[1:]))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the run that a person names: by eight hex digits, or by its name in Level-1."""
        return cls.from_l1(text) if text.startswith("r") else cls(text)

    @property
    def met(self) -> int:
        """Start of the run in mission elapsed time, seconds."""
        return int(self, 16)

    @property
    def l1(self) -> str:
        """The name of the run at Level-1, ``r%010d`` (ground-chain §6)."""
        return f"r{self.met:010d}"


class RunKind(StrEnum):
    """Kind of a run as Level-1 knows it (ground-chain §6, `delivered_events`)."""

    LPA = "LPA"
    LCI = "LCI"

    @classmethod
    def of(cls, apids: Iterable[int]) -> "RunKind":
        """Return the kind of a run with these APIDs: LPA if all are 955-958, else LCI."""
        return cls.LPA if all(apid in LPA_APIDS for apid in apids) else cls.LCI
