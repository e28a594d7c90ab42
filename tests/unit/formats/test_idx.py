"""Index text: golden lines byte for byte, any table through text and back, every fault with its line."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from halfpipe.errors import FormatError, MissingInputError
from halfpipe.formats import idx

GOLDEN = Path(__file__).parents[2] / "golden"
CASES = sorted(case.parent.name for case in GOLDEN.glob("*/case.yaml"))

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


def table(lines: list[bytes]) -> NDArray[np.void]:
    """Return EVT lines as `EVENT_LINE`, read in the plainest way."""
    rows = [tuple(line.split()[1:14]) for line in lines]
    columns = list(zip(*rows, strict=True)) or [()] * 13
    events = np.empty(len(rows), idx.EVENT_LINE)
    assert idx.EVENT_LINE.names is not None
    for name, column in zip(idx.EVENT_LINE.names, columns, strict=True):
        convert = {"f": float, "S": bytes}.get(idx.EVENT_LINE[name].kind, int)
        events[name] = [convert(cell) for cell in column]
    return events


@pytest.mark.parametrize("case", CASES)
def test_golden_indexes_are_written_again_byte_for_byte(case: str) -> None:
    paths = sorted((GOLDEN / case).rglob("*.idx"))
    assert paths
    for path in paths:
        lines = path.read_bytes().splitlines(keepends=True)
        evt = [line for line in lines if line.startswith(b"EVT:")]
        dgm = [line for line in lines if line.startswith(b"DGM:")]
        assert len(evt) + len(dgm) == len(lines)
        index = idx.read_index(path)
        assert b"".join(line + b"\n" for line in index.lines) == b"".join(dgm)
        assert idx.dgm_lines(index.datagrams) == b"".join(dgm)
        plain = table(evt)
        assert idx.evt_lines(plain, f"../{path.parent.name}/{path.stem}.evt") == b"".join(evt)
        for name in ("sequence", "apid", "datagram", "utc", "offset"):
            assert index.events[name].tolist() == plain[name].tolist(), name
        assert index.files == ((f"{path.stem}.evt",) if evt else ())


def test_one_line_of_each_kind(tmp_path: Path) -> None:
    index = read(tmp_path, EVT, DGM)
    assert index.startedat == 741234567
    assert index.events.tolist() == [(1002, 956, 3, 1719541768.472730, 848, 0)]
    assert index.files == ("0077014d-2c2e5787-0956-00001.evt",)
    assert index.lines == (DGM,)
    texts = [b"NORMAL", b"continue", b"full", b"stop", b"requested", b"LAT", b"ORBIT", b"EPU0"]
    numbers = [741234567, 1719541777.407536, 77, 956, 2, 7799117, 1]
    rest = [1719541772.860604, 1043, 1719541777.157536, 1060, 6, 2706, 7245]
    assert list(index.datagrams[0].item()) == numbers + texts + rest


def test_an_index_without_lines(tmp_path: Path) -> None:
    index = read(tmp_path)
    assert (index.startedat, index.files, index.lines) == (None, (), ())
    assert index.events.dtype == idx.EVENT
    assert index.datagrams.dtype == idx.DATAGRAM
    assert index.events.size == index.datagrams.size == 0


def test_other_lines_are_ignored(tmp_path: Path) -> None:
    other = [
        b"",
        b"   ",
        b"# EVT: no",
        b"EVT 1 2 3",
        b"EVT:1 2",
        b"evt: 1",
        b"DGM",
        b"XEVT: 1",
        b"\0\0\0\0 5",
    ]
    index = read(tmp_path, *other, EVT, *other, DGM, b"  " + EVT)
    assert (index.events.size, len(index.lines)) == (2, 1)


def test_one_code_per_base_name(tmp_path: Path) -> None:
    names = [b"a.evt", b"/x/y/a.evt", b"../b.evt", b"b.evt", b"x/a.evt", b"cc.evt"]
    index = read(tmp_path, *(replaced(EVT, 14, name) for name in names))
    assert [index.files[i] for i in index.events["file"]] == [
        "a.evt",
        "a.evt",
        "b.evt",
        "b.evt",
        "a.evt",
        "cc.evt",
    ]
    assert len(index.files) == 3


@pytest.mark.parametrize(
    "sequence",
    [0, 1, 9, 10, 99999999, 10**8, 2**32, 2**53 + 1, 10**16 - 1, 10**16, 2**63 + 1, 2**64 - 1],
)
def test_sequences_of_64_bits_are_exact(tmp_path: Path, sequence: int) -> None:
    line = replaced(EVT, 2, str(sequence).encode())
    assert read(tmp_path, EVT, line).events["sequence"].tolist() == [1002, sequence]


@pytest.mark.parametrize(
    "time",
    [
        "0.000000",
        "1719541768.472730",
        "4294967295.999999",
        "4294967296.000001",
        "633347347957.888598",
        "12.5",
        "17",
        "1e9",
        "-3.500000",
    ],
)
def test_times_are_read_as_python_reads_them(tmp_path: Path, time: str) -> None:
    line = replaced(EVT, 5, time.encode())
    assert read(tmp_path, line, EVT).events["utc"].tolist() == [float(time), 1719541768.472730]


EVT_FAULTS = [
    (1, b"74123456x", "has '74123456x' for startedAt, expected a whole number from 0 to 4294967295"),
    (1, b"4294967296", "has '4294967296' for startedAt"),
    (1, b"741234568", "is of run 741234568, lines before it of run 741234567"),
    (2, b"-1", "has '-1' for sequence, expected a whole number from 0 to 18446744073709551615"),
    (2, b"18446744073709551616", "has '18446744073709551616' for sequence"),
    (2, b"99999999999999999999", "has '99999999999999999999' for sequence"),
    (2, b"118446744073709551615", "has '118446744073709551615' for sequence"),
    (2, b"0" * 20 + b"1", "has '000000000000000000001' for sequence"),
    (2, b"1.5", "has '1.5' for sequence"),
    (2, b"1\x001", "has '1\\x001' for sequence"),
    (2, b"1:1", "has '1:1' for sequence"),
    (2, b"\xb11", "has '\\xb11' for sequence"),
    (5, b"nan", "has 'nan' for evtUTC, expected seconds"),
    (5, b"1.2.3", "has '1.2.3' for evtUTC"),
    (5, b"17a9541768.472730", "has '17a9541768.472730' for evtUTC"),
    (5, b"1719541768.47273o", "has '1719541768.47273o' for evtUTC"),
    (5, b".......", "has '.......' for evtUTC"),
    (7, b"65536", "has '65536' for apid, expected a whole number from 0 to 65535"),
    (8, b"4294967296", "has '4294967296' for datagrams"),
    (13, b"9223372036854775808", "has '9223372036854775808' for fileofst"),
    (14, b"chunks/", "has 'chunks/' for evtfile, expected the name of an event file"),
    (14, b"a\xe9.evt", "has 'a\\xe9.evt' for evtfile"),
    (14, b"x/..", "has 'x/..' for evtfile"),
]


@pytest.mark.parametrize(("field", "text", "complaint"), EVT_FAULTS)
def test_faults_of_an_event_line(tmp_path: Path, field: int, text: bytes, complaint: str) -> None:
    with pytest.raises(FormatError) as caught:
        read(tmp_path, EVT, DGM, b"other", replaced(EVT, field, text), EVT)
    assert str(caught.value).startswith(f"{tmp_path}/simulated.idx: line 4 {complaint}")
    assert str(caught.value).endswith(f". {idx.REMEDY}.")


@pytest.mark.parametrize("count", [1, 2, 9, 14, 16])
def test_an_event_line_has_15_fields(tmp_path: Path, count: int) -> None:
    line = b" ".join((EVT + b" more").split()[:count])
    with pytest.raises(FormatError, match=f"line 2 is an EVT line of {count} fields, expected 15"):
        read(tmp_path, EVT, line, EVT)


def test_a_datagram_of_another_run(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="line 2 is of run 741234568, other lines of run 741234567"):
        read(tmp_path, DGM, replaced(DGM, 1, b"741234568"))
    with pytest.raises(FormatError, match="line 1 is of run 741234568, other lines of run 741234567"):
        read(tmp_path, replaced(DGM, 1, b"741234568"), EVT)


DGM_FAULTS = [
    (1, b"-1", "has '-1' for startedat, expected a whole number from 0 to 4294967295"),
    (2, b"inf", "has 'inf' for utc, expected seconds"),
    (3, b"x", "has 'x' for scid, expected a whole number"),
    (4, b"-1", "has '-1' for apid, expected a whole number from 0 to 65535"),
    (5, b"0x100000000", "has '0x100000000' for datagram"),
    (6, b"4294967296", "has '4294967296' for groundid, expected a whole number of 32 bits"),
    (6, b"-2147483649", "has '-2147483649' for groundid"),
    (8, b"N" * 17, f"has '{'N' * 17}' for modename, expected at most 16 letters"),
    (17, b"18446744073709551616", "has '18446744073709551616' for evtseq0"),
    (18, b"1_0.5", "has '1_0.5' for evtutc1, expected seconds"),
    (20, b"six", "has 'six' for nevts"),
]


@pytest.mark.parametrize(("field", "text", "complaint"), DGM_FAULTS)
def test_faults_of_a_datagram_line(tmp_path: Path, field: int, text: bytes, complaint: str) -> None:
    with pytest.raises(FormatError) as caught:
        read(tmp_path, b"other", EVT, DGM, replaced(DGM, field, text))
    assert str(caught.value).startswith(f"{tmp_path}/simulated.idx: line 4 {complaint}")
    assert str(caught.value).endswith(f". {idx.REMEDY}.")


@pytest.mark.parametrize("count", [1, 20, 24])
def test_a_datagram_line_has_21_to_23_fields(count: int) -> None:
    line = b" ".join((DGM + b" 1").split()[:count])
    with pytest.raises(
        FormatError, match=f"simulated: line 2 has {count} fields .* expected a DGM line of 21 to 23"
    ):
        idx.parse_datagrams([DGM, line], "simulated")


@pytest.mark.parametrize("line", [b"", b"\n", EVT])
def test_what_is_no_datagram_line(line: bytes) -> None:
    with pytest.raises(FormatError, match=r"simulated: line 1 has .* expected a DGM line"):
        idx.parse_datagrams([line], "simulated")


def test_keys_may_be_missing_and_sentinels_are_kept_as_bits() -> None:
    fields = DGM.split()
    odd = list(fields)
    for field, text in {3: b"-1", 6: b"0xFFFFFFFF", 7: b"-1", 17: b"-1", 21: b"-1", 22: b"none"}.items():
        odd[field] = text
    lines = [b" ".join(fields[:21]), b" ".join(fields[:22]), b" ".join(odd)]
    parsed = idx.parse_datagrams(lines, "simulated")
    assert parsed["hwkey"].tolist() == [0, 2706, 0xFFFFFFFF]
    assert parsed["swkey"].tolist() == [0, 0, 0]
    found = parsed[["scid", "groundid", "modechanges", "evtseq0"]][2].item()
    assert found == (-1, 0xFFFFFFFF, 0xFFFFFFFF, 2**64 - 1)


@pytest.mark.parametrize("block", [300, 1 << 20])
@pytest.mark.parametrize("keep", [1, 4, 100, len(EVT) - 3, len(EVT)])
@pytest.mark.parametrize("line", [EVT, DGM])
def test_a_last_line_without_newline_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: bytes, keep: int, block: int
) -> None:
    monkeypatch.setattr(idx, "BLOCK", block)
    path = tmp_path / "simulated.idx"
    path.write_bytes(EVT + b"\n" + DGM + b"\n" + line[:keep])
    with pytest.raises(FormatError, match=r"simulated\.idx: line 3 is cut"):
        idx.read_index(path)


def test_a_line_without_end_is_refused_and_not_read_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idx, "BLOCK", 1000)
    with pytest.raises(FormatError, match="line 2 has more than 2000 bytes"):
        read(tmp_path, EVT, b"x" * 5000)


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"gone\.idx: no such index"):
        idx.read_index(tmp_path / "gone.idx")
    with pytest.raises(FormatError, match="cannot be read: Is a directory"):
        idx.read_index(tmp_path)


def test_more_event_files_than_can_be_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idx, "BLOCK", 1 << 14)
    lines = (b"EVT: 1 2 3 4 5.0 77 956 0 0 a b 6.0 176 %d" % number for number in range(2**16 + 1))
    with pytest.raises(FormatError, match="line 65537 names event file 65537: more than an index can have"):
        read(tmp_path, *lines)


words = st.sampled_from(["start", "continue", "full", "-", "%d%s%%", "DGM:", "EVT:", "123", "0.5", "x" * 16])
names = st.sampled_from(["a.evt", "b.evt", "%s.evt", "0077014d-2c2e5787-0956-00001.evt", "x" * 90, "EVT:"])
times = st.floats(0, 2**32 - 1).map(lambda value: round(value, 6))


def rows(dtype: np.dtype[np.void], startedat: int) -> st.SearchStrategy[NDArray[np.void]]:
    """Return tables of `dtype` of one run whose texts are words and whose times have six decimals."""
    assert dtype.names is not None
    cells: list[st.SearchStrategy[object]] = []
    for name in dtype.names:
        kind = dtype[name]
        if name == "startedat":
            cells.append(st.just(startedat))
        elif kind.kind == "S":
            cells.append(words.map(str.encode))
        elif kind.kind == "f":
            cells.append(times)
        else:
            low = 0 if name in ("offset", "scid") else int(np.iinfo(kind).min)
            cells.append(st.integers(low, int(np.iinfo(kind).max)))
    return st.lists(st.tuples(*cells), max_size=4).map(lambda found: np.array(found, dtype))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), startedat=st.integers(0, 2**32 - 1), block=st.integers(200, 3000))
def test_any_table_comes_back_from_its_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: st.DataObject, startedat: int, block: int
) -> None:
    monkeypatch.setattr(idx, "BLOCK", block)
    content = b""
    expected: list[tuple[object, ...]] = []
    datagrams: list[NDArray[np.void]] = [np.empty(0, idx.DATAGRAM)]
    for _ in range(data.draw(st.integers(0, 5))):
        what = data.draw(st.sampled_from(["events", "datagrams", "junk"]))
        if what == "events":
            events, file = data.draw(rows(idx.EVENT_LINE, startedat)), data.draw(names)
            content += idx.evt_lines(events, f"../240601001/{file}")
            fields = ["sequence", "apid", "datagram", "utc", "offset"]
            expected += [(*event[fields].item(), file) for event in events]
        elif what == "datagrams":
            datagrams.append(data.draw(rows(idx.DATAGRAM, startedat)))
            content += idx.dgm_lines(datagrams[-1])
        else:
            content += b"some remark\n"
    path = tmp_path / "simulated.idx"
    path.write_bytes(content)
    index = idx.read_index(path)
    found = [(*event.item()[:5], index.files[event["file"]]) for event in index.events]
    assert found == expected
    assert index.datagrams.tolist() == np.concatenate(datagrams).tolist()
    assert idx.dgm_lines(index.datagrams) == b"".join(line + b"\n" for line in index.lines)
    assert index.startedat == (startedat if found or index.lines else None)


def test_merged_lines_have_nine_fields() -> None:
    events = np.array([(1, 956, 0, 0.0, 176, 1), (2**64 - 1, 957, 12, 0.0, 2**40, 0)], idx.EVENT)
    actions = np.array([b"start", b"continue"], "S16")
    assert idx.merged_lines(741234567, events, ["b.evt", "a.evt"], actions, actions[::-1]) == (
        b"EVT:  741234567                    1  956        0 start continue                  176 a.evt\n"
        b"EVT:  741234567 18446744073709551615  957       12 continue start        1099511627776 b.evt\n"
    )
    assert idx.merged_lines(1, events[:0], [], actions[:0], actions[:0]) == b""


@pytest.mark.parametrize("text", [b"", b"two words", b"tab\t"])
def test_writers_refuse_what_could_not_be_read_again(text: bytes) -> None:
    event, datagram = np.zeros(1, idx.EVENT_LINE), np.zeros(1, idx.DATAGRAM)
    for name in idx.DATAGRAM.names or ():
        if idx.DATAGRAM[name].kind == "S":
            datagram[name] = b"word"
    event["oaction"] = event["caction"] = b"word"
    idx.evt_lines(event, "a.evt")
    idx.dgm_lines(datagram)
    event["caction"] = datagram["crate"] = text
    with pytest.raises(FormatError, match="cannot stand in a line of an index"):
        idx.evt_lines(event, "a.evt")
    with pytest.raises(FormatError, match="cannot stand in a line of an index"):
        idx.dgm_lines(datagram)
    with pytest.raises(FormatError, match="cannot stand in a line of an index"):
        idx.evt_lines(event[:0], "a file.evt")


def outcome(path: Path) -> object:
    """Return all that an index holds, or what is wrong with it."""
    try:
        index = idx.read_index(path)
    except FormatError as error:
        return str(error)
    events = [(*event.item()[:5], index.files[event["file"]]) for event in index.events]
    return index.startedat, events, index.datagrams.tolist(), index.lines


def line_by_line(path: Path) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(idx._Reader, "_take_even", lambda *_: False)
        patch.setattr(idx, "_even_datagrams", lambda _: None)
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


@settings(max_examples=500, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(events_alike, min_size=1, max_size=6),
    changes=st.lists(
        st.tuples(st.integers(0, 2000), st.sampled_from(b" \t\n\0-+.:0159ax!/\x1f\x80\xff")), max_size=2
    ),
    datagrams=st.integers(0, 2),
)
def test_even_lines_are_read_as_line_by_line(
    tmp_path: Path, rows: list[tuple[object, ...]], changes: list[tuple[int, int]], datagrams: int
) -> None:
    lines = [(EVENT_FORM % row).encode() for row in rows] + [DGM] * datagrams
    content = bytearray(b"".join(line + b"\n" for line in lines))
    for place, byte in changes:
        content[place % len(content)] = byte
    path = tmp_path / "simulated.idx"
    path.write_bytes(content)
    assert outcome(path) == line_by_line(path)


@pytest.mark.parametrize("field", range(15))
@pytest.mark.parametrize("byte", [0, 9, 31, 32, 33, 43, 45, 47, 48, 58, 63, 64, 80, 96, 127, 128, 160, 176])
def test_any_last_byte_of_a_field(tmp_path: Path, field: int, byte: int) -> None:
    end = [found.end() for found in re.finditer(rb"[^ ]+", EVT)][field] - 1
    line = EVT[:end] + bytes([byte]) + EVT[end + 1 :]
    path = tmp_path / "simulated.idx"
    path.write_bytes(EVT + b"\n" + line + b"\n")
    assert outcome(path) == line_by_line(path)


@pytest.mark.parametrize("between", [b"\t", b"\r", b"\0", b"\x1f"])
def test_only_newlines_end_lines(tmp_path: Path, between: bytes) -> None:
    path = tmp_path / "simulated.idx"
    path.write_bytes(EVT + b"\n" + EVT + between + DGM + b"\n")
    fields = 15 + 23 - (between not in b"\t\r")
    with pytest.raises(FormatError, match=f"line 2 is an EVT line of {fields} fields"):
        idx.read_index(path)


@pytest.mark.parametrize("field", range(23))
@pytest.mark.parametrize(
    "text", [b"-1", b"0xFF", b"x", b"1", b"12345678901", b"1.5", b"18446744073709551615", b"N" * 17]
)
def test_datagram_columns_are_read_as_line_by_line(tmp_path: Path, field: int, text: bytes) -> None:
    end = [found.end() for found in re.finditer(rb"[^ ]+", DGM)][field]
    line = DGM[: end - len(text)] + text + DGM[end:] if end >= len(text) else DGM
    path = tmp_path / "simulated.idx"
    path.write_bytes(b"".join(DGM + b"\n" + line + b"\n" for _ in range(2)))
    assert outcome(path) == line_by_line(path)


def test_columns_as_narrow_as_can_be(tmp_path: Path) -> None:
    numbers = b" 1.000000 7 9 5 6 0 a b c d e f g h 1.000000 4 1.000000 4 1 7 8"
    with pytest.raises(FormatError, match="line 2 is of run 6, other lines of run 5"):
        read(tmp_path, b"DGM: 5" + numbers, b"DGM: 6" + numbers)
    line = b"EVT: 5 %d 1 1 1.000000 7 9 0 0 a b 1.000000 %d a"
    found = read(tmp_path, line % (3, 8), line % (4, 9), b"DGM: 5" + numbers)
    assert found.events[["sequence", "offset"]].tolist() == [(3, 8), (4, 9)]


def test_what_writers_write_takes_the_quick_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = (GOLDEN / "complete_basic" / "in").rglob("*0956-00001.idx")
    expected = line_by_line(path)
    monkeypatch.delattr(idx._Reader, "_take_any")
    monkeypatch.delattr(idx, "_datagram_fields")
    assert outcome(path) == expected


numbers_of = {
    "u": st.integers(0, 2**64 - 1) | st.integers(0, 20),
    "i": st.integers(-(2**31), 2**31 - 1) | st.integers(0, 999),
    "f": times
    | st.sampled_from(
        [0.0, 0.9999996, 0.9999995, 7812.5e-6, 0.5e-6, 1.5e-6, 4294967295.9999999, -1.5, -0.0, float("inf")]
    )
    | st.integers(0, 10**6).map(lambda half: (half + 0.5) * 1e-6)
    | st.floats(0, 2**33),
    "S": st.sampled_from([b"start", b"continue", b"x" * 16]),
}


@settings(max_examples=200)
@given(st.data(), st.sampled_from([idx.EVENT_LINE, idx.DATAGRAM]))
def test_many_lines_are_those_that_formatting_gives(data: st.DataObject, dtype: np.dtype[np.void]) -> None:
    table = np.zeros(70, dtype)
    for name in dtype.names or ():
        kind = dtype[name]
        cells: list[Any] = data.draw(st.lists(numbers_of[kind.kind], min_size=1, max_size=3))
        if kind.kind in "ui":
            limits = np.iinfo(kind)
            cells = [min(max(cell, int(limits.min)), int(limits.max)) for cell in cells]
        table[name] = [cells[row * row % len(cells)] for row in range(table.size)]
    if dtype == idx.EVENT_LINE:
        form = "EVT: %10d %20d %20d %20d %19.6f %3d %4d %8d %8d %16s %16s %19.6f %20d %%d.evt\n"
        form, found = form.replace("%%", "%%%%"), idx.evt_lines(table, "%%d.evt")
    else:
        form = "DGM: %10d %19.6f %3d %4d %7d %8d %3d" + 8 * " %16s" + 2 * " %19.6f %20d" + 3 * " %10d" + "\n"
        found = idx.dgm_lines(table)
    for row, line in zip(table.tolist(), found.decode().splitlines(keepends=True), strict=True):
        assert line == form % tuple(cell.decode() if isinstance(cell, bytes) else cell for cell in row)
