"""Decoders that die or break their contract: the message names the file and the place."""

import io
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from halfpipe.decode.announced import MOST_GAPS, gaps, too_many
from halfpipe.decode.chunk_products import check_products
from halfpipe.decode.decode_chunk import LINES_KEPT, DecoderLog, decode
from halfpipe.errors import DecoderError, FormatError, HalfPipeError
from halfpipe.files.reading import sha256
from halfpipe.formats import idx
from halfpipe.formats.retdef import Span, read_retdef
from halfpipe.formats.rows import read_rows
from halfpipe.ids import ChunkId
from halfpipe.settings import Decoder, Paths, Settings
from tests.support.bad_decoder import FAULTS
from tests.support.golden_cases import GOLDEN
from tests.support.workflow import BAD_DECODER

SOURCE = GOLDEN / "multi3" / "in"
DOWNLINK, CHUNK = "240601001", "00003"
STEM = "00770155-2c2e6cc0-0965-00003"
EVT, IDX, ROWS = f"{STEM}.evt", f"{STEM}.idx", f"{STEM}.rows"
COUNTS = ("events", "announced", "missing_events")
RETDEF = SOURCE / DOWNLINK / f"RetDef-{DOWNLINK}-{CHUNK}.xml"


def settings(command: str, latc: str | None = None) -> Settings:
    return Settings(Paths(work=Path("/work"), stage=Path("/stage")), decoder=Decoder(command, latc))


def decoded(out: Path, *options: str, latc: str | None = None) -> tuple[dict[str, Any], str]:
    """Decode the chunk; return what was made and the log."""
    log = io.StringIO()
    words = [sys.executable, str(BAD_DECODER), "--source", str(SOURCE), *options]
    made = decode(settings(shlex.join(words), latc), RETDEF, read_retdef(RETDEF), out, log)
    return made, log.getvalue()


def spoilt(out: Path, fault: str | None = None) -> Path:
    """Lay good products of the chunk out in `out`, and spoil them by a fault."""
    out.mkdir()
    for name in (EVT, IDX):
        (out / name).write_bytes((SOURCE / DOWNLINK / name).read_bytes())
    if fault is not None:
        FAULTS[fault](out)
    return out


def test_good_products_are_described(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "old").mkdir(parents=True)  # what a killed job left goes
    made, log = decoded(out)
    assert sorted(path.name for path in out.iterdir()) == [EVT, IDX, ROWS]
    evt, index, of_index = made["files"]
    assert (evt["name"], evt["sha256"]) == (EVT, sha256(SOURCE / DOWNLINK / EVT))
    assert (index["ground"], index["run"], index["apid"]) == ("00770155", "2c2e6cc0", "0965")
    assert (of_index["name"], of_index["kind"], of_index["sha256"]) == (ROWS, "rows", sha256(out / ROWS))
    read, of_text = read_rows(out / ROWS), idx.read_index(out / IDX)
    assert (read.lines, read.files) == (of_text.lines, (EVT,))
    assert read.events["size"].all()
    for field in ("size", "check"):  # no line has them
        read.events[field] = 0
    assert read.events.tobytes() == of_text.events.tobytes()
    assert [index[key] for key in (*COUNTS, "datagrams", "uncovered_bytes")] == [40, 40, 0, 5, 0]
    assert (made["said"]["processing"], made["level0"]["missing"]) == (["00770155-2c2e6cc0"], None)
    assert log.count("getLSEChunk: processing 00770155-2c2e6cc0-\n") == 2


