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
from numpy.typing import NDArray

from halfpipe.errors import FormatError, MissingInputError
from halfpipe.files.reading import open_regular
from halfpipe.formats.structured import at_every_byte, layout

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

CHECKED_TOGETHER = 1024  # records: a copy of a MB or two, for each thread its own
MIX = np.uint32(0x9E3779B1)  # odd; 2^32 over the golden ratio

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


HEADER = layout(
    "<u4 marker version runid secs_beg secs_end",
    "<u8 evtcnt gemseq_beg gemseq_end",
    "4<u4 src_apids src_seqerr dfi_apids dfi_dfierr",
    "<u4 moot_key",
    "S64 moot_alias",
)

_TIMETONE = (
    "<u4 {0}_timeSecs {0}_tics {0}_hacks {0}_incomplete {0}_flywheeling",
    "u1 {0}_missingTimeTone {0}_missingCpuPps {0}_missingLatPps {0}_earlyEvent {0}_sourceGps",
    "V3 {0}_pad",
)

CONTEXT = layout(
    "<i4 ccsds_scid ccsds_apid",
    "<f8 ccsds_utc",
    *(part.format("current") for part in _TIMETONE),
    *(part.format("previous") for part in _TIMETONE),
    "<u8 scalers_elapsed scalers_livetime scalers_prescaled scalers_discarded scalers_sequence scalers_deadzone",
    "<i4 run_platform run_origin",
    "<u4 run_groundId run_startedAt",
    "S16 run_platformTxt run_originTxt",
    "<u4 open_modeChanges open_datagrams",
    "<i4 open_action open_reason open_crate open_mode",
    "S16 open_actionTxt open_reasonTxt open_crateTxt open_modeTxt",
    "<i4 close_action close_reason",
    "S16 close_actionTxt close_reasonTxt",
)

_INFO = ("<u4 timeTics timeHack_tics timeHack_hacks", "<i4 compressionLevel compressedSize")

LPA_INFO = layout(*_INFO, "<u4 softwareKey hardwareKey lpaDbKey")

# The last four words are the gamma handler's; the other handlers use the first of them only.
LPA_HANDLER = layout(
    "<i4 type",
    "<u4 masterKey cfgKey cfgId",
    "<i4 state prescaler",
    "<u4 version id",
    "u1 has",
    "V3 pad",
    "<u4 rsd_status rsd_energyValid",
    "<i4 rsd_energyInLeus",
    "<u4 rsd_stage",
)

_LCI_INFO = (
    *_INFO,
    "u1 autoRange zeroSupression strobe",
    "V1 pad",
    "<u4 periodicPrescale softwareKey writeCfg readCfg",
)
_CHANNEL = ("<u2 channel_numChan", "u1 channel_single channel_all channel_latc channel_perFE")

LCI_ACD_INFO = layout(
    *_LCI_INFO,
    "<u2 injected threshold biasDac holdDelay hitmapDelay range trigger_veto trigger_vetoVernier trigger_hld",
    *_CHANNEL,
)

LCI_CAL_INFO = layout(
    *_LCI_INFO,
    "<u2 uld injected delay firstRange threshold calibGain highCalEna highRngEna highGain lowCalEna lowRngEna",
    "<u2 lowGain trigger_le trigger_lowTrgEna trigger_he trigger_highTrgEna",
    *_CHANNEL,
    "V2 tail",
)

LCI_TKR_INFO = layout(
    *_LCI_INFO, "<u4 dacRange", "<u2 injected delay threshold splitLow splitHigh", *_CHANNEL
)

LPA_KEYS = layout("<i4 type", "<u4 LATC_master LATC_ignore SBS LPA_db")

LCI_KEYS = layout("<i4 type", "<u4 LATC_master LATC_ignore LCI_script")

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
    """Map the event file `path` and read its header; raises as `read_header`."""
    header = read_header(path)
    return EvtFile(path, np.memmap(path, np.uint8, "r").view(np.ndarray), header)


def read_header(path: Path) -> np.void:
    """Read the header (dtype `HEADER`) of the event file `path`.

    Raises
    ------
    MissingInputError
        If there is no such file.
    FormatError
        If it cannot be read, is shorter than a header, or has another marker or version.
    """
    try:
        with open_regular(path) as file:
            content = file.read(HEADER_SIZE)
    except FileNotFoundError as error:
        raise MissingInputError(f"{path}: no such event file. Have it made again.") from error
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror}. {REMEDY}.") from error
    if len(content) < HEADER_SIZE:
        raise FormatError(
            f"{path}: {len(content)} bytes, but the header of an event file alone has {HEADER_SIZE}. {REMEDY}."
        )
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


