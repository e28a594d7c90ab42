"""Decoders that fail or break their contract; announced and missing events; gaps."""

import io
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import astuple

from halfpipe.causes import Verdict
from halfpipe.decisions import Decisions
from halfpipe.decode.announced import MOST_GAPS, gaps
from halfpipe.decode.chunk import Chunk, Gap, Hour, Level0, Product
from halfpipe.decode.chunk_products import check_products, publish_products
from halfpipe.decode.decode_chunk import LINES_KEPT, DecoderLogReader, decode
from halfpipe.decode.shortfall import sentences, shortfall_causes
from halfpipe.errors import DecoderError, FormatError, HalfPipeError
from halfpipe.files.reading import sha256
from halfpipe.formats import idx
from halfpipe.formats.retdef import Span, read_retdef
from halfpipe.formats.rows import read_rows
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.settings import Decoder, Paths, Settings
from tests.support.bad_decoder import FAULTS
from tests.support.golden_cases import GOLDEN
from tests.support.workflow import BAD_DECODER

SOURCE = GOLDEN / "multi3" / "in"
DOWNLINK, CHUNK = "240601001", ChunkId("00003")
STEM = "00770155-2c2e6cc0-0965-00003"
EVT, IDX, ROWS = f"{STEM}.evt", f"{STEM}.idx", f"{STEM}.rows"
PRODUCTS = f"{SOURCE / DOWNLINK / EVT} {SOURCE / DOWNLINK / IDX}"
OTHER_RUN = "00770155-2c2e6cc1"
COUNTS = ("events", "announced", "missing_events")
RETDEF = SOURCE / DOWNLINK / f"RetDef-{DOWNLINK}-{CHUNK}.xml"