@pytest.mark.parametrize(("says", "code"), [("tee: No space left on device", "disk-full"), ("x", "decoder")])
def test_a_decoder_that_dies(tmp_path: Path, says: str, code: str) -> None:
    given = settings(f"sh -c 'echo {says}; echo its last line; exit 3' sh")
    with pytest.raises(
        DecoderError, match=r"ended with exit status 3(?s:.*)\n  \| its last line\n"
    ) as caught:
        decode(given, RETDEF, read_retdef(RETDEF), tmp_path / "out", io.StringIO())
    assert caught.value.code == code
    assert str(RETDEF) in str(caught.value)
    with pytest.raises(DecoderError, match=r"^/no/such: cannot be started: No such file or directory"):
        decode(settings("/no/such"), RETDEF, read_retdef(RETDEF), tmp_path / "out", io.StringIO())


BAD_PRODUCTS = {
    "no-evt": f"{IDX}: names the event file {EVT}, which the decoder did not write",
    "no-index": f"{EVT}: the decoder wrote no index for it",
    "other-chunk": "0965-00077.evt: the decoder wrote a product of chunk 00077 while it worked on chunk 00003",
    "other-run": "lines are of run 741240000, its name says 741240001",
    "other-epu": "EVT lines of APID 965, its name says 966",
    "other-apid": r"-0765-00003\.evt: APID 0765 is none of event data",
    "beyond": rf"{EVT}: record at byte 33268: ",
    "elsewhere": rf"{IDX}: sequence 1084 is said to lie at byte 176 of {EVT}, where there is sequence 1001",
    "cut-index": rf"{IDX}: line 45 is cut",
    "cut": rf"{EVT}: record at byte \d+: ",
}


@pytest.mark.parametrize("fault", BAD_PRODUCTS)
def test_products_that_break_the_contract(tmp_path: Path, fault: str) -> None:
    out = spoilt(tmp_path / "out", fault)
    with pytest.raises(HalfPipeError, match=BAD_PRODUCTS[fault]):
        check_products(out, ChunkId(CHUNK))


def test_an_event_of_no_time(tmp_path: Path) -> None:
    out = spoilt(tmp_path / "out", "exception")
    lines = (out / IDX).read_bytes().splitlines(keepends=True)
    assert lines[3].startswith(b"EVT:")
    utc = lines[3].split()[5]
    lines[3] = lines[3].replace(utc, b"9" + utc[1:], 1)
    (out / IDX).write_bytes(b"".join(lines))
    with pytest.raises(FormatError, match="is said to be of 9"):
        check_products(out, ChunkId(CHUNK))


def test_the_key_is_handed_on_as_one_word(tmp_path: Path) -> None:
    log = io.StringIO()
    given = settings("printf '%s\\n'", "0x12; touch evil")
    with pytest.raises(DecoderError) as caught:  # it brings nothing
        decode(given, RETDEF, read_retdef(RETDEF), tmp_path / "out", log)
    assert caught.value.code == "decoder"
    assert log.getvalue().splitlines()[4:] == ["-k", "0x12; touch evil"]


def test_a_run_that_was_processed_must_be_there(tmp_path: Path) -> None:
    products = f"{SOURCE / DOWNLINK / EVT} {SOURCE / DOWNLINK / IDX}"
    words = f"sh -c 'echo getLSEChunk: processing 00770155-2c2e6cc1-; cp {products} $4' sh"
    with pytest.raises(DecoderError, match="nothing of 00770155-2c2e6cc1") as caught:
        decode(settings(words), RETDEF, read_retdef(RETDEF), tmp_path / "out", io.StringIO())
    assert caught.value.code == "decoder"


def test_exceptions_belong_to_the_run_that_is_processed() -> None:
    said = DecoderLog("2c2e6cbf")
    for line in (
        "DFI exception before any run",
        "getLSEChunk: processing 00770155-2c2e6cc0-",
        "DFI exception",
        "PktFile exception",
        "an xDFI exception, a PktFilexception",
        *(f"PktFile exception {number}" for number in range(998)),
        *(f"getLSEChunk: processing {number:08x}-2c2e6cc1-" for number in range(1000)),
        "DFI exception",
    ):
        said.hear(f"{line}\n")
    summary = said.summary({})
    assert summary["exceptions"] == {"DFI": 3, "PktFile": 999}
    assert summary["exceptions_by_run"] == {
        "2c2e6cbf": {"DFI": 1},
        "2c2e6cc0": {"DFI": 1, "PktFile": 999},
        "2c2e6cc1": {"DFI": 1},
    }
    assert (len(summary["processing"]), len(summary["lines"])) == (LINES_KEPT, LINES_KEPT)
    assert summary["lines"][0] == "DFI exception before any run"


