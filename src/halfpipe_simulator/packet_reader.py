"""Reads the packets of a level-0 archive: hourly files of CCSDS packets, one APID each (ground-chain §1, §2).

A packet has a primary header of 6 bytes, a secondary header of 8 bytes (time stamp), the number of padding bytes, the
payload, and padding to a multiple of 16 bytes. All numbers are big-endian. Files may have packets in any order, and the
same packet more than once. `read_datagrams` sorts the packets of some spans of time and joins them into datagrams.
Damage affects only the datagrams in which it occurs: it is reported in a line and does not raise an error.
"""

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import _lru_cache_wrapper, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from halfpipe.errors import MissingInputError
from halfpipe.files.reading import opened
from halfpipe.formats import archive_hours, met
from halfpipe.formats.structured import at_every_byte, joined, layout
from halfpipe_simulator.times import MICROSECONDS, unix_microseconds

HEADER_SIZE = 16
ROUNDING = 16
COUNTER = 1 << 14  # sequence counts wrap here
IDENTITY = 0x0800  # version 0, telemetry, secondary header present; the APID is in the low 11 bits
LENGTH_OFFSET = 7  # bytes of the whole packet minus its length field

_OPEN_MAPS = 8
_WINDOW = 1 << 22  # bytes of a mapped file that are searched before its pages are released

_Bytes = bytes | mmap.mmap


class Flags(IntEnum):
    """Position of a packet in its datagram: the two high bits of the sequence field."""

    MIDDLE = 0
    FIRST = 1
    LAST = 2
    ALONE = 3


HEADER = layout(">u2 identity sequence length", ">u4 seconds microseconds", ">u2 pad")

# `file` is an index into the list of files; `met` and `unix` are in microseconds; `size` is that of the whole packet.
PACKET = layout("u4 file", "i8 offset met unix", "u4 size", "u2 pad", "u1 flags", "u2 count")


@dataclass(frozen=True, eq=False)
class Retrieval:
    """Packets of one APID in some spans of time, sorted and without duplicates, and the complete datagrams.

    `packets` has dtype `PACKET`; datagram i has the packets ``packets[begins[i]:ends[i]]``. `faults` are lines for the
    log of a decoder.
    """

    files: tuple[Path, ...]
    packets: NDArray[np.void]
    begins: NDArray[np.int64]
    ends: NDArray[np.int64]
    faults: tuple[str, ...]
    _mapped: "_lru_cache_wrapper[_Bytes]"

    def __len__(self) -> int:
        return int(self.begins.size)

    def payload(self, datagram: int) -> bytes:
        """Return the joined payloads of the packets of `datagram`."""
        rows = self.packets[self.begins[datagram] : self.ends[datagram]]
        starts = (rows["offset"] + HEADER_SIZE).tolist()
        stops = (rows["offset"] + rows["size"] - rows["pad"]).tolist()
        files = rows["file"].tolist()
        views = {file: memoryview(self._mapped(self.files[file])) for file in set(files)}
        return b"".join(
            [views[file][start:stop] for file, start, stop in zip(files, starts, stops, strict=True)]
        )

    def let_go(self) -> None:
        """Unmap all files, so that their pages no longer count as memory of this process."""
        self._mapped.cache_clear()

    def place(self, datagram: int) -> tuple[Path, int]:
        """Return the file and the byte where the first packet of `datagram` starts."""
        row = self.packets[self.begins[datagram]]
        return self.files[row["file"]], int(row["offset"])


def file_name(scid: int, apid: int, start: int, l0key: int) -> str:
    """Return the name of an archive file; `start` is the MET of its first packet in whole seconds."""
    return f"s{scid:04d}a{apid:04d}t{start:010d}.{l0key:010d}"


def archive_files(
    root: Path, scid: int, apid: int, spans: Sequence[tuple[float, float]]
) -> tuple[list[tuple[int, Path]], list[str]]:
    """Find the files that may contain packets of `apid` in `spans`, from any delivery to the archive.

    Packets near the start or end of an hour may be in the file of the neighboring hour, so the hours before and after
    each span are searched too. These may be missing; a missing hour inside a span is reported.

    Parameters
    ----------
    spans
        Begin and end of each, Unix UTC seconds.

    Returns
    -------
    list of (int, Path)
        The files in order of hour and name, each with the start of its hour (Unix UTC seconds).
    list of str
        Faults: the missing hours.

    Raises
    ------
    MissingInputError
        If `root` has no directory of the spacecraft: the archive is not mounted, or this is not an archive.
    OSError
        If the directory of an hour cannot be listed.
    """
    source = archive_hours.source_path(root, scid)
    if not source.is_dir():
        raise MissingInputError(
            f"{source}: no such directory, so {root} is not a level-0 archive of spacecraft {scid}. "
            f"Mount it, or correct paths.level0."
        )
    inside = archive_hours.hours_inside(spans)
    around = {near for hour in inside for near in (hour - 1, hour, hour + 1)}
    files: list[tuple[int, Path]] = []
    faults: list[str] = []
    for hour in sorted(around):
        start = hour * archive_hours.HOUR
        directory = archive_hours.hour_path(root, scid, start)
        names = archive_hours.files(directory, scid, apid)
        files += [(start, path) for path in names]
        if not names and hour in inside:
            faults.append(_fault(directory, 0, f"no packets of APID {apid} for this hour of the span"))
    return files, faults


