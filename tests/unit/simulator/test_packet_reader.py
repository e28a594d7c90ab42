"""The packet reader, on packets made one by one."""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from space_packet_parser.generators.ccsds import ccsds_generator

from halfpipe.errors import FormatError, MissingInputError
from halfpipe.formats import archive_hours
from halfpipe.formats.met import unix_to_met
from halfpipe_simulator import packet_reader
from halfpipe_simulator.packet_reader import COUNTER, Flags, Retrieval, file_name, read_datagrams
from halfpipe_simulator.packets import make_packet, packets_of
from tests.support.watch import at_once

HOUR = 1680314400  # 2023-04-01 02:00:00 UTC
START = int(unix_to_met(HOUR)) + 600
SPAN = (HOUR, HOUR + 3599.999999)
SIZE = 64  # bytes of a full packet here
FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def body(number: int, size: int = 130) -> bytes:
    """Content of datagram `number`: no byte of it looks like a packet header."""
    return bytes([0x80 | number % 100] * size)


def datagram(number: int, *, seq: int | None = None, size: int = 130, apid: int = 956) -> list[bytes]:
    """Return the three packets of datagram `number`, a second after those of the one before."""
    first, met = (3 * number if seq is None else seq) % COUNTER, (START + number) * 10**6
    return packets_of(body(number, size), apid=apid, seq=first, met=met, packet_size=SIZE)


def several(count: int, first: int = 0) -> list[bytes]:
    return [packet for number in range(first, first + count) for packet in datagram(number)]


def alone(seq: int, content: bytes) -> bytes:
    return make_packet(seconds=START, seq=seq % COUNTER, body=content, flags=Flags.ALONE)


def archive(root: Path, packets: Sequence[bytes], *, hour: float = HOUR, key: int = 1) -> Path:
    path = archive_hours.hour_path(root, 77, hour) / file_name(77, 956, START, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(packets))
    return path


def contents(found: Retrieval) -> list[bytes]:
    return [found.payload(number) for number in range(len(found))]


def bodies(*numbers: int) -> list[bytes]:
    return [body(number) for number in numbers]


def read(root: Path, *spans: tuple[float, float]) -> Retrieval:
    return read_datagrams(root, 77, 956, spans or [SPAN])


def test_packets_agree_with_an_independent_parser() -> None:
    packet = make_packet(apid=956, seq=7, body=b"\xaa" * 5, seconds=0x2C2E5787, microseconds=0x0F423F)
    assert packet.hex() == "0bbc c007 0019 2c2e5787 000f423f 000b aaaaaaaaaa".replace(" ", "") + "00" * 11
    packets = [*several(6), make_packet(body=bytes(7), seq=99)]
    parsed = list(ccsds_generator(b"".join(packets)))
    assert [bytes(packet) for packet in parsed] == packets
    assert [packet.sequence_count for packet in parsed] == [*range(18), 99]
    assert [packet.sequence_flags for packet in parsed] == [1, 0, 2] * 6 + [3]


def test_packets_are_found_and_joined_to_datagrams(tmp_path: Path) -> None:
    path = archive(tmp_path, several(5))
    assert path.relative_to(tmp_path).parts[:-1] == ("src0077", "2023", "04", "091.04.01.Sat", "utc02")
    for other in ("s0099a0956t0000000001.0000000001", "s0077a0957t0000000001.0000000001", path.name + ".tmp"):
        path.with_name(other).write_bytes(b"not read")
    found = read(tmp_path)
    assert contents(found) == bodies(*range(5))
    assert found.faults == ()
    assert found.packets["unix"][found.begins].tolist() == [(HOUR + 600 + n) * 10**6 for n in range(5)]
    assert found.packets["offset"].tolist() == list(range(0, 15 * SIZE, SIZE))
    assert found.packets["pad"].tolist() == [0, 0, 14] * 5
    assert np.diff(found.packets["met"]).tolist()[:5] == [20, 20, 999960, 20, 20]
    assert found.place(1) == (path, 3 * SIZE)


@FEW
@given(st.randoms(use_true_random=False), st.integers(1, 4))
def test_any_order_over_any_files_with_repeats(tmp_path: Path, random: Random, keys: int) -> None:
    packets = several(8)
    packets += [random.choice(packets) for _ in range(10)]
    random.shuffle(packets)
    for key in range(4):
        last = [make_packet(seconds=START + 99, seq=24)]
        archive(tmp_path, packets[key::keys] if key < keys else last, key=key)
    found = read(tmp_path, (HOUR, HOUR + 698))
    assert contents(found) == bodies(*range(8))
    assert found.faults == ()


def test_counters_wrap_between_and_inside_datagrams_and_times(tmp_path: Path) -> None:
    archive(tmp_path, [p for n in range(4) for p in datagram(n, seq=COUNTER - 4 + 3 * n)][::-1])
    assert contents(read(tmp_path)) == bodies(*range(4))
    assert read(tmp_path).faults == ()
    packets = [alone(seq, bytes([0x80 | n])) for n, seq in enumerate(range(COUNTER - 2, COUNTER + 2))]
    for order in (packets, packets[::-1]):
        archive(tmp_path, order)
        assert contents(read(tmp_path)) == [b"\x80", b"\x81", b"\x82", b"\x83"]


