"""Random pairs of invocations side by side, over runs that downlinks share: the result is that of some order.

Runs are independent of each other, so each run must look as it looks after some order of the downlinks; what
is compared is everything that is kept, staged and said of the run.
"""

import json
import random
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from halfpipe.causes import Verdict
from halfpipe.config import load
from halfpipe.ids import DownlinkId, RunId
from halfpipe.status.checks import check
from halfpipe_simulator.scenario import Scenario
from tests.support.harness import PATIENCE, half_written
from tests.support.in_process import ROOT
from tests.support.leases import leases
from tests.support.workflow import REPLAY, Ended, Site

pytestmark = pytest.mark.faults

PAIRS = 50
DOWNLINKS = ("230401001", "230401002", "230401003", "230401004")
REFUSED = r"downlink (\d{9}) is in work: \S+, process (\d+) on \S+, since \S+ holds"
LONGEST = 0.6  # seconds that a decoder waits

# A decoder that waits as long as the file beside it says, then replays products made before.
SLEEPY = """
import json, os, pathlib, sys, time
name = pathlib.Path(sys.argv[sys.argv.index("-r") + 1]).name
waits = json.loads(pathlib.Path({waits!r}).read_text())
time.sleep(waits.get(name, 0))
os.execv(sys.executable, [sys.executable, {replay!r}, "--source", {source!r}, *sys.argv[1:]])
"""


def scenario(number: int) -> Scenario:
    """Return simulated downlinks of which two or three runs are spread over two to four."""
    downlinks = DOWNLINKS[: (2, 3, 3, 4)[number]]
    made = Scenario(seed=number, downlinks=downlinks)
    made.lpa_run(events=200, parts=len(downlinks), per_datagram=15, repeated_datagrams=2)
    made.lpa_run(
        events=150,
        parts=2,
        first=len(downlinks) - 2,
        per_datagram=15,
        lost_datagrams=number % 2,
        equal_sequences=2,
        orphaned_tail=number == 2,
    )
    if number == 1:
        made.lpa_run(events=100, parts=2, late_epu=957, per_datagram=20)
    return made