def read_datagrams(root: Path, scid: int, apid: int, spans: Sequence[tuple[float, float]]) -> Retrieval:
    """Read the packets of `apid` in `spans`, sort them and join them into datagrams.

    Parameters
    ----------
    root
        Root of the archive, with directories ``src%04d``.
    spans
        Begin and end of each span, both included (to the microsecond), in Unix UTC seconds.

    Raises
    ------
    MissingInputError, FormatError, OSError
        If the archive or a file in it cannot be read.
    """
    found, faults = archive_files(root, scid, apid, spans)
    files = tuple(path for _, path in found)
    mapped = lru_cache(_OPEN_MAPS)(_map)
    edges = _microseconds(spans)
    inside = archive_hours.hours_inside(spans)
    parts = [np.zeros(0, PACKET)]
    for number, (hour, path) in enumerate(found):
        rows, damage = _scan(mapped(path), apid, hour)
        rows["file"] = number
        if hour // archive_hours.HOUR in inside:
            faults += [_fault(path, *each) for each in damage]
        parts.append(rows[_span_of(edges, rows["unix"]) >= 0])
    packets, strays = _without_strays(_in_order(np.concatenate(parts)))
    lost = [(row, "skipped a packet that is out of order") for row in strays]
    begins, ends, breaks = _datagrams(packets, _span_of(edges, packets["unix"]))
    lost += [(packets[at], "packets are missing; skipped incomplete datagrams") for at in breaks]
    faults += [
        _fault(files[row["file"]], row["offset"], f"counter {row['count']}: {why}") for row, why in lost
    ]
    return Retrieval(files, packets, begins, ends, tuple(faults), mapped)


def _microseconds(spans: Sequence[tuple[float, float]]) -> NDArray[np.int64]:
    """Return the spans in whole microseconds, sorted, with overlapping ones joined; shape (n, 2)."""
    joined: list[list[int]] = []
    for begin, end in sorted(
        (round(begin * MICROSECONDS), round(end * MICROSECONDS)) for begin, end in spans
    ):
        if joined and begin <= joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], end)
        else:
            joined.append([begin, end])
    return np.array(joined, np.int64).reshape(-1, 2)


