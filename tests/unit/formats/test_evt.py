"""Event files: golden bytes, every kind of damage, and walks against a plain reading of the layout."""

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from halfpipe.errors import FormatError, MissingInputError
from halfpipe.formats import evt
from tests.support.golden_cases import GOLDEN, case_names
from tests.support.original_events import LPA_FILE, RECORDS, TKR_RECORD

CASES = case_names()
GOOD: dict[str, Any] = {"runid": 1, "seconds": (2, 3), "sequences": (2**40, 2**64 - 1), "events": 2**33}
GOOD |= {"moot_key": 0, "moot_alias": ""}
INFOTYPE = 332  # where it stands in each of these records


def as_data(content: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(content, np.uint8)


def at(*offsets: int) -> NDArray[np.int64]:
    return np.array(offsets, np.int64)


def plain_walk(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield offset, size and info type of each record, read off the layout one word after the other."""
    offset = 176
    while offset < len(content):
        end = offset + 296
        end += 4 + struct.unpack_from("<I", content, end)[0]
        kind = struct.unpack_from("<i", content, end)[0]
        end += 4
        if kind == 0:
            end += 32
            end += 4 + 52 * struct.unpack_from("<I", content, end)[0] + 4 + 4 * 4
        else:
            end += 4 + struct.unpack_from("<I", content, end)[0] + 4 + 3 * 4
        yield offset, end - offset, kind
        offset = end


def packed(**values: Any) -> bytes:
    return evt.pack_header(**(GOOD | values))


def test_header_bytes() -> None:
    once = (741234567,) * 2
    named = {"runid": 240601001, "moot_key": 2468, "moot_alias": "NOMINAL"}
    assert packed(seconds=once, sequences=(70000, 70000), events=1, **named) == LPA_FILE[:176]
    assert packed()[20:44] == struct.pack("<3Q", 2**33, 2**40, 2**64 - 1)
    for alias in ("", "x" * 63, "x" * 70, evt.MOOT_UNSET_ALIAS):
        assert packed(moot_alias=alias)[112:] == alias.encode()[:63].ljust(64, b"\0")
    for field, value in [("runid", 2**32), ("seconds", (0, -1)), ("sequences", (2**64, 0)), ("moot_key", -1)]:
        with pytest.raises(OverflowError):
            packed(**{field: value})


FIELDS = [
    ("ccsds_apid", "<i", 4), ("ccsds_utc", "<d", 8), ("current_timeSecs", "<I", 16),
    ("scalers_sequence", "<Q", 104), ("run_startedAt", "<I", 132), ("open_datagrams", "<I", 172),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_golden_files_are_rebuilt_byte_for_byte(case: str) -> None:
    paths = sorted((GOLDEN / case).rglob("*.evt"))
    assert paths
    for path in paths:
        content = path.read_bytes()
        file = evt.open_evt(path)
        offsets = evt.walk(file.data, str(path))
        layout = evt.record_layout(file.data, offsets, str(path))
        expected = list(plain_walk(content))
        assert list(zip(offsets, layout.sizes, layout.infotypes, strict=True)) == expected
        header = bytearray(
            evt.pack_header(
                runid=int(file.header["runid"]),
                seconds=(int(file.header["secs_beg"]), int(file.header["secs_end"])),
                sequences=(int(file.header["gemseq_beg"]), int(file.header["gemseq_end"])),
                events=len(offsets),
                moot_key=int(file.header["moot_key"]),
                moot_alias=file.header["moot_alias"].decode(),
            )
        )
        if "in" in path.relative_to(GOLDEN / case).parts:  # the decoder fills the four arrays
            arrays = [file.header[name] for name in ("src_apids", "src_seqerr", "dfi_apids", "dfi_dfierr")]
            header[44:108] = np.concatenate(arrays).astype("<u4").tobytes()
        for field, form, place in FIELDS:
            values = [struct.unpack_from(form, content, o + place)[0] for o in offsets]
            assert evt.context_column(file.data, offsets, field).tolist() == values
        records = [file.data[o : o + s].tobytes() for o, s in zip(offsets, layout.sizes, strict=True)]
        assert bytes(header) + b"".join(records) == content


@pytest.mark.parametrize("read", [evt.open_evt, evt.read_header])
def test_other_files_are_refused(tmp_path: Path, read: Callable[[Path], object]) -> None:
    with pytest.raises(MissingInputError):
        read(tmp_path / "gone.evt")
    with pytest.raises(FormatError):
        read(tmp_path)
    for content in (b"", LPA_FILE[:175], b"\x01" + LPA_FILE[1:], LPA_FILE[:4] + b"\x08" * 4 + LPA_FILE[8:]):
        path = tmp_path / "simulated.evt"
        path.write_bytes(content)
        with pytest.raises(FormatError, match=f"^{path}: "):
            read(path)


def check_refused(content: bytes, start: int) -> None:
    """See that both readers name the record at `start`."""
    for read in (evt.walk, lambda data, name: evt.record_layout(data, at(176, start), name)):
        with pytest.raises(FormatError, match=f"^simulated.evt: record at byte {start}: "):
            read(as_data(content), "simulated.evt")


@pytest.mark.parametrize("kind", RECORDS)
def test_file_cut_at_any_byte_reports_the_record(kind: str) -> None:
    start, whole = len(LPA_FILE), LPA_FILE + RECORDS[kind]
    for size in range(start + 1, len(whole), 3):
        check_refused(whole[:size], start)


# Bytes of the keys at a record's end; the type comes first.
KEYS = {"LPA": 20, "LCI_ACD": 16, "LCI_CAL": 16, "LCI_TKR": 16}
# A number that cannot stand at a byte of a record; counted from its end if that is negative.
DAMAGES = [
    *(("LPA", 296, number) for number in (0, 7, 131073, 2**32 - 1)),  # the length of the EBF
    ("LCI_ACD", 296, 131072),
    ("LPA", 368, 2**32 - 1),  # the number of handlers
    ("LPA", 368, 65),
    *((kind, 300, 0x104F0011) for kind in RECORDS),  # its marker
    *((kind, 304, 33) for kind in RECORDS),  # its inner length
    *((kind, INFOTYPE, number) for kind in RECORDS for number in (4, 2**32 - 1)),
    *(("LCI_ACD", 336, number) for number in (80, 0)),  # the length of the info
    *(("LCI_CAL", 336, number) for number in (64, 0)),
    *(("LCI_TKR", 336, number) for number in (64, 0)),
    *((kind, -size, number) for kind, size in KEYS.items() for number in (kind == "LPA", 2, 2**32 - 1)),
]


@pytest.mark.parametrize(("kind", "place", "number"), DAMAGES)
@pytest.mark.parametrize("last", [True, False], ids=["last", "inside"])
def test_damage_reports_the_record(kind: str, place: int, number: int, last: bool) -> None:
    record = bytearray(RECORDS[kind])
    place %= len(record)
    struct.pack_into("<I", record, place, number)
    check_refused(LPA_FILE + bytes(record) + (b"" if last else TKR_RECORD), len(LPA_FILE))


def test_too_many_handlers_are_refused() -> None:
    for count, good in ((evt.HANDLER_LIMIT, True), (evt.HANDLER_LIMIT + 1, False)):
        handlers = struct.pack("<I", count) + bytes(52 * count)  # zeros are good ones, and good keys
        content = LPA_FILE[:176] + RECORDS["LPA"][:368] + handlers + bytes(KEYS["LPA"])
        if good:
            assert evt.walk(as_data(content), "simulated.evt").tolist() == [176]
        else:
            check_refused(content, 176)


@pytest.mark.parametrize("offset", [-1, 0, 175, len(LPA_FILE), 2**40])
def test_offset_outside_of_the_records_is_refused(offset: int) -> None:
    with pytest.raises(FormatError, match=f"simulated: record at byte {offset}: "):
        evt.record_layout(as_data(LPA_FILE), at(offset), "simulated")


def test_record_check_depends_on_the_bytes_and_not_on_their_place() -> None:
    rng = np.random.default_rng(1)
    sizes = np.array([296, 297, 298, 299, 361, 1128])
    records = [rng.integers(0, 256, size, np.uint8) for size in sizes]
    first = evt.record_checks(np.concatenate(records), np.cumsum(sizes) - sizes, sizes)
    for shift in range(9):
        data = np.concatenate([rng.integers(0, 256, shift, np.uint8), *records])
        offsets = shift + np.cumsum(sizes) - sizes
        other_way = evt.record_checks(data, offsets[::-1], sizes[::-1])[::-1]
        assert (evt.record_checks(data, offsets, sizes) == first).all()
        assert (other_way == first).all()
    for number, record in enumerate(records):
        for bit in range(8 * len(record)):
            spoilt = record.copy()
            spoilt[bit // 8] ^= 1 << bit % 8
            assert evt.record_checks(spoilt, at(0), at(len(record)))[0] != first[number]
