"""Index text: where each event lies and which datagrams there are (ground-chain, end of §6).

A chunk's index has one line ``EVT:`` of 15 fields for each event and one ``DGM:`` of 21 to 23 fields for
each datagram, white-space separated; any other line is ignored. Event lines come by the million, so they
are parsed as arrays of bytes, block by block; datagram lines come by the thousand.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from halfpipe.errors import FormatError, MissingInputError

EVENT = np.dtype(
    [
        ("sequence", "u8"),  # GEM, 64 bits
        ("apid", "u2"),
        ("datagram", "u4"),
        ("utc", "f8"),  # Unix seconds
        ("offset", "i8"),  # bytes, of the record in its event file
        ("file", "u2"),  # counts into the names of the event files
    ]
)

# Every field of an EVT line but the file's name: for writers.
EVENT_LINE = np.dtype(
    [
        ("startedat", "u4"),
        ("sequence", "u8"),
        ("elapsed", "u8"),
        ("livetime", "u8"),
        ("utc", "f8"),
        ("scid", "i4"),
        ("apid", "u2"),
        ("datagram", "u4"),
        ("dgmevt", "u4"),  # counts the events of the datagram from 0
        ("oaction", "S16"),
        ("caction", "S16"),
        ("dgmutc", "f8"),
        ("offset", "i8"),
    ]
)

DATAGRAM = np.dtype(
    [
        ("startedat", "u4"),  # MET seconds
        ("utc", "f8"),  # Unix seconds, as all times here
        ("scid", "i4"),
        ("apid", "u2"),
        ("datagram", "u4"),
        ("groundid", "u4"),
        ("modechanges", "u4"),
        ("modename", "S16"),
        ("oaction", "S16"),
        ("oreason", "S16"),
        ("caction", "S16"),
        ("creason", "S16"),
        ("platform", "S16"),
        ("origin", "S16"),
        ("crate", "S16"),
        ("evtutc0", "f8"),
        ("evtseq0", "u8"),
        ("evtutc1", "f8"),
        ("evtseq1", "u8"),
        ("nevts", "u8"),
        ("hwkey", "u4"),
        ("swkey", "u4"),
    ]
)

EVT_FIELDS = 15
DGM_FIELDS = range(21, 24)
BLOCK = 1 << 20  # bytes of text parsed at a time: what is made of them stays in the processor's cache
REMEDY = "Have the chunk decoded again, or the index merged again"

# Where the columns that are read stand in an EVT line, the tag included.
_STARTEDAT, _SEQUENCE, _UTC, _APID, _DATAGRAM, _OFFSET, _FILE = 1, 2, 5, 7, 8, 13, 14

_PAD = 24  # three groups of eight digits may be read before a token's end, wherever it stands


@dataclass(frozen=True, eq=False)
class Index:
    """One index file.

    Attributes
    ----------
    path
        The file.
    startedat
        Start of the run, MET seconds; None if there is neither an event nor a datagram.
    events
        dtype `EVENT`, in the order of their lines.
    files
        Base names of the event files; `events["file"]` counts into them.
    datagrams
        dtype `DATAGRAM`, in the order of their lines.
    lines
        The lines of the datagrams as they stand, without their newlines.
    ignored
        How many lines are neither.
    """

    path: Path
    startedat: int | None
    events: NDArray[np.void]
    files: tuple[str, ...]
    datagrams: NDArray[np.void]
    lines: tuple[bytes, ...]
    ignored: int


def read_index(path: Path) -> Index:
    """Read one index.

    Raises
    ------
    MissingInputError
        If there is no such file.
    FormatError
        With file and line: an EVT or DGM line of the wrong number of fields or with a field that is
        not what it should be, lines of several runs, a last line that was cut.
    """
    reader = _Reader(path)
    rest = b""
    try:
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                whole, newline, after = block.rpartition(b"\n")
                if newline:
                    reader.take(rest + whole + newline)
                    rest = after
                else:
                    rest += block
                    if len(rest) > 2 * BLOCK:
                        raise reader.error(0, f"has more than {2 * BLOCK} bytes")
    except FileNotFoundError as error:
        raise MissingInputError(f"{path}: no such index. {REMEDY}.") from error
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror}. {REMEDY}.") from error
    if rest:
        raise reader.error(0, "is cut: the file ends without a newline")
    return reader.index()


class _Column(NamedTuple):
    """One token of each of n lines: where it starts and ends in the text."""

    text: NDArray[np.uint8]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    def token(self, i: int) -> bytes:
        """Return the token of line `i`."""
        return self.text[self.starts[i] : self.ends[i]].tobytes()


class _Reader:
    """Collects what stands in the lines of one index, block by block."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.before = 0  # lines in the blocks before
        self.startedat: int | None = None
        self.events: list[NDArray[np.void]] = []
        self.files: dict[str, int] = {}
        self.lines: list[bytes] = []
        self.numbers: list[int] = []
        self.ignored = 0

    def error(self, line: int, complaint: str) -> FormatError:
        """Return the error that names line `line` of this block (from 0)."""
        return FormatError(f"{self.path}: line {self.before + line + 1} {complaint}. {REMEDY}.")

    def take(self, block: bytes) -> None:
        """Take in a block of whole lines."""
        text = np.frombuffer(b" " * _PAD + block, np.uint8)
        white = (text == ord(" ")) | (text - np.uint8(9) < 5)  # tab to carriage return; NUL is not white
        edges = np.flatnonzero(white[1:] != white[:-1]) + 1  # the text begins and ends white
        starts, ends = edges[::2], edges[1::2]
        stops = np.flatnonzero(text == ord("\n"))
        begins = np.concatenate(([_PAD], stops[:-1] + 1))
        first = np.searchsorted(starts, begins)
        count = np.diff(first, append=starts.size)
        evt, dgm = (_lines_with_tag(text, starts, ends, first, count, tag) for tag in (b"EVT:", b"DGM:"))
        wrong = evt[count[evt] != EVT_FIELDS]
        if wrong.size:
            raise self.error(
                int(wrong[0]), f"is an EVT line of {count[wrong[0]]} fields, expected {EVT_FIELDS}"
            )
        if evt.size:
            self._events(
                evt, lambda column: _Column(text, starts[first[evt] + column], ends[first[evt] + column])
            )
        for line in dgm.tolist():
            self.lines.append(text[begins[line] : stops[line]].tobytes())
            self.numbers.append(self.before + line + 1)
        self.ignored += stops.size - evt.size - dgm.size
        self.before += stops.size

    def _events(self, lines: NDArray[np.int64], column: Callable[[int], _Column]) -> None:
        startedat = self._integers(lines, column(_STARTEDAT), "startedAt", 2**32 - 1)
        if self.startedat is None:
            self.startedat = int(startedat[0])
        other = np.flatnonzero(startedat != self.startedat)
        if other.size:
            i = other[0]
            raise self.error(
                int(lines[i]), f"is of run {startedat[i]}, lines before it of run {self.startedat}"
            )
        events = np.empty(lines.size, EVENT)
        events["sequence"] = self._integers(lines, column(_SEQUENCE), "sequence", 2**64 - 1)
        events["apid"] = self._integers(lines, column(_APID), "apid", 2**16 - 1)
        events["datagram"] = self._integers(lines, column(_DATAGRAM), "datagrams", 2**32 - 1)
        events["utc"] = self._times(lines, column(_UTC), "evtUTC")
        events["offset"] = self._integers(lines, column(_OFFSET), "fileofst", 2**63 - 1)
        events["file"] = self._files(lines, column(_FILE))
        self.events.append(events)

    def _integers(
        self, lines: NDArray[np.int64], column: _Column, field: str, highest: int
    ) -> NDArray[np.uint64]:
        values, good = _decimals(column)
        good &= values <= np.uint64(highest)
        if not good.all():
            i = int(np.argmin(good))
            raise self.error(
                int(lines[i]),
                f"has {_shown(column.token(i))} for {field}, expected a whole number from 0 to {highest}",
            )
        return values

    def _times(self, lines: NDArray[np.int64], column: _Column, field: str) -> NDArray[np.float64]:
        text, starts, ends = column
        point = ends - 7  # before six decimals
        usual = (point > starts) & (text[point] == ord("."))
        point = np.where(usual, point, starts)
        seconds, good = _decimals(_Column(text, starts, point))
        micros, good_too = _decimals(_Column(text, point + 1, ends))
        usual &= good & good_too & (seconds < 2**32)
        # Both numbers are exact in binary64, so the quotient is what reading the text would give.
        times = (seconds * np.uint64(10**6) + micros).astype(np.float64) / 1e6
        for i in np.flatnonzero(~usual).tolist():
            try:
                times[i] = _finite(column.token(i))
            except ValueError:
                raise self.error(
                    int(lines[i]), f"has {_shown(column.token(i))} for {field}, expected seconds"
                ) from None
        return times

    def _files(self, lines: NDArray[np.int64], column: _Column) -> NDArray[np.uint16]:
        codes = np.empty(lines.size, np.uint16)
        lengths = column.ends - column.starts
        for length in np.unique(lengths):
            rows = np.flatnonzero(lengths == length)
            names = _at_every_byte(column.text, f"S{length}")[column.starts[rows]]
            while rows.size:  # once for each event file in the block: they are few
                same = names == names[0]
                codes[rows[same]] = self._code(int(lines[rows[0]]), column.token(rows[0]))
                rows, names = rows[~same], names[~same]
        return codes

    def _code(self, line: int, token: bytes) -> int:
        name = token.rpartition(b"/")[2].decode("ascii", "replace")
        if not name.isascii() or not name.isprintable() or name in ("", ".", ".."):
            raise self.error(line, f"has {_shown(token)} for evtfile, expected the name of an event file")
        code = self.files.setdefault(name, len(self.files))
        if code > np.iinfo(EVENT["file"]).max:
            raise self.error(line, f"names event file {code + 1}: more than an index can have")
        return code

    def index(self) -> Index:
        """Return the index of all lines taken."""
        datagrams = _datagrams(self.lines, str(self.path), self.numbers)
        startedat = self.startedat
        if datagrams.size:
            startedat = int(datagrams["startedat"][0]) if startedat is None else startedat
            other = np.flatnonzero(datagrams["startedat"] != startedat)
            if other.size:
                raise FormatError(
                    f"{self.path}: line {self.numbers[other[0]]} is of run "
                    f"{datagrams['startedat'][other[0]]}, other lines of run {startedat}. {REMEDY}."
                )
        return Index(
            path=self.path,
            startedat=startedat,
            events=np.concatenate(self.events) if self.events else np.empty(0, EVENT),
            files=tuple(self.files),
            datagrams=datagrams,
            lines=tuple(self.lines),
            ignored=self.ignored,
        )


