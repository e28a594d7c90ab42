"""Index text: the position of each event, and the datagrams (ground-chain, end of §6).

A chunk's index has one line ``EVT:`` of 15 fields for each event and one line ``DGM:`` of 21 to 23 fields for each
datagram, separated by white space. Other lines are ignored. There are millions of event lines, so they are read as
arrays of bytes, block by block. Decoders pad columns to fixed widths, so the lines of a block usually are
`halfpipe.formats.even_lines.EvenLines`. Other blocks are read line by line, which also finds errors.
"""

import math
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from halfpipe.errors import FormatError
from halfpipe.files.reading import opened
from halfpipe.formats.even_lines import BLANK, EvenLines, UnevenError, require
from halfpipe.formats.structured import Column, Table, at_every_byte, joined

_WORD = 16  # bytes of a word in a line of a datagram


class Sequenced(Table):
    """Events of which at least the GEM sequence (64 bits) and the APID are known."""

    sequence = Column(np.uint64)
    apid = Column(np.uint16)


class Events(Sequenced):
    """The events of an index.

    `utc` are Unix seconds. `offset` counts bytes from the start of an event file to the record, and `file` is the
    number of that file. `length` (in bytes) and `check` (from `halfpipe.formats.evt.record_checks`) are not in the
    index: they are 0 until the record was read.
    """

    datagram = Column(np.uint32)
    utc = Column(np.float64)
    offset = Column(np.int64)
    file = Column(np.uint16)
    length = Column(np.uint32)
    check = Column(np.uint32)


class Datagrams(Table):
    """The datagrams of an index. Times are Unix seconds, except `startedat`, which is MET."""

    startedat = Column(np.uint32)
    utc = Column(np.float64)
    scid = Column(np.int32)
    apid = Column(np.uint16)
    datagram = Column(np.uint32)
    groundid = Column(np.uint32)
    modechanges = Column(np.uint32)
    modename = Column(np.bytes_, _WORD)
    oaction = Column(np.bytes_, _WORD)
    oreason = Column(np.bytes_, _WORD)
    caction = Column(np.bytes_, _WORD)
    creason = Column(np.bytes_, _WORD)
    platform = Column(np.bytes_, _WORD)
    origin = Column(np.bytes_, _WORD)
    crate = Column(np.bytes_, _WORD)
    evtutc0 = Column(np.float64)
    evtseq0 = Column(np.uint64)
    evtutc1 = Column(np.float64)
    evtseq1 = Column(np.uint64)
    nevts = Column(np.uint64)
    hwkey = Column(np.uint32)
    swkey = Column(np.uint32)


_KEYS = ("hwkey", "swkey")  # any number, or a word that is not a number
_EXACT = ("startedat", "apid", "datagram", "sequence", "offset")  # never negative

EVT_FIELDS = 15
DGM_FIELDS = range(21, 24)
LONGEST_NAME = 255  # bytes, the limit of file systems
BLOCK = 1 << 21  # bytes of text parsed at a time: small blocks cost calls, large ones exceed the cache
LINES = 1 << 12  # datagram lines parsed at a time; same trade-off
REMEDY = "Decode the chunk again, or rebuild the merged index"

# Numbers of the columns that are read from an EVT line; the tag is column 0.
_STARTEDAT = 1
_FILE = 14
_COLUMNS = {"sequence": 2, "apid": 7, "datagram": 8, "utc": 5, "offset": 13}

