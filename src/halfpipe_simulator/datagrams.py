"""Simulated datagrams: the content of packets in simulated level-0 (docs/simulated-format.md).

The flight format of datagrams is not public, so this format is the project's own. A datagram begins with "SIMULATED",
and contains the row of its line in the index, and the records of its events as in an event file. Flight data never look
like this.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from halfpipe.formats import evt, idx
from halfpipe.formats.structured import at_every_byte, joined
from halfpipe.ids import LPA_APIDS
from halfpipe_simulator.index_lines import EVENT_LINE
from halfpipe_simulator.packet_reader import Retrieval
from halfpipe_simulator.times import MICROSECONDS

MAGIC = b"SIMULATED-LATDG2"
CHECKSUM_SIZE = 4
HEAD = len(MAGIC) + idx.Datagrams.row.itemsize  # followed by the sizes of the records, and the records

# Fields of an EVT line, and the fields of a record's context with the same value.
_SHOWN = {
    "startedat": "run_startedAt",
    "sequence": "scalers_sequence",
    "elapsed": "scalers_elapsed",
    "livetime": "scalers_livetime",
    "utc": "ccsds_utc",
    "scid": "ccsds_scid",
    "apid": "ccsds_apid",
    "datagram": "open_datagrams",
    "oaction": "open_actionTxt",
    "caction": "close_actionTxt",
}


@dataclass(frozen=True, eq=False)
class Decoded:
    """Decoded datagrams.

    Attributes
    ----------
    records
        Records for an event file, one after the other.
    lines
        One row per event, dtype `halfpipe_simulator.index_lines.EVENT_LINE`; `offset` counts from the start of
        `records`.
    datagrams
        One row per datagram.
    """

    records: bytearray
    lines: NDArray[np.void]
    datagrams: idx.Datagrams


def encode(row: idx.Datagrams, records: Sequence[bytes]) -> bytes:
    """Return one simulated datagram.

    Parameters
    ----------
    row
        The row of its line in the index; `utc` is the time of its packets.
    records
        The records of its events, at least one.
    """
    sizes = np.array([len(record) for record in records], "<u4")
    body = b"".join((MAGIC, row.tobytes(), sizes.tobytes(), *records))
    return body + _checksum(body)


def _checksum(body: bytes | memoryview) -> bytes:
    return zlib.crc32(body).to_bytes(CHECKSUM_SIZE, "little")


def row_of(datagram: bytes) -> idx.Datagrams:
    """Return the row of a valid datagram, as a table of one row."""
    return np.frombuffer(datagram, idx.Datagrams.row, 1, len(MAGIC)).view(idx.Datagrams)


def run_of(datagram: bytes) -> tuple[int, int]:
    """Return ground id and run start (MET seconds) of a valid datagram."""
    row = row_of(datagram)
    return int(row.groundid[0]), int(row.startedat[0])


def sound_datagrams(packets: Retrieval, faults: TextIO) -> Iterator[tuple[int, bytes]]:
    """Yield number and bytes of each valid datagram; print the defects of others to `faults`."""
    for number in range(len(packets)):
        datagram = packets.payload(number)
        if not datagram.startswith(MAGIC):
            complaint = f"not a simulated datagram: it does not begin with {MAGIC.decode()}"
        elif _checksum(memoryview(datagram)[:-CHECKSUM_SIZE]) != datagram[-CHECKSUM_SIZE:]:
            complaint = "the datagram is damaged (checksum mismatch)"
        else:
            yield number, datagram
            continue
        file, offset = packets.place(number)
        print(f"DFI exception: {file} at byte {offset}: {complaint}", file=faults)


def decode(datagrams: Sequence[bytes], unix: NDArray[np.int64], *, latc: int | None = None) -> Decoded:
    """Make event records and index rows from datagrams of one APID.

    Parameters
    ----------
    datagrams
        Valid datagrams.
    unix
        Time stamp of the first packet of each, Unix UTC microseconds.
    latc
        Value for LATC_master of LPA records; None keeps the value in the datagrams.
    """
    rows = joined([row_of(datagram) for datagram in datagrams])
    rows.utc[:] = unix / MICROSECONDS
    counts = rows.nevts.astype(np.int64)
    ends = (HEAD + 4 * counts).tolist()
    views = [memoryview(datagram) for datagram in datagrams]
    sizes = np.frombuffer(
        b"".join(view[HEAD:end] for view, end in zip(views, ends, strict=True)), "<u4"
    ).astype(np.int64)
    records = bytearray().join(view[end:-CHECKSUM_SIZE] for view, end in zip(views, ends, strict=True))
    data = np.frombuffer(records, np.uint8)
    offsets = np.cumsum(sizes) - sizes
    if latc is not None and rows.apid[0] in LPA_APIDS:
        at_every_byte(records, "<u4")[offsets + sizes - evt.LATC_FROM_END] = latc
    lines = np.zeros(offsets.size, EVENT_LINE)
    for field, shown in _SHOWN.items():
        lines[field] = evt.context_column(data, offsets, shown)
    of = np.repeat(np.arange(rows.size), counts)
    lines["dgmevt"] = np.arange(offsets.size) - (np.cumsum(counts) - counts)[of]
    lines["dgmutc"] = rows.utc[of]
    lines["offset"] = offsets
    return Decoded(records, lines, rows)
