"""Event files, version 9: the output of the decoder, and the input of Level-1 (evt-layout).

A file has a header of 176 bytes and records of varying length, all little-endian. This module reads only the context
at the start of a record and the lengths after it. The event itself (EBF) is opaque here. Functions take all bytes of a
file (`EvtFile.data`, a memory map) and the byte offsets of records, and work on all records at once.
"""

import struct
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from halfpipe.errors import FormatError
from halfpipe.files.reading import opened
from halfpipe.formats.structured import at_every_byte, layout

MARKER = 0xFAF32000
VERSION = 0x09090909
HEADER_SIZE = 176
EBF_MARKER = 0x104F0010
EBF_LIMIT = 131072  # size of the buffer in Level-1's reader, which does not check (evt-layout)
HANDLER_LIMIT = 64  # ten times the handlers that exist; limits the size of a record with a wrong count
MONTECARLO = 1  # run_origin of simulated events (ground-chain.md 3.3)
MOOT_UNSET_KEY = 0xFFFFFFF0
MOOT_UNSET_ALIAS = "LSEWRITER_UNSET"
ALIAS_LENGTH = 63  # bytes; the 64th is always zero
LATC_FROM_END = 16  # bytes from the start of LATC_master to the end of an LPA record

_WORD = struct.Struct("<I")
CHECKED_TOGETHER = 1024  # records; each thread copies them, a MB or two
MIX = np.uint32(0x9E3779B1)  # odd; 2^32 over the golden ratio

REMEDY = "Regenerate the file before it is used"


class InfoType(IntEnum):
    """The kind of information after the event in a record (evt-layout, enums)."""

    LPA = 0
    LCI_ACD = 1
    LCI_CAL = 2
    LCI_TKR = 3


class KeysType(IntEnum):
    """The kind of configuration keys at the end of a record (evt-layout, enums)."""

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

# The last four words belong to the gamma handler; the other handlers use only the first of them.
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
_INFO_SIZES = np.array([LPA_INFO.itemsize, *(LCI_INFO_OF[kind].itemsize for kind in sorted(LCI_INFO_OF))])


@dataclass(frozen=True, eq=False)
class EvtFile:
    """A memory-mapped event file: `data` has all its bytes; `header` (dtype `HEADER`) is a copy."""

    path: Path
    data: NDArray[np.uint8]
    header: np.void


@dataclass(frozen=True, eq=False)
class RecordLayout:
    """Layout of n records: `sizes` in bytes (int64, n) and `infotypes` (int32, n, see `InfoType`)."""

    sizes: NDArray[np.int64]
    infotypes: NDArray[np.int32]


def open_evt(path: Path) -> EvtFile:
    """Map the event file `path` and read its header; raises the errors of `read_header`."""
    header = read_header(path)
    return EvtFile(path, np.memmap(path, np.uint8, "r").view(np.ndarray), header)


