"""Index text: golden lines byte for byte, any table through text and back, every fault with its line."""

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from halfpipe.errors import FormatError, MissingInputError
from halfpipe.formats import idx
from halfpipe.formats.even_lines import EvenLines, require

GOLDEN = Path(__file__).parents[2] / "golden"

EVT = (
    b"EVT:  741234567                 1002             29454596             27098228   1719541768.472730  77"
    b"  956        3        1            start         continue   1719541773.408994                  848"
    b" ../240601001/0077014d-2c2e5787-0956-00001.evt"
)
DGM = (
    b"DGM:  741234567   1719541777.407536  77  956       2  7799117   1           NORMAL         continue"
    b"             full             stop        requested              LAT            ORBIT             EPU0"
    b"   1719541772.860604                 1043   1719541777.157536                 1060          6"
    b"       2706       7245"
)


def read(tmp_path: Path, *lines: bytes) -> idx.Index:
    path = tmp_path / "simulated.idx"
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return idx.read_index(path)


def replaced(line: bytes, field: int, text: bytes) -> bytes:
    fields = line.split()
    fields[field] = text
    return b" ".join(fields)


def test_other_lines_are_ignored(tmp_path: Path) -> None:
    other = b"|   |# EVT: no|EVT 1 2 3|EVT:1 2|evt: 1|DGM|XEVT: 1|\0\0\0\0 5".split(b"|")
    index = read(tmp_path, *other, EVT, *other, DGM, b"  " + EVT)
    assert (index.events.size, len(index.lines)) == (2, 1)
    for none in ([], other):
        index = read(tmp_path, *none)
        assert (index.runs, index.files, index.lines) == (frozenset(), (), ())
        assert (index.events.dtype, index.datagrams.dtype) == (idx.Events.row, idx.Datagrams.row)
        assert index.events.size == index.datagrams.size == 0


def test_one_number_per_base_name(tmp_path: Path) -> None:
    names = ["a.evt", "/x/y/a.evt", "../b.evt", "b.evt", "x/a.evt", "cc.evt"]
    index = read(tmp_path, *(replaced(EVT, 14, name.encode()) for name in names))
    assert [index.files[i] for i in index.events.file] == [Path(name).name for name in names]
    assert len(index.files) == 3


SEQUENCES = [0, 1, 9, 10, 99999999, 10**8, 2**32, 2**53 + 1, 10**16 - 1, 10**16, 2**63 + 1, 2**64 - 1]
TIMES = "0.000000 4294967295.999999 4294967296.000001 633347347957.888598 12.5 17 1e9 -3.500000"


def test_numbers_are_exact(tmp_path: Path) -> None:
    for number in SEQUENCES:
        line = replaced(EVT, 2, str(number).encode())
        assert read(tmp_path, EVT, line).events.sequence.tolist() == [1002, number]
    for time in TIMES.split():
        line = replaced(EVT, 5, time.encode())
        assert read(tmp_path, line, EVT).events.utc.tolist() == [float(time), 1719541768.472730]


FAULTS = [
    (EVT, "startedat", 1, [b"74123456x", b"4294967296"]),
    (EVT, "sequence", 2, [b"-1", b"18446744073709551616", b"99999999999999999999", b"118446744073709551615"]),
    (EVT, "sequence", 2, [b"0" * 20 + b"1", b"1.5", b"1\x001", b"1:1", b"\xb11"]),
    (EVT, "utc", 5, [b"nan", b"1.2.3", b"17a9541768.472730", b"1719541768.47273o", b"......."]),
    (EVT, "apid", 7, [b"65536"]),
    (EVT, "datagram", 8, [b"4294967296"]),
    (EVT, "offset", 13, [b"9223372036854775808"]),
    (EVT, "evtfile", 14, [b"chunks/", b"a\xe9.evt", b"x/..", b"x" * 256]),
    (DGM, "startedat", 1, [b"-1"]),
    (DGM, "utc", 2, [b"inf"]),
    (DGM, "scid", 3, [b"x"]),
    (DGM, "apid", 4, [b"-1"]),
    (DGM, "datagram", 5, [b"0x100000000"]),
    (DGM, "groundid", 6, [b"4294967296", b"-2147483649"]),
    (DGM, "modename", 8, [b"N" * 17]),
    (DGM, "evtseq0", 17, [b"18446744073709551616"]),
    (DGM, "evtutc1", 18, [b"1_0.5"]),
    (DGM, "nevts", 20, [b"six"]),
]


