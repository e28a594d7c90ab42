"""Decoders that die or break their contract: the message names the file and the place."""

import io
import re
import sys
from pathlib import Path

import pytest

from halfpipe.decoder import (
    LINES_KEPT,
    Program,
    check_products,
    decode,
    how_it_ended,
    map_prefix,
    run_program,
    take_products,
)
from halfpipe.errors import DecoderError, HalfPipeError
from halfpipe.files import sha256
from halfpipe.formats.retdef import read_retdef
from halfpipe.ids import ChunkId
from tests.bad_decoder import CRIES, FAULTS
from tests.golden_cases import GOLDEN

ROOT = Path(__file__).parents[2]
SOURCE = GOLDEN / "multi3" / "in"
DOWNLINK, CHUNK = "240601001", "00003"
STEM = "00770155-2c2e6cc0-0965-00003"
EVT, IDX = f"{STEM}.evt", f"{STEM}.idx"
RETDEF = SOURCE / DOWNLINK / f"RetDef-{DOWNLINK}-{CHUNK}.xml"


def program(command: str, level0: Path | None = None, **prefixes: str) -> Program:
    return Program(command, "simulated_decoder.py", ROOT, level0, tuple(sorted(prefixes.items())))


def decoded(out: Path, *options: str, latc: str | None = None) -> tuple[dict[str, object], str]:
    """Decode the chunk; return what was made and the log."""
    log = io.StringIO()
    words = [sys.executable, str(ROOT / "tests" / "bad_decoder.py"), "--source", str(SOURCE), *options]
    made = decode(program(" ".join(words)), RETDEF, read_retdef(RETDEF), out, latc, log)
    return made, log.getvalue()


def spoilt(out: Path, fault: str) -> Path:
    """Lay good products of the chunk out in `out` and spoil them."""
    out.mkdir()
    for name in (EVT, IDX):
        (out / name).write_bytes((SOURCE / DOWNLINK / name).read_bytes())
    FAULTS[fault](out)
    return out


def test_good_products_are_described(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "old").mkdir(parents=True)  # what a killed job left goes
    made, log = decoded(out)
    assert sorted(path.name for path in out.iterdir()) == [EVT, IDX]
    same = {"ground": "00770155", "run": "2c2e6cc0", "apid": "0965"}
    evt, index = (SOURCE / DOWNLINK / name for name in (EVT, IDX))
    assert made == {
        "files": [
            {"name": EVT, "kind": "evt", "size": evt.stat().st_size, "sha256": sha256(evt), **same},
            {
                "name": IDX,
                "kind": "idx",
                "size": index.stat().st_size,
                "sha256": sha256(index),
                "events": 40,
                "datagrams": 5,
                "whole": True,
                **same,
            },
        ],
        "said": {"processing": ["00770155-2c2e6cc0"], "exceptions": {}, "exceptions_by_run": {}, "lines": []},
    }
    assert log.count("getLSEChunk: processing 00770155-2c2e6cc0-\n") == 2


def test_a_decoder_that_cries_and_ends_well(tmp_path: Path) -> None:
    made, log = decoded(tmp_path / "out", "--fault", f"{DOWNLINK}-{CHUNK}=exception")
    assert made["said"] == {
        "processing": ["00770155-2c2e6cc0"],
        "exceptions": {"DFI": 1, "PktRetriever": 2},
        "exceptions_by_run": {"2c2e6cc0": {"DFI": 1, "PktRetriever": 2}},
        "lines": list(CRIES),
    }
    assert all(cry in log for cry in CRIES)


def test_a_decoder_that_writes_nothing(tmp_path: Path) -> None:
    made, _ = decoded(tmp_path / "out", "--fault", f"{DOWNLINK}-{CHUNK}=nothing")
    assert made["files"] == []


@pytest.mark.parametrize(
    ("fault", "how"), [("exit3", "ended with exit status 3"), ("sigsegv", "was killed by SIGSEGV")]
)
def test_a_decoder_that_dies(tmp_path: Path, fault: str, how: str) -> None:
    with pytest.raises(DecoderError) as caught:
        decoded(tmp_path / "out", "--fault", f"{DOWNLINK}-{CHUNK}={fault}")
    said = str(caught.value)
    assert how in said
    assert str(RETDEF) in said
    assert "getLSEChunk: processing 00770155-2c2e6cc0-" in said, "its last lines are shown"
    assert "give the same command again" in said


