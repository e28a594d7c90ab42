"""Event files: golden bytes, every kind of damage, and walks against a plain reading of the layout."""

import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from halfpipe.errors import FormatError, MissingInputError
from halfpipe.formats import evt, evt_view
from tests.support.original_events import LPA_FILE, LPA_RECORD, RECORDS, TKR_RECORD

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = sorted(case.parent.name for case in GOLDEN.glob("*/case.yaml"))

EBF, INFOTYPE = 300, 332  # where they stand in each of these records


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


def write(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "simulated.evt"
    path.write_bytes(content)
    return path


def test_layouts_have_the_sizes_of_the_format() -> None:
    sizes = {
        evt.HEADER: 176,
        evt.CONTEXT: 296,
        evt.LPA_INFO: 32,
        evt.LPA_HANDLER: 52,
        evt.LCI_ACD_INFO: 64,
        evt.LCI_CAL_INFO: 80,
        evt.LCI_TKR_INFO: 60,
        evt.LPA_KEYS: 20,
        evt.LCI_KEYS: 16,
    }
    assert {dtype: dtype.itemsize for dtype in sizes} == sizes


def test_signs_of_fields() -> None:
    handler = struct.pack(
        "<i3I2i2IB3xIIiI", -1, *3 * [2**32 - 1], -1, -3, *2 * [2**32 - 1], 1, *2 * [2**32 - 1], -7, 5
    )
    found = np.frombuffer(handler, evt.LPA_HANDLER)[0]
    assert found["type"] == found["state"] == -1
    assert (found["prescaler"], found["rsd_energyInLeus"], found["rsd_stage"]) == (-3, -7, 5)
    assert found["masterKey"] == found["version"] == found["rsd_status"] == 2**32 - 1
    context = np.frombuffer(b"\xff" * 296, evt.CONTEXT)[0]
    signed = {name for name in evt.CONTEXT.names or () if evt.CONTEXT[name].kind == "i"}
    assert {name for name in signed if context[name] == -1} == {
        *("ccsds_scid", "ccsds_apid", "run_platform", "run_origin", "open_action", "open_reason"),
        *("open_crate", "open_mode", "close_action", "close_reason"),
    }


def test_header_bytes() -> None:
    header = evt.pack_header(
        runid=240601001,
        seconds=(741234567, 741234567),
        sequences=(70000, 70000),
        events=1,
        moot_key=2468,
        moot_alias="NOMINAL",
    )
    assert header == LPA_FILE[:176]


@pytest.mark.parametrize(
    ("alias", "stored"),
    [
        ("", bytes(64)),
        ("x" * 63, b"x" * 63 + b"\0"),
        ("x" * 70, b"x" * 63 + b"\0"),
        (evt.MOOT_UNSET_ALIAS, b"LSEWRITER_UNSET".ljust(64, b"\0")),
    ],
)
def test_alias_is_cut_at_63_bytes(alias: str, stored: bytes) -> None:
    header = evt.pack_header(
        runid=1, seconds=(2, 3), sequences=(2**40, 2**64 - 1), events=2**33, moot_key=0, moot_alias=alias
    )
    assert header[112:] == stored
    assert header[20:44] == struct.pack("<3Q", 2**33, 2**40, 2**64 - 1)


@pytest.mark.parametrize(
    ("field", "value"),
    [("runid", 2**32), ("seconds", (0, -1)), ("sequences", (2**64, 0)), ("moot_key", -1), ("events", -1)],
)
def test_header_refuses_what_does_not_fit(field: str, value: object) -> None:
    values: dict[str, object] = {
        "runid": 1,
        "seconds": (1, 1),
        "sequences": (1, 1),
        "events": 1,
        "moot_key": 1,
        "moot_alias": "",
    }
    with pytest.raises(FormatError, match="does not fit into the"):
        evt.pack_header(**(values | {field: value}))  # type: ignore[arg-type]


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
        records = [file.data[o : o + s].tobytes() for o, s in zip(offsets, layout.sizes, strict=True)]
        assert bytes(header) + b"".join(records) == content


@pytest.mark.parametrize("case", CASES)
def test_golden_contexts(case: str) -> None:
    for path in (GOLDEN / case).rglob("*.evt"):
        file = evt.open_evt(path)
        offsets = evt.walk(file.data, str(path))[::-1]
        contexts = evt.contexts(file.data, offsets)
        content = path.read_bytes()
        assert contexts.tobytes() == b"".join(content[o : o + 296] for o in offsets)
        for field, form, place in [
            ("ccsds_apid", "<i", 4),
            ("ccsds_utc", "<d", 8),
            ("current_timeSecs", "<I", 16),
            ("scalers_sequence", "<Q", 104),
            ("run_startedAt", "<I", 132),
            ("open_datagrams", "<I", 172),
        ]:
            values = [struct.unpack_from(form, content, o + place)[0] for o in offsets]
            assert contexts[field].tolist() == values
            assert evt.context_column(file.data, offsets, field).tolist() == values


def test_no_records() -> None:
    data = as_data(LPA_FILE[:176])
    assert evt.walk(data, "simulated").shape == (0,)
    layout = evt.record_layout(data, at(), "simulated")
    assert layout.sizes.dtype == np.dtype(np.int64)
    assert layout.infotypes.dtype == np.dtype(np.int32)
    assert layout.sizes.shape == layout.infotypes.shape == (0,)
    assert evt.contexts(data, at()).shape == (0,)


def test_open_reads_the_header_and_maps_the_rest(tmp_path: Path) -> None:
    file = evt.open_evt(write(tmp_path, LPA_FILE))
    assert file.data.tobytes() == LPA_FILE
    assert not file.data.flags.writeable
    assert (file.header["runid"], file.header["moot_alias"]) == (240601001, b"NOMINAL")


def test_open_refuses_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"gone\.evt: no such event file"):
        evt.open_evt(tmp_path / "gone.evt")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "0 bytes, but the header"),
        (LPA_FILE[:175], "175 bytes, but the header"),
        (b"\x01" + LPA_FILE[1:], "at byte 0 stands 0xfaf32001, expected the marker 0xfaf32000"),
        (LPA_FILE[:4] + bytes.fromhex("08080808") + LPA_FILE[8:], "at byte 4 stands version 0x08080808"),
    ],
)
def test_open_refuses_other_files(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(FormatError, match=re.escape(f"{path}: {complaint}")) as caught:
        evt.open_evt(path)
    assert "made again" in str(caught.value)


def test_open_refuses_a_directory(tmp_path: Path) -> None:
    with pytest.raises(FormatError):
        evt.open_evt(tmp_path)


@pytest.mark.parametrize("kind", RECORDS)
def test_a_cut_at_any_byte_is_named_with_its_field(kind: str) -> None:
    before = LPA_FILE
    whole = before + RECORDS[kind]
    start = len(before)
    fields = list(evt_view.fields(as_data(whole), start, "simulated"))
    for size in range(start + 1, len(whole)):
        cut = [field for field in fields if field.at <= size][-1]
        if cut.part == "ebf":
            where = "the EBF length" if cut.name == "length" else "the EBF"
        elif cut.name == "type" and cut.part == "keys":
            where = "the key type"
        else:
            named = {
                "infotype": "the info type",
                "info_length": "the info length",
                "nhandlers": "the number of handlers",
            }
            title = {
                "context": "the context",
                "info": f"the {kind[:3]} info",
                "keys": f"the {kind[:3]} keys",
            }.get(cut.part, cut.part)
            where = named.get(cut.name, f"{title}, field {cut.name}")
        for read in (evt.walk, lambda data, name: evt.record_layout(data, at(176, start), name)):
            with pytest.raises(FormatError) as caught:
                read(as_data(whole[:size]), "simulated.evt")
            message = str(caught.value)
            assert message.startswith(
                f"simulated.evt: record at byte {start}: cut inside {where}: needs bytes"
            )
            assert f"the file ends at {size}. {evt.REMEDY}." in message


Damage = Callable[[bytearray], None]


def put(place: int, form: str, *values: int) -> Damage:
    return lambda record: struct.pack_into(form, record, place, *values)


def keytype(kind: str, value: int) -> Damage:
    return put(len(RECORDS[kind]) - (20 if kind == "LPA" else 16), "<i", value)


DAMAGES: list[tuple[str, Damage, str]] = [
    ("LPA", put(296, "<I", 0), "the EBF length at byte {296} is 0, expected 8 to 131072"),
    ("LPA", put(296, "<I", 7), "the EBF length at byte {296} is 7, expected 8 to 131072"),
    ("LPA", put(296, "<I", 131073), "the EBF length at byte {296} is 131073, expected 8 to 131072"),
    ("LPA", put(296, "<I", 2**32 - 1), "the EBF length at byte {296} is 4294967295"),
    ("LCI_ACD", put(296, "<I", 131072), "cut inside the EBF: needs bytes {300} to {131372}"),
    ("LPA", put(300, "<I", 0x104F0011), "the EBF marker at byte {300} is 0x104f0011, expected 0x104f0010"),
    ("LCI_CAL", put(304, "<I", 33), "the length inside the EBF at byte {304} is 33, expected 32"),
    ("LPA", put(332, "<i", 4), "the info type at byte {332} is 4, expected 0 to 3"),
    ("LCI_TKR", put(332, "<i", -1), "the info type at byte {332} is -1, expected 0 to 3"),
    ("LCI_ACD", put(336, "<I", 80), "the info length at byte {336} is 80, expected 64"),
    ("LCI_CAL", put(336, "<I", 64), "the info length at byte {336} is 64, expected 80"),
    ("LCI_TKR", put(336, "<I", 0), "the info length at byte {336} is 0, expected 60"),
    ("LPA", put(368, "<I", 2**32 - 1), "cut inside handler "),
    ("LPA", keytype("LPA", 1), "the key type behind an LPA info at byte {476} is 1, expected 0"),
    ("LCI_ACD", keytype("LCI_ACD", 0), "the key type behind an LCI info at byte {404} is 0, expected 1"),
    ("LCI_CAL", keytype("LCI_CAL", 2), "the key type behind an LCI info at byte {420} is 2, expected 1"),
    ("LCI_TKR", keytype("LCI_TKR", -1), "the key type behind an LCI info at byte {400} is 4294967295"),
]


@pytest.mark.parametrize(("kind", "damage", "complaint"), DAMAGES, ids=[text for _, _, text in DAMAGES])
@pytest.mark.parametrize("last", [True, False], ids=["last", "inside"])
def test_damage_is_named(kind: str, damage: Damage, complaint: str, last: bool) -> None:
    record = bytearray(RECORDS[kind])
    damage(record)
    start = len(LPA_FILE)
    content = LPA_FILE + bytes(record) + (b"" if last else TKR_RECORD)
    expected = re.sub(r"\{(\d+)\}", lambda m: str(start + int(m[1])), complaint)
    for read in (evt.walk, lambda data, name: evt.record_layout(data, at(176, start), name)):
        with pytest.raises(FormatError) as caught:
            read(as_data(content), "simulated.evt")
        assert str(caught.value).startswith(f"simulated.evt: record at byte {start}: {expected}")
        assert str(caught.value).endswith(f". {evt.REMEDY}.")


@pytest.mark.parametrize("offset", [-1, 0, 175, len(LPA_FILE), 2**40])
def test_records_start_behind_the_header_and_before_the_end(offset: int) -> None:
    with pytest.raises(FormatError, match=f"simulated: record at byte {offset}: no record can start there"):
        evt.record_layout(as_data(LPA_FILE), at(offset), "simulated")


def test_an_offset_into_the_middle_of_a_record_is_found_out() -> None:
    with pytest.raises(FormatError, match="record at byte 180"):
        evt.record_layout(as_data(LPA_FILE + LPA_RECORD), at(180), "simulated")


def test_latc_master_lies_so_far_from_the_end() -> None:
    place = len(LPA_RECORD) - evt.LATC_FROM_END
    assert struct.unpack_from("<I", LPA_RECORD, place)[0] == 7423


@st.composite
def any_record(draw: st.DrawFn) -> bytes:
    kind = draw(st.sampled_from(sorted(RECORDS)))
    record = RECORDS[kind]
    length = 8 + draw(st.integers(0, 70))
    ebf = struct.pack("<3I", length, 0x104F0010, length) + draw(
        st.binary(min_size=length - 8, max_size=length - 8)
    )
    tail = record[INFOTYPE:]
    if kind == "LPA":
        handlers = draw(st.integers(0, 6))
        tail = tail[:36] + struct.pack("<I", handlers) + handlers * tail[40:92] + tail[-20:]
    return record[:296] + ebf + tail


@given(st.lists(any_record(), max_size=12), st.randoms(use_true_random=False))
def test_walk_and_layout_agree_with_a_plain_reading(records: list[bytes], random: Random) -> None:
    content = LPA_FILE[:176] + b"".join(records)
    offsets = evt.walk(as_data(content), "simulated")
    expected = list(plain_walk(content))
    assert offsets.tolist() == [offset for offset, _, _ in expected]
    assert [size for _, size, _ in expected] == [len(record) for record in records]
    random.shuffle(expected)
    layout = evt.record_layout(as_data(content), at(*(offset for offset, _, _ in expected)), "simulated")
    assert layout.sizes.tolist() == [size for _, size, _ in expected]
    assert layout.infotypes.tolist() == [kind for _, _, kind in expected]


@given(
    st.lists(any_record(), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 10**4), st.integers(0, 255)), min_size=1, max_size=4),
    st.integers(0, 600),
)
def test_a_damaged_file_is_refused_or_walked_to_its_end(
    records: list[bytes], damages: list[tuple[int, int]], cut: int
) -> None:
    content = bytearray(LPA_FILE[:176] + b"".join(records))
    for place, value in damages:
        content[176 + place % (len(content) - 176)] = value
    content = content[: max(176, len(content) - cut)]
    data = as_data(bytes(content))
    try:
        offsets = evt.walk(data, "simulated")
    except FormatError:
        with pytest.raises(FormatError, match=r"^simulated: record at byte \d+: .* made again"):
            evt.walk(data, "simulated")
    else:
        assert 176 + evt.record_layout(data, offsets, "simulated").sizes.sum() == len(content)
