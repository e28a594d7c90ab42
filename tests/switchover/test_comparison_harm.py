"""`compare` reports each kind of harm to a copy of a hand-off, or the harm gives just what the legacy's rule gives.

The copies are of our own stage and of the legacy's, over random histories (SIMULATED), and of a tree that the legacy
itself left.
"""

import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.errors import HalfPipeError
from halfpipe.formats import evt
from halfpipe.ids import DownlinkId, RunId
from halfpipe_switchover.comparison import UNLIKE, Compared, compare
from tests.support.harness import records_of
from tests.support.random_cases import random_case
from tests.support.workflow import Site
from tests.switchover.support.compared import BothSides
from tests.switchover.support.harms import HARMS, TEXTS, Copy, NothingError, key_of
from tests.switchover.support.takeover_cases import TAKEOVER

SHORT = (0, 44, 105)  # histories without known events, and with a downlink that is merged again without files
UNTOUCHED = [*SHORT, *(n for n in range(30) if n not in SHORT), 118, 159]  # their originals must be explained
HISTORIES = range(8)  # histories in which harm is done
MIXED = (4, 5)  # histories with two runs in one downlink that differ between the systems
LEAST = 140  # kinds of harm that can be done in them
EVERY = 9  # `make test` does one of so many kinds of harm, in one history
FLIPS = 1_000
SEED = 19
OURS, LEGACY = "ours", "the legacy's"
TOLD, AS_HANDED_OFF = "told", "as one of the two systems hands it off"
Reasons = Counter[tuple[str, str, str, int | None]]


def try_compare(both: BothSides, downlink: str, root: Path) -> Compared | None:
    """Compare; None if that is refused, which the verb reports with status 3."""
    try:
        return compare(both.site.settings, DownlinkId(downlink), root)
    except HalfPipeError:
        return None


def reasons_of(found: Compared | None) -> Reasons:
    """Return the number of events, files or lines with each reason, except unexplained ones."""
    return sum(
        (
            Counter({(one.what, one.run, one.kind, one.defect): max(1, one.events)})
            for one in (found.findings if found else ())
            if one.kind != "unexplained"
        ),
        Reasons(),
    )


def handed_off(root: Path, downlink: str) -> dict[str, object]:
    """Return everything that Level-1 gets of a downlink. The order of lines in texts and other tokens are free."""
    home = root / downlink
    every = [*home.rglob("*"), *root.glob(paths.halt_cleanup("*", downlink))]
    for run in home.glob("r0?????????"):
        every += [*root.glob(f"{paths.tokens(run.name)}/*"), *root.glob(f"{paths.tokens('*')}/{run.name}-*")]
    return {str(path.relative_to(root)): content(path) for path in every if not path.match("*_doMerge.txt")}


def content(path: Path) -> object:
    """Return the content of a file, or the sorted lines of a text; None for anything else."""
    if not path.is_file():
        return None
    is_text = path.suffix == ".txt" and not path.name.startswith("magic7")
    return sorted(path.read_bytes().split(b"\n")) if is_text else path.read_bytes()


@dataclass
class History:
    """A random history, processed on both sides."""

    home: Path
    seed: int

    @cached_property
    def both(self) -> BothSides:
        case = random_case(self.home / "case", self.seed)
        both = BothSides(case, Site(self.home / "site"), with_magic7=True)
        both.process()
        return both

    @property
    def downlinks(self) -> list[str]:
        return self.both.case.downlinks

    def stage(self, of: str) -> Path:
        return self.both.site.stage if of == OURS else self.both.legacy.stage

    @cached_property
    def waiting(self) -> Mapping[str, Mapping[str, list[bytes]]]:
        """Records of events that one side has not delivered, by run."""
        found: dict[str, dict[str, list[bytes]]] = {OURS: {}, LEGACY: {}}
        for of in (OURS, LEGACY):
            for met in sorted({met for step in self.both.case.steps for met in step.runs}):
                run = f"r{met:010d}"
                known = {
                    key_of(r): r
                    for p in self.both.legacy.tree.glob(f"*/*-{met:08x}-*.evt")
                    for r in records_in(p)
                }
                gone = {key_of(r) for p in self.stage(of).glob(f"2*/{run}/*.evt") for r in records_in(p)}
                found[of][run] = [known[key] for key in sorted(known.keys() - gone)]
        return found

    def try_all(self, kinds: list[str], of: str, at: Path) -> Iterator[tuple[str, str, str]]:
        """Do each kind of harm to a copy; yield the kind, the downlink and the outcome of each try."""
        pristine = self.stage(of)
        before = {dl: reasons_of(try_compare(self.both, dl, pristine)) for dl in self.downlinks}
        right = {dl: [handed_off(self.stage(side), dl) for side in (OURS, LEGACY)] for dl in self.downlinks}
        for kind in kinds:
            chosen = random.Random(f"{self.seed} {of} {kind}")
            for downlink in chosen.sample(self.downlinks, len(self.downlinks)):
                shutil.rmtree(at, ignore_errors=True)
                shutil.copytree(pristine, at)
                try:
                    HARMS[kind](Copy(at, downlink, chosen, self.waiting[of]))
                except NothingError:
                    continue
                if (at / downlink).exists() and handed_off(at, downlink) in right[downlink]:
                    yield kind, downlink, AS_HANDED_OFF
                    continue
                found = try_compare(self.both, downlink, at)
                if found is not None and found.status != UNLIKE:
                    yield kind, downlink, "not told"
                elif reasons_of(found) - before[downlink]:
                    yield kind, downlink, "explained wrongly"
                else:
                    yield kind, downlink, TOLD
                break


