"""Event files, version 9: what the decoder makes of a chunk and what Level-1 takes (evt-layout).

A file is a header of 176 bytes and then records of varying length, little-endian throughout. Only the
context at the start of a record and the lengths behind it are looked at; the event itself (EBF) is
opaque here. Functions take the whole file as bytes (`EvtFile.data`, a map of the file) and the records'
byte offsets, and work on all records at once.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from halfpipe.errors import FormatError, MissingInputError
from halfpipe.files.reading import open_regular

MARKER = 0xFAF32000
VERSION = 0x09090909
HEADER_SIZE = 176
EBF_MARKER = 0x104F0010
EBF_LIMIT = 131072  # what Level-1's reader has room for; it does not check (evt-layout)
HANDLER_LIMIT = 64  # ten times the handlers that there are: no count makes a record of gigabytes
MOOT_UNSET_KEY = 0xFFFFFFF0
MOOT_UNSET_ALIAS = "LSEWRITER_UNSET"
ALIAS_LENGTH = 63  # bytes; the 64th is always zero
LATC_FROM_END = 16  # LATC_master of an LPA record starts so many bytes before the record's end

REMEDY = "The file is damaged: have it made again before anything uses it"


class InfoType(IntEnum):
    """What a record holds behind its event (evt-layout, enums)."""

    LPA = 0
    LCI_ACD = 1
    LCI_CAL = 2
    LCI_TKR = 3


class KeysType(IntEnum):
    """Which configuration keys end a record (evt-layout, enums)."""

    LPA = 0
    LCI = 1


def _packed(*fields: tuple[str, DTypeLike, int], size: int) -> np.dtype[np.void]:
    """Return a dtype with every field at its stated offset; the fields must fill it without a hole."""
    names, formats, offsets = zip(*fields, strict=True)
    dtype = np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": size})
    ends = [offset + np.dtype(kind).itemsize for _, kind, offset in fields]
    if (*offsets[1:], size) != tuple(ends):
        raise TypeError(f"fields and offsets do not agree: {fields}")
    return dtype


HEADER = _packed(
    ("marker", "<u4", 0),
    ("version", "<u4", 4),
    ("runid", "<u4", 8),
    ("secs_beg", "<u4", 12),
    ("secs_end", "<u4", 16),
    ("evtcnt", "<u8", 20),
    ("gemseq_beg", "<u8", 28),
    ("gemseq_end", "<u8", 36),
    ("src_apids", ("<u4", 4), 44),
    ("src_seqerr", ("<u4", 4), 60),
    ("dfi_apids", ("<u4", 4), 76),
    ("dfi_dfierr", ("<u4", 4), 92),
    ("moot_key", "<u4", 108),
    ("moot_alias", "S64", 112),
    size=HEADER_SIZE,
)


def _timetone(prefix: str, at: int) -> list[tuple[str, DTypeLike, int]]:
    return [
        (f"{prefix}_timeSecs", "<u4", at),
        (f"{prefix}_tics", "<u4", at + 4),
        (f"{prefix}_hacks", "<u4", at + 8),
        (f"{prefix}_incomplete", "<u4", at + 12),
        (f"{prefix}_flywheeling", "<u4", at + 16),
        (f"{prefix}_missingTimeTone", "u1", at + 20),
        (f"{prefix}_missingCpuPps", "u1", at + 21),
        (f"{prefix}_missingLatPps", "u1", at + 22),
        (f"{prefix}_earlyEvent", "u1", at + 23),
        (f"{prefix}_sourceGps", "u1", at + 24),
        (f"{prefix}_pad", "V3", at + 25),
    ]


CONTEXT = _packed(
    ("ccsds_scid", "<i4", 0),
    ("ccsds_apid", "<i4", 4),
    ("ccsds_utc", "<f8", 8),
    *_timetone("current", 16),
    *_timetone("previous", 44),
    ("scalers_elapsed", "<u8", 72),
    ("scalers_livetime", "<u8", 80),
    ("scalers_prescaled", "<u8", 88),
    ("scalers_discarded", "<u8", 96),
    ("scalers_sequence", "<u8", 104),
    ("scalers_deadzone", "<u8", 112),
    ("run_platform", "<i4", 120),
    ("run_origin", "<i4", 124),
    ("run_groundId", "<u4", 128),
    ("run_startedAt", "<u4", 132),
    ("run_platformTxt", "S16", 136),
    ("run_originTxt", "S16", 152),
    ("open_modeChanges", "<u4", 168),
    ("open_datagrams", "<u4", 172),
    ("open_action", "<i4", 176),
    ("open_reason", "<i4", 180),
    ("open_crate", "<i4", 184),
    ("open_mode", "<i4", 188),
    ("open_actionTxt", "S16", 192),
    ("open_reasonTxt", "S16", 208),
    ("open_crateTxt", "S16", 224),
    ("open_modeTxt", "S16", 240),
    ("close_action", "<i4", 256),
    ("close_reason", "<i4", 260),
    ("close_actionTxt", "S16", 264),
    ("close_reasonTxt", "S16", 280),
    size=296,
)

_INFO: list[tuple[str, DTypeLike, int]] = [
    ("timeTics", "<u4", 0),
    ("timeHack_tics", "<u4", 4),
    ("timeHack_hacks", "<u4", 8),
    ("compressionLevel", "<i4", 12),
    ("compressedSize", "<i4", 16),
]

LPA_INFO = _packed(
    *_INFO,
    ("softwareKey", "<u4", 20),
    ("hardwareKey", "<u4", 24),
    ("lpaDbKey", "<u4", 28),
    size=32,
)

# The last four words are the gamma handler's; the other handlers use the first of them only.
LPA_HANDLER = _packed(
    ("type", "<i4", 0),
    ("masterKey", "<u4", 4),
    ("cfgKey", "<u4", 8),
    ("cfgId", "<u4", 12),
    ("state", "<i4", 16),
    ("prescaler", "<i4", 20),
    ("version", "<u4", 24),
    ("id", "<u4", 28),
    ("has", "u1", 32),
    ("pad", "V3", 33),
    ("rsd_status", "<u4", 36),
    ("rsd_energyValid", "<u4", 40),
    ("rsd_energyInLeus", "<i4", 44),
    ("rsd_stage", "<u4", 48),
    size=52,
)

_LCI_INFO: list[tuple[str, DTypeLike, int]] = [
    *_INFO,
    ("autoRange", "u1", 20),
    ("zeroSupression", "u1", 21),
    ("strobe", "u1", 22),
    ("pad", "V1", 23),
    ("periodicPrescale", "<u4", 24),
    ("softwareKey", "<u4", 28),
    ("writeCfg", "<u4", 32),
    ("readCfg", "<u4", 36),
]


def _channel(at: int) -> list[tuple[str, DTypeLike, int]]:
    return [
        ("channel_numChan", "<u2", at),
        ("channel_single", "u1", at + 2),
        ("channel_all", "u1", at + 3),
        ("channel_latc", "u1", at + 4),
        ("channel_perFE", "u1", at + 5),
    ]


LCI_ACD_INFO = _packed(
    *_LCI_INFO,
    ("injected", "<u2", 40),
    ("threshold", "<u2", 42),
    ("biasDac", "<u2", 44),
    ("holdDelay", "<u2", 46),
    ("hitmapDelay", "<u2", 48),
    ("range", "<u2", 50),
    ("trigger_veto", "<u2", 52),
    ("trigger_vetoVernier", "<u2", 54),
    ("trigger_hld", "<u2", 56),
    *_channel(58),
    size=64,
)

LCI_CAL_INFO = _packed(
    *_LCI_INFO,
    ("uld", "<u2", 40),
    ("injected", "<u2", 42),
    ("delay", "<u2", 44),
    ("firstRange", "<u2", 46),
    ("threshold", "<u2", 48),
    ("calibGain", "<u2", 50),
    ("highCalEna", "<u2", 52),
    ("highRngEna", "<u2", 54),
    ("highGain", "<u2", 56),
    ("lowCalEna", "<u2", 58),
    ("lowRngEna", "<u2", 60),
    ("lowGain", "<u2", 62),
    ("trigger_le", "<u2", 64),
    ("trigger_lowTrgEna", "<u2", 66),
    ("trigger_he", "<u2", 68),
    ("trigger_highTrgEna", "<u2", 70),
    *_channel(72),
    ("tail", "V2", 78),
    size=80,
)

LCI_TKR_INFO = _packed(
    *_LCI_INFO,
    ("dacRange", "<u4", 40),
    ("injected", "<u2", 44),
    ("delay", "<u2", 46),
    ("threshold", "<u2", 48),
    ("splitLow", "<u2", 50),
    ("splitHigh", "<u2", 52),
    *_channel(54),
    size=60,
)

LPA_KEYS = _packed(
    ("type", "<i4", 0),
    ("LATC_master", "<u4", 4),
    ("LATC_ignore", "<u4", 8),
    ("SBS", "<u4", 12),
    ("LPA_db", "<u4", 16),
    size=20,
)

LCI_KEYS = _packed(
    ("type", "<i4", 0),
    ("LATC_master", "<u4", 4),
    ("LATC_ignore", "<u4", 8),
    ("LCI_script", "<u4", 12),
    size=16,
)

LCI_INFO_OF = {
    InfoType.LCI_ACD: LCI_ACD_INFO,
    InfoType.LCI_CAL: LCI_CAL_INFO,
    InfoType.LCI_TKR: LCI_TKR_INFO,
}


@dataclass(frozen=True, eq=False)
class EvtFile:
    """An event file as mapped: `data` holds all its bytes, `header` (dtype `HEADER`) is a copy."""

    path: Path
    data: NDArray[np.uint8]
    header: np.void


@dataclass(frozen=True, eq=False)
class RecordLayout:
    """Shape of n records: `sizes` in bytes (int64, n) and `infotypes` (int32, n, see `InfoType`)."""

    sizes: NDArray[np.int64]
    infotypes: NDArray[np.int32]


def open_evt(path: Path) -> EvtFile:
    """Map the event file `path` and read its header.

    Raises
    ------
    MissingInputError
        If there is no such file.
    FormatError
        If it cannot be read, is shorter than a header, or has another marker or version.
    """
    try:
        size = path.stat().st_size
        if size < HEADER_SIZE:
            raise _short(path, size)
        data = np.memmap(path, np.uint8, "r").view(np.ndarray)
    except FileNotFoundError as error:
        raise MissingInputError(f"{path}: no such event file. Have it made again.") from error
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror}. {REMEDY}.") from error
    return EvtFile(path, data, _header(path, data[:HEADER_SIZE].tobytes()))


def read_header(path: Path) -> np.void:
    """Read the header (dtype `HEADER`) of the event file `path`; raises as `open_evt`."""
    try:
        with open_regular(path) as file:
            content = file.read(HEADER_SIZE)
    except FileNotFoundError as error:
        raise MissingInputError(f"{path}: no such event file. Have it made again.") from error
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror}. {REMEDY}.") from error
    if len(content) < HEADER_SIZE:
        raise _short(path, len(content))
    return _header(path, content)


def _short(path: Path, size: int) -> FormatError:
    return FormatError(
        f"{path}: {size} bytes, but the header of an event file alone has {HEADER_SIZE}. {REMEDY}."
    )


def _header(path: Path, content: bytes) -> np.void:
    header: np.void = np.frombuffer(content, HEADER)[0]
    if header["marker"] != MARKER:
        raise FormatError(
            f"{path}: at byte 0 stands 0x{header['marker']:08x}, expected the marker 0x{MARKER:08x} "
            f"of an event file. {REMEDY}."
        )
    if header["version"] != VERSION:
        raise FormatError(
            f"{path}: at byte 4 stands version 0x{header['version']:08x}, expected 0x{VERSION:08x}, "
            f"the only one that can be read. Have the file made again by a decoder of that version."
        )
    return header


def pack_header(
    *,
    runid: int,
    seconds: tuple[int, int],
    sequences: tuple[int, int],
    events: int,
    moot_key: int,
    moot_alias: str,
) -> bytes:
    """Return the 176 bytes that start an event file; the four arrays of APIDs and errors are zero.

    Parameters
    ----------
    runid
        The downlink as a number: in this place it is not the run (evt-layout, `LSEHeader.m_runid`).
    seconds, sequences
        Of the first and the last event: `current_timeSecs` (MET) and `scalers_sequence`.
    events
        How many records follow.
    moot_key, moot_alias
        Configuration of the run, or `MOOT_UNSET_KEY` and `MOOT_UNSET_ALIAS`; the alias is cut at
        63 bytes.

    Raises
    ------
    FormatError
        If a number does not fit into its field.
    """
    header = np.zeros(1, HEADER)
    values = {
        "marker": MARKER,
        "version": VERSION,
        "runid": runid,
        "secs_beg": seconds[0],
        "secs_end": seconds[1],
        "evtcnt": events,
        "gemseq_beg": sequences[0],
        "gemseq_end": sequences[1],
        "moot_key": moot_key,
    }
    for name, value in values.items():
        bits = 8 * HEADER[name].itemsize
        if not 0 <= value < 2**bits:
            raise FormatError(f"{name}={value} does not fit into the {bits} bits of an event file's header")
        header[name] = value
    header["moot_alias"] = moot_alias.encode()[:ALIAS_LENGTH]
    return header.tobytes()


def _at_every_byte(data: NDArray[np.uint8], dtype: DTypeLike) -> NDArray[Any]:
    """View `data` as items that start at every byte: indexed with offsets, it gathers them."""
    item = np.dtype(dtype)
    return np.ndarray(max(0, data.size - item.itemsize + 1), item, buffer=data.data, strides=(1,))


def contexts(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> NDArray[np.void]:
    """Gather the contexts (dtype `CONTEXT`, one a record) of the records at `offsets`.

    A copy of 296 bytes a record: give offsets in blocks where a file may be large. The offsets must be
    such as `record_layout` or `walk` accepts.

    Raises
    ------
    IndexError
        If a context would reach over the end of `data`.
    """
    return _at_every_byte(data, CONTEXT)[offsets]


def context_column(data: NDArray[np.uint8], offsets: NDArray[np.int64], field: str) -> NDArray[Any]:
    """Gather one field of `CONTEXT`, by its name, from the records at `offsets`; otherwise as `contexts`."""
    return _at_every_byte(data, CONTEXT[field])[offsets + field_starts(CONTEXT)[field]]


class _Walker:
    """Steps over the parts of n records together; an error names the first record that it concerns."""

    def __init__(self, data: NDArray[np.uint8], records: NDArray[np.int64], name: str) -> None:
        self.data = data
        self.records = records
        self.name = name
        self.at = records
        self._words = _at_every_byte(data, "<i4")

    def subset(self, which: NDArray[np.bool_]) -> "_Walker":
        """Return a walker over some of the records, standing where this one stands."""
        part = _Walker(self.data, self.records[which], self.name)
        part.at = self.at[which]
        return part

    def start(self) -> None:
        """Demand that records can start where they are said to start."""
        size = self.data.size
        self._demand(
            (self.records >= HEADER_SIZE) & (self.records < size),
            lambda _: (
                f"no record can start there, they lie from byte {HEADER_SIZE} to the file's end at {size}"
            ),
        )

    def step(
        self, part: str, lengths: NDArray[np.int64] | int, dtype: np.dtype[np.void] | None = None
    ) -> NDArray[np.int64]:
        """Step over `part`, which has `lengths` bytes and consists of `dtype`; return where it starts."""
        starts = self.at
        ends = starts + lengths
        size = self.data.size

        def cut(i: int) -> str:
            where = part
            if dtype is not None:
                number, within = divmod(size - int(starts[i]), dtype.itemsize)
                count = f" {number}" if ends[i] - starts[i] > dtype.itemsize else ""
                where = f"{part}{count}, field {_field_at(dtype, within)}"
            return f"cut inside {where}: needs bytes {starts[i]} to {ends[i]}, the file ends at {size}"

        self._demand(ends <= size, cut)
        self.at = ends
        return starts

    def words(self, at: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return the 32 bits that stand at `at`, as signed numbers."""
        words: NDArray[np.int32] = self._words[at]
        return words

    def lengths(self, at: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the 32 bits that stand at `at`, as lengths or counts."""
        return self.words(at).view(np.uint32).astype(np.int64)

    def expect(
        self, part: str, at: NDArray[np.int64], wanted: NDArray[np.int64] | int, spell: str = "{}"
    ) -> None:
        """Demand that the number at `at` is `wanted`."""
        found = self.lengths(at)
        right = np.broadcast_to(np.asarray(wanted), found.shape)
        self._demand(
            found == right,
            lambda i: (
                f"{part} at byte {at[i]} is {spell.format(found[i])}, expected {spell.format(right[i])}"
            ),
        )

    def limit(self, part: str, at: NDArray[np.int64], found: NDArray[Any], lowest: int, highest: int) -> None:
        """Demand that `found`, read at `at`, lies between two limits, edges included."""
        self._demand(
            (lowest <= found) & (found <= highest),
            lambda i: f"{part} at byte {at[i]} is {found[i]}, expected {lowest} to {highest}",
        )

    def _demand(self, good: NDArray[np.bool_], complaint: Callable[[int], str]) -> None:
        if not good.all():
            i = int(np.argmin(good))
            raise FormatError(f"{self.name}: record at byte {self.records[i]}: {complaint(i)}. {REMEDY}.")


def _field_at(dtype: np.dtype[np.void], byte: int) -> str:
    """Return the name of the field of `dtype` that `byte` belongs to."""
    return [name for name, at in field_starts(dtype).items() if at <= byte][-1]


@cache
def field_starts(dtype: np.dtype[np.void]) -> dict[str, int]:
    """Return the offset of each field of `dtype`, in order."""
    assert dtype.names is not None
    assert dtype.fields is not None
    return {name: dtype.fields[name][1] for name in dtype.names}


def record_layout(data: NDArray[np.uint8], offsets: NDArray[np.int64], name: str) -> RecordLayout:
    """Measure the records at `offsets` and check how they are put together.

    Checked are, record by record: that no part reaches over the end of the file; the length, the
    marker and the inner length of the EBF; the info type; the length of an LCI info; the key type.

    Parameters
    ----------
    data
        All bytes of the file.
    offsets
        Bytes from the start of the file to each record, in any order.
    name
        The file, for messages.

    Raises
    ------
    FormatError
        With the file, the record's offset and what is wrong with it.
    """
    walker = _Walker(data, np.asarray(offsets, np.int64), name)
    walker.start()
    walker.step("the context", CONTEXT.itemsize, CONTEXT)
    at = walker.step("the EBF length", 4)
    length = walker.lengths(at)
    walker.limit("the EBF length", at, length, 8, EBF_LIMIT)
    at = walker.step("the EBF", length)
    walker.expect("the EBF marker", at, EBF_MARKER, "0x{:08x}")
    walker.expect("the length inside the EBF", at + 4, length)
    at = walker.step("the info type", 4)
    infotypes = walker.words(at)
    walker.limit("the info type", at, infotypes, min(InfoType), max(InfoType))
    ends = np.empty_like(walker.records)
    for kind in InfoType:
        which = infotypes == kind
        part = walker.subset(which)
        if kind is InfoType.LPA:
            _step_over_lpa(part)
        else:
            _step_over_lci(part, LCI_INFO_OF[kind])
        ends[which] = part.at
    return RecordLayout(ends - walker.records, infotypes)


def _step_over_lpa(walker: _Walker) -> None:
    walker.step("the LPA info", LPA_INFO.itemsize, LPA_INFO)
    at = walker.step("the number of handlers", 4)
    count = walker.lengths(at)
    walker.step("handler", count * LPA_HANDLER.itemsize, LPA_HANDLER)
    walker.limit("the number of handlers", at, count, 0, HANDLER_LIMIT)
    _step_over_keys(walker, "LPA", KeysType.LPA, LPA_KEYS)


def _step_over_lci(walker: _Walker, info: np.dtype[np.void]) -> None:
    at = walker.step("the info length", 4)
    walker.expect("the info length", at, info.itemsize)
    walker.step("the LCI info", info.itemsize, info)
    _step_over_keys(walker, "LCI", KeysType.LCI, LCI_KEYS)


def _step_over_keys(walker: _Walker, kind: str, keys_type: KeysType, keys: np.dtype[np.void]) -> None:
    at = walker.step("the key type", 4)
    walker.expect(f"the key type behind an {kind} info", at, keys_type)
    walker.at = at
    walker.step(f"the {kind} keys", keys.itemsize, keys)


def walk(data: NDArray[np.uint8], name: str) -> NDArray[np.int64]:
    """Return the offsets of all records of a file, from its header to its end.

    Record after record, as lengths are known in no other way: for tools and tests, not for the merge,
    which has the offsets from the index.

    Raises
    ------
    FormatError
        As `record_layout`.
    """
    view = data.data
    offsets = []
    offset = HEADER_SIZE
    while offset < data.size:
        offsets.append(offset)
        offset += _claimed_size(view, offset)
    found = np.array(offsets, np.int64)
    record_layout(data, found, name)
    return found


_COUNT = struct.Struct("<I")
_TYPE = struct.Struct("<i")


def _claimed_size(data: memoryview, offset: int) -> int:
    """Return the size that the lengths in a record add up to; more than the file has if they are unsound.

    Then the walk ends, and `record_layout` says what is wrong.
    """
    try:
        at = offset + CONTEXT.itemsize
        at += 4 + _COUNT.unpack_from(data, at)[0]
        infotype = _TYPE.unpack_from(data, at)[0]
        if infotype == InfoType.LPA:
            at += 4 + LPA_INFO.itemsize
            handlers = _COUNT.unpack_from(data, at)[0]
            return int(at + 4 + handlers * LPA_HANDLER.itemsize + LPA_KEYS.itemsize - offset)
        at += 8 + LCI_INFO_OF[infotype].itemsize + LCI_KEYS.itemsize
        return int(at - offset)
    except (struct.error, KeyError):
        return data.nbytes