@pytest.mark.parametrize(("line", "name", "field", "texts"), FAULTS)
def test_errors_contain_line_and_field(
    tmp_path: Path, line: bytes, name: str, field: int, texts: list[bytes]
) -> None:
    for text in texts:
        with pytest.raises(FormatError) as caught:
            read(tmp_path, EVT, DGM, b"other", replaced(line, field, text), line)
        assert f"/simulated.idx: line 4 has {name} {text[:40].decode('latin-1')!a}, " in str(caught.value)


@pytest.mark.parametrize(
    ("line", "counts"),
    [(EVT, (1, 2, 9, 14, 16)), (DGM, (1, 20, 24)), (b"", (0,)), (EVT.replace(b":", b""), (15,))],
)
def test_wrong_number_of_fields_is_refused(tmp_path: Path, line: bytes, counts: tuple[int, ...]) -> None:
    for count in counts:
        short = b" ".join((line + b" 1").split()[:count])
        if line == EVT:
            with pytest.raises(FormatError, match=rf"line 2 .* {count} fields"):
                read(tmp_path, EVT, short, EVT)
        with pytest.raises(FormatError, match=f"simulated: line 2 has {max(count, 1)} fields"):
            idx.parse_datagrams([DGM, short], "simulated")


def test_control_byte_does_not_count_as_blank() -> None:
    at = DGM.index(b" 77 ")
    for byte in (0, 31):
        with pytest.raises(FormatError):
            idx.parse_datagrams([DGM, DGM[:at] + bytes([byte]) + DGM[at + 1 :]], "simulated")


def test_missing_keys_and_sentinel_values(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = DGM.split()
    odd = list(fields)
    for field, text in {3: b"-1", 6: b"0xFFFFFFFF", 7: b"-1", 17: b"-1", 21: b"-1", 22: b"none"}.items():
        odd[field] = text
    lines = [b" ".join(fields[:21]), b" ".join(fields[:22]), b" ".join(odd)]
    parsed = idx.parse_datagrams(lines, "simulated")
    assert parsed.hwkey.tolist() == [0, 2706, 0xFFFFFFFF]
    assert parsed.swkey.tolist() == [0, 0, 0]
    found = parsed[["scid", "groundid", "modechanges", "evtseq0"]][2].item()
    assert found == (-1, 0xFFFFFFFF, 0xFFFFFFFF, 2**64 - 1)
    assert idx.parse_datagrams(lines[:1] * 2, "simulated").hwkey.tolist() == [0, 0]
    monkeypatch.setattr(idx, "LINES", 2)
    assert idx.parse_datagrams(lines, "simulated").tobytes() == parsed.tobytes(), "block by block"


@pytest.mark.parametrize("block", [300, 1 << 20])
@pytest.mark.parametrize("line", [EVT, DGM])
def test_last_line_without_newline_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: bytes, block: int
) -> None:
    monkeypatch.setattr(idx, "BLOCK", block)
    path = tmp_path / "simulated.idx"
    for keep in (1, 4, 100, len(EVT)):
        path.write_bytes(EVT + b"\n" + DGM + b"\n" + line[:keep])
        with pytest.raises(FormatError, match=r"line 3 is cut"):
            idx.read_index(path)


def test_endless_line_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idx, "BLOCK", 1000)
    with pytest.raises(FormatError, match=r"line 2 .* 1000 bytes"):
        read(tmp_path, EVT, b"x" * 5000)


def test_missing_file_and_directory(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="gone"):
        idx.read_index(tmp_path / "gone.idx")
    with pytest.raises(FormatError, match=str(tmp_path)):
        idx.read_index(tmp_path)