def records_in(path: Path) -> list[bytes]:
    return records_of(path.read_bytes())


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], History]:
    return cache(lambda seed: History(tmp_path_factory.mktemp("compared"), seed))


@pytest.mark.parametrize(
    "seed", [pytest.param(n, marks=[] if n in SHORT else pytest.mark.long) for n in UNTOUCHED]
)
def test_the_legacys_hand_offs_are_explained(seed: int, tmp_path: Path) -> None:
    case = random_case(tmp_path / "case", seed)
    both = BothSides(case, Site(tmp_path / "site"), with_magic7=True)
    found = both.process()
    for downlink in both.case.downlinks:
        found += [both.compared(downlink), both.compared(downlink, both.legacy.tree)]
        assert both.compared(downlink, both.site.stage).findings == ()
    assert [one for one in found if one.unexplained] == []


@pytest.mark.parametrize("of", [OURS, LEGACY])
@pytest.mark.parametrize(
    ("seeds", "every"),
    [
        pytest.param(HISTORIES[:1], EVERY, id="some"),
        pytest.param(HISTORIES, 1, id="all", marks=pytest.mark.long),
    ],
)
def test_harm_is_reported(
    seeds: range, every: int, of: str, history: Callable[[int], History], tmp_path: Path
) -> None:
    kinds = [*HARMS][::every]
    tries = [(seed, *one) for seed in seeds for one in history(seed).try_all(kinds, of, tmp_path / "copy")]
    done = {kind for _, kind, _, outcome in tries if outcome == TOLD}
    print(f"{len(done)} kinds of harm,", Counter(outcome for *_, outcome in tries))
    assert [one for one in tries if one[-1] not in {TOLD, AS_HANDED_OFF}] == []
    assert len(done) >= (LEAST if every == 1 else len(kinds) // 2)


def put_run(source: Path, target: Path, downlink: str, run: str) -> None:
    """Replace a run of a downlink in one stage by that of another stage: files, tokens, and lines of texts."""
    for name in (f"{downlink}/{run}", paths.tokens(run)):
        shutil.rmtree(target / name, ignore_errors=True)
        if (source / name).exists():
            shutil.copytree(source / name, target / name)
    for name in TEXTS:
        path = Path(downlink, f"{name}_{downlink}.txt")
        kept = [line for line in (target / path).read_text().splitlines() if not line.startswith(run)]
        lines = [line for line in (source / path).read_text().splitlines() if line.startswith(run)]
        (target / path).write_text("".join(f"{line}\n" for line in [*kept, *lines]))


@pytest.mark.parametrize("seed", [MIXED[0], *(pytest.param(n, marks=pytest.mark.long) for n in MIXED[1:])])
def test_a_stage_with_runs_of_both_systems_is_reported(
    seed: int, history: Callable[[int], History], tmp_path: Path
) -> None:
    of = history(seed)
    tried = 0
    for downlink in of.downlinks:
        found = of.both.compared(downlink).findings
        runs = {one.run if one.run.startswith("r") else RunId(one.run).l1 for one in found if one.run}
        for run in runs if len(runs) > 1 else ():
            mixed = tmp_path / f"{downlink}-{run}"
            shutil.copytree(of.stage(LEGACY), mixed)
            put_run(of.stage(OURS), mixed, downlink, run)
            assert of.both.compared(downlink, mixed).status == UNLIKE, (downlink, run)
            tried += 1
    assert tried


# The legacy's tree: a case whose first downlink the legacy recorded.

FIRST, RUN, MET = "240601001", "r0741234567", "741234567"
InTree = Callable[[Path], object]


def lines_of_index(change: Callable[[list[bytes]], list[bytes]]) -> InTree:

    def do(root: Path) -> None:
        (path,) = (root / FIRST / MET).glob("r*.idx")
        path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))

    return do


def swapped_records(lines: list[bytes]) -> list[bytes]:
    ends = [line[line.index(b" continue ") :] for line in lines[:2]]  # in two chunks
    return [lines[0].replace(ends[0], ends[1]), lines[1].replace(ends[1], ends[0]), *lines[2:]]


def spans(content: str) -> InTree:
    return lambda root: (root / FIRST / MET / f"{RUN}-spans.txt").write_text(content)


