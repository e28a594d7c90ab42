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
from halfpipe.formats import evt

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = sorted(case.parent.name for case in GOLDEN.glob("*/case.yaml"))

# One simulated event of each kind, written by the original event file library, and what it wrote: the
# field's name, its byte in the record, its value.
LPA_FILE = bytes.fromhex("""
0020f3fa09090909a947570e87572e2c87572e2c0100000000000000701101000000000070110100000000000000000000000000
00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000
00000000a40900004e4f4d494e414c00000000000000000000000000000000000000000000000000000000000000000000000000
00000000000000000000000000000000000000004d000000bc030000bc5c0502889fd94187572e2c000000000700000000000000
00000000000000000100000086572e2c00d3ce0006000000000000000000000000000000010000006b73fe00000000004318ea00
00000000503403000000000015100000000000007011010000000000b03600000000000001000000010000004d01770087572e2c
4c4154000000000000000000000000004f5242495400000000000000000000000100000000000000000000000000000000000000
00000000737461727400000000000000000000007265717565737465640000000000000045505530000000000000000000000000
4e4f524d414c00000000000000000000000000000100000073746f70000000000000000000000000726571756573746564000000
000000002000000010004f102000000036b3360446e7f40621944156b6d59689139526f3e1d5b030000000006b73fe00595ea101
07000000ffffffff0c000000ff22000047110000873600000200000000000000282300008c230000010000000400000009000000
030000000100000001000000a01983e10100000069fc0000fc00000000000000292300008d23000002000000020000000b000000
000000000400000001000000e678a65300000000000000000000000000000000ff1c0000631d0000800c000087360000
""")
LPA_FIELDS = """
ccsds_scid@0=77 ccsds_apid@4=956 ccsds_utc@8=1719541768.083785 current_timeSecs@16=741234567
current_tics@20=0 current_hacks@24=7 current_incomplete@28=0 current_flywheeling@32=0
current_missingTimeTone@36=0 current_missingCpuPps@37=0 current_missingLatPps@38=0 current_earlyEvent@39=0
current_sourceGps@40=1 previous_timeSecs@44=741234566 previous_tics@48=13554432 previous_hacks@52=6
previous_incomplete@56=0 previous_flywheeling@60=0 previous_missingTimeTone@64=0
previous_missingCpuPps@65=0 previous_missingLatPps@66=0 previous_earlyEvent@67=0 previous_sourceGps@68=1
scalers_elapsed@72=16675691 scalers_livetime@80=15341635 scalers_prescaled@88=210000
scalers_discarded@96=4117 scalers_sequence@104=70000 scalers_deadzone@112=14000 run_platform@120=1
run_origin@124=1 run_groundId@128=7799117 run_startedAt@132=741234567 run_platformTxt@136=LAT
run_originTxt@152=ORBIT open_modeChanges@168=1 open_datagrams@172=0 open_action@176=0 open_reason@180=0
open_crate@184=0 open_mode@188=0 open_actionTxt@192=start open_reasonTxt@208=requested
open_crateTxt@224=EPU0 open_modeTxt@240=NORMAL close_action@256=0 close_reason@260=1
close_actionTxt@264=stop close_reasonTxt@280=requested length@296=32 marker@300=273612816
length_inside@304=32 infotype@332=0 timeTics@336=16675691 timeHack_tics@340=27352665 timeHack_hacks@344=7
compressionLevel@348=-1 compressedSize@352=12 softwareKey@356=8959 hardwareKey@360=4423 lpaDbKey@364=13959
nhandlers@368=2 0.type@372=0 0.masterKey@376=9000 0.cfgKey@380=9100 0.cfgId@384=1 0.state@388=4
0.prescaler@392=9 0.version@396=3 0.id@400=1 0.has@404=1 1.type@424=0 1.masterKey@428=9001
1.cfgKey@432=9101 1.cfgId@436=2 1.state@440=2 1.prescaler@444=11 1.version@448=0 1.id@452=4 1.has@456=1
type@476=0 LATC_master@480=7423 LATC_ignore@484=7523 SBS@488=3200 LPA_db@492=13959
"""
ACD_RECORD = bytes.fromhex("""
4d000000c5030000bc5c0502889fd94187572e2c00000000070000000000000000000000000000000100000086572e2c00d3ce00
06000000000000000000000000000000010000006b73fe00000000004318ea000000000050340300000000001510000000000000
7011010000000000b03600000000000001000000010000004d01770087572e2c4c4154000000000000000000000000004f524249
54000000000000000000000001000000000000000000000000000000040000000000000073746172740000000000000000000000
72657175657374656400000000000000534955300000000000000000000000004e4f524d414c0000000000000000000000000000
0100000073746f70000000000000000000000000726571756573746564000000000000002000000010004f102000000060f18ded
9e2145b1592f38ec099ff83ccb9de3605f1ced4b01000000400000006b73fe003ce6d70107000000ffffffff0000000000000100
ffffffffff2200004711000048110000f10f0d05530e5e0b7205080f65013400fd0ff6040001000001000000ff1c0000631d0000
6f3a0000
""")
ACD_FIELDS = """
length@296=32 marker@300=273612816 length_inside@304=32 infotype@332=1 info_length@336=64
timeTics@340=16675691 timeHack_tics@344=30926396 timeHack_hacks@348=7 compressionLevel@352=-1
compressedSize@356=0 autoRange@360=0 zeroSupression@361=0 strobe@362=1 periodicPrescale@364=4294967295
softwareKey@368=8959 writeCfg@372=4423 readCfg@376=4424 injected@380=4081 threshold@382=1293
biasDac@384=3667 holdDelay@386=2910 hitmapDelay@388=1394 range@390=3848 trigger_veto@392=357
trigger_vetoVernier@394=52 trigger_hld@396=4093 channel_numChan@398=1270 channel_single@400=0
channel_all@401=1 channel_latc@402=0 channel_perFE@403=0 type@404=1 LATC_master@408=7423
LATC_ignore@412=7523 LCI_script@416=14959
"""
CAL_RECORD = bytes.fromhex("""
4d000000c5030000bc5c0502889fd94187572e2c00000000070000000000000000000000000000000100000086572e2c00d3ce00
06000000000000000000000000000000010000006b73fe00000000004318ea000000000050340300000000001510000000000000
7011010000000000b03600000000000001000000010000004d01770087572e2c4c4154000000000000000000000000004f524249
54000000000000000000000001000000000000000000000000000000040000000000000073746172740000000000000000000000
72657175657374656400000000000000534955300000000000000000000000004e4f524d414c0000000000000000000000000000
0100000073746f70000000000000000000000000726571756573746564000000000000002000000010004f102000000060f18ded
9e2145b1592f38ec099ff83ccb9de3605f1ced4b02000000500000006b73fe003ce6d70107000000ffffffff0000000000000100
ffffffffff2200004711000048110000f10f0d05530e5e0b7205080f65013400fd0ff6041e0bce064d0d5c0c180d060fa0050001
0000000001000000ff1c0000631d00006f3a0000
""")
CAL_FIELDS = """
length@296=32 marker@300=273612816 length_inside@304=32 infotype@332=2 info_length@336=80
timeTics@340=16675691 timeHack_tics@344=30926396 timeHack_hacks@348=7 compressionLevel@352=-1
compressedSize@356=0 autoRange@360=0 zeroSupression@361=0 strobe@362=1 periodicPrescale@364=4294967295
softwareKey@368=8959 writeCfg@372=4423 readCfg@376=4424 uld@380=4081 injected@382=1293 delay@384=3667
firstRange@386=2910 threshold@388=1394 calibGain@390=3848 highCalEna@392=357 highRngEna@394=52
highGain@396=4093 lowCalEna@398=1270 lowRngEna@400=2846 lowGain@402=1742 trigger_le@404=3405
trigger_lowTrgEna@406=3164 trigger_he@408=3352 trigger_highTrgEna@410=3846 channel_numChan@412=1440
channel_single@414=0 channel_all@415=1 channel_latc@416=0 channel_perFE@417=0 type@420=1
LATC_master@424=7423 LATC_ignore@428=7523 LCI_script@432=14959
"""
TKR_RECORD = bytes.fromhex("""
4d000000c5030000bc5c0502889fd94187572e2c00000000070000000000000000000000000000000100000086572e2c00d3ce00
06000000000000000000000000000000010000006b73fe00000000004318ea000000000050340300000000001510000000000000
7011010000000000b03600000000000001000000010000004d01770087572e2c4c4154000000000000000000000000004f524249
54000000000000000000000001000000000000000000000000000000040000000000000073746172740000000000000000000000
72657175657374656400000000000000534955300000000000000000000000004e4f524d414c0000000000000000000000000000
0100000073746f70000000000000000000000000726571756573746564000000000000002000000010004f102000000060f18ded
9e2145b1592f38ec099ff83ccb9de3605f1ced4b030000003c0000006b73fe003ce6d70107000000ffffffff0000000000000100
ffffffffff220000471100004811000000000000f10f0d05530e5e0b7205080f0001000001000000ff1c0000631d00006f3a0000
""")
TKR_FIELDS = """
length@296=32 marker@300=273612816 length_inside@304=32 infotype@332=3 info_length@336=60
timeTics@340=16675691 timeHack_tics@344=30926396 timeHack_hacks@348=7 compressionLevel@352=-1
compressedSize@356=0 autoRange@360=0 zeroSupression@361=0 strobe@362=1 periodicPrescale@364=4294967295
softwareKey@368=8959 writeCfg@372=4423 readCfg@376=4424 dacRange@380=0 injected@384=4081 delay@386=1293
threshold@388=3667 splitLow@390=2910 splitHigh@392=1394 channel_numChan@394=3848 channel_single@396=0
channel_all@397=1 channel_latc@398=0 channel_perFE@399=0 type@400=1 LATC_master@404=7423
LATC_ignore@408=7523 LCI_script@412=14959
"""
LPA_RECORD = LPA_FILE[176:]
RECORDS = {"LPA": LPA_RECORD, "LCI_ACD": ACD_RECORD, "LCI_CAL": CAL_RECORD, "LCI_TKR": TKR_RECORD}
FIELDS = {"LPA": LPA_FIELDS, "LCI_ACD": ACD_FIELDS, "LCI_CAL": CAL_FIELDS, "LCI_TKR": TKR_FIELDS}
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