def _span_of(edges: NDArray[np.int64], unix: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number of the span that contains each time; -1 if none does."""
    at = np.searchsorted(edges[:, 0], unix, side="right") - 1
    return np.where((at >= 0) & (unix <= edges[at, 1]), at, -1)


def _fault(file: Path, offset: int, reason: str) -> str:
    """Return the line that reports damage in a file, or a missing hour with its directory."""
    return f"PktRetriever exception: {file} at byte {offset}: {reason}"


def _map(path: Path) -> _Bytes:
    with opened(path, "level-0 file", "Ask for a repair of the archive") as file:
        if not path.stat().st_size:
            return b""
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _scan(data: _Bytes, apid: int, hour: int) -> tuple[NDArray[np.void], list[tuple[int, str]]]:
    """Find the packets of one file.

    A header is valid if all its fields are possible for `apid` within one hour of the file's hour. Random bytes do not
    pass this test, because some 60 bits must match. A length is valid if no other header begins before the packet ends.

    Parameters
    ----------
    data
        The file's bytes.
    hour
        Unix UTC of the start of the file's hour.

    Returns
    -------
    NDArray of PACKET
        The packets, with `file` zero.
    list of (int, str)
        Damage: the byte, and a text.
    """
    rows = _headers(data, apid, hour)
    ends = rows["offset"] + rows["size"]
    limits = np.append(rows["offset"], len(data))
    valid = ends <= limits[1:]
    rest = np.append(0, np.where(valid, ends, rows["offset"]))
    damage = [
        (int(rest[at]), f"{limits[at] - rest[at]} bytes of garbage: not a packet of APID {apid}")
        for at in np.flatnonzero((rest < limits) | (len(data) == 0)).tolist()
    ]
    return rows.take(np.flatnonzero(valid)), damage


def _headers(data: _Bytes, apid: int, hour: int) -> NDArray[np.void]:
    """Return a packet for each possible header, at any byte of the file."""
    first, second = (IDENTITY | apid).to_bytes(2, "big")
    earliest = int(met.unix_to_met(hour - archive_hours.HOUR))
    latest = int(met.unix_to_met(hour + 2 * archive_hours.HOUR))
    content = np.frombuffer(data, np.uint8)
    everywhere = at_every_byte(data, f"V{HEADER_SIZE}")
    found = [np.zeros(0, PACKET)]
    for begin in range(0, len(everywhere), _WINDOW):
        at = begin + np.flatnonzero(content[begin : min(begin + _WINDOW, len(everywhere))] == first)
        at = at[content[at + 1] == second]
        heads = everywhere[at].view(HEADER)
        size = heads["length"].astype(np.int64) + LENGTH_OFFSET
        possible = np.flatnonzero(
            (heads["seconds"] >= earliest)
            & (heads["seconds"] < latest)
            & (heads["microseconds"] < MICROSECONDS)
            & (size % ROUNDING == 0)
            & (heads["pad"] < ROUNDING)
            & (heads["pad"] <= size - HEADER_SIZE)
        )
        heads = heads.take(possible)
        rows = np.zeros(possible.size, PACKET)
        seconds = heads["seconds"].astype(np.int64)
        microseconds = heads["microseconds"].astype(np.int64)
        rows["offset"] = at[possible]
        rows["size"] = size[possible]
        rows["pad"] = heads["pad"]
        rows["met"] = seconds * MICROSECONDS + microseconds
        rows["unix"] = unix_microseconds(seconds, microseconds)
        rows["flags"] = heads["sequence"] >> 14
        rows["count"] = heads["sequence"] & (COUNTER - 1)
        found.append(rows)
        if isinstance(data, mmap.mmap):  # a second read comes from the page cache
            data.madvise(mmap.MADV_DONTNEED)
    return joined(found)


def _in_order(rows: NDArray[np.void]) -> NDArray[np.void]:
    """Sort by time and counter, with the counter unwrapped among packets of equal time; drop duplicates."""
    if not rows.size:
        return rows
    rows = rows.take(np.argsort(rows["met"], kind="stable"))
    starts = np.flatnonzero(np.r_[True, np.diff(rows["met"]) != 0])
    count = rows["count"].astype(np.int64)
    lowest = np.minimum.reduceat(count, starts)
    highest = np.maximum.reduceat(count, starts)
    wraps = np.repeat(highest - lowest > COUNTER // 2, np.diff(np.r_[starts, rows.size]))
    count[wraps & (count < COUNTER // 2)] += COUNTER
    rows = rows.take(np.lexsort((rows["offset"], rows["file"], count, rows["met"])))
    other = (np.diff(rows["met"]) != 0) | (rows["count"][1:] != rows["count"][:-1])
    return rows.take(np.flatnonzero(np.append(True, other)))


def _without_strays(packets: NDArray[np.void]) -> tuple[NDArray[np.void], NDArray[np.void]]:
    """Remove single packets between two packets that are consecutive; return the rest and the removed ones.

    Such a packet has a damaged time stamp, which moved it into another datagram.
    """
    counts: NDArray[np.int64] = packets["count"].astype(np.int64)
    step = np.diff(counts) % COUNTER
    stray = np.zeros(packets.size, bool)
    stray[1:-1] = ((step[:-1] + step[1:]) % COUNTER == 1) & (step[:-1] != 1) & (step[1:] != 1)
    return packets.take(np.flatnonzero(~stray)), packets[stray]


def _datagrams(
    packets: NDArray[np.void], span: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Join sorted packets into datagrams by their flags and counters.

    Returns
    -------
    NDArray of int64, NDArray of int64
        First packet of each complete datagram, and one past its last.
    NDArray of int64
        First packet of the first datagram that each loss affects.
    """
    if not packets.size:
        return (np.zeros(0, np.int64),) * 3
    flags = packets["flags"]
    count = packets["count"].astype(np.int64)
    step = np.diff(count) % COUNTER
    opens = np.isin(flags, (Flags.FIRST, Flags.ALONE))
    closes = np.isin(flags, (Flags.LAST, Flags.ALONE))
    joined = (step == 1) & ~opens[1:] & ~closes[:-1]
    begins = np.flatnonzero(np.r_[True, ~joined])
    ends = np.r_[begins[1:], packets.size]
    whole = opens[begins] & closes[ends - 1]

    # A loss affects the datagrams around it. It is reported once, at the first of them.
    wrong = ~whole | np.r_[False, (step != 1) & (np.diff(span) == 0)][begins]
    first = np.flatnonzero(wrong & ~np.r_[False, wrong[:-1]])
    return begins[whole].astype(np.int64), ends[whole].astype(np.int64), begins[first].astype(np.int64)
