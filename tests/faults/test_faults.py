"""Every rule, harmed in every way at random moments: the same command again leaves the tree that it always leaves."""

import random
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from halfpipe.files.leases import found
from tests.support.crashes import KILLED, MODES, sweep
from tests.support.golden_cases import GOLDEN
from tests.support.harness import (
    SCRIPTS,
    Crash,
    Fault,
    assert_same,
    everything_flushed,
    half_written,
    invoke,
    small_disk,
)
from tests.support.leases import leases
from tests.support.workflow import Site

pytestmark = pytest.mark.faults

FIRST, SECOND = "240601001", "240601002"
CASE = GOLDEN / "split2"
TARGET = f"dl={SECOND}"
SIZES = (0, 40, 300, 3000)  # bytes after which a write stops short

# What is done, how often to a downlink that is new and how often to one that is processed again.
KINDS = {
    "job": (3, 2),
    "term": (1, 1),
    "head": (1, 1),
    "term-head": (1, 1),
    "all": (1, 1),
    "short": (1, 1),
    "full-work": (1, 1),
    "crash-nothing": (1, 1),
    "crash-names": (1, 1),
    "crash-chance": (1, 1),
}
OF_STAGE = {"full-stage": (1, 1), "read-only-stage": (1, 1)}
OF_HEAD = {"all": (3, 3), "crash-nothing": (1, 1), "crash-chance": (1, 1)}
SPARED = (
    3  # of a program's moments, the last: how many there are depends a little on who makes a directory first
)
WITH_STAGE = ("deliver_run", "receipt")
PLACES = {"full-work": "work", "full-stage": "stage", "read-only-stage": "stage"}


@dataclass(frozen=True)
class Cell:
    """One fault: done to which program, in which way, for which time, to a downlink that is new or not."""

    script: str
    kind: str
    number: int
    again: bool

    def __str__(self) -> str:
        return f"{self.script}-{self.kind}-{'again' if self.again else 'first'}-{self.number}"


def cells() -> list[Cell]:
    """Return the whole matrix."""
    found = []
    for script in (*SCRIPTS, "snakemake"):
        kinds = OF_HEAD if script == "snakemake" else KINDS | (OF_STAGE if script in WITH_STAGE else {})
        for kind, times in kinds.items():
            for again, count in zip((False, True), times, strict=True):
                found += [Cell(script, kind, number, again) for number in range(count)]
    return found


@dataclass(frozen=True)
class Undisturbed:
    """A site before and after its second downlink; what is right; and how many moments each program has.

    `trees` are those after it was processed once, twice and three times.
    """

    home: Path
    site: Site
    trees: tuple[dict[str, bytes], ...]
    moments: dict[tuple[str, bool], int]

    def again(self, home: Path, after: bool) -> Site:
        """Return a copy of the site at one of the two times."""
        source = self.home / ("after" if after else "before")
        shutil.copytree(source, home, dirs_exist_ok=True)
        site = Site(home)
        site.replay(CASE / "in")
        site.configure(merge={"min_events": 1})
        return site


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """Process the second downlink in peace, and again, and once more."""
    home = tmp_path_factory.mktemp("undisturbed")
    site = Site(home / "site")
    site.replay(CASE / "in")
    site.configure(merge={"min_events": 1})
    site.add_retdefs(CASE / "in", FIRST, SECOND)
    site.stage.mkdir()
    site.process(FIRST)
    shutil.copytree(site.home, home / "before")
    moments, trees = {}, []
    for again in (False, True):
        for script in (*SCRIPTS, "snakemake"):
            once = home / f"{script}-{again}"
            env = Fault(script, "list", 0).environment(site, once)
            shutil.rmtree(site.home)
            shutil.copytree(home / ("after" if again else "before"), site.home)
            invoke(site, TARGET, *(["-F"] if again else []), env=env).good()
            # Two chunks: the moments of one of them.
            share = 2 if script == "decode_chunk" else 1
            moments[script, again] = len(once.read_text().splitlines()) // share
        trees.append(site.tree())
        assert leases(site.work) == []
        if not again:
            shutil.copytree(site.home, home / "after")
    site.process(SECOND, again=True)
    return Undisturbed(home, site, (*trees, site.tree()), moments)


@pytest.mark.parametrize("cell", cells(), ids=str)
def test_the_same_command_again_leaves_the_same_tree(
    cell: Cell, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    chance = random.Random(str(cell))
    site = undisturbed.again(tmp_path / "site", cell.again)
    at = chance.randint(1, undisturbed.moments[cell.script, cell.again] - SPARED)
    command = [TARGET, *(["-F"] if cell.again else [])]
    crash = cell.kind.startswith("crash-")
    once, shadow = tmp_path / "once", tmp_path / "shadow"
    fault = Fault(cell.script, "all" if crash else cell.kind, at, chance.choice(SIZES))
    second = {}
    with ExitStack() as stack:
        if cell.kind in PLACES:
            place = site.home / PLACES[cell.kind]
            aside = place.rename(place.with_name("aside"))
            change = stack.enter_context(small_disk(place))
            change("size=4m")
            shutil.copytree(aside, place, dirs_exist_ok=True)
        flushed = everything_flushed(site, shadow) if crash else None
        ended = invoke(site, *command, env=fault.environment(site, once, shadow if crash else None))
        assert once.exists(), ended.said
        moment = f"at {once.read_text().strip()}\n{ended.said}"
        if flushed is not None:
            Crash(shadow, cell.kind.removeprefix("crash-"), chance).happen(site)
            flushed.close()
            second = {"PYTHONPATH": fault.environment(site, once)["PYTHONPATH"]}
        assert half_written(site) == [], moment
        if cell.kind in PLACES:
            change("rw,size=16m")
            for filler in (site.work / ".snakemake" / "filler", site.stage / "filler"):
                filler.unlink(missing_ok=True)
        if cell.kind in {"job", "term", "all", "head", "term-head"} and cell.script in SCRIPTS:
            assert ended.status != 0 or not _unfinished(site, cell), moment
        over = not _unfinished(site, cell)
        again = invoke(site, *command, env=second)
        moment += f"\nthen\n{again.said}"
        assert again.status == 0, moment
        tree = site.tree()
        assert half_written(site) == [], moment
        # A heartbeat that a killed process left is in nobody's way, and goes at the clean-up.
        assert found(site.work) == [], moment
        assert site.snakemake("-n", TARGET).good().jobs == frozenset(), moment
    # What had ended before the fault is done once more where it is asked for again. An orphan of a killed
    # head may have ended it meanwhile.
    if cell.again and (
        over or (cell.kind == "head" and cell.script == "receipt" and tree == undisturbed.trees[2])
    ):
        assert_same(tree, undisturbed.trees[2], moment)
    else:
        assert_same(tree, undisturbed.trees[1 if cell.again else 0], moment)


def _unfinished(site: Site, cell: Cell) -> bool:
    """Tell whether the hand-off that was asked for has not ended."""
    return not (site.work / SECOND / "receipts" / f"{2 if cell.again else 1:06d}.json").exists()


@pytest.mark.parametrize("again", [False, True], ids=["first", "again"])
@pytest.mark.parametrize("modes", [MODES, KILLED], ids=["crash", "kill"])
def test_a_death_at_every_moment(modes: Sequence[str], again: bool, tmp_path: Path) -> None:
    assert sweep(tmp_path, again, 1, modes) > 100