def context_column(data: NDArray[np.uint8], offsets: NDArray[np.int64], field: str) -> NDArray[Any]:
    """Gather one field of `CONTEXT`, by its name, from the records at `offsets`.

    The offsets must be such as `record_layout` or `walk` accepts.

    Raises
    ------
    IndexError
        If a context would reach over the end of `data`.
    """
    return at_every_byte(data, CONTEXT[field])[offsets + field_starts(CONTEXT)[field]]


class _Walker:
    """Steps over the parts of n records together; an error names the first record that it concerns."""

    def __init__(self, data: NDArray[np.uint8], records: NDArray[np.int64], name: str) -> None:
        self.data = data
        self.records = records
        self.name = name
        self.at = records
        self._words = at_every_byte(data, "<i4")

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

    def step(self, part: str, lengths: NDArray[np.int64] | int) -> NDArray[np.int64]:
        """Step over `part`, which has `lengths` bytes; return where it starts."""
        starts, size = self.at, self.data.size
        ends = starts + lengths
        self._demand(
            ends <= size,
            lambda i: f"cut inside {part}: needs bytes {starts[i]} to {ends[i]}, the file ends at {size}",
        )
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
    walker.step("the context", CONTEXT.itemsize)
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
    walker.step("the LPA info", LPA_INFO.itemsize)
    at = walker.step("the number of handlers", 4)
    count = walker.lengths(at)
    walker.step("the handlers", count * LPA_HANDLER.itemsize)
    walker.limit("the number of handlers", at, count, 0, HANDLER_LIMIT)
    _step_over_keys(walker, "LPA", KeysType.LPA, LPA_KEYS)


def _step_over_lci(walker: _Walker, info: np.dtype[np.void]) -> None:
    at = walker.step("the info length", 4)
    walker.expect("the info length", at, info.itemsize)
    walker.step("the LCI info", info.itemsize)
    _step_over_keys(walker, "LCI", KeysType.LCI, LCI_KEYS)


def _step_over_keys(walker: _Walker, kind: str, keys_type: KeysType, keys: np.dtype[np.void]) -> None:
    at = walker.step("the key type", 4)
    walker.expect(f"the key type behind an {kind} info", at, keys_type)
    walker.at = at
    walker.step(f"the {kind} keys", keys.itemsize)


def record_checks(
    data: NDArray[np.uint8], offsets: NDArray[np.int64], sizes: NDArray[np.int64]
) -> NDArray[np.uint32]:
    """Return a checksum of each record, by which a merge knows in the bytes that it copies what was decoded.

    It is the exclusive or of the record's words of 32 bits, counted from its start, each of them mixed. So it does not
    depend on where a record lies, and takes half of the time of a CRC-32, which needs a call for each record. A change
    of one word is never missed; of those of one bit in two words it misses one in a thousand.

    Parameters
    ----------
    data
        Bytes in which the records lie.
    offsets, sizes
        Bytes from the start of `data` to each record, and its length as `record_layout` gives it; in any order.
    """
    checks = np.empty(len(offsets), np.uint32)
    for begin in range(0, len(offsets), CHECKED_TOGETHER):
        some = slice(begin, begin + CHECKED_TOGETHER)
        checks[some] = _checks(data, offsets[some], sizes[some])
    return checks


def _checks(
    data: NDArray[np.uint8], offsets: NDArray[np.int64], sizes: NDArray[np.int64]
) -> NDArray[np.uint32]:
    lowest, highest = int(offsets.min()), int((offsets + sizes).max())
    data, offsets = data[lowest:highest], offsets - lowest
    tails = offsets + sizes - 8  # apart from all else, for they need not begin with a word
    last = _mixed(at_every_byte(data, "<u8")[tails].view("<u4").reshape(-1, 2))
    checks: NDArray[np.uint32] = last[:, 0] ^ last[:, 1]
    begins = offsets & 3
    for first in np.flatnonzero(np.bincount(begins)).tolist():  # as a rule all begin with a word
        which = begins == first
        words = _mixed(data[first : data.size - (data.size - first) % 4].view("<u4"))
        edges = np.stack((offsets[which], tails[which] + 3), axis=1) - first
        checks[which] ^= np.bitwise_xor.reduceat(words, (edges >> 2).reshape(-1))[::2]
    return checks


def _mixed(words: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return another word for each; two that differ in one bit become two that differ in many."""
    mixed = words >> np.uint32(16)
    mixed ^= words
    mixed *= MIX
    return mixed


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
