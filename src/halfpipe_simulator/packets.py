"""Simulated CCSDS packets, written for `packet_reader` to read (ground-chain §1)."""

import struct

from halfpipe_simulator.packet_reader import COUNTER, HEADER_SIZE, IDENTITY, LENGTH_OFFSET, ROUNDING, Flags

PACKET_SIZE = 4096  # bytes of a full packet; the flight value is not public, but of this order
PACKET_SPACING = 20  # microseconds between the packets of one datagram

_HEADER = struct.Struct(">HHHIIH")


def make_packet(
    *,
    apid: int = 956,
    seq: int = 0,
    body: bytes = b"",
    seconds: int = 0,
    microseconds: int = 0,
    flags: Flags = Flags.ALONE,
) -> bytes:
    """Return one packet, padded with zeros to a multiple of 16 bytes.

    Parameters
    ----------
    apid
        11 bits.
    seq
        Sequence counter of the APID, 14 bits.
    body
        The payload.
    seconds, microseconds
        Time stamp, MET.
    flags
        Position of the packet in its datagram.
    """
    pad = -len(body) % ROUNDING
    size = HEADER_SIZE + len(body) + pad
    sequence = flags << 14 | seq
    header = _HEADER.pack(IDENTITY | apid, sequence, size - LENGTH_OFFSET, seconds, microseconds, pad)
    return header + body + bytes(pad)


def packet_count(size: int, packet_size: int = PACKET_SIZE) -> int:
    """Return the number of packets of `packet_size` bytes for a datagram of `size` bytes."""
    return max(1, -(-size // (packet_size - HEADER_SIZE)))


def packets_of(
    datagram: bytes, *, apid: int, seq: int, met: int, packet_size: int = PACKET_SIZE
) -> list[bytes]:
    """Split `datagram` into packets.

    Parameters
    ----------
    seq
        Counter of the first packet; the counter wraps.
    met
        Time stamp of the first packet, MET microseconds; the others follow `PACKET_SPACING` apart.
    packet_size
        Bytes of a full packet, a multiple of 16.
    """
    room = packet_size - HEADER_SIZE
    count = packet_count(len(datagram), packet_size)
    packets = []
    for number in range(count):
        first = Flags.FIRST * (number == 0)
        last = Flags.LAST * (number == count - 1)
        seconds, microseconds = divmod(met + number * PACKET_SPACING, 1_000_000)
        packets.append(
            make_packet(
                apid=apid,
                seq=(seq + number) % COUNTER,
                body=datagram[number * room : (number + 1) * room],
                seconds=seconds,
                microseconds=microseconds,
                flags=Flags(first | last),
            )
        )
    return packets
