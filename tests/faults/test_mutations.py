"""Damaged files of each kind give a good result or an error that names the file.

The number of a file is its seed, so a file that fails can be made again.
"""

import random
import re
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from halfpipe.decode.archive_listing import list_archive
from halfpipe.decode.chunk import Chunk
from halfpipe.decode.chunk_products import check_products
from halfpipe.errors import HalfPipeError
from halfpipe.formats import evt
from halfpipe.formats.retdef import parse_retdef
from halfpipe.ids import ChunkId, DownlinkId
from halfpipe.merge.decision import decide
from halfpipe.merge.undelivered import undelivered
from halfpipe.process import command_words
from halfpipe.settings import Decoder, Merge, Paths, Settings
from halfpipe.state.merged_chunks import merged
from halfpipe.state.merged_index import MergedIndex, merge_chunks
from tests.support.golden_cases import GOLDEN
from tests.support.settings import plan_of
from tests.support.watch import watched

EVERY_DAY, MANY = 60, 10_000
DL, CHUNK = DownlinkId("240601001"), ChunkId("00003")
# LPA with handlers, LCI, and one with several datagrams.
CASES = (("multi3", "*-00003"), ("latc_lpa", "*-00001"), ("lci_acd", "*-00001"))
RETDEFS = sorted(GOLDEN.glob("*/in/240601001/RetDef-*-00001.xml"))

NUMBERS = (0, 1, 7, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**53 + 1, 2**63 - 1, 2**64 - 1)
TEXTS = (
    b"", b"-1", b"0" * 19 + b"1", b"18446744073709551616", b"4294967296", b"9" * 5000, b"1e308", b"nan", b"1_000",
    b"$(touch evil)", b"../../evil", b"a\x00b", b"\n", b"\r\n", b"\x1b[2J", b"\xff\xfe", "٢٩".encode(), b"%s{level0}",
    b"&lt;", b"<", b'"', b"EVT:", b"DGM:", b"<!DOCTYPE x>", b"&x;",
)  # fmt: skip

count = pytest.mark.parametrize(
    "numbers",
    [
        pytest.param(range(EVERY_DAY), id=f"{EVERY_DAY}"),
        pytest.param(range(EVERY_DAY, MANY), id=f"{MANY}", marks=pytest.mark.long),
    ],
)


def mutated(rng: random.Random, content: bytes, *, text: bool = False, places: Sequence[int] = ()) -> bytes:
    """Return a damaged copy of a file, which has lengths at `places`."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        begin = rng.randrange(len(content) + 1)
        end = min(len(content), begin + rng.randint(1, rng.choice((4, 64, 4096))))
        piece, number = content[begin:end], rng.choice(NUMBERS)
        words = list(re.finditer(rb'[^\s"<>=]+', content))
        what = rng.randrange(8 if text and words else 5)
        if places and rng.random() < 0.5:
            begin, what = rng.choice(places), 0
        if what == 0:
            size = 4 if number < 2**32 else 8
            content = content[:begin] + number.to_bytes(size, "little") + content[begin + size :]
        elif what == 1:
            content = (
                content[:begin]
                + bytes(byte ^ 1 << rng.randrange(8) for byte in piece[:9])
                + content[begin + 9 :]
            )
        elif what == 2:
            content = content[:begin] + rng.choice((b"", content[end:]))  # cut, or a block lost
        elif what == 3:
            content = content[:end] + rng.choice((piece, piece * 20, rng.randbytes(16))) + content[end:]
        elif what == 4:
            content = content[:begin] + bytes(end - begin) + content[end:]
        else:
            word = rng.choice(words)
            content = content[: word.start()] + rng.choice(TEXTS) + content[word.end() :]
    return content


def outcome(seed: int, what: Callable[[], object], *names: str) -> str:
    """Return ``good``, or the class of our error, which must name one of `names`; fail on any other error."""
    try:
        what()
    except HalfPipeError as error:
        said = str(error)
        assert any(name in said for name in names), f"seed {seed}: {said}"
        assert "\x00" not in said
        assert len(said) < 2000
        return type(error).__name__
    except BaseException as error:
        raise AssertionError(f"seed {seed}: {error!r}") from error
    return "good"


def products() -> list[tuple[ChunkId, str, bytes, bytes]]:
    """Return good products: chunk, stem, evt file, index."""
    found = []
    for case, pattern in CASES:
        for path in sorted((GOLDEN / case / "in" / DL).glob(f"{pattern}.evt"))[:1]:
            chunk = ChunkId(path.stem[-5:])
            found.append((chunk, path.stem, path.read_bytes(), path.with_suffix(".idx").read_bytes()))
    assert len(found) == len(CASES)
    return found


def lengths_in(content: bytes) -> list[int]:
    """Return the places of the lengths and counts of the first records."""
    data = np.frombuffer(content, np.uint8)
    offsets = evt.walk(data, "good")[:20]
    layout = evt.record_layout(data, offsets, "good")
    places = []
    for offset, kind in zip(offsets.tolist(), layout.infotypes.tolist(), strict=True):
        ebf = offset + evt.CONTEXT.itemsize
        info = ebf + 4 + int.from_bytes(content[ebf : ebf + 4], "little")
        places += [ebf, ebf + 8, info, info + 4]
        if kind == evt.InfoType.LPA:
            places.append(info + 4 + evt.LPA_INFO.itemsize)
    return places


def take(out: Path, work: Path, chunk: ChunkId) -> None:
    """Process the decoder's products in `out` as the workflow does, up to the decision."""
    files = check_products(out, chunk)
    runs = tuple(sorted({file.run for file in files}))
    decoded = Chunk(DL, chunk, "", runs, tuple(files))
    for run in runs:
        index, events = merge_chunks([(merged(decoded, run), out)], {})
        index.save(work, run, DL)
        known = MergedIndex.read(work, run, DL).datagrams
        assert known.lines == index.datagrams.lines
        decision = decide(DL, known, events, {}, limits := Merge(min_epus=1))
        groups = undelivered(known.segments(), events, {}, limits)
        assert sum(group.events for group in groups) == len(events)
        assert sum(group.events for group in groups if group.kind == "due") == len(decision.events)