def outcome(path: Path) -> object:
    try:
        index = idx.read_index(path)
    except FormatError as error:
        return str(error)
    events = [(*event.item()[:5], index.files[event["file"]]) for event in index.events]
    return index.runs, events, index.datagrams.tolist(), index.lines


def line_by_line(path: Path) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EvenLines, "__init__", lambda *_: require(False))
        return outcome(path)


EVENT_FORM = "EVT: %10d %20d %20d %20d %19.6f  77 %4d %8d %8d %16s %16s %19.6f %20d x/simulated.evt"
events_alike = st.tuples(
    st.just(741234567),
    st.sampled_from([0, 9, 10, 99999999, 10**8, 10**17, 10**18 - 1, 10**18, 2**64 - 1])
    | st.integers(990, 1010),
    st.integers(0, 2**64 - 1),
    st.integers(0, 1100),
    st.sampled_from([0.5, 9.999999, 2.0**32]) | st.floats(0, 2**32 - 1),
    st.sampled_from([956, 957, 2047]),
    st.integers(0, 12),
    st.integers(0, 99),
    st.sampled_from(["start", "continue"]),
    st.sampled_from(["continue", "-", "123"]),
    st.floats(0, 2**31),
    st.integers(176, 10**9) | st.just(2**63 - 1),
)


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(events_alike, min_size=1, max_size=6),
    changes=st.lists(
        st.tuples(st.integers(0, 2000), st.sampled_from(b" \t\n\0-+.:0159ax!/\x1f\x80\xff")), max_size=2
    ),
    datagrams=st.integers(0, 2),
    block=st.sampled_from([300, 1 << 20]),
)
def test_fast_path_agrees_with_line_by_line(
    tmp_path: Path, rows: list[tuple[object, ...]], changes: list[tuple[int, int]], datagrams: int, block: int
) -> None:
    lines = [(EVENT_FORM % row).encode() for row in rows] + [DGM] * datagrams
    content = bytearray(b"".join(line + b"\n" for line in lines))
    for place, byte in changes:
        content[place % len(content)] = byte
    path = tmp_path / "simulated.idx"
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(idx, "BLOCK", block)
        found = outcome(path)
    assert found == line_by_line(path)


@pytest.mark.parametrize("line", [EVT, DGM])
def test_fast_path_agrees_for_unusual_fields(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "simulated.idx"
    words = [b"-1", b"0xFF", b"x", b"1", b"12345678901", b"1.5", b"18446744073709551615", b"N" * 17]
    odd = [
        bytes([byte]) for byte in (0, 9, 31, 32, 33, 43, 45, 47, 48, 58, 63, 64, 80, 96, 127, 128, 160, 176)
    ]
    for end in [found.end() for found in re.finditer(rb"[^ ]+", line)]:
        for text in [*(words if line is DGM else []), *odd]:
            if end >= len(text):
                path.write_bytes(line + b"\n" + line[: end - len(text)] + text + line[end:] + b"\n")
                assert outcome(path) == line_by_line(path)


def test_narrowest_columns(tmp_path: Path) -> None:
    numbers = b" 1.000000 7 9 5 6 0 a b c d e f g h 1.000000 4 1.000000 4 1 7 8"
    assert read(tmp_path, b"DGM: 5" + numbers, b"DGM: 6" + numbers).runs == {5, 6}
    line = b"EVT: 5 %d 1 1 1.000000 7 9 0 0 a b 1.000000 %d a"
    found = read(tmp_path, line % (3, 8), line % (4, 9), b"DGM: 5" + numbers)
    assert found.events[["sequence", "offset"]].tolist() == [(3, 8), (4, 9)]


def test_original_index_takes_the_fast_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = (GOLDEN / "complete_basic" / "in").rglob("*0956-00001.idx")
    expected = line_by_line(path)
    monkeypatch.delattr(idx._Reader, "_take_any")
    monkeypatch.delattr(idx, "_datagram_fields")
    assert outcome(path) == expected


@pytest.mark.parametrize("block", [len(EVT), idx.BLOCK])
def test_events_of_two_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(idx, "BLOCK", block)
    found = read(tmp_path, EVT, EVT.replace(b"741234567", b"741234568"))
    assert found.runs == {741234567, 741234568}
