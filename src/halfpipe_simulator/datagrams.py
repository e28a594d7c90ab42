"""Simulated datagrams: what stands inside the packets of simulated level-0 (docs/simulated-format.md).

The flight format of datagrams is not public, so this one is the project's own: it carries every field
that an event record needs and says "SIMULATED" in its first bytes. No flight data look like this. All
numbers are little-endian, as in event files; every part is a multiple of four bytes, so that n events
are taken apart as arrays of 32-bit words.
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfpipe.formats import evt, idx, met
from halfpipe_simulator.index_lines import EVENT_LINE

MAGIC = b"SIMULATED-LATDGM"
VERSION = 1
MAX_SIZE = 1 << 16
CHECKSUM_SIZE = 4

DATAGRAM_HEADER = np.dtype(
    [
        ("magic", "S16"),
        ("version", "<u4"),
        ("size", "<u4"),  # bytes of the whole datagram, the checksum included
        ("events", "<u4"),
        ("startedat", "<u4"),  # MET seconds
        ("groundid", "<u4"),
        ("apid", "<u4"),
        ("datagram", "<u4"),
        ("modechanges", "<u4"),
        ("platform", "<i4"),
        ("origin", "<i4"),
        ("open_action", "<i4"),
        ("open_reason", "<i4"),
        ("crate", "<i4"),
        ("mode", "<i4"),
        ("close_action", "<i4"),
        ("close_reason", "<i4"),
        ("hwkey", "<u4"),
        ("swkey", "<u4"),
    ]
)

# Its first fields, up to the APID, for looking at a single datagram.
_HEADER_START = struct.Struct("<16s6I")

_SHARED = slice(16, 120)  # bytes of time tones and scalers, in a row as in an event record's context


def _event_row() -> np.dtype[np.void]:
    fields = evt.CONTEXT.fields
    assert fields is not None
    shared = {name: field[:2] for name, field in fields.items() if _SHARED.start <= field[1] < _SHARED.stop}
    own = {"seconds": ("<u4", 0), "microseconds": ("<u4", 4), "ebf_size": ("<u4", 8)}
    own |= {"infotype": ("<u2", 12), "handlers": ("<u2", 14)}
    formats, offsets = zip(*(own | shared).values(), strict=True)
    return np.dtype(
        {
            "names": [*own, *shared],
            "formats": list(formats),
            "offsets": list(offsets),
            "itemsize": _SHARED.stop,
        }
    )


# One row an event: its time, the sizes of its parts, and the context's time tones and scalers.
EVENT_ROW = _event_row()

# Texts of the codes (ground-chain §3.3); spellings that no public index shows are the lower-cased names.
PLATFORMS = {-1: "noplatform", 0: "lat", 1: "testbed", 2: "host"}
ORIGINS = {-1: "noorigin", 0: "orbit", 1: "montecarlo", 2: "ground"}
OPEN_ACTIONS = {0: "start", 1: "resume", 2: "continue", 3: "unspecified"}
CLOSE_ACTIONS = {0: "stop", 1: "abort", 2: "pause", 3: "continue", 4: "unspecified"}
REASONS = {0: "operator", 1: "modechange", 2: "timedout", 3: "countedout", 4: "full", 5: "unknown"}
CRATES = {-1: "nocrate", 0: "epu0", 1: "epu1", 2: "epu2", 3: "siu0", 4: "siu1", 5: "aux", 6: "mixed"}
MODES = {
    -1: "nomode",
    0: "normal",
    1: "too",
    2: "grb0",
    3: "grb1",
    4: "grb2",
    5: "solar",
    6: "calibration",
    7: "diagnostic",
}

# Header field, its texts, the field of the context and that of the DGM line that show them.
_CODES = (
    ("platform", PLATFORMS, "run_platform", "platform"),
    ("origin", ORIGINS, "run_origin", "origin"),
    ("open_action", OPEN_ACTIONS, "open_action", "oaction"),
    ("open_reason", REASONS, "open_reason", "oreason"),
    ("crate", CRATES, "open_crate", "crate"),
    ("mode", MODES, "open_mode", "modename"),
    ("close_action", CLOSE_ACTIONS, "close_action", "caction"),
    ("close_reason", REASONS, "close_reason", "creason"),
)

_WORD = 4
_INFO_SIZES = np.array(
    [evt.LPA_INFO.itemsize, *(evt.LCI_INFO_OF[kind].itemsize for kind in sorted(evt.LCI_INFO_OF))], np.int64
)
_KEYS_SIZES = np.array([evt.LPA_KEYS.itemsize, *[evt.LCI_KEYS.itemsize] * 3], np.int64) - _WORD
_CONTEXT_WORDS = evt.CONTEXT.itemsize // _WORD
_UTC = evt.field_starts(evt.CONTEXT)["ccsds_utc"]
_EBF_HEAD = 3 * _WORD  # length, marker, inner length: in the record, not in the datagram


@dataclass(frozen=True)
class About:
    """What a datagram says of itself besides its events; codes as in ground-chain §3.3, keys of a DGM line.

    By default it continues a run of simulated data on crate EPU0 in normal mode.
    """

    startedat: int
    groundid: int
    apid: int
    datagram: int
    open_action: int = 2
    open_reason: int = 4
    close_action: int = 3
    close_reason: int = 4
    crate: int = 0
    mode: int = 0
    modechanges: int = 0
    hwkey: int = 0
    swkey: int = 0
    platform: int = 2
    origin: int = 1


@dataclass(frozen=True, eq=False)
class Decoded:
    """Datagrams taken apart.

    Attributes
    ----------
    records
        Records of an event file, one after the other, bytes.
    sizes
        Bytes of each record (int64).
    seconds
        `current_timeSecs` of each record (MET, uint32).
    lines
        dtype `halfpipe_simulator.index_lines.EVENT_LINE`, one an event; `offset` counts from the start of `records`.
    datagrams
        dtype `halfpipe.formats.idx.DATAGRAM`, one a datagram.
    """

    records: NDArray[np.uint8]
    sizes: NDArray[np.int64]
    seconds: NDArray[np.uint32]
    lines: NDArray[np.void]
    datagrams: NDArray[np.void]


def payload_sizes(rows: NDArray[np.void]) -> NDArray[np.int64]:
    """Return how many payload bytes belong to each event (dtype `EVENT_ROW`) of a known info type."""
    kind = rows["infotype"]
    fixed = _INFO_SIZES[kind] + _KEYS_SIZES[kind]
    sizes: NDArray[np.int64] = (
        fixed + rows["ebf_size"] + evt.LPA_HANDLER.itemsize * rows["handlers"].astype(np.int64)
    )
    return sizes


def encode(about: About, rows: NDArray[np.void], payload: bytes) -> bytes:
    """Return one simulated datagram.

    Parameters
    ----------
    about
        The fields of its header.
    rows
        dtype `EVENT_ROW`, one an event; may be empty.
    payload
        Of each event in turn: EBF, info, handlers (LPA only) and keys without their type.
    """
    size = DATAGRAM_HEADER.itemsize + rows.nbytes + len(payload) + CHECKSUM_SIZE
    header = np.zeros(1, DATAGRAM_HEADER)
    header["magic"], header["version"], header["size"], header["events"] = MAGIC, VERSION, size, rows.size
    for name, value in vars(about).items():
        header[name] = value
    body = header.tobytes() + rows.tobytes() + payload
    return body + zlib.crc32(body).to_bytes(CHECKSUM_SIZE, "little")


def complaint_of(datagram: bytes) -> str | None:
    """Say what is wrong with a datagram; None if it is as the simulator made it, by its checksum."""
    least = DATAGRAM_HEADER.itemsize + CHECKSUM_SIZE
    if len(datagram) < least:
        return f"{len(datagram)} bytes, a simulated datagram has at least {least}"
    magic, version, size, *_ = _HEADER_START.unpack_from(datagram)
    if magic != MAGIC or version != VERSION:
        return f"not a simulated datagram of version {VERSION}: it does not begin with {MAGIC.decode()}"
    if size != len(datagram):
        return f"{len(datagram)} bytes, but the datagram says {size}"
    if (
        zlib.crc32(memoryview(datagram)[:-CHECKSUM_SIZE]).to_bytes(CHECKSUM_SIZE, "little")
        != datagram[-CHECKSUM_SIZE:]
    ):
        return "the checksum does not fit: the datagram is damaged"
    return None


def run_of(datagram: bytes) -> tuple[int, int]:
    """Return ground id and run start (MET seconds) of a datagram that passed `complaint_of`."""
    *_, startedat, groundid, _ = _HEADER_START.unpack_from(datagram)
    return groundid, startedat


def decode(
    datagrams: Sequence[bytes], unix: NDArray[np.int64], *, scid: int, latc: int | None = None
) -> Decoded:
    """Make event records and index rows of datagrams.

    Needs some five times the datagrams' bytes at a time: give them in batches.

    Parameters
    ----------
    datagrams
        Such as pass `complaint_of`.
    unix
        Time stamp of the first packet of each, Unix UTC microseconds.
    scid
        The spacecraft, which packets do not name.
    latc
        Put into LATC_master of LPA records; None leaves what the datagrams say.
    """
    fixed, row_size = DATAGRAM_HEADER.itemsize, EVENT_ROW.itemsize
    headers = np.frombuffer(b"".join(d[:fixed] for d in datagrams), DATAGRAM_HEADER)
    views = [memoryview(d) for d in datagrams]
    ends = (fixed + headers["events"].astype(np.int64) * row_size).tolist()
    rows = np.frombuffer(b"".join(view[fixed:end] for view, end in zip(views, ends, strict=True)), EVENT_ROW)
    payload = np.frombuffer(
        b"".join(view[end:-CHECKSUM_SIZE] for view, end in zip(views, ends, strict=True)), "<u4"
    )
    of = np.repeat(np.arange(headers.size), headers["events"])
    texts = _texts(headers)
    dgmutc = unix / met.MICROSECONDS
    utc = met.unix_microseconds(rows["seconds"], rows["microseconds"]) / met.MICROSECONDS
    contexts = _contexts(headers, texts, scid)[of]
    records, sizes = _records(contexts, utc, rows, payload, latc)

    lines = np.zeros(rows.size, EVENT_LINE)
    lines["startedat"] = headers["startedat"][of]
    lines["sequence"] = rows["scalers_sequence"]
    lines["elapsed"] = rows["scalers_elapsed"]
    lines["livetime"] = rows["scalers_livetime"]
    lines["utc"] = utc
    lines["scid"] = scid
    lines["apid"] = headers["apid"][of]
    lines["datagram"] = headers["datagram"][of]
    first = np.cumsum(headers["events"], dtype=np.int64) - headers["events"]
    lines["dgmevt"] = np.arange(rows.size) - first[of]
    lines["oaction"] = texts["open_action"][of]
    lines["caction"] = texts["close_action"][of]
    lines["dgmutc"] = dgmutc[of]
    lines["offset"] = np.cumsum(sizes) - sizes
    return Decoded(
        records,
        sizes,
        rows["current_timeSecs"],
        lines,
        _datagram_rows(headers, texts, rows, utc, dgmutc, scid),
    )


def _texts(headers: NDArray[np.void]) -> dict[str, NDArray[np.bytes_]]:
    """Return the text of each code of each datagram; a code without a name is shown as its number."""
    texts = {}
    for name, known, _, _ in _CODES:
        codes, which = np.unique(headers[name], return_inverse=True)
        spelled = [known.get(code, str(code)).encode() for code in codes.tolist()]
        texts[name] = np.array(spelled, "S16")[which]
    return texts


def _contexts(headers: NDArray[np.void], texts: dict[str, NDArray[np.bytes_]], scid: int) -> NDArray[np.void]:
    """Return the context that the events of each datagram share, opaque, for numpy to copy as a whole."""
    shared = np.zeros(headers.size, evt.CONTEXT)
    shared["ccsds_scid"] = scid
    shared["ccsds_apid"] = headers["apid"]
    shared["run_groundId"] = headers["groundid"]
    shared["run_startedAt"] = headers["startedat"]
    shared["open_modeChanges"] = headers["modechanges"]
    shared["open_datagrams"] = headers["datagram"]
    for name, _, field, _ in _CODES:
        shared[field] = headers[name]
        shared[f"{field}Txt"] = texts[name]
    return shared.view(f"V{evt.CONTEXT.itemsize}")


def _records(
    contexts: NDArray[np.void],
    utc: NDArray[np.float64],
    rows: NDArray[np.void],
    payload: NDArray[np.uint32],
    latc: int | None,
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Lay the records out: contexts and lengths go to their places, the payload into what is left.

    What is left has the order of the payload, since both go event by event; so no index of its bytes
    is needed.
    """
    kind, lpa = rows["infotype"].astype(np.int64), rows["infotype"] == evt.InfoType.LPA
    ebf = rows["ebf_size"].astype(np.int64)
    # Besides the payload a record has its context, the EBF's head, info type, a count or length, key type.
    sizes = payload_sizes(rows) + evt.CONTEXT.itemsize + _EBF_HEAD + 3 * _WORD
    ends = np.cumsum(sizes) // _WORD
    begins = ends - sizes // _WORD
    total = int(ends[-1]) if ends.size else 0
    words, free = np.empty(total, "<u4"), np.ones(total, np.bool_)
    if total:
        _places(words, evt.CONTEXT.itemsize)[begins] = contexts
        _places(words, _SHARED.stop - _SHARED.start)[begins + _SHARED.start // _WORD] = _opaque(rows, _SHARED)
        _places(words, utc.itemsize)[begins + _UTC // _WORD] = utc.view(f"V{utc.itemsize}")
        _places(free, _CONTEXT_WORDS)[begins] = np.zeros((), f"V{_CONTEXT_WORDS}")

    def put(at: NDArray[np.int64], values: NDArray[np.generic] | int) -> None:
        words[at] = values
        free[at] = False

    at = begins + _CONTEXT_WORDS
    put(at, ebf + 2 * _WORD)
    put(at + 1, evt.EBF_MARKER)
    put(at + 2, ebf + 2 * _WORD)
    at = at + 3 + ebf // _WORD
    put(at, kind)
    info = _INFO_SIZES[kind]
    put(at + 1 + np.where(lpa, info // _WORD, 0), np.where(lpa, rows["handlers"], info))
    keys = ends - _KEYS_SIZES[kind] // _WORD
    put(keys - 1, np.where(lpa, evt.KeysType.LPA, evt.KeysType.LCI))
    words[free] = payload
    if latc is not None:
        words[ends[lpa] - evt.LATC_FROM_END // _WORD] = latc
    return words.view(np.uint8), sizes


def _places(array: NDArray[Any], size: int) -> NDArray[np.void]:
    """View `array` as parts of `size` bytes that start at each of its items."""
    count = array.size - size // array.itemsize + 1
    return np.ndarray(count, f"V{size}", array.data, 0, array.strides)


def _opaque(rows: NDArray[np.void], part: slice) -> NDArray[np.void]:
    """View the same bytes of each row, for numpy to copy as a whole."""
    return np.ndarray(rows.size, f"V{part.stop - part.start}", rows.data, part.start, rows.strides)


def _datagram_rows(
    headers: NDArray[np.void],
    texts: dict[str, NDArray[np.bytes_]],
    rows: NDArray[np.void],
    utc: NDArray[np.float64],
    dgmutc: NDArray[np.float64],
    scid: int,
) -> NDArray[np.void]:
    datagrams = np.zeros(headers.size, idx.DATAGRAM)
    for name in ("startedat", "apid", "datagram", "groundid", "modechanges", "hwkey", "swkey"):
        datagrams[name] = headers[name]
    for name, _, _, field in _CODES:
        datagrams[field] = texts[name]
    datagrams["scid"] = scid
    datagrams["utc"] = dgmutc
    datagrams["nevts"] = headers["events"]
    some = headers["events"] > 0
    last = np.cumsum(headers["events"], dtype=np.int64)[some] - 1
    first = last - headers["events"][some] + 1
    datagrams["evtutc0"][some], datagrams["evtutc1"][some] = utc[first], utc[last]
    datagrams["evtseq0"][some] = rows["scalers_sequence"][first]
    datagrams["evtseq1"][some] = rows["scalers_sequence"][last]
    return datagrams