@pytest.mark.parametrize("kind", RECORDS)
def test_every_field_has_the_value_that_was_written(kind: str) -> None:
    found = {}
    for field in evt.fields(as_data(LPA_FILE[:176] + RECORDS[kind]), 176, "simulated"):
        value = field.value.tobytes() if field.value.dtype.kind == "V" else field.value.item()
        part = field.part.replace("handler ", "") + "." if "handler" in field.part else ""
        if isinstance(value, bytes):
            value = value.decode("latin-1")
        found[f"{part}{field.name}@{field.at - 176}"] = f"{value:.6f}" if isinstance(value, float) else value
    expected = dict(item.split("=") for item in FIELDS[kind].split())
    assert {name: str(found[name]) for name in expected} == expected


@pytest.mark.parametrize("kind", RECORDS)
def test_fields_tile_the_record(kind: str) -> None:
    record = LPA_FILE[:176] + RECORDS[kind]
    end = 176
    for field in evt.fields(as_data(record), 176, "simulated"):
        assert field.at == end
        size = 16 if field.name.endswith("Txt") else field.value.dtype.itemsize
        assert field.value.tobytes().ljust(size, b"\0") == record[end : end + size]
        end += size
    assert end == len(record)


def test_handlers_keep_their_four_words() -> None:
    found = {(f.part, f.name): f.value.item() for f in evt.fields(as_data(LPA_FILE), 176, "simulated")}
    words = ("rsd_status", "rsd_energyValid", "rsd_energyInLeus", "rsd_stage")
    assert [found["handler 0", word] for word in words] == [3783465376, 1, 64617, 252]
    assert [found["handler 1", word] for word in words] == [1403418854, 0, 0, 0]


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
    fields = list(evt.fields(as_data(whole), start, "simulated"))
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
