"""`compare` against harm to a copy of what another system delivered: each kind is told, and each flipped byte.

The copies are our own stage, the stage of the legacy's model, and a tree that the legacy itself left. All are of one
case, whose run two downlinks bring.
"""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from halfpipe import paths
from halfpipe.errors import HalfPipeError
from halfpipe.formats import evt
from halfpipe.ids import DownlinkId
from halfpipe.legacy.comparison import UNLIKE, Compared, compare
from halfpipe.legacy.sides import TEXTS
from tests.support.compared import BothSides, event_file, sequence_of, write_event_file
from tests.support.golden_cases import TAKEOVER
from tests.support.harness import records_of
from tests.support.workflow import Site

FLIPS = 2_000
EVERY = 6  # of the kinds of harm, and of the flips one in so many is tried every day
SEED = 19
FIRST, SECOND = "240601001", "240601002"
RUN, MET = "r0741234567", "741234567"
STAGE, LEGACY, TREE = ALL = "stage", "legacy", "tree"
FILES = (STAGE, LEGACY)
Harm = Callable[[Path], object]  # what is done to a copy, or to an event file in it
Records = list[bytes]


def changed(record: bytes, field: str, add: int) -> bytes:
    """Return an event with another number in its context."""
    context = np.frombuffer(record, evt.CONTEXT, 1).copy()
    context[field] += context[field].dtype.type(add)
    return context.tobytes() + record[evt.CONTEXT.itemsize :]


def split(path: Path, half: int, field: str, value: Callable[[Records], int]) -> None:
    """Cut a file in two, of which the first has a header that is wrong in one field."""
    records = records_of(path.read_bytes())
    other = path.with_name(paths.event_file(RUN, sequence_of(records[half])))
    shutil.copy(path, other)
    write_event_file(path, records[:half])
    write_event_file(other, records[half:])
    header = evt.read_header(path).copy()
    header[field] = value(records)
    path.write_bytes(header.tobytes() + path.read_bytes()[evt.HEADER_SIZE :])


def renamed(path: Path, name: str) -> None:
    (path.parent / name).parent.mkdir(exist_ok=True)
    path.rename(path.parent / name)


def copied_into_the_other(root: Path) -> None:
    """Deliver an event with the second downlink, too."""
    path, other = event_file(root, FIRST), event_file(root, SECOND)
    last = records_of(path.read_bytes())[-1]
    write_event_file(other, [last, *records_of(other.read_bytes())])
    other.rename(other.with_name(paths.event_file(RUN, sequence_of(last))))


def text(name: str, change: Callable[[str], str], downlink: str = FIRST) -> Harm:
    def do(root: Path) -> None:
        path = root / downlink / f"{name}_{downlink}.txt"
        path.write_text(change(path.read_text()))

    return do


def gone(pattern: str) -> Harm:
    return lambda root: next((root / FIRST).glob(pattern)).unlink()


def lines(change: Callable[[list[bytes]], list[bytes]]) -> Harm:
    """Change the lines of the merged index in the legacy's tree."""

    def do(root: Path) -> None:
        (path,) = (root / FIRST / MET).glob("r*.idx")
        path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))

    return do


def swapped_records(lines: list[bytes]) -> list[bytes]:
    ends = [line[line.index(b" continue ") :] for line in lines[:2]]  # in two chunks
    return [lines[0].replace(ends[0], ends[1]), lines[1].replace(ends[1], ends[0]), *lines[2:]]


def spans(content: str) -> Harm:
    return lambda root: (root / FIRST / MET / f"{RUN}-spans.txt").write_text(content)


# What the records of an event file become, whose header is made anew.
OF_RECORDS: dict[str, Callable[[Records], Records]] = {
    "two events swapped": lambda r: [*r[:9], r[10], r[9], *r[11:]],
    "the first event dropped": lambda r: r[1:],
    "an event dropped": lambda r: [*r[:9], *r[10:]],
    "the last event dropped": lambda r: r[:-1],
    "an event twice": lambda r: [*r[:9], r[9], *r[9:]],
    "an event that nobody brought": lambda r: [*r[:9], changed(r[9], "scalers_sequence", 1), *r[10:]],
    "an event of another EPU": lambda r: [*r[:9], changed(r[9], "ccsds_apid", 8), *r[10:]],
    "an event in place of another": lambda r: [*r[:9], r[10], *r[10:]],
}
OF_FILE: dict[str, Harm] = {
    "cut inside an event": lambda f: f.write_bytes(f.read_bytes()[:-100]),
    "cut behind an event": lambda f: f.write_bytes(f.read_bytes()[: -len(records_of(f.read_bytes())[-1])]),
    "only a header left": lambda f: f.write_bytes(f.read_bytes()[: evt.HEADER_SIZE]),
    "zeros behind the last event": lambda f: f.write_bytes(f.read_bytes() + bytes(4096)),
    "gone": Path.unlink,
    "gone with its directory": lambda f: shutil.rmtree(f.parent),
    "renamed to another sequence": lambda f: renamed(f, f"{RUN}-e{1003:020d}.evt"),
    "moved to another run": lambda f: renamed(f, f"../r0741234568/r0741234568-e{1002:020d}.evt"),
    "renamed to no name": lambda f: renamed(f, f"{RUN}.evt"),
    "split, with the count of the whole": lambda f: split(f, 30, "evtcnt", len),
    "split, with the sequences of the whole": lambda f: split(f, 30, "gemseq_end", lambda r: sequence_of(r[-1])),
    "with a foreign one beside it": lambda f: (f.parent / "core").write_bytes(b"x"),
    "with an unknown run beside it": lambda f: (f.parents[1] / "r0000000001").mkdir(),
}  # fmt: skip
OF_TEXT = {
    **{f"{name} gone": gone(f"{name}_{FIRST}.txt") for name in TEXTS},
    "delivered_events emptied": text("delivered_events", lambda _: ""),
    "a line twice": text("delivered_events", lambda text: text + text),
    "a blank line": text("delivered_events", lambda text: text + "\n"),
    "a line without an end": text("delivered_events", lambda text: text[:-1]),
    "a line of a run that nobody has": text("retired_runs", lambda text: text + "r0000000001 COMPLETE\n"),
    "an open run retired": text("retired_runs", lambda text: text + f"{RUN} COMPLETE\n"),
    "a gap that is none": text("event_gaps", lambda text: text + f"{RUN} 1003 1005\n"),
}
OF_TREE: dict[str, Harm] = {
    "recorded spans: garbage": spans("cos\nsystem\n"),
    "recorded spans: others": spans("(lp1\n."),
    "merged index: a line dropped": lines(lambda found: [*found[:9], *found[10:]]),
    "merged index: a line twice": lines(lambda found: [*found, found[-1]]),
    "merged index: lines swapped": lines(lambda found: [found[1], found[0], *found[2:]]),
    "merged index: records swapped": lines(swapped_records),
    "merged index: no line": lines(lambda found: [b"EVT: 1 x\n", *found]),
    "merged index: gone": gone(f"{MET}/r*.idx"),
    "merged index: renamed": lambda root: renamed(
        next((root / FIRST / MET).glob("r*.idx")), f"{RUN}-e{1003:020d}.idx"
    ),
    "a chunk gone": gone("*-00001.evt"),
}


