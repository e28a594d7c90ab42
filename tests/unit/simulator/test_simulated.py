"""The simulated datagram format: what is decoded is compared with records put together field by field."""

import struct
import zlib

import numpy as np
import pytest

from halfpipe.formats import met
from halfpipe.formats.evt import InfoType
from halfpipe_simulator import datagrams
from halfpipe_simulator.events import Events, make_events

RUN = 741234567
ABOUT = datagrams.About(
    startedat=RUN,
    groundid=0x77014D,
    apid=957,
    datagram=12,
    open_action=0,
    open_reason=0,
    close_action=1,
    close_reason=5,
    crate=1,
    mode=7,
    modechanges=3,
    hwkey=2468,
    swkey=1357,
)
TEXTS = {
    "run": (b"host", b"montecarlo"),
    "open": (b"start", b"operator", b"epu1", b"diagnostic"),
    "close": (b"abort", b"unknown"),
}


def some_events(kind: InfoType, count: int = 5, seed: int = 1) -> Events:
    times = RUN * 10**6 + 833785 + 7 * 10**5 * np.arange(count)
    return make_events(
        np.random.default_rng(seed),
        kind=kind,
        times=times,
        sequences=np.uint64(2**33 + 5) + np.arange(count, dtype=np.uint64) * np.uint64(3),
        startedat=RUN,
        hwkey=2468,
        swkey=1357,
    )


def encoded(events: Events, about: datagrams.About = ABOUT) -> bytes:
    return datagrams.encode(about, events.rows, events.payload.tobytes())


def expected_record(events: Events, number: int, latc: int | None = None) -> bytes:
    """Put one record together as evt-layout has it, byte by byte."""
    row = events.rows[number]
    payload = events.payload[events.edges[number] : events.edges[number + 1]].tobytes()
    ebf, rest = payload[: row["ebf_size"]], payload[row["ebf_size"] :]
    utc = float(met.unix_microseconds(int(row["seconds"]), int(row["microseconds"]))) / 1e6

    def text(value: bytes) -> bytes:
        return value.ljust(16, b"\0")

    record = struct.pack("<iid", 77, 957, utc) + row.tobytes()[16:120]
    record += struct.pack("<iiII", 2, 1, 0x77014D, RUN) + b"".join(map(text, TEXTS["run"]))
    record += struct.pack("<IIiiii", 3, 12, 0, 0, 1, 7) + b"".join(map(text, TEXTS["open"]))
    record += struct.pack("<ii", 1, 5) + b"".join(map(text, TEXTS["close"]))
    assert len(record) == 296
    record += struct.pack("<III", len(ebf) + 8, 0x104F0010, len(ebf) + 8) + ebf
    record += struct.pack("<i", row["infotype"])
    if row["infotype"] == 0:
        keys = rest[-16:] if latc is None else struct.pack("<I", latc) + rest[-12:]
        record += rest[:32] + struct.pack("<I", row["handlers"]) + rest[32:-16] + struct.pack("<i", 0) + keys
    else:
        record += struct.pack("<I", len(rest) - 12) + rest[:-12] + struct.pack("<i", 1) + rest[-12:]
    return bytes(record)


@pytest.mark.parametrize("kind", list(InfoType))
@pytest.mark.parametrize("latc", [None, 0xDEADBEEF])
def test_records_are_as_the_layout_says(kind: InfoType, latc: int | None) -> None:
    events = some_events(kind)
    decoded = datagrams.decode([encoded(events)], np.array([1_700_000_000_123456]), scid=77, latc=latc)
    override = latc if kind == InfoType.LPA else None
    expected = [expected_record(events, number, override) for number in range(5)]
    assert decoded.records.tobytes() == b"".join(expected)
    assert decoded.sizes.tolist() == [len(record) for record in expected]


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("version", 2, "not a simulated datagram of version 1"),
        ("apid", 956, "a datagram of APID 956 in packets of APID 957"),
        ("events", 10**6, "do not fit"),
        ("events", 4, "payload bytes"),
        ("size", 1, "but the datagram says 1"),
    ],
)
def test_a_header_that_cannot_be_is_told(field: str, value: int, complaint: str) -> None:
    content = bytearray(encoded(some_events(InfoType.LPA)))
    np.frombuffer(content, datagrams.DATAGRAM_HEADER, 1)[field] = value
    content[-4:] = zlib.crc32(content[:-4]).to_bytes(4, "little")
    assert complaint in str(datagrams.complaint_of(bytes(content), 957))
