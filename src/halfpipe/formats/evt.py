"""Event files, version 9: what the decoder makes of a chunk and what Level-1 takes (evt-layout).

A file is a header of 176 bytes and then records of varying length, little-endian throughout. Only the
context at the start of a record and the lengths behind it are looked at; the event itself (EBF) is
opaque here. Functions take the whole file as bytes (`EvtFile.data`, a map of the file) and the records'
byte offsets, and work on all records at once.
"""

import struct
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfpipe.errors import FormatError
from halfpipe.files.reading import opened
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

_WORD = struct.Struct("<I")
CHECKED_TOGETHER = 1024  # records: a copy of a MB or two, for each thread its own
MIX = np.uint32(0x9E3779B1)  # odd; 2^32 over the golden ratio

REMEDY = "Have the file made again before anything uses it"


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
_INFO_SIZES = np.array([LPA_INFO.itemsize, *(LCI_INFO_OF[kind].itemsize for kind in sorted(LCI_INFO_OF))])


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
    with opened(path, "event file", REMEDY) as file:
        content = file.read(HEADER_SIZE)
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


def context_column(data: NDArray[np.uint8], offsets: NDArray[np.int64], field: str) -> NDArray[Any]:
    """Gather one field of `CONTEXT`, by its name, from the records at `offsets`.

    The offsets must be such as `record_layout` or `walk` accepts.

    Raises
    ------
    IndexError
        If a context would reach over the end of `data`.
    """
    assert CONTEXT.fields is not None
    kind, start, *_ = CONTEXT.fields[field]
    return at_every_byte(data, kind)[offsets + start]


def record_layout(data: NDArray[np.uint8], offsets: NDArray[np.int64], name: str) -> RecordLayout:
    """Measure the records at `offsets` and check how they are put together.

    Checked are: that a record lies within the file; the length, the marker and the inner length of the EBF; the info
    type; the number of handlers or the length of an LCI info; the key type.

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
    offsets, words = np.asarray(offsets, np.int64), at_every_byte(data, "<u4")

    def word(at: NDArray[np.int64]) -> NDArray[np.int64]:
        # Beyond the end any word: where a record ends is checked, too.
        return words[np.clip(at, 0, len(words) - 1)].astype(np.int64)

    ebf = offsets + CONTEXT.itemsize
    length = word(ebf)
    kind_at = ebf + 4 + length
    kind = word(kind_at)
    lpa, known = kind == InfoType.LPA, np.minimum(kind, max(InfoType))
    info = _INFO_SIZES[known]
    number = word(kind_at + 4 + np.where(lpa, info, 0))  # of handlers, or the length of an LCI info
    keys = kind_at + 8 + info + np.where(lpa, LPA_HANDLER.itemsize * number, 0)
    ends = keys + np.where(lpa, LPA_KEYS.itemsize, LCI_KEYS.itemsize)
    for part, good in (
        (
            "its place: records lie between the header and the end",
            (offsets >= HEADER_SIZE) & (ends <= data.size),
        ),
        ("the length of its EBF", (length >= 8) & (length <= EBF_LIMIT) & (word(ebf + 8) == length)),
        ("the marker of its EBF", word(ebf + 4) == EBF_MARKER),
        ("the info type", kind == known),
        (
            "the number of its handlers, or the length of its info",
            np.where(lpa, number <= HANDLER_LIMIT, number == info),
        ),
        ("the type of its keys", word(keys) == np.where(lpa, KeysType.LPA, KeysType.LCI)),
    ):
        if not good.all():
            raise FormatError(
                f"{name}: record at byte {offsets[np.argmin(good)]}: wrong is {part}. {REMEDY}."
            )
    return RecordLayout(ends - offsets, kind.astype(np.int32))


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
    view, offset = data.data, HEADER_SIZE
    offsets = []
    with suppress(struct.error, IndexError):  # lengths that are unsound: `record_layout` says whose
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