def removed(pattern: str) -> InTree:
    return lambda root: next((root / FIRST).glob(pattern)).unlink()


def renamed(root: Path) -> None:
    (path,) = (root / FIRST / MET).glob("r*.idx")
    path.rename(path.with_name(f"{RUN}-e{1003:020d}.idx"))


def flipped_chunk(root: Path) -> None:
    path = next((root / FIRST).glob("*-00001.evt"))
    content = bytearray(path.read_bytes())
    content[evt.HEADER_SIZE + 310] ^= 1
    path.write_bytes(content)


def in_text(name: str, line: str) -> InTree:
    return lambda root: (root / FIRST / f"{name}_{FIRST}.txt").write_text(line)


def without_records(do: InTree) -> InTree:
    """Do harm to a tree whose chunks are cleaned away."""

    def both(root: Path) -> None:
        for path in [*(root / FIRST).glob("*-*-*-*.*"), *(root / FIRST / MET).glob("*.idx")]:
            path.unlink()
        do(root)

    return both


OF_TREE: dict[str, InTree] = {
    "spans: garbage": spans("cos\nsystem\n"),
    "spans: none": spans("(lp1\n."),
    "spans: others": spans("(lp1\n(I1000\nI1103\ntp2\na."),
    "spans: others, and no records": without_records(spans("(lp1\n(I1000\nI1103\ntp2\na.")),
    "index: a line dropped": lines_of_index(lambda found: [*found[:9], *found[10:]]),
    "index: the last line dropped": lines_of_index(lambda found: found[:-1]),
    "index: a line twice": lines_of_index(lambda found: [*found, found[-1]]),
    "index: lines swapped": lines_of_index(lambda found: [found[1], found[0], *found[2:]]),
    "index: records swapped": lines_of_index(swapped_records),
    "index: another run": lines_of_index(lambda found: [found[0].replace(b"567", b"568", 1), *found[1:]]),
    "index: no line": lines_of_index(lambda found: [b"EVT: 1 x\n", *found]),
    "index: gone": removed(f"{MET}/r*.idx"),
    "index: renamed": renamed,
    "a chunk gone": removed("*-00001.evt"),
    "a chunk changed": flipped_chunk,
    **{f"{name}: gone": removed(f"{name}_{FIRST}.txt") for name in TEXTS if name != "event_times"},
    "delivered_events: another count": in_text("delivered_events", f"{RUN} 50 9 LPA\n"),
    "delivered_events: another count of waiting events": in_text("delivered_events", f"{RUN} 51 8 LPA\n"),
    "delivered_events: emptied": in_text("delivered_events", ""),
    "retired_runs: COMPLETE added": in_text("retired_runs", f"{RUN} COMPLETE\n"),
    "event_gaps: a gap added": in_text("event_gaps", f"{RUN} 1003 1005\n"),
    "moot_keys: another key": in_text("moot_keys", f"{RUN} 2960 nomSciOps\n"),
    "event_times: other times": in_text("event_times", f"{RUN} 1.000000 2.000000\n"),
}


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> BothSides:
    """A run in two downlinks, processed here."""
    both = BothSides(TAKEOVER / "split2", Site(tmp_path_factory.mktemp("tree")))
    both.process()
    return both


@pytest.mark.parametrize("kind", OF_TREE)
def test_harm_to_a_tree_is_reported(kind: str, split: BothSides, tmp_path: Path) -> None:
    tree = shutil.copytree(TAKEOVER / "split2" / "legacy", tmp_path / "tree")
    before = try_compare(split, FIRST, tree)
    assert before is not None
    assert before.status == 0
    OF_TREE[kind](tree)
    found = try_compare(split, FIRST, tree)
    assert found is None or found.status == UNLIKE
    assert not reasons_of(found) - reasons_of(before) - Counter({("events", "2c2e5787", "gone", None): 51})


@pytest.mark.parametrize("flips", [20, pytest.param(FLIPS, marks=pytest.mark.long)])
def test_flipped_byte_is_reported(flips: int, split: BothSides, tmp_path: Path) -> None:
    root = shutil.copytree(split.legacy.stage, tmp_path / "copy")
    files = [*(root / FIRST).glob("r0*/*.evt"), *(root / FIRST).glob("*s_2*.txt")]
    whole = {path: path.read_bytes() for path in files if path.stat().st_size}
    chosen, missed = random.Random(SEED), []
    for _ in range(flips):
        path = chosen.choice(list(whole))
        flipped = bytearray(whole[path])
        header = path.suffix == ".evt" and chosen.random() < 0.5
        at = chosen.randrange(evt.HEADER_SIZE if header else len(flipped))
        flipped[at] ^= chosen.randrange(1, 256)
        path.write_bytes(flipped)
        found = try_compare(split, FIRST, root)
        if found is not None and found.status != UNLIKE:
            missed.append((path.name, at, whole[path][at], flipped[at]))
        path.write_bytes(whole[path])
    assert missed == []