def of_file(do: Harm) -> Harm:
    return lambda root: do(event_file(root, FIRST))


def of_records(change: Callable[[Records], Records]) -> Harm:
    return of_file(lambda path: write_event_file(path, change(records_of(path.read_bytes()))))


# By name: to which copies what is done, and with which downlink it shows.
HARMS: dict[str, tuple[tuple[str, ...], Harm, str]] = {
    **{name: (FILES, of_records(change), FIRST) for name, change in OF_RECORDS.items()},
    **{name: (FILES, of_file(do), FIRST) for name, do in OF_FILE.items()},
    "an event delivered with another downlink, too": (FILES, copied_into_the_other, SECOND),
    "a complete run not retired": (FILES, text("retired_runs", lambda _: "", SECOND), SECOND),
    **{name: (ALL, do, FIRST) for name, do in OF_TEXT.items()},
    **{name: ((TREE,), do, FIRST) for name, do in OF_TREE.items()},
}
CASES = [(name, of) for name, (to, *_) in HARMS.items() for of in to]


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> BothSides:
    """A run in two downlinks, processed on both sides."""
    both = BothSides("split2", Site(tmp_path_factory.mktemp("compared")))
    both.process()
    return both


@pytest.fixture
def copy_of(sides: BothSides, tmp_path: Path) -> Callable[[str], Path]:
    sources = {STAGE: sides.site.stage, LEGACY: sides.legacy.stage, TREE: TAKEOVER / "split2" / "legacy"}
    return lambda of: Path(shutil.copytree(sources[of], tmp_path / "copy"))


def told(sides: BothSides, downlink: str, root: Path) -> Compared | None:
    """Return what is found, None if it cannot be compared: that is told as well, with status 3."""
    try:
        return compare(sides.site.settings, DownlinkId(downlink), root)
    except HalfPipeError:
        return None


@pytest.mark.parametrize(
    ("name", "of"),
    [pytest.param(*case, marks=[] if not n % EVERY else pytest.mark.faults) for n, case in enumerate(CASES)],
)
def test_harm_is_told(name: str, of: str, sides: BothSides, copy_of: Callable[[str], Path]) -> None:
    copy = copy_of(of)
    _, do, shows = HARMS[name]
    do(copy)
    found = told(sides, shows, copy)
    assert found is None or found.status == UNLIKE
    assert found is None or not [group for group in found.groups if group.defect]


@pytest.mark.parametrize("some", [pytest.param(False, marks=pytest.mark.faults), True], ids=["all", "some"])
@pytest.mark.parametrize("of", FILES)
def test_a_flipped_byte_is_told(
    of: str, some: bool, sides: BothSides, copy_of: Callable[[str], Path]
) -> None:
    copy = copy_of(of)
    files = [event_file(copy, FIRST), *(copy / FIRST / f"{name}_{FIRST}.txt" for name in TEXTS)]
    whole = {path: path.read_bytes() for path in files if path.stat().st_size}
    for downlink in (FIRST, SECOND):
        found = told(sides, downlink, copy)
        assert found is not None
        assert (found.unexplained, found.status) == (0, 0), "as it was copied"
    chosen, untold = random.Random(SEED), []
    for _ in range(FLIPS // len(FILES) // (1 if not some else 10 * EVERY) + 1):
        path = chosen.choice(list(whole))
        content = bytearray(whole[path])
        header = path.suffix == ".evt" and chosen.random() < 0.5
        at = chosen.randrange(evt.HEADER_SIZE if header else len(content))
        content[at] ^= chosen.randrange(1, 256)
        path.write_bytes(content)
        found = told(sides, FIRST, copy)
        if found is not None and found.status != UNLIKE:
            untold.append((path.name, at, whole[path][at], content[at]))
        path.write_bytes(whole[path])
    assert untold == []