BAD_PRODUCTS = {
    "half": rf"{IDX}: line \d+ is cut: the file ends without a newline",
    "no-evt": f"{IDX}: names the event file {EVT}, which the decoder did not write",
    "no-index": f"{EVT}: the decoder wrote no index for it",
    "other-chunk": "0965-00077.evt: the decoder wrote a product of chunk 00077 while it worked on chunk 00003",
    "bad-name": "events.evt: not a product's name",
    "other-apid": r"-0765-00003\.evt: APID 0765 is none of event data",
    "beyond": rf"{EVT}: record at byte 33268: no record can start there",
    "before": rf"{EVT}: record at byte 8: no record can start there",
    "inside": rf"{EVT}: record at byte 216: ",
    "elsewhere": rf"{IDX}: sequence 1084 of APID 965 is said to lie at byte 176 of {EVT}, where there is sequence 1001",
    "cut-index": rf"{IDX}: line 45 is cut: the file ends without a newline",
    "cut": rf"{EVT}: record at byte \d+: cut inside ",
    "marker": rf"{EVT}: at byte 0 stands 0xfaf32001, expected the marker 0xfaf32000",
    "version": rf"{EVT}: at byte 4 stands version 0x09090908, expected 0x09090909",
    "long-ebf": rf"{EVT}: record at byte 176: cut inside the EBF: needs bytes 476 to 100476",
    "infotype": rf"{EVT}: record at byte 176: .* is 9, expected",
}


def test_every_fault_of_products_is_tried() -> None:
    assert FAULTS.keys() == BAD_PRODUCTS.keys() | {"exit3", "sigsegv", "exception", "nothing"}


@pytest.mark.parametrize("fault", BAD_PRODUCTS)
def test_products_that_break_the_contract(tmp_path: Path, fault: str) -> None:
    out = spoilt(tmp_path / "out", fault)
    with pytest.raises(HalfPipeError, match=BAD_PRODUCTS[fault]) as caught:
        check_products(out, ChunkId(CHUNK))
    assert re.search(r"again|[Mm]end the decoder|have it made|is none of event data|expected <ground|cannot be placed",
                     str(caught.value)), "a remedy"  # fmt: skip


def test_an_evt_that_is_cut_anywhere(tmp_path: Path) -> None:
    out = spoilt(tmp_path / "out", "exception")
    content = (out / EVT).read_bytes()
    last = max(int(line.split()[13]) for line in (out / IDX).read_bytes().splitlines() if line[:4] == b"EVT:")
    for size in range(0, 176, 25):
        (out / EVT).write_bytes(content[:size])
        with pytest.raises(HalfPipeError, match=rf"{EVT}: {size} bytes, but the header .* alone has 176"):
            check_products(out, ChunkId(CHUNK))
    for size in range(last + 1, len(content), 13):
        (out / EVT).write_bytes(content[:size])
        with pytest.raises(
            HalfPipeError, match=rf"{EVT}: record at byte {last}: cut inside .* ends at {size}"
        ):
            check_products(out, ChunkId(CHUNK))
    assert len(content) - last > 384, "a whole record was cut, field by field"


def test_an_index_of_another_run_or_apid(tmp_path: Path) -> None:
    out = spoilt(tmp_path / "out", "exception")
    for name in (EVT, IDX):
        (out / name).rename(out / name.replace("2c2e6cc0", "2c2e6cc1"))
    with pytest.raises(HalfPipeError, match="lines are of run 741240000, its name says 741240001"):
        check_products(out, ChunkId(CHUNK))
    for name in (EVT, IDX):
        (out / name.replace("2c2e6cc0", "2c2e6cc1")).rename(out / name.replace("-0965-", "-0966-"))
    with pytest.raises(HalfPipeError, match="EVT lines of APID 965, its name says 966"):
        check_products(out, ChunkId(CHUNK))


def test_records_with_a_hole_between_are_taken_and_told(tmp_path: Path) -> None:
    out = spoilt(tmp_path / "out", "exception")
    lines = (out / IDX).read_bytes().splitlines(keepends=True)
    assert lines[3].startswith(b"EVT:")
    (out / IDX).write_bytes(b"".join(lines[:3] + lines[4:]))
    index = check_products(out, ChunkId(CHUNK))[1]
    assert (index["events"], index["whole"]) == (39, False)