def test_span_includes_its_edges_and_cut_datagrams_are_reported(tmp_path: Path) -> None:
    archive(tmp_path, several(4))
    begin, end = HOUR + 601, HOUR + 602.00004  # the third packet is 40 microseconds after the first
    assert contents(read(tmp_path, (begin, end))) == bodies(1, 2)
    assert contents(read(tmp_path, (begin + 0.000001, end - 0.000001))) == []
    two = read(tmp_path, (HOUR + 600, HOUR + 600.5), (HOUR + 603, HOUR + 603.5))
    assert (contents(two), two.faults) == (bodies(0, 3), ())
    overlapping = read(tmp_path, (HOUR + 600, HOUR + 602.5), (HOUR + 600.5, HOUR + 601))
    assert (contents(overlapping), overlapping.faults) == (bodies(0, 1, 2), ())
    cut = read(tmp_path, (HOUR + 600.00001, HOUR + 602.00001))
    assert (contents(cut), len(cut.faults)) == (bodies(1), 2)


def test_neighboring_hours_are_read_but_only_missing_hours_inside_are_reported(tmp_path: Path) -> None:
    archive(tmp_path, several(3))
    for hour, first in ((-1, 3), (1, 5)):
        archive(tmp_path, several(2, first), hour=HOUR + 3600 * hour)
    assert contents(read(tmp_path)) == bodies(*range(7))
    found = read(tmp_path, (HOUR, HOUR + 10900))
    for fault, named in zip(found.faults, ("utc04", "utc05"), strict=True):
        assert re.match(rf"PktRetriever exception: .*/{named} at byte 0: ", fault)
    archive(tmp_path, [b"junk" * 100], hour=HOUR - 3600)
    assert read(tmp_path, (HOUR + 600, HOUR + 602.5)).faults == (), "damage of another hour"


def test_no_archive_is_an_error(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "no"):
        with pytest.raises(MissingInputError, match=f"^{root / 'src0077'}: "):
            read(root)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_unreadable_file_is_an_error(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = archive(tmp_path, [])
    path.with_name(f"{path.name}x").symlink_to("/etc/passwd")  # not an archive file's name
    path.unlink()
    make(path)
    with at_once(), pytest.raises(FormatError, match=f"^{path}: "):
        read(tmp_path)


# Damage: what is hit is lost and told, what is not hit is there.


def damaged(root: Path, *content: bytes) -> tuple[list[int], list[str]]:
    """Read a file of this content: numbers of the datagrams found, and the reasons of the faults."""
    archive(root, content)
    found = read(root)
    numbers = [each[0] & 0x7F for each in contents(found)]
    assert contents(found) == bodies(*numbers)
    return numbers, list(found.faults)


def test_lost_packets_and_datagrams(tmp_path: Path) -> None:
    packets = several(5)
    for first, end in ((6, 7), (7, 8), (8, 9), (6, 9)):
        numbers, reasons = damaged(tmp_path, *packets[:first], *packets[end:])
        assert numbers == [0, 1, 3, 4]
        assert len(reasons) == 1


def test_garbage_between_packets(tmp_path: Path) -> None:
    packets = several(4)
    for junk in (b"\x00", b"junk" * 5, b"\x0b\xbc" * 40, bytes(70000)):
        numbers, reasons = damaged(tmp_path, *packets[:7], junk, *packets[7:])
        assert (numbers, len(reasons)) == ([0, 1, 2, 3], 1)
    numbers, reasons = damaged(tmp_path, b"\x55" * 21, *packets, b"\x55" * 21)
    assert (numbers, len(reasons)) == ([0, 1, 2, 3], 2)
    numbers, reasons = damaged(tmp_path, *packets[:3], *datagram(7, apid=957), *packets[3:])
    assert (numbers, len(reasons)) == ([0, 1, 2, 3], 1)
    assert damaged(tmp_path)[0] == []
    assert len(read(tmp_path).faults) == 1, "an empty file"


@FEW
@given(st.integers(0, 18 * SIZE - 1))
def test_file_cut_at_any_byte(tmp_path: Path, size: int) -> None:
    numbers, reasons = damaged(tmp_path, b"".join(several(6))[:size])
    assert numbers == list(range(size // (3 * SIZE)))
    assert bool(reasons) == bool(size % (3 * SIZE)) or size == 0


@settings(FEW, max_examples=100)
@given(st.integers(0, 18 * SIZE - 1), st.integers(1, 255))
@example(4, 1)  # a wrong length that ends at a later packet's header
@example(515, 1)  # a counter that is then that of the next datagram's first packet
def test_one_damaged_byte_costs_one_datagram(tmp_path: Path, at: int, flip: int) -> None:
    content = bytearray(b"".join(several(6)))
    content[at] ^= flip
    hit = at // (3 * SIZE)
    archive(tmp_path, [bytes(content)])
    found = read(tmp_path)
    kept = [each for each in contents(found) if each in bodies(*range(6))]
    assert [each for each in kept if each != body(hit)] == bodies(*(n for n in range(6) if n != hit))
    # Either it is all there (padding or a time stamp was hit), or a fault or its bytes tell.
    assert body(hit) in kept or found.faults or len(found) == 6


@pytest.mark.parametrize("window", [16, 48])
def test_header_across_two_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int) -> None:
    monkeypatch.setattr(packet_reader, "_WINDOW", window)
    numbers, reasons = damaged(tmp_path, *several(3), b"x" * 7, *several(3, first=3))
    assert (numbers, len(reasons)) == ([0, 1, 2, 3, 4, 5], 1)


@pytest.mark.parametrize("pad", [16, 48, 49, 0xFFFF])
def test_impossible_pad_count(tmp_path: Path, pad: int) -> None:
    content = bytearray(b"".join(several(4)))
    content[7 * SIZE + 14 : 7 * SIZE + 16] = pad.to_bytes(2, "big")
    numbers, reasons = damaged(tmp_path, bytes(content))
    assert numbers == [0, 1, 3]
    assert reasons