_WHOLE = re.compile(rb"[+-]?[0-9]{1,20}|(0[xX])[0-9a-fA-F]{1,16}")
_SECONDS = re.compile(rb"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_EVT_TAG = b"EVT:"
_DGM_TAG = b"DGM:"


@dataclass(frozen=True, eq=False)
class Rows:
    """The part of an index that a merge needs.

    Attributes
    ----------
    lines
        The unchanged lines of the datagrams, without newlines.
    events
        The events in the order of their lines.
    files
        Base names of the event files; `events.file` are indices into it.
    """

    lines: tuple[bytes, ...]
    events: Events
    files: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Index(Rows):
    """One index file: its `path`, the starts (MET seconds) of the runs of its lines, and all rows.

    `datagrams` have the order of the lines.
    """

    path: Path
    runs: frozenset[int]
    datagrams: Datagrams


def read_index(path: Path) -> Index:
    """Read one index, some MB at a time.

    Raises
    ------
    MissingInputError
        If the file does not exist.
    FormatError
        If an EVT or DGM line has the wrong number of fields or an invalid field, or the last line is cut; names file
        and line.
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
        self.runs: set[int] = set()
        self.events: list[Events] = []
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
        except UnevenError:
            self._take_any(bytes(text[:end]))

    def _take_even(self, text: NDArray[np.uint8]) -> None:
        """Add a block that has only valid DGM lines, and EVT lines that are `EvenLines`."""
        stops = np.flatnonzero(text < BLANK)
        begins = np.concatenate(([0], stops[:-1] + 1))
        require((text[stops] == ord("\n")).all() and int((stops - begins).min()) > len(_EVT_TAG))
        tags = at_every_byte(text, "<u4")[begins]
        evt = np.flatnonzero(tags == int.from_bytes(_EVT_TAG, "little"))
        dgm = np.flatnonzero(tags == int.from_bytes(_DGM_TAG, "little"))
        require(evt.size + dgm.size == stops.size and (text[begins[dgm] + len(_DGM_TAG)] == BLANK).all())
        if evt.size:
            lengths = stops[evt] - begins[evt] + 1
            length = int(lengths[0])
            require((lengths == length).all())
            lines = at_every_byte(text, f"V{length}")[begins[evt]].view(np.uint8).reshape(-1, length)
            self._take_even_events(int(evt[0]), EvenLines(lines, _EVT_TAG, (EVT_FIELDS,)))
        view = text.data
        self.lines += [
            view[a:b].tobytes() for a, b in zip(begins[dgm].tolist(), stops[dgm].tolist(), strict=True)
        ]
        self.numbers += (dgm + (self.before + 1)).tolist()
        self.before += stops.size

    def _take_even_events(self, first: int, lines: EvenLines) -> None:
        startedat = lines.constant(_STARTEDAT)
        name = lines.constant(_FILE)
        require(startedat.isdigit() and int(startedat) < 2**32)
        events = Events.zeros(lines.size)
        for field, column in _COLUMNS.items():
            events[field] = lines.column(column, Events.row[field])
        events.file[:] = self._code(self.before + first + 1, name)
        self.runs.add(int(startedat))
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
        self.events.append(np.array(events, Events.row).view(Events))

    def _event(self, number: int, fields: Sequence[bytes]) -> tuple[float | bytes, ...]:
        if len(fields) != EVT_FIELDS:
            raise self.error(number, f"is an EVT line of {len(fields)} fields, expected {EVT_FIELDS}")
        source = str(self.path)
        self.runs.add(
            int(_value(source, number, "startedat", Datagrams.row["startedat"], fields[_STARTEDAT]))
        )
        values = (_value(source, number, name, Events.row[name], fields[at]) for name, at in _COLUMNS.items())
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
        return Index(
            path=self.path,
            runs=frozenset(self.runs.union(datagrams.startedat.tolist())),
            events=joined(self.events) if self.events else Events.zeros(0),
            files=tuple(self.files),
            datagrams=datagrams,
            lines=tuple(self.lines),
        )


def _shown(token: bytes) -> str:
    """Return a token for a message, shortened if it is long."""
    return ascii(token[:40].decode("latin-1"))


def parse_datagrams(lines: Sequence[bytes], source: str, numbers: Sequence[int] | None = None) -> Datagrams:
    """Read DGM lines, in their order.

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
    with suppress(UnevenError):
        require(len(set(map(len, lines))) == 1)
        text = np.frombuffer(b"\n".join((*lines, b"")), np.uint8).reshape(len(lines), -1)
        require(np.count_nonzero(text < BLANK) == len(lines))
        even = EvenLines(text, _DGM_TAG, DGM_FIELDS)
    rows: list[list[bytes]] = []
    datagrams = Datagrams.zeros(len(lines))
    for column, field in enumerate(Datagrams.row.names or (), 1):
        if even is not None:
            if column == len(even.ends):
                break
            with suppress(UnevenError):
                datagrams[field] = even.column(column, Datagrams.row[field])
                continue
        rows = rows or [_datagram_fields(*each, source) for each in zip(lines, numbers, strict=True)]
        datagrams[field] = [
            _value(source, number, field, Datagrams.row[field], row[column] if column < len(row) else b"0")
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


def _value(source: str, number: int, field: str, kind: np.dtype, text: bytes) -> float | bytes:
    """Read one field of line `number`: seconds, a word, or an integer, decimal or hexadecimal.

    Raises
    ------
    FormatError
        If the field is invalid; names source, line, and the expected form.
    """
    if kind.kind == "S":
        expected = f"at most {kind.itemsize} letters"
        if len(text) <= kind.itemsize:
            return text
    elif kind.kind == "f":
        expected = "seconds"
        if _SECONDS.fullmatch(text) and math.isfinite(value := float(text)):
            return value
    else:
        bits = 8 * kind.itemsize
        lowest = 0 if field in _EXACT else -(1 << bits - 1)
        highest = np.iinfo(kind).max if field in _EXACT else (1 << bits) - 1
        whole = _WHOLE.fullmatch(text)
        expected = f"a whole number from {lowest} to {highest}"
        value = int(whole[0], 16 if whole[1] else 10) if whole else 0
        if field in _KEYS or (whole and lowest <= value <= highest):
            value &= (1 << bits) - 1
            return value - (1 << bits) if value > np.iinfo(kind).max else value
    raise FormatError(f"{source}: line {number} has {field} {_shown(text)}, expected {expected}. {REMEDY}.")