def decoded(out: Path, command: str, latc: str | None = None) -> tuple[Chunk, str]:
    log = io.StringIO()
    settings = Settings(Paths(Path("/work"), Path("/stage")), decoder=Decoder(command, latc))
    return decode(settings, DownlinkId(DOWNLINK), RETDEF, read_retdef(RETDEF), out, log), log.getvalue()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A directory with good products: 40 events in 5 datagrams."""
    out = tmp_path / "good"
    out.mkdir()
    for name in (EVT, IDX):
        (out / name).write_bytes((SOURCE / DOWNLINK / name).read_bytes())
    return out


def test_good_products_are_described(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "old").mkdir(parents=True)  # a leftover of a killed job
    made, log = decoded(out, shlex.join([sys.executable, str(BAD_DECODER), "--source", str(SOURCE)]))
    assert sorted(path.name for path in out.iterdir()) == [EVT, IDX, ROWS]
    evt, index, of_index = made.files
    assert (evt.name, evt.sha256) == (EVT, sha256(SOURCE / DOWNLINK / EVT))
    assert (index.ground, index.run, index.apid) == ("00770155", "2c2e6cc0", 965)
    assert (of_index.name, of_index.suffix, of_index.sha256) == (ROWS, ".rows", sha256(out / ROWS))
    assert (made.runs, made.retdef) == (("2c2e6cc0",), sha256(RETDEF))
    read = read_rows(out / ROWS, of_index.sha256)
    of_text = idx.read_index(out / IDX)
    assert (read.lines, read.files) == (of_text.lines, (EVT,))
    assert read.events.length.all()
    for field in ("length", "check"):  # not in index lines
        read.events[field] = 0
    assert read.events.tobytes() == of_text.events.tobytes()
    assert [getattr(index, key) for key in (*COUNTS, "datagrams", "uncovered_bytes")] == [40, 40, 0, 5, 0]
    assert made.level0 == Level0(made.level0.needed if made.level0 else 0, None, made.gaps)
    assert made.log.processing == ("00770155-2c2e6cc0",)
    assert log.count("getLSEChunk: processing 00770155-2c2e6cc0-\n") == 2


@pytest.mark.parametrize(
    ("command", "code", "names"),
    [
        ("sh -c 'echo tee: No space left on device; exit 3' sh", "disk-full", "exit status 3"),
        ("sh -c 'echo x; echo its last line; exit 3' sh", "decoder", "its last line"),
        ("sh -c 'exit 3' sh", "decoder", str(RETDEF)),
        ("/no/such", "decoder", "/no/such"),
        ("true", "decoder", f"halfpipe accept {DOWNLINK}/{CHUNK} left-out "),
        (f"sh -c 'echo getLSEChunk: processing {OTHER_RUN}-; cp {PRODUCTS} $4' sh", "decoder", OTHER_RUN),
    ],
)
def test_a_decoder_that_fails_or_is_silent(tmp_path: Path, command: str, code: str, names: str) -> None:
    with pytest.raises(DecoderError) as caught:
        decoded(tmp_path / "out", command)
    assert caught.value.code == code
    assert names in str(caught.value)


BAD_PRODUCTS = {
    "no-evt": rf"{IDX}: .*{EVT}",
    "no-index": EVT,
    "other-chunk": r"0965-00077\.evt: .*chunk 00003",
    "other-run": "741240000.*741240001",
    "other-epu": "EVT lines of APID 965.*966",
    "other-apid": r"-0765-00003\.evt: .*APID",
    "beyond": rf"{EVT}: record at byte 33268: ",
    "elsewhere": rf"{IDX}: sequence 1084 .* byte 176 of {EVT}.*sequence 1001",
    "cut-index": rf"{IDX}: line 45 is cut", "cut": rf"{EVT}: record at byte \d+: ",
}  # fmt: skip


@pytest.mark.parametrize("fault", BAD_PRODUCTS)
def test_products_that_break_the_contract_are_rejected(out: Path, fault: str) -> None:
    FAULTS[fault](out)
    with pytest.raises(HalfPipeError, match=BAD_PRODUCTS[fault]):
        check_products(out, CHUNK)


def test_an_event_with_an_impossible_time_is_rejected(out: Path) -> None:
    lines = (out / IDX).read_bytes().splitlines(keepends=True)
    at = next(n for n, line in enumerate(lines) if line.startswith(b"EVT:"))
    utc = lines[at].split()[5]
    lines[at] = lines[at].replace(utc, b"9" + utc[1:], 1)
    (out / IDX).write_bytes(b"".join(lines))
    with pytest.raises(FormatError, match=f"{IDX}: sequence 1001 .* 9"):
        check_products(out, CHUNK)


def test_the_latc_key_is_passed_as_one_word(tmp_path: Path) -> None:
    words = 'sh -c \'printf "%s\\n" "$@"; echo DFI exception\' sh'
    _, log = decoded(tmp_path / "out", words, "0x12; touch evil")
    assert log.splitlines()[4:6] == ["-k", "0x12; touch evil"]


def test_exceptions_belong_to_the_run_that_is_processed() -> None:
    log = DecoderLogReader("2c2e6cbf")
    lines = ["DFI exception before any run", "getLSEChunk: processing 00770155-2c2e6cc0-"]
    lines += ["DFI exception", "PktFile exception", "an xDFI exception, a PktFilexception"]
    lines += [f"PktFile exception {number}" for number in range(998)]
    lines += [f"getLSEChunk: processing {number:08x}-2c2e6cc1-" for number in range(1000)]
    for line in (*lines, "DFI exception"):
        log.add(f"{line}\n")
    summary = log.summary({})
    assert summary.by_kind == {"DFI": 3, "PktFile": 999}
    by_run = {"2c2e6cbf": {"DFI": 1}, "2c2e6cc0": {"DFI": 1, "PktFile": 999}, "2c2e6cc1": {"DFI": 1}}
    assert summary.exceptions == by_run
    assert (len(summary.processing), len(summary.lines)) == (LINES_KEPT, LINES_KEPT)
    assert summary.lines[0] == "DFI exception before any run"


def test_paths_of_a_job_are_replaced_in_its_summary(tmp_path: Path) -> None:
    words = f"sh -c 'echo DFI exception in $4 of $2; cp {PRODUCTS} $4' sh"
    made, _ = decoded(tmp_path / "out", words)
    assert made.log.lines == (f"DFI exception in OUTDIR of {RETDEF.name}",)


def counted(out: Path, *, again: bool = False) -> tuple[int, ...]:
    """Return `COUNTS` and the uncovered bytes of the index."""
    (out / ROWS).unlink(missing_ok=True)
    entry = check_products(out, CHUNK, again=again)[1]
    return tuple(getattr(entry, key) for key in (*COUNTS, "uncovered_bytes"))


def announcing_less(lines: list[bytes]) -> list[bytes]:
    """Let the last datagram with events announce one event less."""
    at = max(n for n, line in enumerate(lines) if line[:4] == b"DGM:" and line.split()[20] != b"0")
    fields = lines[at].split()
    fields[20] = str(int(fields[20]) - 1).encode()
    return [*lines[:at], b" ".join(fields) + b"\n", *lines[at + 1 :]]


def without(lines: list[bytes], which: Callable[[bytes], bool]) -> list[bytes]:
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
        (lambda lines: lines[:0], (0, 40, 40)),  # all events of the event file are missing
    ],
)  # fmt: skip
def test_announced_events_without_an_index_line_are_missing(
    out: Path, change: Callable[[list[bytes]], list[bytes]], counts: tuple[int, ...]
) -> None:
    index = out / IDX
    index.write_bytes(b"".join(change(index.read_bytes().splitlines(keepends=True))))
    assert counted(out)[:3] == counts


def test_events_of_a_datagram_without_a_line_are_told(out: Path) -> None:
    index = out / IDX
    lines = index.read_bytes().splitlines(keepends=True)
    index.write_bytes(b"".join(without(lines, lambda line: line.split()[:6:5] == [b"DGM:", b"2"])))
    products = check_products(out, CHUNK)
    assert [file.stray_events for file in products] == [0, 11, 0]
    chunk = Chunk(DownlinkId(DOWNLINK), CHUNK, "", (), tuple(products))
    (cause,) = shortfall_causes(Decisions(), chunk.downlink, [(chunk, [])])
    assert (cause.code, cause.verdict) == ("events-missing", Verdict.ACTION)


def test_records_and_bytes_without_an_index_line_are_counted(out: Path) -> None:
    file, content = out / EVT, (out / EVT).read_bytes()
    lines = (out / IDX).read_bytes().splitlines()
    last = max(int(line.split()[13]) for line in lines if line[:4] == b"EVT:")
    file.write_bytes(content + content[last:])
    assert counted(out)[:3] == (40, 41, 1)
    file.write_bytes(content + bytes(1000))
    assert counted(out) == (40, 40, 0, 1000)
    product = Product(IDX, "00770155", RunId("2c2e6cc0"), 965, 1, "", uncovered_bytes=1000)
    (said,) = sentences(Chunk(DownlinkId(DOWNLINK), CHUNK, "", (), (product,)))
    assert " 1000 bytes " in said
    FAULTS["empty-index"](out)
    assert counted(out) == (0, 0, 0, len(content) + 1000 - 176), "records cannot be separated"
    for left, uncovered in ((b"", 0), (b"not an event file", 17), (content[:176], 0)):
        file.write_bytes(left)
        assert counted(out)[2:] == (0, uncovered)


def test_two_lines_of_one_datagram_allow_what_either_of_them_allows(out: Path) -> None:
    good = (out / IDX).read_bytes().splitlines(keepends=True)
    FAULTS["ends-later"](out)
    (other,) = [line for line in (out / IDX).read_bytes().splitlines(keepends=True) if line not in good]
    (out / IDX).write_bytes(b"".join([*good, other]))
    assert counted(out) == (40, 40, 0, 0)


@pytest.mark.parametrize(
    ("fault", "first", "last"),
    [("ends-later", 1074, 2084), ("begins-later", 1075, 1084), ("ends-sooner", 1074, 1083)],
)
def test_contradictions_are_rejected_unless_the_chunk_was_accepted_before(
    out: Path, fault: str, first: int, last: int
) -> None:
    FAULTS[fault](out)
    announced = f"datagram 4 announces 7 events .* {first} to {last}, .* 7 event lines .* 1074 to 1084"
    with pytest.raises(FormatError, match=f"{IDX}: {announced}"):
        counted(out)
    assert counted(out, again=True)[0] == 40


def rows(number: Sequence[int], utc: Sequence[float], apid: int = 956) -> idx.Datagrams:
    made = idx.Datagrams.zeros(len(number))
    made.apid[:], made.datagram[:], made.utc[:] = apid, number, utc
    return made


SPAN = Span(956, 1000.0, 1100.0)
EVEN = list(range(0, 402, 2))


@pytest.mark.parametrize(
    ("spans", "datagrams", "expected"),
    [
        ([SPAN], [rows([4, 5, 6], [1000, 1050, 1100])], []),
        ([SPAN], [rows([4, 6, 5, 5], [1000.9, 1099.1, 1050, 1050])], []),  # rounded times, lines in any order
        ([SPAN], [rows([4, 5], [1000, 1050])], [(956, 1050, 1100, None)]),
        ([SPAN], [rows([4, 5], [1000, 1098])], [(956, 1098, 1100, None)]),  # the file was cut between two datagrams
        ([SPAN], [rows([4, 5], [1002, 1100])], [(956, 1000, 1002, None)]),
        ([SPAN], [rows([5, 6], [1050, 1100])], [(956, 1000, 1050, None)]),
        ([SPAN], [rows([4, 9], [1000, 1100])], [(956, 1000, 1100, 4)]),
        ([SPAN], [rows([4, 5], [1000, 1100], apid=957)], [(956, 1000, 1100, None)]),
        ([SPAN], [], [(956, 1000, 1100, None)]),
        # The end of one run and the start of another: their numbers are independent.
        ([SPAN], [rows([70, 71], [1000, 1040]), rows([0, 1], [1060, 1100])], []),
        # Nothing is announced between two spans.
        ([SPAN, Span(956, 1200.0, 1300.0)], [rows([4, 5, 8, 9], [1000, 1100, 1200, 1300])], []),
        ([SPAN, Span(957, 1000.0, 1100.0)], [rows([4, 5], [1000, 1100])], [(957, 1000, 1100, None)]),
        ([Span(956, 0.0, 400.0)], [rows(EVEN, EVEN)], [(956, 2 * n, 2 * n + 2, 1) for n in range(MOST_GAPS)]),
    ],
)  # fmt: skip
def test_gaps_between_datagrams_in_spans(
    spans: list[Span], datagrams: list[idx.Datagrams], expected: list[tuple[float, ...]]
) -> None:
    assert [astuple(gap) for gap in gaps(spans, datagrams)] == expected


@pytest.mark.parametrize(
    ("begin", "end", "datagrams", "verdict"),
    [(10, 20, 3, Verdict.NOTE), (10, 20, None, Verdict.ACTION), (3590, 3610, 3, Verdict.ACTION)],
    ids=["inside an hour", "at an edge", "across hours"],
)
def test_a_gap_that_may_be_a_missing_file_needs_action(
    begin: float, end: float, datagrams: int | None, verdict: Verdict, tmp_path: Path
) -> None:
    level0 = Level0(1, (), (Gap(956, begin, end, datagrams),))
    chunk = Chunk(DownlinkId(DOWNLINK), CHUNK, "", (), (), level0=level0)
    (cause,) = shortfall_causes(Decisions(), chunk.downlink, [(chunk, [])])
    assert (cause.code, cause.verdict) == ("level0-missing", verdict)


def test_the_number_to_accept_is_that_of_the_hours_and_gaps_in_the_sentence() -> None:
    missing = (Hour("utc03", 956), Hour("utc03", 957))
    level0 = Level0(4, missing, tuple(Gap(956, float(begin), begin + 1.0, 1) for begin in range(3)))
    chunk = Chunk(DownlinkId(DOWNLINK), CHUNK, "", (), (), level0=level0)
    (cause,) = shortfall_causes(Decisions(), chunk.downlink, [(chunk, [])])
    assert cause.remedy.accept == (f"{DOWNLINK}/{CHUNK} level0=5",)
    assert ("without 2 level-0 hours: " in cause.text, " has 3 gaps, " in cause.text) == (True, True)


def test_rows_belong_to_their_products(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, steps = tmp_path / "chunks", list[bool]()
    home.mkdir()

    def watched(act: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Path, *given: Any) -> Any:
            done = act(path, *given)
            there = {each.name: each.read_text() for each in home.iterdir()}
            steps.append(ROWS not in there or [*there.values()] == 3 * [there[ROWS]])
            return done

        return call

    for name in ("unlink", "rename"):
        monkeypatch.setattr(Path, name, watched(getattr(Path, name)))
    for decoding in ("first", "second"):
        out.mkdir(exist_ok=True)
        for name in (EVT, IDX, ROWS):
            (out / name).write_text(decoding)
        publish_products(out, home, CHUNK)
    assert steps == [True] * 9