def read_header(path: Path) -> np.void:
    """Read the header (dtype `HEADER`) of the event file `path`.

    Raises
    ------
    MissingInputError
        If the file does not exist.
    FormatError
        If it cannot be read, is shorter than a header, or has a wrong marker or version.
    """
    with opened(path, "event file", REMEDY) as file:
        content = file.read(HEADER_SIZE)
    if len(content) < HEADER_SIZE:
        raise FormatError(
            f"{path}: {len(content)} bytes, but an event file has at least {HEADER_SIZE} (its header). {REMEDY}."
        )
    header: np.void = np.frombuffer(content, HEADER)[0]
    for field, expected in (("marker", MARKER), ("version", VERSION)):
        if header[field] != expected:
            raise FormatError(f"{path}: {field} 0x{header[field]:08x}, expected 0x{expected:08x}. {REMEDY}.")
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
    """Return the header of an event file, 176 bytes; the four arrays of APIDs and errors are zero.

    Parameters
    ----------
    runid
        The number of the downlink. Despite its name, the field is not the run (evt-layout, `LSEHeader.m_runid`).
    seconds, sequences
        `current_timeSecs` (MET) and `scalers_sequence` of the first and the last event.
    events
        Number of records in the file.
    moot_key, moot_alias
        Configuration of the run, or `MOOT_UNSET_KEY` and `MOOT_UNSET_ALIAS`. The alias is cut to 63 bytes.

    Raises
    ------
    OverflowError
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
        header[name] = value
    header["moot_alias"] = moot_alias.encode()[:ALIAS_LENGTH]
    return header.tobytes()


def context_column(data: NDArray[np.uint8], offsets: NDArray[np.int64], field: str) -> NDArray[np.generic]:
    """Gather one field of `CONTEXT`, by its name, from the records at `offsets`.

    `record_layout` or `walk` must have accepted the offsets.

    Raises
    ------
    IndexError
        If a context extends beyond the end of `data`.
    """
    assert CONTEXT.fields is not None
    kind, start, *_ = CONTEXT.fields[field]
    return at_every_byte(data, kind)[offsets + start]


def record_layout(data: NDArray[np.uint8], offsets: NDArray[np.int64], name: str) -> RecordLayout:
    """Measure the records at `offsets` and check their structure.

    The checks: records are within the file; length, marker and inner length of the EBF; the info type; the number of
    handlers or the length of an LCI info; the key type.

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
        If a check fails; names the file, the record's offset, and the wrong part.
    """
    offsets = np.asarray(offsets, np.int64)
    words = at_every_byte(data, "<u4")

    def word(at: NDArray[np.int64]) -> NDArray[np.int64]:
        # Past the end of the file, any word will do, because the end of each record is checked too.
        return words[np.clip(at, 0, len(words) - 1)].astype(np.int64)

    ebf = offsets + CONTEXT.itemsize
    length = word(ebf)
    kind_at = ebf + 4 + length
    kind = word(kind_at)
    lpa = kind == InfoType.LPA
    known = np.minimum(kind, max(InfoType))
    info = _INFO_SIZES[known]
    number = word(kind_at + 4 + np.where(lpa, info, 0))  # handlers, or length of an LCI info
    keys = kind_at + 8 + info + np.where(lpa, LPA_HANDLER.itemsize * number, 0)
    ends = keys + np.where(lpa, LPA_KEYS.itemsize, LCI_KEYS.itemsize)
    for part, good in (
        (
            "position: a record is between the header and the end of the file",
            (offsets >= HEADER_SIZE) & (ends <= data.size),
        ),
        ("EBF length", (length >= 8) & (length <= EBF_LIMIT) & (word(ebf + 8) == length)),
        ("EBF marker", word(ebf + 4) == EBF_MARKER),
        ("info type", kind == known),
        (
            "number of handlers, or info length",
            np.where(lpa, number <= HANDLER_LIMIT, number == info),
        ),
        ("key type", word(keys) == np.where(lpa, KeysType.LPA, KeysType.LCI)),
    ):
        if not good.all():
            raise FormatError(f"{name}: record at byte {offsets[np.argmin(good)]}: bad {part}. {REMEDY}.")
    return RecordLayout(ends - offsets, kind.astype(np.int32))


def record_checks(
    data: NDArray[np.uint8], offsets: NDArray[np.int64], sizes: NDArray[np.int64]
) -> NDArray[np.uint32]:
    """Return a checksum of each record; a merge uses it to verify that the record is unchanged since decoding.

    The checksum is the exclusive or of the record's 32-bit words, counted from its start, after each word is mixed. So
    the checksum does not depend on the record's position, and takes half the time of a CRC-32, which needs one call per
    record. A change of one word is never missed. If the same bit changes in two words, one case in a thousand is
    missed.

    Parameters
    ----------
    data
        The bytes that contain the records.
    offsets, sizes
        Bytes from the start of `data` to each record, and its length from `record_layout`; in any order.
    """
    checks = np.empty(len(offsets), np.uint32)
    for begin in range(0, len(offsets), CHECKED_TOGETHER):
        some = slice(begin, begin + CHECKED_TOGETHER)
        checks[some] = _checks(data, offsets[some], sizes[some])
    return checks


def _checks(
    data: NDArray[np.uint8], offsets: NDArray[np.int64], sizes: NDArray[np.int64]
) -> NDArray[np.uint32]:
    lowest = int(offsets.min())
    data = data[lowest : int((offsets + sizes).max())]
    offsets = offsets - lowest
    tails = offsets + sizes - 8  # checked separately, because their start need not be aligned
    last = _mixed(at_every_byte(data, "<u8")[tails].view("<u4").reshape(-1, 2))
    checks: NDArray[np.uint32] = last[:, 0] ^ last[:, 1]
    begins = offsets & 3
    for first in np.flatnonzero(np.bincount(begins)).tolist():  # usually all have the same alignment
        which = begins == first
        words = _mixed(data[first : data.size - (data.size - first) % 4].view("<u4"))
        edges = np.stack((offsets[which], tails[which] + 3), axis=1) - first
        checks[which] ^= np.bitwise_xor.reduceat(words, (edges >> 2).reshape(-1))[::2]
    return checks


def _mixed(words: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Mix the bits of each word: two words that differ in one bit become two that differ in many."""
    mixed = words >> np.uint32(16)
    mixed ^= words
    mixed *= MIX
    return mixed


def walk(data: NDArray[np.uint8], name: str) -> NDArray[np.int64]:
    """Return the offsets of all records of a file, from its header to its end.

    This goes through the file record by record, because each length is inside its record. It is for tools and tests;
    the merge has the offsets from the index.

    Raises
    ------
    FormatError
        As `record_layout`.
    """
    view = data.data
    offset = HEADER_SIZE
    offsets = []
    with suppress(struct.error, IndexError):  # a bad length, which `record_layout` reports
        while offset < data.size:
            offsets.append(offset)
            at = offset + CONTEXT.itemsize
            at += 4 + int(_WORD.unpack_from(view, at)[0])
            kind = _WORD.unpack_from(view, at)[0]
            at += 8 + int(_INFO_SIZES[kind])
            if kind == InfoType.LPA:
                at += LPA_HANDLER.itemsize * _WORD.unpack_from(view, at - 4)[0] + LPA_KEYS.itemsize
            else:
                at += LCI_KEYS.itemsize
            offset = at
    found = np.array(offsets, np.int64)
    record_layout(data, found, name)
    return found
