"""The level-0 reader, on packets made one by one."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from space_packet_parser.generators.ccsds import ccsds_generator

from halfpipe.errors import FormatError, MissingInputError
from halfpipe.formats import level0, met
from halfpipe.formats.level0 import COUNTER, Flags, Retrieval, retrieve
from halfpipe_simulator.packets import make_packet, packets_of

HOUR = 1680314400  # 2023-04-01 02:00:00 UTC
START = int(met.unix_to_met(HOUR)) + 600
SPAN = (HOUR, HOUR + 3599.999999)
SIZE = 64  # bytes of a full packet here


def body(number: int, size: int = 130) -> bytes:
    """Content of datagram `number`: no byte of it looks like a packet header."""
    return bytes([0x80 | number % 100] * size)


def datagram(number: int, *, seq: int | None = None, size: int = 130, apid: int = 956) -> list[bytes]:
    """Return the three packets of datagram `number`, a second after those of the one before."""
    return packets_of(
        body(number, size),
        apid=apid,
        seq=(3 * number if seq is None else seq) % COUNTER,
        met=(START + number) * 10**6,
        packet_size=SIZE,
    )


def several(count: int, first: int = 0) -> list[bytes]:
    return [packet for number in range(first, first + count) for packet in datagram(number)]


def archive(
    root: Path, packets: Sequence[bytes], *, hour: float = HOUR, key: int = 1, apid: int = 956
) -> Path:
    path = level0.hour_path(root, 77, hour) / level0.file_name(77, apid, START, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(packets))
    return path


def contents(found: Retrieval) -> list[bytes]:
    return [found.payload(number) for number in range(len(found))]


def read(root: Path, *spans: tuple[float, float]) -> Retrieval:
    return retrieve(root, 77, 956, spans or [SPAN])


def test_layout_of_archive(tmp_path: Path) -> None:
    path = level0.hour_path(tmp_path, 77, 1351864800) / level0.file_name(77, 956, 373556800, 1081721)
    assert str(path.relative_to(tmp_path)) == (
        "src0077/2012/11/307.11.02.Fri/utc14/s0077a0956t0373556800.0001081721"
    )


def test_bytes_of_a_packet() -> None:
    packet = make_packet(apid=956, seq=7, body=b"\xaa" * 5, seconds=0x2C2E5787, microseconds=0x0F423F)
    assert packet.hex() == "0bbc c007 0019 2c2e5787 000f423f 000b aaaaaaaaaa".replace(" ", "") + "00" * 11


@pytest.mark.parametrize(
    ("field", "value"),
    [("apid", 2048), ("seq", COUNTER), ("seconds", 2**32), ("microseconds", 10**6), ("body", bytes(65536))],
)
def test_packet_factory_refuses_what_does_not_fit(field: str, value: object) -> None:
    with pytest.raises(FormatError, match="out of range"):
        make_packet(**{field: value})  # type: ignore[arg-type]


def test_an_independent_parser_reads_the_same_headers() -> None:
    packets = [*several(6), make_packet(body=bytes(7), seq=99)]
    parsed = list(ccsds_generator(b"".join(packets)))
    assert [bytes(packet) for packet in parsed] == packets
    assert [packet.sequence_count for packet in parsed] == [*range(18), 99]
    assert [packet.sequence_flags for packet in parsed] == [1, 0, 2] * 6 + [3]
    for packet in parsed:
        assert (packet.version_number, packet.type, packet.secondary_header_flag) == (0, 0, 1)
        assert packet.apid == 956
        assert packet.data_length + 7 == len(packet)
        assert len(packet) % 16 == 0


def test_datagrams_are_joined(tmp_path: Path) -> None:
    archive(tmp_path, several(5))
    found = read(tmp_path)
    assert contents(found) == [body(number) for number in range(5)]
    assert found.faults == ()
    assert found.packets["unix"][found.begins].tolist() == [(HOUR + 600 + n) * 10**6 for n in range(5)]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.randoms(use_true_random=False), st.integers(1, 4))
def test_any_order_over_any_files_with_repeats(tmp_path: Path, random: object, keys: int) -> None:
    packets = several(8)
    packets += [random.choice(packets) for _ in range(10)]  # type: ignore[attr-defined]
    random.shuffle(packets)  # type: ignore[attr-defined]
    for key in range(4):
        archive(
            tmp_path, packets[key::keys] if key < keys else [make_packet(seconds=START + 99, seq=24)], key=key
        )
    found = read(tmp_path, (HOUR, HOUR + 698))
    assert contents(found) == [body(number) for number in range(8)]
    assert found.faults == ()


def test_counter_wraps_between_and_inside_datagrams(tmp_path: Path) -> None:
    first = COUNTER - 4
    packets = [p for n in range(4) for p in datagram(n, seq=first + 3 * n)]
    archive(tmp_path, packets[::-1])
    assert contents(read(tmp_path)) == [body(number) for number in range(4)]
    assert read(tmp_path).faults == ()


def test_counter_wraps_among_packets_of_one_time(tmp_path: Path) -> None:
    parts = [
        make_packet(seq=(COUNTER - 1 + n) % COUNTER, body=bytes([n] * 9), seconds=START, flags=flags)
        for n, flags in enumerate((Flags.FIRST, Flags.MIDDLE, Flags.LAST))
    ]
    archive(tmp_path, parts[::-1])
    assert contents(read(tmp_path)) == [bytes([0] * 9 + [1] * 9 + [2] * 9)]


def test_span_edges_are_inside(tmp_path: Path) -> None:
    archive(tmp_path, several(4))
    begin, end = HOUR + 601, HOUR + 602.00004  # the third packet is 40 microseconds after the first
    assert contents(read(tmp_path, (begin, end))) == [body(1), body(2)]
    assert contents(read(tmp_path, (begin + 0.000001, end - 0.000001))) == []
    two = read(tmp_path, (HOUR + 600, HOUR + 600.5), (HOUR + 603, HOUR + 603.5))
    assert contents(two) == [body(0), body(3)]
    assert two.faults == ()


def test_a_datagram_across_the_edge_is_left_out_and_told(tmp_path: Path) -> None:
    archive(tmp_path, several(3))
    found = read(tmp_path, (HOUR + 600.00001, HOUR + 602.00001))
    assert contents(found) == [body(1)]
    assert sorted(fault.reason for fault in found.faults) == [
        "a datagram without its first packet, left out",
        "a datagram without its last packet, left out",
    ]


@pytest.mark.parametrize("hour", [-1, 1])
def test_packets_in_the_file_of_a_neighbouring_hour(tmp_path: Path, hour: int) -> None:
    archive(tmp_path, several(3))
    archive(tmp_path, several(2, first=3), hour=HOUR + 3600 * hour)
    assert contents(read(tmp_path)) == [body(number) for number in range(5)]


def test_a_missing_hour_is_told_its_neighbours_are_not(tmp_path: Path) -> None:
    archive(tmp_path, several(3))
    found = read(tmp_path, (HOUR, HOUR + 7300))
    assert [fault.file.name for fault in found.faults] == ["utc03", "utc04"]
    assert str(found.faults[0]).startswith(
        f"PktRetriever exception: {tmp_path}/src0077/2023/04/091.04.01.Sat/utc03 at byte 0: "
    )
    assert len(found) == 3


@pytest.mark.parametrize("missing", ["root", "source"])
def test_no_archive_is_an_error(tmp_path: Path, missing: str) -> None:
    with pytest.raises(MissingInputError, match="Mount it or mend"):
        read(tmp_path / "no" if missing == "root" else tmp_path)


def test_files_of_others_are_not_read(tmp_path: Path) -> None:
    path = archive(tmp_path, several(3))
    for name in ("s0099a0956t0000000001.0000000001", "s0077a0957t0000000001.0000000001", path.name + ".tmp"):
        path.with_name(name).write_bytes(b"not read")
    assert read(tmp_path).faults == ()


def test_two_hundred_files(tmp_path: Path) -> None:
    for number in range(200):
        archive(tmp_path, datagram(number), key=number)
    assert contents(read(tmp_path)) == [body(number) for number in range(200)]


# Damage: what is hit is lost and told, what is not hit is there.


def damaged(root: Path, content: bytes) -> tuple[list[int], list[str]]:
    """Read a file of this content: numbers of the datagrams found, and the reasons of the faults."""
    archive(root, [content])
    found = read(root)
    numbers = []
    for datagram_found in contents(found):
        assert datagram_found == body(datagram_found[0] & 0x7F)
        numbers.append(datagram_found[0] & 0x7F)
    return numbers, [fault.reason for fault in found.faults]


def test_lost_packet(tmp_path: Path) -> None:
    packets = several(5)
    for lost in (6, 7, 8):
        numbers, reasons = damaged(tmp_path, b"".join(packets[:lost] + packets[lost + 1 :]))
        assert numbers == [0, 1, 3, 4]
        assert reasons == [f"counter {lost + 1} follows {lost - 1}: 1 packets are missing"]


def test_lost_datagram(tmp_path: Path) -> None:
    packets = several(5)
    numbers, reasons = damaged(tmp_path, b"".join(packets[:6] + packets[9:]))
    assert numbers == [0, 1, 3, 4]
    assert reasons == ["counter 9 follows 5: 3 packets are missing"]


@pytest.mark.parametrize("length", [0x0000, 0x0009, 0x0029, 0x0049, 0x0079, 0x3FF9, 0xFFF9, 0x0038])
def test_wrong_length(tmp_path: Path, length: int) -> None:
    content = bytearray(b"".join(several(5)))
    at = 7 * SIZE + 4  # of the middle packet of datagram 2
    content[at : at + 2] = length.to_bytes(2, "big")
    archive(tmp_path, [bytes(content)])
    found = read(tmp_path)
    whole = contents(found)
    # A shorter packet than it was is still a packet: a checksum of the datagram must tell.
    assert [d for d in whole if len(d) == 130] == [body(n) for n in (0, 1, 3, 4)]
    assert found.faults


def test_junk_between_packets(tmp_path: Path) -> None:
    packets = several(4)
    for junk in (b"\x00", b"junk" * 5, b"\x0b\xbc" * 40, bytes(70000)):
        numbers, reasons = damaged(tmp_path, b"".join([*packets[:7], junk, *packets[7:]]))
        assert numbers == [0, 1, 2, 3]
        assert len(reasons) == 1


def test_junk_before_the_first_and_after_the_last_packet(tmp_path: Path) -> None:
    numbers, reasons = damaged(tmp_path, b"\x55" * 21 + b"".join(several(3)) + b"\x55" * 21)
    assert numbers == [0, 1, 2]
    assert reasons == ["21 bytes that are no packet"] * 2


@pytest.mark.parametrize("pad", [16, 48, 49, 0xFFFF])
def test_pad_count_that_cannot_be(tmp_path: Path, pad: int) -> None:
    content = bytearray(b"".join(several(4)))
    content[7 * SIZE + 14 : 7 * SIZE + 16] = pad.to_bytes(2, "big")
    numbers, reasons = damaged(tmp_path, bytes(content))
    assert numbers == [0, 1, 3]
    assert any(f"pad count {pad}" in reason for reason in reasons)


def test_packet_of_another_apid(tmp_path: Path) -> None:
    packets = several(3)
    numbers, reasons = damaged(tmp_path, b"".join([*packets[:3], *datagram(7, apid=957), *packets[3:]]))
    assert numbers == [0, 1, 2]
    assert reasons == ["a packet of APID 957 among those of 956; 192 bytes skipped"]


def test_stray_packet_with_a_possible_wrong_time(tmp_path: Path) -> None:
    packets = several(6)
    stray = bytearray(packets[4])  # middle of datagram 1; now between the packets of datagram 4
    stray[6:10] = (START + 4).to_bytes(4, "big")
    stray[10:14] = (30).to_bytes(4, "big")
    numbers, reasons = damaged(tmp_path, b"".join([*packets[:4], bytes(stray), *packets[5:]]))
    assert numbers == [0, 2, 3, 4, 5]
    assert any("out of order" in reason for reason in reasons)


def test_an_empty_file_is_told(tmp_path: Path) -> None:
    assert damaged(tmp_path, b"") == ([], ["the file is empty"])


def test_damage_of_another_hour_is_not_told(tmp_path: Path) -> None:
    archive(tmp_path, several(3))
    archive(tmp_path, [b"junk" * 100], hour=HOUR - 3600)
    assert read(tmp_path, (HOUR + 600, HOUR + 700)).faults == ()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 18 * SIZE - 1))
def test_cut_file(tmp_path: Path, size: int) -> None:
    content = b"".join(several(6))
    numbers, reasons = damaged(tmp_path, content[:size])
    assert numbers == list(range(size // (3 * SIZE)))
    assert bool(reasons) == bool(size % (3 * SIZE)) or size == 0


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 18 * SIZE - 1), st.integers(1, 255))
@example(4, 1)  # a wrong length that ends at a later packet's header
@example(515, 1)  # a counter that is then that of the next datagram's first packet
def test_one_damaged_byte_costs_one_datagram(tmp_path: Path, at: int, flip: int) -> None:
    content = bytearray(b"".join(several(6)))
    content[at] ^= flip
    hit = at // (3 * SIZE)
    archive(tmp_path, [bytes(content)])
    found = read(tmp_path)
    others = [number for number in range(6) if number != hit]
    whole = [body(number) for number in range(6)]
    kept = [datagram_found for datagram_found in contents(found) if datagram_found in whole]
    assert [d for d in kept if d != body(hit)] == [body(number) for number in others]
    # Either it is all there (padding or a time stamp was hit), or a fault or its bytes tell.
    assert body(hit) in kept or found.faults or len(found) == 6


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=400), st.integers(0, 18))
def test_random_bytes_between_packets_cost_nothing(tmp_path: Path, junk: bytes, place: int) -> None:
    packets = several(6)
    numbers, _ = damaged(tmp_path, b"".join([*packets[:place], junk, *packets[place:]]))
    assert numbers == list(range(6))


def test_a_damaged_delivery_is_mended_by_another(tmp_path: Path) -> None:
    packets = several(3)
    first = bytearray(b"".join(packets))
    first[4 * SIZE + 20] ^= 0xFF
    first[5 * SIZE + 20] ^= 0xFF
    archive(tmp_path, [bytes(first)], key=1)
    archive(tmp_path, packets, key=2)
    found = read(tmp_path)
    assert contents(found)[1] != body(1)
    assert body(1) in list(found.mended(1))
    assert set(found.mended(0)) == {body(0)}
    assert found.place(1) == (
        tmp_path / "src0077/2023/04/091.04.01.Sat/utc02" / f"s0077a0956t{START:010d}.0000000001",
        192,
    )


def test_rows_say_where_packets_are(tmp_path: Path) -> None:
    archive(tmp_path, several(2))
    packets = read(tmp_path).packets
    assert packets["offset"].tolist() == [0, 64, 128, 192, 256, 320]
    assert packets["pad"].tolist() == [0, 0, 14] * 2
    assert np.diff(packets["met"]).tolist() == [20, 20, 999960, 20, 20]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 30 * SIZE), st.binary(max_size=40), st.booleans()), max_size=3),
    st.integers(0, 200),
)
def test_clean_stretches_are_read_as_packet_by_packet(
    tmp_path: Path, damages: list[tuple[int, bytes, bool]], cut: int
) -> None:
    content = bytearray(b"".join(several(12)))
    for at, junk, inserted in damages:
        content[at : at if inserted else at + len(junk)] = junk
    path = archive(tmp_path, [bytes(content[: max(0, len(content) - cut)])])
    found = read(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(level0, "_clean_runs", lambda *_: {})
        expected = read(tmp_path)
    path.unlink()
    assert found.packets.tolist() == expected.packets.tolist()
    assert found.faults == expected.faults


@pytest.mark.parametrize("following", [1, 5])
def test_a_jump_of_the_counter_makes_the_length_doubtful(tmp_path: Path, following: int) -> None:
    inner = make_packet(seconds=START, seq=3, body=b"\x99" * 5, flags=Flags.ALONE)
    outer = make_packet(seconds=START, seq=0, body=b"\x80" * 5 + inner, flags=Flags.ALONE)
    archive(tmp_path, [outer, make_packet(seconds=START, seq=following, body=b"\x81", flags=Flags.ALONE)])
    reasons = [fault.reason for fault in read(tmp_path).faults]
    assert any("wrong length" in reason for reason in reasons) == (following != 1)


@pytest.mark.parametrize("window", [16, 48, 1 << 25])
def test_files_are_looked_at_window_by_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    archive(tmp_path, several(5))
    expected = read(tmp_path)
    monkeypatch.setattr(level0, "_WINDOW", window)
    monkeypatch.setattr(level0, "_PACKETS", 2)
    found = read(tmp_path)
    assert found.packets.tolist() == expected.packets.tolist()
    assert contents(found) == [body(number) for number in range(5)]


def test_a_counter_that_wraps_within_one_time(tmp_path: Path) -> None:
    packets = [
        make_packet(seconds=START, seq=seq, body=bytes([0x80 | number]), flags=Flags.ALONE)
        for number, seq in enumerate([COUNTER - 2, COUNTER - 1, 0, 1])
    ]
    for order in (packets, packets[::-1]):
        archive(tmp_path, order)
        assert contents(read(tmp_path)) == [b"\x80", b"\x81", b"\x82", b"\x83"]