def _at_every_byte(text: NDArray[np.uint8], dtype: str) -> NDArray[Any]:
    """View `text` as items that start at every byte: indexed with positions, it gathers them."""
    item = np.dtype(dtype)
    return np.ndarray(max(0, text.size - item.itemsize + 1), item, buffer=text.data, strides=(1,))


def _lines_with_tag(
    text: NDArray[np.uint8],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    first: NDArray[np.int64],
    count: NDArray[np.int64],
    tag: bytes,
) -> NDArray[np.int64]:
    """Return the lines whose first token is `tag`."""
    lines = np.flatnonzero(count)
    token = first[lines]
    lines = lines[ends[token] - starts[token] == len(tag)]
    found = _at_every_byte(text, f"S{len(tag)}")[starts[first[lines]]]
    tagged: NDArray[np.int64] = lines[found == tag]
    return tagged


_KEEP = np.array([(2**64 - 1) ^ (2 ** (64 - 8 * digits) - 1) for digits in range(9)], np.uint64)


def _decimals(column: _Column) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """Return the whole numbers that the tokens spell, and which tokens are numbers of 64 bits at all.

    Eight digits are read as one 64-bit word, the first digit lowest; neighbours are then added up
    pairwise: digits to two-digit numbers, these to four-digit numbers, these to the whole.
    """
    text, starts, ends = column
    lengths = ends - starts
    good = (lengths > 0) & (lengths <= 20)
    values = np.zeros(lengths.size, np.uint64)
    words = _at_every_byte(text, "<u8")
    for group in range(min(3, -(-int(lengths.max(initial=0)) // 8))):
        digits = np.clip(lengths - 8 * group, 0, 8)
        word = (words[ends - 8 * (group + 1)] ^ np.uint64(0x3030303030303030)) & _KEEP[digits]
        good &= ((word + np.uint64(0x7676767676767676)) | word) & np.uint64(0x8080808080808080) == 0
        word = (word * np.uint64(10) + (word >> np.uint64(8))) & np.uint64(0x00FF00FF00FF00FF)
        word = (word * np.uint64(100) + (word >> np.uint64(16))) & np.uint64(0x0000FFFF0000FFFF)
        word = (word * np.uint64(10000) + (word >> np.uint64(32))) & np.uint64(0xFFFFFFFF)
        part = word * np.uint64(10 ** (8 * group))
        values += part
        if group == 2:
            good &= (word <= 1844) & (values >= part)  # else beyond 64 bits
    return values, good


def _finite(text: bytes) -> float:
    """Read a number of seconds; ValueError if it is none."""
    value = float(text)
    if not math.isfinite(value) or b"_" in text:
        raise ValueError(text)
    return value


def _shown(token: bytes) -> str:
    """Return a token for a message, cut if it is long."""
    return ascii(token[:40].decode("latin-1"))


def parse_datagrams(lines: Sequence[bytes], source: str) -> NDArray[np.void]:
    """Read DGM lines (dtype `DATAGRAM`, in their order).

    Numbers may be negative or hexadecimal and are kept as the bits that they are: -1 is 0xFFFFFFFF.
    A key that is no number, or not there, is 0.

    Parameters
    ----------
    lines
        Each with its tag; with or without a newline.
    source
        Where they are from, for messages; lines are counted from 1.

    Raises
    ------
    FormatError
        With source and line: not a DGM line, the wrong number of fields, a field that is not what it
        should be.
    """
    return _datagrams(lines, source, range(1, len(lines) + 1))


def _datagrams(lines: Sequence[bytes], source: str, numbers: Sequence[int]) -> NDArray[np.void]:
    rows = []
    for number, line in zip(numbers, lines, strict=True):
        tag, *values = line.split() or [b""]
        if tag != b"DGM:" or len(values) + 1 not in DGM_FIELDS:
            raise FormatError(
                f"{source}: line {number} has {len(values) + 1} fields and tag {_shown(tag)}, expected "
                f"a DGM line of {DGM_FIELDS[0]} to {DGM_FIELDS[-1]} fields. {REMEDY}."
            )
        rows.append(values)
    datagrams = np.empty(len(lines), DATAGRAM)
    for column, field in enumerate(_names(DATAGRAM)):
        read = _reader_of(field)
        cells = [row[column] if column < len(row) else b"0" for row in rows]
        found: list[float | bytes] = []
        for number, cell in zip(numbers, cells, strict=True):
            try:
                found.append(read(cell))
            except ValueError as error:
                raise FormatError(
                    f"{source}: line {number} has {_shown(cell)} for {field}, expected {error}. {REMEDY}."
                ) from None
        datagrams[field] = found
    return datagrams


def _reader_of(field: str) -> Callable[[bytes], float | bytes]:
    """Return what reads one field of a datagram; it raises ValueError with what it had expected."""
    kind = DATAGRAM[field]
    bits = 8 * kind.itemsize
    top: int = 2**bits - 1

    def text(cell: bytes) -> bytes:
        if len(cell) > kind.itemsize:
            raise ValueError(f"at most {kind.itemsize} letters")
        return cell

    def seconds(cell: bytes) -> float:
        try:
            return _finite(cell)
        except ValueError:
            raise ValueError("seconds") from None

    def exact(cell: bytes) -> int:
        value = _whole(cell)
        if not 0 <= value <= top:
            raise ValueError(f"a whole number from 0 to {top}")
        return value

    def whole(cell: bytes) -> int:
        value = _whole(cell)
        if not -(top // 2) - 1 <= value <= top:
            raise ValueError(f"a whole number of {bits} bits")
        value &= top
        return value - top - 1 if kind.kind == "i" and value > top // 2 else value

    def key(cell: bytes) -> int:
        try:
            return _whole(cell) & top
        except ValueError:
            return 0

    if kind.kind == "S":
        return text
    if kind.kind == "f":
        return seconds
    if field in ("hwkey", "swkey"):
        return key
    return exact if field in ("startedat", "apid", "datagram") else whole


def _whole(cell: bytes) -> int:
    """Read a whole number, decimal or hexadecimal."""
    if re.fullmatch(rb"[+-]?[0-9]{1,20}", cell):
        return int(cell)
    if re.fullmatch(rb"0[xX][0-9a-fA-F]{1,16}", cell):
        return int(cell, 16)
    raise ValueError("a whole number")


def evt_lines(events: NDArray[np.void], file: str) -> bytes:
    """Write the EVT lines of events that lie in one event file.

    Parameters
    ----------
    events
        dtype `EVENT_LINE`, any number.
    file
        The event file as the lines name it: readers take its base name.

    Raises
    ------
    FormatError
        If a text is empty or holds white space, so that the line could not be read again.
    """
    _check_words(events, file)
    form = (
        "EVT: %10d %20d %20d %20d %19.6f %3d %4d %8d %8d %16s %16s %19.6f %20d "
        + file.replace("%", "%%")
        + "\n"
    )
    return _written(form, [events[name] for name in _names(EVENT_LINE)])


def dgm_lines(datagrams: NDArray[np.void]) -> bytes:
    """Write the DGM lines, of 23 fields, of `datagrams` (dtype `DATAGRAM`, any number).

    Raises
    ------
    FormatError
        If a text is empty or holds white space, so that the line could not be read again.
    """
    _check_words(datagrams)
    form = "DGM: %10d %19.6f %3d %4d %7d %8d %3d" + 8 * " %16s" + 2 * " %19.6f %20d" + 3 * " %10d" + "\n"
    return _written(form, [datagrams[name] for name in _names(DATAGRAM)])


def merged_lines(
    startedat: int,
    events: NDArray[np.void],
    files: Sequence[str],
    oactions: NDArray[np.bytes_],
    cactions: NDArray[np.bytes_],
) -> bytes:
    """Write the EVT lines of a merged index, of 9 fields.

    Parameters
    ----------
    startedat
        Start of the run, MET seconds.
    events
        dtype `EVENT`, in the order in which they are to be written.
    files
        What `events["file"]` counts into.
    oactions, cactions
        How the datagram of each event opened and closed.

    Raises
    ------
    FormatError
        If a text is empty or holds white space, so that the line could not be read again.
    """
    _check_words(oactions, cactions, *files)
    names = np.array(files, object)[events["file"]]
    columns = [events["sequence"], events["apid"], events["datagram"], oactions, cactions, events["offset"]]
    return _written(f"EVT: {startedat:10d} %20d %4d %8d %s %s %20d %s\n", [*columns, names])


def _names(dtype: np.dtype[np.void]) -> tuple[str, ...]:
    assert dtype.names is not None
    return dtype.names


def _written(form: str, columns: Sequence[NDArray[Any]]) -> bytes:
    parts = []
    for start in range(0, columns[0].size, 1 << 16):  # bounds how many Python objects there are at a time
        block = [column[start : start + (1 << 16)] for column in columns]
        cells = [(c.astype(str) if c.dtype.kind == "S" else c).tolist() for c in block]
        parts.append("".join(map(form.__mod__, zip(*cells, strict=True))).encode())
    return b"".join(parts)


def _check_words(*texts: NDArray[Any] | str) -> None:
    """Demand that every text, and every text column of a table, is one word."""
    for text in texts:
        if isinstance(text, str):
            words = [text]
        elif text.dtype.names is not None:
            _check_words(*(text[name] for name in text.dtype.names if text.dtype[name].kind == "S"))
            continue
        else:
            words = np.unique(text).astype(str).tolist()
        for word in words:
            if word.split() != [word] or not word.isascii():
                raise FormatError(f"{word!r} cannot stand in a line of an index: expected one ASCII word")
