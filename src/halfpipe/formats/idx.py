"""Index text: the position of each event, and the datagrams (ground-chain, end of §6).

A chunk's index has one line ``EVT:`` of 15 fields for each event and one line ``DGM:`` of 21 to 23 fields for each
datagram, separated by white space. Other lines are ignored. There are millions of event lines, so they are read as
arrays of bytes, block by block. Decoders pad columns to fixed widths, so that the lines of a block are usually `_Even`.
Other blocks are read line by line, which also finds errors.
"""

import math
import os
import re
from collections.abc import Container, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfpipe.errors import FormatError
from halfpipe.files.reading import opened
from halfpipe.formats.structured import at_every_byte, joined, layout

EVENT = np.dtype(
    [
        ("sequence", "u8"),  # GEM, 64 bits
        ("apid", "u2"),
        ("datagram", "u4"),
        ("utc", "f8"),  # Unix seconds
        ("offset", "i8"),  # bytes from the start of the event file to the record
        ("file", "u2"),  # number of the event file
        ("size", "u4"),  # bytes of the record; not in the index, 0 until the record was read
        ("check", "u4"),  # checksum from `halfpipe.formats.evt.record_checks`; likewise
    ]
)

# Times are Unix seconds, except `startedat`, which is MET.
DATAGRAM = layout(
    "u4 startedat",
    "f8 utc",
    "i4 scid",
    "u2 apid",
    "u4 datagram groundid modechanges",
    "S16 modename oaction oreason caction creason platform origin crate",
    "f8 evtutc0",
    "u8 evtseq0",
    "f8 evtutc1",
    "u8 evtseq1 nevts",
    "u4 hwkey swkey",
)

_KEYS = ("hwkey", "swkey")  # any number, or a word that is not a number
_EXACT = ("startedat", "apid", "datagram", "sequence", "offset")  # never negative

EVT_FIELDS = 15
DGM_FIELDS = range(21, 24)
LONGEST_NAME = 255  # bytes, the limit of file systems
BLOCK = 1 << 21  # bytes of text parsed at a time: small blocks cost calls, large ones do not fit the cache
LINES = 1 << 12  # datagram lines parsed at a time; same trade-off
REMEDY = "Decode the chunk again, or rebuild the merged index"

# Numbers of the columns that are read from an EVT line; the tag is column 0.
_STARTEDAT, _FILE = 1, 14
_COLUMNS = {"sequence": 2, "apid": 7, "datagram": 8, "utc": 5, "offset": 13}