def test_what_a_decoder_says_holds_no_place_of_this_machine(tmp_path: Path) -> None:
    out = tmp_path / "out"
    products = f"{SOURCE / DOWNLINK / EVT} {SOURCE / DOWNLINK / IDX}"
    words = f"sh -c 'echo DFI exception in $4 of $2; cp {products} $4' sh"
    made = decode(settings(words), RETDEF, read_retdef(RETDEF), out, io.StringIO())
    assert made["said"]["lines"] == [f"DFI exception in OUTDIR of {RETDEF.name}"]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A directory with good products: 40 events in 5 datagrams."""
    return spoilt(tmp_path / "good")


def checked(out: Path, *, again: bool = False) -> dict[str, Any]:
    """Return the entry of the index, as of products that a decoder has just made."""
    (out / ROWS).unlink(missing_ok=True)
    return check_products(out, ChunkId(CHUNK), again=again)[1]


def counted(out: Path, *, again: bool = False) -> tuple[object, ...]:
    entry = checked(out, again=again)
    return tuple(entry[key] for key in COUNTS)


def uncovered(out: Path) -> object:
    return checked(out)["uncovered_bytes"]


def announcing_less(lines: list[bytes]) -> list[bytes]:
    """Have the last datagram with events announce one less than it brings."""
    at = max(n for n, line in enumerate(lines) if line[:4] == b"DGM:" and line.split()[20] != b"0")
    fields = lines[at].split()
    fields[20] = str(int(fields[20]) - 1).encode()
    return [*lines[:at], b" ".join(fields) + b"\n", *lines[at + 1 :]]


def without(lines: list[bytes], which: Callable[[bytes], bool]) -> list[bytes]:
    """Leave out the last line of some."""
    at = max(n for n, line in enumerate(lines) if which(line))
    return lines[:at] + lines[at + 1 :]


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        (lambda lines: lines, (40, 40, 0)),
        (lambda lines: lines * 2, (80, 40, 0)),  # decoded twice
        (announcing_less, (40, 39, 0)),
        (lambda lines: without(lines, lambda line: line.startswith(b"EVT:")), (39, 40, 1)),
        (lambda lines: without(lines, lambda line: line.split()[:6:5] == [b"DGM:", b"2"]), (40, 29, 0)),
        (lambda lines: [line for line in lines if line[:4] != b"EVT:"], (0, 40, 40)),
        (lambda lines: lines[:0], (0, 40, 40)),  # it misses all that the event file holds
    ],
)  # fmt: skip
def test_datagrams_against_events(
    out: Path, change: Callable[[list[bytes]], list[bytes]], counts: tuple[object, ...]
) -> None:
    index = out / IDX
    index.write_bytes(b"".join(change(index.read_bytes().splitlines(keepends=True))))
    assert counted(out) == counts


def test_what_no_line_knows_is_missing_if_it_is_a_record_and_counted_in_bytes(out: Path) -> None:
    file, content = out / EVT, (out / EVT).read_bytes()
    lines = (out / IDX).read_bytes().splitlines()
    last = max(int(line.split()[13]) for line in lines if line[:4] == b"EVT:")
    file.write_bytes(content + content[last:])
    assert counted(out) == (40, 41, 1)
    file.write_bytes(content + bytes(1000))
    assert (counted(out), uncovered(out)) == ((40, 40, 0), 1000)
    FAULTS["empty-index"](out)
    assert counted(out) == (0, 0, 0), "records cannot be told apart"
    assert uncovered(out) == len(content) + 1000 - 176
    for left in (b"", b"nothing of an event file", content[:176]):
        file.write_bytes(left)
        assert counted(out)[2] == 0
        assert uncovered(out) == (len(left) if len(left) != 176 else 0)


def test_two_lines_of_one_datagram_that_differ_allow_what_any_of_them_allows(out: Path) -> None:
    good = (out / IDX).read_bytes().splitlines(keepends=True)
    FAULTS["ends-later"](out)
    (other,) = [line for line in (out / IDX).read_bytes().splitlines(keepends=True) if line not in good]
    (out / IDX).write_bytes(b"".join([*good, other]))
    assert counted(out) == (40, 40, 0)


@pytest.mark.parametrize("fault", ["ends-later", "begins-later", "ends-sooner"])
def test_what_contradicts_is_refused_unless_it_was_taken_before(out: Path, fault: str) -> None:
    FAULTS[fault](out)
    with pytest.raises(FormatError, match=rf"{IDX}: datagram \d of APID 965 is said to hold"):
        counted(out)
    assert counted(out, again=True)[0] == 40


def test_how_many_are_too_many(out: Path) -> None:
    FAULTS["line-less"](out)
    files = check_products(out, ChunkId(CHUNK))
    assert too_many(files, None) is None
    assert too_many(files, 1 / 40) is None
    assert too_many(files, 0.02) == "1 of 40 events are missing (run 2c2e6cc0, APID 0965: 1 of 40)"
    assert too_many([], 0) is None


def rows(number: list[int], utc: list[float], apid: int = 956) -> NDArray[np.void]:
    """Return datagrams of one index."""
    made = np.zeros(len(number), idx.DATAGRAM)
    made["apid"], made["datagram"], made["utc"] = apid, number, utc
    return made


SPAN = Span(956, 1000.0, 1100.0)


@pytest.mark.parametrize(
    ("spans", "datagrams", "expected"),
    [
        ([SPAN], [rows([4, 5, 6], [1000, 1050, 1100])], []),
        ([SPAN], [rows([4, 6, 5, 5], [1001.9, 1098.1, 1050, 1050])], []),  # rounded times, lines in any order
        ([SPAN], [rows([4, 5], [1000, 1050])], [(956, 1050, 1100, None)]),
        ([SPAN], [rows([5, 6], [1050, 1100])], [(956, 1000, 1050, None)]),
        ([SPAN], [rows([4, 9], [1000, 1100])], [(956, 1000, 1100, 4)]),
        ([SPAN], [rows([4, 5], [1000, 1100], apid=957)], [(956, 1000, 1100, None)]),
        ([SPAN], [], [(956, 1000, 1100, None)]),
        # The end of one run and the begin of another: their numbers have nothing to do with each other.
        ([SPAN], [rows([70, 71], [1000, 1040]), rows([0, 1], [1060, 1100])], []),
        # Between two spans nothing is announced.
        ([SPAN, Span(956, 1200.0, 1300.0)], [rows([4, 5, 8, 9], [1000, 1100, 1200, 1300])], []),
        ([SPAN, Span(957, 1000.0, 1100.0)], [rows([4, 5], [1000, 1100])], [(957, 1000, 1100, None)]),
    ],
)  # fmt: skip
def test_gaps_that_datagrams_leave_in_spans(
    spans: list[Span], datagrams: list[NDArray[np.void]], expected: list[tuple[float, ...]]
) -> None:
    assert [tuple(gap.values()) for gap in gaps(spans, datagrams)] == expected


def test_of_very_many_gaps_the_first_are_kept() -> None:
    found = gaps([Span(956, 0.0, 400.0)], [rows(list(range(0, 402, 2)), list(range(0, 402, 2)))])
    assert [gap["begin"] for gap in found] == [2.0 * number for number in range(MOST_GAPS)]