@pytest.fixture(autouse=True)
def _no_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not flush ten thousand files to disk; other tests check that files are flushed."""
    monkeypatch.setattr("os.fsync", lambda _handle: None)


@count
@pytest.mark.parametrize("spoil", ["evt", "idx"])
def test_products(tmp_path: Path, numbers: range, spoil: str) -> None:
    good = products()
    places = [lengths_in(content) for _, _, content, _ in good]
    outcomes: Counter[str] = Counter()
    out, work = tmp_path / "out", tmp_path / "work"
    with watched(tmp_path):
        for seed in numbers:
            rng = random.Random(seed)
            chunk, stem, events, lines = good[seed % len(good)]
            out.mkdir()
            if spoil == "evt":
                events = mutated(rng, events, places=places[seed % len(good)])
            else:
                lines = mutated(rng, lines, text=True)
            (out / f"{stem}.evt").write_bytes(events)
            (out / f"{stem}.idx").write_bytes(lines)
            outcomes[outcome(seed, partial(take, out, work, chunk), str(out), stem)] += 1
            shutil.rmtree(out)
            shutil.rmtree(work, ignore_errors=True)
    assert outcomes["FormatError"] > len(numbers) // 4, outcomes
    # Damage inside an EBF cannot be seen here.
    assert outcomes["good"] > len(numbers) // 50, outcomes


@count
def test_retdefs(tmp_path: Path, numbers: range) -> None:
    contents = [path.read_bytes() for path in RETDEFS[:: len(RETDEFS) // 8]]
    archive = tmp_path / "level0"
    for scid in (77, 0, 1):
        (archive / f"src{scid:04d}").mkdir(parents=True)
    home = tmp_path / "retdefs" / DL
    home.mkdir(parents=True)
    path = home / f"RetDef-{DL}-00001.xml"
    at = Paths(work=tmp_path, stage=tmp_path, map={"/nfs": str(archive)})
    settings = Settings(at, decoder=Decoder("x {level0}"))
    outcomes: Counter[str] = Counter()

    def use(content: bytes) -> None:
        retdef = parse_retdef(content, path)
        root = command_words.archive(settings, retdef.arch)
        assert command_words.decoder(settings, command_words.archive(settings, retdef.arch)) == ["x", root]
        assert root.startswith("/")
        apids = {span.apid for span in retdef.spans}
        assert len(list_archive(archive, retdef).needed) < 1000 * len(apids)

    with watched(tmp_path):
        for seed in numbers:
            rng = random.Random(seed)
            content = mutated(rng, rng.choice(contents), text=True)
            outcomes[outcome(seed, partial(use, content), str(path), str(archive))] += 1
            path.write_bytes(content)
            plan = plan_of(tmp_path / "work", tmp_path / "retdefs").of(DL)
            assert plan.chunks == ("00001",), seed
            assert len(plan.unreadable) + len(plan.runs) == 1, seed
            assert all(str(path) in str(error) for error in plan.unreadable), seed
    assert outcomes["FormatError"] > len(numbers) // 4, outcomes