_WHOLE = re.compile(rb"[+-]?[0-9]{1,20}|(0[xX])[0-9a-fA-F]{1,16}")
_SECONDS = re.compile(rb"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_BLANK = 32  # bytes up to this one are white space, in text where all bytes below it are newlines
_EVT_TAG, _DGM_TAG = b"EVT:", b"DGM:"


@dataclass(frozen=True, eq=False)
class Rows:
    """The part of an index that a merge needs.

    Attributes
    ----------
    lines
        The unchanged lines of the datagrams, without newlines.
    events
        The events (dtype `EVENT`) in the order of their lines.
    files
        Base names of the event files; `events["file"]` are indices into it.
    """

    lines: tuple[bytes, ...]
    events: NDArray[np.void]
    files: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Index(Rows):
    """One index file: its `path`, the run's start (MET seconds; None for an empty index), and all rows.

    `datagrams` has dtype `DATAGRAM` and the order of the lines.
    """

    path: Path
    startedat: int | None
    datagrams: NDArray[np.void]


def read_index(path: Path) -> Index:
    """Read one index, some MB at a time.

    Raises
    ------
    MissingInputError
        If the file does not exist.
    FormatError
        If an EVT or DGM line has the wrong number of fields or an invalid field, lines belong to several runs, or the
        last line is cut; names file and line.
    """
    reader = _Reader(path)
    with opened(path, "index", REMEDY) as file:
        block = min(BLOCK, os.fstat(file.fileno()).st_size + 1)
        buffer = bytearray(2 * block)  # reused: allocating memory for each block costs as much as parsing it
        room = memoryview(buffer)
        while count := file.readinto(room[:block]):
            rest = file.readline(block)  # rest of the last line in the block
            stop = count + len(rest)
            room[count:stop] = rest
            if buffer[stop - 1] != ord("\n"):
                number = reader.before + buffer.count(b"\n", 0, stop) + 1
                raise reader.error(number, f"is cut (no newline), or longer than {block} bytes")
            reader.take(buffer, stop)
    return reader.index()


class _Reader:
    """Collects the values in the lines of one index, block by block."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.before = 0  # lines in the blocks before
        self.startedat: int | None = None
        self.events: list[NDArray[np.void]] = []
        self.files: dict[str, int] = {}
        self.lines: list[bytes] = []
        self.numbers: list[int] = []

    def error(self, number: int, complaint: str) -> FormatError:
        """Return the error that names line `number` of the file, counted from 1."""
        return FormatError(f"{self.path}: line {number} {complaint}. {REMEDY}.")

    def take(self, text: bytearray, end: int) -> None:
        """Add the lines of `text` up to byte `end`, which ends a line."""
        try:
            self._take_even(np.frombuffer(text, np.uint8, end))
        except _UnevenError:
            self._take_any(bytes(text[:end]))

    def _take_even(self, text: NDArray[np.uint8]) -> None:
        """Add a block that has only valid DGM lines, and EVT lines that are `_Even`."""
        stops = np.flatnonzero(text < _BLANK)
        begins = np.concatenate(([0], stops[:-1] + 1))
        _need((text[stops] == ord("\n")).all() and int((stops - begins).min()) > len(_EVT_TAG))
        tags = at_every_byte(text, "<u4")[begins]
        evt, dgm = (np.flatnonzero(tags == int.from_bytes(tag, "little")) for tag in (_EVT_TAG, _DGM_TAG))
        _need(evt.size + dgm.size == stops.size and (text[begins[dgm] + len(_DGM_TAG)] == _BLANK).all())
        if evt.size:
            lengths = stops[evt] - begins[evt] + 1
            length = int(lengths[0])
            _need((lengths == length).all())
            lines = at_every_byte(text, f"V{length}")[begins[evt]].view(np.uint8).reshape(-1, length)
            self._take_even_events(int(evt[0]), _Even(lines, _EVT_TAG, (EVT_FIELDS,)))
        view = text.data
        self.lines += [
            view[a:b].tobytes() for a, b in zip(begins[dgm].tolist(), stops[dgm].tolist(), strict=True)
        ]
        self.numbers += (dgm + (self.before + 1)).tolist()
        self.before += stops.size

    def _take_even_events(self, first: int, lines: "_Even") -> None:
        startedat, name = lines.constant(_STARTEDAT), lines.constant(_FILE)
        _need(startedat.isdigit() and int(startedat) < 2**32 and self.startedat in {None, int(startedat)})
        events = np.zeros(lines.size, EVENT)
        for field, column in _COLUMNS.items():
            events[field] = lines.column(column, EVENT[field])
        events["file"] = self._code(self.before + first + 1, name)
        self.startedat = int(startedat)
        self.events.append(events)

    def _take_any(self, text: bytes) -> None:
        """Add a block of any lines, one by one."""
        events = []
        for number, line in enumerate(text.split(b"\n")[:-1], self.before + 1):
            fields = line.split()
            if fields[:1] == [_EVT_TAG]:
                events.append(self._event(number, fields))
            elif fields[:1] == [_DGM_TAG]:
                self.lines.append(line)
                self.numbers.append(number)
        self.before = number
        self.events.append(np.array(events, EVENT))

    def _event(self, number: int, fields: Sequence[bytes]) -> tuple[float | bytes, ...]:
        if len(fields) != EVT_FIELDS:
            raise self.error(number, f"is an EVT line of {len(fields)} fields, expected {EVT_FIELDS}")
        source = str(self.path)
        startedat = _value(source, number, "startedat", DATAGRAM["startedat"], fields[_STARTEDAT])
        if self.startedat is None:
            self.startedat = int(startedat)
        if startedat != self.startedat:
            raise self.error(number, f"is of run {startedat!r}, but earlier lines of run {self.startedat}")
        values = (_value(source, number, name, EVENT[name], fields[at]) for name, at in _COLUMNS.items())
        return (*values, self._code(number, fields[_FILE]), 0, 0)

    def _code(self, number: int, token: bytes) -> int:
        name = token.rpartition(b"/")[2].decode("ascii", "replace")
        plain = name.isascii() and name.isprintable() and len(name) <= LONGEST_NAME
        if not plain or name in ("", ".", ".."):
            raise self.error(number, f"has evtfile {_shown(token)}, expected the name of an event file")
        return self.files.setdefault(name, len(self.files))

    def index(self) -> Index:
        """Return the index with all lines that were added."""
        datagrams = parse_datagrams(self.lines, str(self.path), self.numbers)
        startedat = self.startedat
        if datagrams.size:
            startedat = int(datagrams["startedat"][0]) if startedat is None else startedat
            other = np.flatnonzero(datagrams["startedat"] != startedat)
            if other.size:
                raise FormatError(
                    f"{self.path}: line {self.numbers[other[0]]} is of run "
                    f"{datagrams['startedat'][other[0]]}, but other lines of run {startedat}. {REMEDY}."
                )
        return Index(
            path=self.path,
            startedat=startedat,
            events=joined(self.events) if self.events else np.empty(0, EVENT),
            files=tuple(self.files),
            datagrams=datagrams,
            lines=tuple(self.lines),
        )


def _pairwise(word: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the numbers in words of eight digits (bytes 0 to 9, not characters).

    The first digit is the lowest byte. Neighbors are combined pairwise: digits to two-digit numbers, these to
    four-digit numbers, and these to the result.
    """
    word = (word * np.uint64(10) + (word >> np.uint64(8))) & np.uint64(0x00FF00FF00FF00FF)
    word = (word * np.uint64(100) + (word >> np.uint64(16))) & np.uint64(0x0000FFFF0000FFFF)
    return (word * np.uint64(10000) + (word >> np.uint64(32))) & np.uint64(0xFFFFFFFF)


def _not_digits(word: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return 0 for words of eight digits (0 to 9), and another number for all others."""
    return ((word + np.uint64(0x7676767676767676)) | word) & np.uint64(0x8080808080808080)


class _UnevenError(Exception):
    """The text is unusual, though not necessarily wrong: read it line by line."""


def _need(usual: object) -> None:
    if not usual:
        raise _UnevenError


class _Even:
    """Lines of equal length with columns at the same positions; each token ends where its column ends.

    Methods that read a column raise `_UnevenError` if the column is unusual.

    Parameters
    ----------
    lines
        The text, shape (size, length): one line per row, with its newline. All other bytes are blanks or above.
    tag, counts
        The tag at the start of the lines, and the allowed numbers of fields. Other lines raise `_UnevenError`.

    Attributes
    ----------
    ends
        The position after each column, which has a blank; the next column starts after it.
    every, some
        For each position, the bits set in all lines, and in at least one line. Where they are equal, all lines are
        equal. They are also a lower and an upper bound of the byte.
    """

    def __init__(self, lines: NDArray[np.uint8], tag: bytes, counts: Container[int]) -> None:
        self.lines, self.size = lines, len(lines)
        self.ends = [found.end() for found in re.finditer(rb"[^ \n]+", lines[0].tobytes())]
        self.every, self.some = np.bitwise_and.reduce(lines, axis=0), np.bitwise_or.reduce(lines, axis=0)
        last = np.array(self.ends)
        _need(
            len(self.ends) in counts and lines[0].tobytes().startswith(tag + b" ") and self._same(0, len(tag))
        )
        _need((self.every[last - 1] > _BLANK).all() and (self.some[last] <= _BLANK).all())
        # Each column contains the end of a token, so with as many starts of tokens as columns each has one token.
        if not ((self.every > _BLANK) | (self.some <= _BLANK)).all():
            black = lines.reshape(-1) > _BLANK
            _need(np.count_nonzero(black[1:] > black[:-1]) + 1 == self.size * len(self.ends))

    def _same(self, begin: int, end: int) -> bool:
        return bool((self.every[begin:end] == self.some[begin:end]).all())

    def _begin(self, column: int) -> int:
        return self.ends[column - 1] + 1

    def constant(self, column: int) -> bytes:
        """Return the token of a column that is equal in all lines."""
        begin, end = self._begin(column), self.ends[column]
        _need(self._same(begin, end))
        return self.lines[0, begin:end].tobytes().strip()

    def column(self, column: int, kind: np.dtype[Any]) -> NDArray[Any]:
        """Return the values: words that fit `kind`, seconds with six decimals, or integers of up to 18 digits."""
        begin, end = self._begin(column), self.ends[column]
        if kind.kind == "S":
            cells = np.ascontiguousarray(self.lines[:, begin:end]).view(f"S{end - begin}").reshape(-1)
            words = np.strings.strip(cells)
            _need(np.strings.str_len(words).max() <= kind.itemsize)
            return words
        if kind.kind != "f":
            return self._digits(begin, end, int(np.iinfo(kind).max))
        point = end - 7
        _need(point > begin and self.every[point] == ord(".") == self.some[point])
        seconds, micros = self._digits(begin, point, 2**32 - 1), self._digits(point + 1, end, 10**6)
        # Both numbers are exact in binary64, so the quotient equals the number parsed from the text.
        return (seconds * np.uint64(10**6) + micros).astype(np.float64) / 1e6

    def _digits(self, begin: int, end: int, highest: int) -> NDArray[np.uint64]:
        begin += int(np.argmax(self.some[begin:end] > _BLANK))
        _need(end - begin <= 18)
        values = np.zeros(self.size, np.uint64)
        for group, stop in enumerate(range(end, begin, -8)):
            start = max(begin, stop - 8)
            if self._same(start, stop):
                text = self.lines[0, start:stop].tobytes()
                _need(text.isdigit())
                values += np.uint64(int(text) * 10 ** (8 * group))
                continue
            _need(stop >= 8)
            word = np.ndarray(self.size, "<u8", self.lines.data, stop - 8, self.lines.strides[:1])
            word = (word ^ np.uint64(0x3030303030303030)) & _KEEP[stop - start]
            wrong = np.uint64(0)
            if not (self.every[start:stop] & 0x10).all():
                # A blank has become 0x10. Any other byte with this bit also has one of the lower four bits.
                blank = word & np.uint64(0x1010101010101010)
                wrong = word & (blank - (blank >> np.uint64(4)))
                word ^= blank
            _need(not (_not_digits(word) | wrong).any())
            values += _pairwise(word) * np.uint64(10 ** (8 * group))
        _need(highest >= 10 ** (end - begin) or int(values.max()) <= highest)
        return values


_KEEP = np.array([(2**64 - 1) ^ (2 ** (64 - 8 * digits) - 1) for digits in range(9)], np.uint64)


def _shown(token: bytes) -> str:
    """Return a token for a message, shortened if it is long."""
    return ascii(token[:40].decode("latin-1"))


def parse_datagrams(
    lines: Sequence[bytes], source: str, numbers: Sequence[int] | None = None
) -> NDArray[np.void]:
    """Read DGM lines (dtype `DATAGRAM`, in their order).

    Numbers may be negative or hexadecimal; their bits are kept: -1 is 0xFFFFFFFF. A key that is missing or not a number
    is 0.

    Parameters
    ----------
    lines
        The lines with their tags, without newlines.
    source, numbers
        The file of the lines, and their numbers in it, for messages; None: numbers from 1.

    Raises
    ------
    FormatError
        If a line is not a DGM line, or has the wrong number of fields or an invalid field; names source and line.
    """
    numbers = numbers or range(1, len(lines) + 1)
    if len(lines) > LINES:
        blocks = (slice(begin, begin + LINES) for begin in range(0, len(lines), LINES))
        return joined([parse_datagrams(lines[block], source, numbers[block]) for block in blocks])
    even = None
    with suppress(_UnevenError):
        _need(len(set(map(len, lines))) == 1)
        text = np.frombuffer(b"\n".join((*lines, b"")), np.uint8).reshape(len(lines), -1)
        _need(np.count_nonzero(text < _BLANK) == len(lines))
        even = _Even(text, _DGM_TAG, DGM_FIELDS)
    rows: list[list[bytes]] = []
    datagrams = np.zeros(len(lines), DATAGRAM)
    for column, field in enumerate(DATAGRAM.names or (), 1):
        if even is not None:
            if column == len(even.ends):
                break
            with suppress(_UnevenError):
                datagrams[field] = even.column(column, DATAGRAM[field])
                continue
        rows = rows or [_datagram_fields(*each, source) for each in zip(lines, numbers, strict=True)]
        datagrams[field] = [
            _value(source, number, field, DATAGRAM[field], row[column] if column < len(row) else b"0")
            for number, row in zip(numbers, rows, strict=True)
        ]
    return datagrams


def _datagram_fields(line: bytes, number: int, source: str) -> list[bytes]:
    row = line.split() or [b""]
    if row[0] != _DGM_TAG or len(row) not in DGM_FIELDS:
        raise FormatError(
            f"{source}: line {number} has {len(row)} fields and tag {_shown(row[0])}, expected a DGM line of "
            f"{DGM_FIELDS[0]} to {DGM_FIELDS[-1]} fields. {REMEDY}."
        )
    return row


def _value(source: str, number: int, field: str, kind: np.dtype[Any], text: bytes) -> float | bytes:
    """Read one field of line `number`: seconds, a word, or an integer, decimal or hexadecimal.

    Raises
    ------
    FormatError
        If the field is invalid; names source, line, and the expected form.
    """
    bits, whole = 8 * kind.itemsize, _WHOLE.fullmatch(text)
    lowest, highest = (0, None) if field in _EXACT else (-(1 << bits - 1), (1 << bits) - 1)
    if kind.kind == "S":
        expected = f"at most {kind.itemsize} letters"
        if len(text) <= kind.itemsize:
            return text
    elif kind.kind == "f":
        expected = "seconds"
        if _SECONDS.fullmatch(text) and math.isfinite(value := float(text)):
            return value
    else:
        highest = np.iinfo(kind).max if highest is None else highest
        expected = f"a whole number from {lowest} to {highest}"
        value = int(whole[0], 16 if whole[1] else 10) if whole else 0
        if field in _KEYS or (whole and lowest <= value <= highest):
            value &= (1 << bits) - 1
            return value - (1 << bits) if value > np.iinfo(kind).max else value
    raise FormatError(f"{source}: line {number} has {field} {_shown(text)}, expected {expected}. {REMEDY}.")