def test_other_files_of_a_decoder_are_no_products(tmp_path: Path) -> None:
    out = spoilt(tmp_path / "out", "exception")
    (out / "core.1234").write_bytes(b"x")
    assert [file["name"] for file in check_products(out, ChunkId(CHUNK))] == [EVT, IDX]


def test_a_command_that_is_not_there() -> None:
    with pytest.raises(DecoderError, match=r"/no/such/decoder: cannot be started: No such file.*config"):
        run_program(["/no/such/decoder"], ROOT, io.StringIO())


def test_exceptions_belong_to_the_run_that_is_processed() -> None:
    lines = [
        "DFI exception before any run",
        "getLSEChunk: processing 00770155-2c2e6cc0-",
        "DFI exception",
        "PktFile exception",
        "getLSEChunk: processing 00770156-2c2e6cc1-",
        "DFI exception",
    ]
    said = run_program(["printf", "%s\\n", *lines], ROOT, io.StringIO(), "2c2e6cbf").summary({})
    assert said["exceptions"] == {"DFI": 3, "PktFile": 1}
    assert said["exceptions_by_run"] == {
        "2c2e6cbf": {"DFI": 1},
        "2c2e6cc0": {"DFI": 1, "PktFile": 1},
        "2c2e6cc1": {"DFI": 1},
    }


def test_exceptions_by_the_thousand_are_counted_and_some_kept() -> None:
    said = run_program(["seq", "-f", "PktFile exception %g", "1000"], ROOT, io.StringIO()).summary({})
    assert said["exceptions"] == {"PktFile": 1000}
    assert said["lines"] == [f"PktFile exception {n}" for n in range(1, LINES_KEPT + 1)]


def test_what_a_decoder_says_holds_no_place_of_this_machine(tmp_path: Path) -> None:
    out = tmp_path / "out"
    log = io.StringIO()
    words = "sh -c 'echo DFI exception in $4 of $2' sh"
    made = decode(program(words), RETDEF, read_retdef(RETDEF), out, None, log)
    assert made["said"]["lines"] == [f"DFI exception in OUTDIR of {RETDEF.name}"]


@pytest.mark.parametrize(
    ("status", "words"),
    [(1, "ended with exit status 1"), (-9, "was killed by SIGKILL"), (-50, "was killed by signal 50")],
)
def test_how_it_ended(status: int, words: str) -> None:
    assert how_it_ended(status) == words


def test_the_command_is_split_as_a_shell_does_and_knows_the_archive(tmp_path: Path) -> None:
    command = "run 'two words' --l0 {level0} -x"
    assert program(command, tmp_path).arguments("/arch") == ["run", "two words", "--l0", str(tmp_path), "-x"]
    there = program(command, None, **{"/nfs/u23": "/sdf/u23"}).arguments("/nfs/u23/level0")
    assert there[3] == "/sdf/u23/level0"
    built_in = program("built-in").arguments("/arch")
    assert built_in == [sys.executable, str(ROOT / "scripts" / "simulated_decoder.py")]


@pytest.mark.parametrize(
    ("path", "mapped"),
    [
        ("/nfs/farm/level0", "/sdf/n/level0"),
        ("/nfs/farm", "/sdf/n"),
        ("/nfs/farmer/level0", "/elsewhere/farmer/level0"),
        ("/afs/level0", "/afs/level0"),
    ],
)
def test_prefixes_are_whole_components_and_the_longest_counts(path: str, mapped: str) -> None:
    assert map_prefix(path, [("/nfs", "/elsewhere"), ("/nfs/farm/", "/sdf/n")]) == mapped


def test_products_are_taken_and_those_of_before_go(tmp_path: Path) -> None:
    home, out = tmp_path / "chunks", spoilt(tmp_path / "out", "exception")
    home.mkdir()
    before = "00770155-2c2e8430-0956-00003.evt"
    other = "00770155-2c2e8430-0956-00004.evt"
    for name in (before, other, "00003.json"):
        (home / name).write_text("x")
    (out / "core").write_text("x")
    take_products(out, home, ChunkId(CHUNK))
    assert sorted(path.name for path in home.iterdir()) == sorted([EVT, IDX, other, "00003.json"])
    assert not out.exists()