@dataclass
class World:
    """Downlinks, and what a site looks like after any history of them, which is made when it is asked for."""

    home: Path
    downlinks: tuple[str, ...]
    made: dict[tuple[str, ...], Path] = field(default_factory=dict)
    looks: dict[tuple[str, ...], dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def build(cls, home: Path, number: int) -> "World":
        """Simulate the downlinks, and decode them once."""
        simulation, source = home / "simulated", home / "products"
        scene = scenario(number)
        scene.write(simulation)
        world = cls(home, tuple(scene.downlinks))
        decoding = world.open(home / "decoding")
        decoding.configure(decoder={"command": "built-in"}, paths={"level0": str(simulation / "level0")})
        decoding.process(*world.downlinks)
        for downlink in world.downlinks:
            shutil.copytree(decoding.work / downlink / "chunks", source / downlink)
        (home / "decoder.py").write_text(
            SLEEPY.format(waits=str(world.waits), replay=str(REPLAY), source=str(source))
        )
        world.made[()] = home / "nothing"
        for place in ("work", "stage"):
            (home / "nothing" / place).mkdir(parents=True)
        return world

    @property
    def waits(self) -> Path:
        """The file that says how long the decoder waits for which RetDef."""
        return self.home / "waits.json"

    def open(self, home: Path) -> Site:
        """Return the site at `home`."""
        site = Site(home)
        site.configure(
            paths={"retdef": [str(self.home / "simulated" / "downlinks")]},
            moot={"file": str(self.home / "simulated" / "moot.txt")},
            magic7={"command": None},
            retdef={"settle_seconds": 0},
            decoder={"command": shlex.join([sys.executable, str(self.home / "decoder.py")])},
        )
        return site

    def after(self, history: tuple[str, ...]) -> Path:
        """Return where a site lies that has processed downlinks in an order."""
        if history not in self.made:
            source = self.after(history[:-1])
            home = shutil.copytree(source, self.home / f"after-{len(self.made)}")
            self._process(self.open(home), history[-1])
            self.made[history] = home
        return self.made[history]

    def _process(self, site: Site, downlink: str) -> None:
        """Process a downlink by hand; it is decoded but once for all sites."""
        decoded = self.home / "decoded" / downlink
        if not decoded.exists():
            self.waits.write_text("{}")
            site.by_hand(downlink)
            shutil.copytree(site.work / downlink / "chunks", decoded / "chunks")
            for path in site.work.glob(f"{downlink}/*.xml"):
                shutil.copy2(path, decoded)
            return
        shutil.copytree(decoded, site.work / downlink, dirs_exist_ok=True)
        for path in (site.work / f"dl={downlink}", *site.work.glob(f"runs/*/{downlink}/manifest.json")):
            path.unlink(missing_ok=True)
        site.by_hand(downlink, missing=True)

    def look(self, history: tuple[str, ...]) -> dict[str, Any]:
        """Return what each run looks like after a history."""
        if history not in self.looks:
            self.looks[history] = look(Site(self.after(history)))
        return self.looks[history]


def look(site: Site) -> dict[str, Any]:
    """Return by run everything that is kept, staged and said of it."""
    tree = site.tree()
    found: dict[str, Any] = {}
    for home in sorted(site.work.glob("runs/*")):
        l1 = RunId(home.name).l1
        mine = {
            name: content
            for name, content in tree.items()
            if f"/runs/{home.name}/" in name or f"/{l1}/" in name
        }
        for name, content in tree.items():
            if name.startswith("stage/") and name.endswith(".txt"):
                mine[name] = b"".join(
                    line for line in content.splitlines(keepends=True) if line.startswith(l1.encode())
                )
            elif name.startswith("work/dl="):
                runs = json.loads(content)["runs"]
                mine[name] = json.dumps([run for run in runs if run["run"] == home.name]).encode()
        found[home.name] = mine
    return found


@dataclass(frozen=True)
class Invocation:
    """One of a pair: which downlinks it names, and whether it processes them again."""

    downlinks: tuple[str, ...]
    again: bool

    @property
    def arguments(self) -> list[str]:
        return [*(f"dl={dl}" for dl in self.downlinks), *(["-F"] if self.again else [])]

    def processes(self, done: Counter[str]) -> list[str]:
        """Return the downlinks that it processes if those in `done` are processed already."""
        return [dl for dl in self.downlinks if self.again or not done[dl]]


@dataclass(frozen=True)
class Pair:
    """What was processed before, two invocations, and how many seconds lie between their starts."""

    before: tuple[str, ...]
    invocations: tuple[Invocation, Invocation]
    apart: float

    @classmethod
    def draw(cls, chance: random.Random, downlinks: Sequence[str]) -> "Pair":
        """Draw a pair over `downlinks`: overlapping, disjoint, or of the same downlink."""
        before = chance.sample(downlinks, chance.choice([0, 0, 1, len(downlinks) - 1, len(downlinks)]))
        kind = chance.choice(["disjoint", "disjoint", "overlapping", "same"])
        some = chance.sample(downlinks, chance.randint(2, len(downlinks)))
        if kind == "same":
            names: list[Sequence[str]] = [some[:1], some[:1]]
        elif kind == "disjoint":
            cut = chance.randint(1, len(some) - 1)
            names = [some[:cut], some[cut:]]
        else:
            cut = chance.randint(1, len(some) - 1)
            names = [some[: cut + 1], some[cut:]]
        one, two = (Invocation(tuple(n), set(n) <= set(before) or chance.random() < 0.25) for n in names)
        return cls(tuple(before), (one, two), chance.choice([0.0, 0.0, 0.3, 1.0]))


def side_by_side(site: Site, pair: Pair) -> list[tuple[int, Ended]]:
    """Run both invocations at once; return process and end of each."""
    running: list[tuple[subprocess.Popen[bytes], Path]] = []
    try:
        for number, invocation in enumerate(pair.invocations):
            log = site.home / f"said-{number}"
            with log.open("wb") as out:
                process = subprocess.Popen(
                    site.command(*invocation.arguments), cwd=ROOT, stdout=out, stderr=subprocess.STDOUT
                )
            running.append((process, log))
            time.sleep(pair.apart if number == 0 else 0)
        return [(process.pid, Ended(process.wait(PATIENCE), log.read_text())) for process, log in running]
    finally:
        for process, _ in running:
            process.kill()
            process.wait()


def orders(names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield all orders of `names`, each once."""
    return iter(sorted(set(permutations(names))))


_worlds: dict[int, World] = {}


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[int, World]:
    """All worlds, made when they are needed."""
    _worlds.clear()
    return _worlds


@pytest.mark.parametrize("number", range(PAIRS))
def test_a_pair_gives_what_some_order_gives(
    number: int, worlds: dict[int, World], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    chance = random.Random(number)
    which = number % 4
    if which not in worlds:
        worlds[which] = World.build(tmp_path_factory.mktemp("world"), which)
    world = worlds[which]
    pair = Pair.draw(chance, world.downlinks)
    shutil.copytree(world.after(pair.before), tmp_path / "site")
    site = world.open(tmp_path / "site")
    retdefs = sorted(path.name for path in world.home.glob("simulated/downlinks/*/*.xml"))
    world.waits.write_text(json.dumps({name: chance.uniform(0, LONGEST) for name in retdefs}))
    ended = side_by_side(site, pair)
    said = f"{pair}\n" + "\n".join(end.said for _, end in ended)

    done = Counter(pair.before)
    refused, at_once = [], Counter[str]()
    for position, (invocation, (_, end)) in enumerate(zip(pair.invocations, ended, strict=True)):
        if end.status == 0:
            names = Counter(invocation.processes(done))
            at_once = at_once + names if invocation.again else at_once | names
            continue
        who = re.search(REFUSED, end.said)
        assert who is not None, said
        other, (other_pid, _) = pair.invocations[1 - position], ended[1 - position]
        assert int(who[2]) == other_pid, said
        assert who[1] in set(invocation.downlinks) & set(other.downlinks), said
        assert end.jobs == frozenset(), said
        refused.append(invocation)
    phases = [sorted(at_once.elements())]
    done += at_once
    for invocation in refused:
        phases.append(invocation.processes(done))
        said += site.snakemake(*invocation.arguments).good().said
        done.update(phases[-1])
    assert leases(site.work) == [], said
    assert half_written(site) == [], said

    outcome = look(site)
    left = set(outcome)
    for history in _histories(pair.before, phases):
        expected = world.look(history)
        assert expected.keys() == outcome.keys(), said
        left -= {run for run in left if outcome[run] == expected[run]}
        if not left:
            break
    assert not left, f"no order gives what came out for {left}\n{said}"
    for downlink in sorted(done):
        found = check(load([site.configfile]), DownlinkId(downlink))
        assert [cause for cause in found if cause.verdict is Verdict.ACTION] == [], said


def _histories(before: tuple[str, ...], phases: Sequence[Sequence[str]]) -> Iterator[tuple[str, ...]]:
    """Yield all histories in which the phases follow each other, each in any order."""
    if not phases:
        yield before
        return
    for order in orders(phases[0]):
        yield from _histories((*before, *order), phases[1:])
