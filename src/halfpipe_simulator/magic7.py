"""Simulated magic-7: the format of its datagrams, and attitude and orbit that fill them (ground-chain §5).

A circular orbit and a steady turn; the numbers have the right size and nothing more.
"""

import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from halfpipe.errors import FormatError
from halfpipe.formats import met
from halfpipe_simulator.datagrams import CHECKSUM_SIZE, MAX_SIZE, VERSION, sealed

MAGIC = b"SIMULATED-MAGIC7"
APID = 1020

HEADER = np.dtype(
    [
        ("magic", "S16"),
        ("version", "<u4"),
        ("size", "<u4"),
        ("attitudes", "<u4"),
        ("ancillaries", "<u4"),
    ]
)

# Sizes and order of fields as the flight records have them (ground-chain §5); byte order is ours.
ATTITUDE = np.dtype(
    [
        ("seconds", "<u4"),
        ("microseconds", "<u4"),
        ("quaternion", ("<f8", 4)),
        ("rates", ("<f4", 3)),  # rad/s
        ("unused", "<u4"),
    ]
)
ANCILLARY = np.dtype(
    [
        ("seconds", "<u4"),
        ("microseconds", "<u4"),
        ("position", ("<f4", 3)),  # m, J2000
        ("velocity", ("<f4", 3)),  # m/s
        ("mode", "u1"),
        ("ssr", "u1"),
        ("flags", "<u2"),
    ]
)
FLAG_IN_SAA = 1  # bit of `flags`; where the flight record has it is not public

ATTITUDES_PER_SECOND = 5
PER_DATAGRAM = 10  # seconds of records in one datagram
RADIUS = 6.93e6  # metres
PERIOD = 5730.0  # seconds
INCLINATION = np.radians(25.6)
SAA_SHARE = 0.13  # of each orbit, simulated as one passage
SURVEY = 5  # mode


def encode(attitudes: NDArray[np.void], ancillaries: NDArray[np.void]) -> bytes:
    """Return one simulated magic-7 datagram of `attitudes` (`ATTITUDE`) and `ancillaries` (`ANCILLARY`).

    Raises
    ------
    FormatError
        If it is larger than 64 KiB.
    """
    size = HEADER.itemsize + attitudes.nbytes + ancillaries.nbytes + CHECKSUM_SIZE
    if size > MAX_SIZE:
        raise FormatError(f"simulated magic-7 datagram: {size} bytes, it has at most {MAX_SIZE}")
    header = np.array([(MAGIC, VERSION, size, attitudes.size, ancillaries.size)], HEADER)
    return sealed(header.tobytes() + attitudes.tobytes() + ancillaries.tobytes())


def decode(datagram: bytes) -> tuple[NDArray[np.void], NDArray[np.void]]:
    """Return the attitudes and the ancillary records of a simulated magic-7 datagram.

    Raises
    ------
    FormatError
        If it is none or is damaged; the message says what, the caller knows where.
    """
    fixed = HEADER.itemsize
    if len(datagram) < fixed + CHECKSUM_SIZE or not datagram.startswith(MAGIC):
        raise FormatError(f"not a simulated magic-7 datagram: it does not begin with {MAGIC.decode()}")
    header = np.frombuffer(datagram, HEADER, 1)[0]
    attitudes, ancillaries = int(header["attitudes"]), int(header["ancillaries"])
    expected = fixed + attitudes * ATTITUDE.itemsize + ancillaries * ANCILLARY.itemsize + CHECKSUM_SIZE
    stored = int.from_bytes(datagram[-CHECKSUM_SIZE:], "little")
    if header["version"] != VERSION or len(datagram) != expected or header["size"] != expected:
        raise FormatError(f"a simulated magic-7 datagram of {len(datagram)} bytes, expected {expected}")
    if zlib.crc32(datagram[:-CHECKSUM_SIZE]) != stored:
        raise FormatError("the checksum of a simulated magic-7 datagram does not fit: it is damaged")
    middle = fixed + attitudes * ATTITUDE.itemsize
    return (
        np.frombuffer(datagram, ATTITUDE, attitudes, fixed),
        np.frombuffer(datagram, ANCILLARY, ancillaries, middle),
    )


def magic7_datagrams(first: int, last: int) -> Iterator[tuple[int, bytes]]:
    """Yield simulated magic-7 datagrams from MET second `first` to `last`: MET microseconds, content.

    A datagram's time is just after its last record.
    """
    for begin in range(first, last + 1, PER_DATAGRAM):
        steps = np.arange(PER_DATAGRAM * ATTITUDES_PER_SECOND)
        attitudes = np.zeros(steps.size, ATTITUDE)
        attitudes["seconds"] = begin + steps // ATTITUDES_PER_SECOND
        attitudes["microseconds"] = steps % ATTITUDES_PER_SECOND * (met.MICROSECONDS // ATTITUDES_PER_SECOND)
        half = np.pi * (attitudes["seconds"] + attitudes["microseconds"] / met.MICROSECONDS) / PERIOD
        attitudes["quaternion"][:, 0] = np.sin(half) * np.sin(INCLINATION)
        attitudes["quaternion"][:, 2] = np.sin(half) * np.cos(INCLINATION)
        attitudes["quaternion"][:, 3] = np.cos(half)
        attitudes["rates"][:, 2] = 2 * np.pi / PERIOD

        ancillaries = np.zeros(PER_DATAGRAM, ANCILLARY)
        ancillaries["seconds"] = begin + np.arange(PER_DATAGRAM)
        phase = 2 * np.pi * ancillaries["seconds"] / PERIOD
        speed = 2 * np.pi * RADIUS / PERIOD
        ancillaries["position"] = RADIUS * _in_plane(np.cos(phase), np.sin(phase))
        ancillaries["velocity"] = speed * _in_plane(-np.sin(phase), np.cos(phase))
        ancillaries["mode"] = SURVEY
        ancillaries["flags"] = np.where(phase / (2 * np.pi) % 1 < SAA_SHARE, FLAG_IN_SAA, 0)
        yield (
            (begin + PER_DATAGRAM) * met.MICROSECONDS,
            encode(attitudes, ancillaries),
        )


def _in_plane(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.stack([x, y * np.cos(INCLINATION), y * np.sin(INCLINATION)], axis=1)
