"""Files of a site put back from earlier snapshots: told before anything is delivered, refused, or harmless.

The site has SIMULATED data: three downlinks with one run. A stand-in for Level-1 takes what was submitted, and nobody
can ask it (no submit.check), so HalfPipe alone must notice. `pytest -s` prints the table: for each kind of file and
each snapshot how it ended, and the books, that is, the events at Level-1.
"""

import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import combinations
from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.causes import Verdict
from halfpipe.errors import HalfPipeError
from halfpipe.process.failure_record import Failure
from halfpipe.staging import stage_mark
from halfpipe.status import overview
from halfpipe.status.survey import Survey
from halfpipe.words import aligned
from tests.support.golden_cases import GOLDEN, build
from tests.support.harness import records_of
from tests.support.level1 import commands, submit_commands
from tests.support.workflow import LEFT_OUT, Ended, Site

CASE = "split3"
IN = GOLDEN / CASE / "in"
A, B, C = DOWNLINKS = "240601001", "240601002", "240602001"
LEDGER = "ledger.sqlite"
PLACES = ("work", "stage", LEDGER)
SNAPSHOTS = ("A taken", "A again", "B loaded")
NEWEST = "newest"
Put = tuple[str, str, Sequence[str]]  # the kind, the snapshot, and the files or directories to put back
RUN = "runs/2c2e5787"
# What a person may put back together, besides the directories of `PLACES`.
TOGETHER = {
    "a run": (f"work/{RUN}",),
    "a run and its copies": (f"work/{RUN}", f"work/copies/{RUN}"),
    "A": (f"work/{A}", f"work/dl={A}", f"work/submit={A}"),
    "A and its copies": (f"work/{A}", f"work/dl={A}", f"work/submit={A}", f"work/copies/{A}"),
    "B": (f"work/{B}", f"work/dl={B}", f"work/submit={B}"),
    "B and its copies": (f"work/{B}", f"work/dl={B}", f"work/submit={B}", f"work/copies/{B}"),
}
KINDS = {
    r"\w{8}-\w{8}-\d{4}-\d{5}": "{product}",
    r"\d{9}": "{dl}",
    r"\d{6}\.json": "N.json",
    r"r\d{10}": "r{run}",
    r"e\d{20}": "e{sequence}",
    r"[0-9a-f]{8}": "{run}",
    r"\d{5}": "{chunk}",
}


def kind_of(name: str) -> str:
    """Return the kind of a file, by its path below the site."""
    for pattern, word in KINDS.items():
        name = re.sub(rf"(?<![0-9a-f]){pattern}(?![0-9a-f])", word, name)
    return name


class Outcome(StrEnum):
    """How it ended after files were put back."""

    HARMLESS = "harmless"
    TOLD = "told"
    REFUSED = "refused"
    NOT_TOLD = "NOT TOLD"


@dataclass(frozen=True)
class Seen:
    """What was seen after files were put back.

    Attributes
    ----------
    outcome, codes
        How it ended, and by which codes it was told or refused.
    events, twice, lacking
        The events at Level-1; how many of them it has twice, and how many it lacks.
    """

    outcome: Outcome
    codes: frozenset[str]
    events: int
    twice: int
    lacking: int


@dataclass
class Backups:
    """The site, and its snapshots."""

    home: Path
    site: Site = field(init=False)

    def __post_init__(self) -> None:
        self.site = site = Site(self.home / "site")
        self.server = site.home / "server"
        build(CASE, site)
        shutil.rmtree(site.retdefs)
        site.retdefs.mkdir()
        site.configure(
            ledger={"url": f"sqlite:///{site.home}/{LEDGER}"},
            submit=submit_commands(self.server) | {"check": None},
        )
        site.add_retdefs(IN, A)
        (site.retdefs / A / f"RetDef-{A}-00004.xml").unlink()  # it comes late
        self.submit(A).good()
        self.take()
        self.keep(SNAPSHOTS[0])
        site.add_retdefs(IN, A)
        site.process(A)
        self.keep(SNAPSHOTS[1])
        self.roll_back(A).good()
        self.take()
        site.add_retdefs(IN, B)
        site.snakemake(paths.loaded(B)).good()
        self.keep(SNAPSHOTS[2])
        self.submit(B).good()
        self.take()
        self.keep(NEWEST)
        self.base = self.asked()

    def submit(self, *downlinks: str) -> Ended:
        """Process and submit downlinks."""
        return self.site.snakemake(*(f"submit={downlink}" for downlink in downlinks))

    def roll_back(self, downlink: str) -> Ended:
        """Load a later hand-off, and roll Level-1 back to it."""
        loaded = self.site.halfpipe("ledger", "load", downlink)
        return loaded if loaded.status else self.site.halfpipe("submit", downlink, "--rollback")

    def keep(self, name: str) -> None:
        """Take a snapshot."""
        shutil.copytree(self.site.home, self.home / name)

    def take(self) -> None:
        """Take what was submitted as Level-1 does; after a rollback, a hand-off replaces the earlier one."""
        for downlink in DOWNLINKS:
            home, level1 = self.site.stage / downlink, self.site.home / "level1" / downlink
            told, done = len(commands(self.server, downlink)), level1 / "told"
            if not told or (done.exists() and int(done.read_text()) == told) or not home.is_dir():
                continue
            # After a rollback Level-1 keeps the runs that are not in the new hand-off.
            for of_run in home.glob("r*/"):
                shutil.rmtree(level1 / of_run.name, ignore_errors=True)
            self.site.take(downlink)
            level1.mkdir(parents=True, exist_ok=True)
            done.write_text(str(told))

    def at_level1(self) -> Counter[bytes]:
        """Return the events that Level-1 has."""
        found: Counter[bytes] = Counter()
        for path in self.site.home.glob("level1/*/r*/*.evt"):
            found.update(records_of(path.read_bytes()))
        return found

    def asked(self) -> frozenset[str]:
        """Return the codes of all causes that need action, of the site and of all downlinks."""
        try:
            survey = Survey(self.site.settings, time.time())
            seen = overview.overview(survey, overview.known(survey))
        except HalfPipeError as error:
            return frozenset({error.code})
        causes = [*seen.site, *(cause for one in seen.accounts for cause in one.causes)]
        return frozenset(cause.code for cause in causes if cause.verdict is Verdict.ACTION)

    def restore(self, snapshot: str, names: Iterable[str]) -> None:
        """Begin with the newest state, and put files or directories back from a snapshot, or their absence."""
        shutil.rmtree(self.site.home)
        shutil.copytree(self.home / NEWEST, self.site.home)
        for name in names:
            source, place = self.home / snapshot / name, self.site.home / name
            if place.is_dir():
                shutil.rmtree(place)
            place.unlink(missing_ok=True)
            place.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, place)
            elif source.exists():
                shutil.copy2(source, place)

    def differing(self, snapshot: str) -> list[str]:
        """Return the files that differ between the newest state and a snapshot."""
        now, then = (
            {
                str(path.relative_to(home)): path.read_bytes()
                for place in PLACES
                for path in (home / place, *(home / place).rglob("*"))
                if path.is_file()
            }
            for home in (self.home / NEWEST, self.home / snapshot)
        )
        passing = tuple(name for name in LEFT_OUT if re.search("logs|leases|settings|snakemake", name))
        differ = [name for name in now.keys() | then.keys() if now.get(name) != then.get(name)]
        return sorted(name for name in differ if not name.startswith(passing))

    def failed(self) -> frozenset[str]:
        """Return the codes of the recorded failures."""
        logs = self.site.work.glob("logs/*/*.log")
        return frozenset(why.code for log in logs if (why := Failure.read(log)))

    def end(self, way: str) -> Ended:
        """Go on: with the next downlink, or with B again and its rollback; Level-1 takes what it is told of."""
        if way == "next":
            self.site.add_retdefs(IN, C)
            ended = self.submit(*DOWNLINKS)
        else:
            ended = self.site.snakemake(f"dl={B}", "-F")
            if not ended.status:
                ended = self.roll_back(B)
        self.take()
        return ended

    def undisturbed(self, way: str) -> Counter[bytes]:
        """Return the events at Level-1 if nothing is put back."""
        self.restore(NEWEST, ())
        self.end(way).good()
        return self.at_level1()

    def look(self, snapshot: str, names: Sequence[str], way: str, expected: Counter[bytes]) -> Seen:
        """Put files back, look with `status`, and go on."""
        self.restore(snapshot, names)
        told = self.asked() - self.base
        before = self.failed()
        ended = self.end(way)
        events = self.at_level1()
        twice, lacking = events - expected, expected - events
        for downlink in DOWNLINKS:
            assert commands(self.server, downlink).count("createStream") <= 1, (snapshot, names)
        if told:
            outcome = Outcome.TOLD
            codes = told
        elif ended.status:
            outcome = Outcome.REFUSED
            codes = self.failed() - before
        else:
            outcome = Outcome.NOT_TOLD if twice or lacking else Outcome.HARMLESS
            codes = frozenset()
        return Seen(outcome, codes, events.total(), twice.total(), lacking.total())


def single_files(backups: Backups) -> Iterator[Put]:
    """Yield each file that differs, also with its second copy; both copies of a series; parts of a backup."""
    for snapshot in SNAPSHOTS:
        files = backups.differing(snapshot)
        for name in files:
            yield kind_of(name), snapshot, (name,)
            if (second := f"work/copies/{name.removeprefix('work/')}") in files:
                yield f"{kind_of(name)}, both copies", snapshot, (name, second)
        for second in sorted({str(Path(name).parent) for name in files if name.startswith("work/copies/")}):
            first = second.replace("/copies", "")
            yield f"{kind_of(first)}, both copies", snapshot, (first, second)
        for what, names in TOGETHER.items():
            yield what, snapshot, names


def whole_places(backups: Backups) -> Iterator[Put]:
    """Yield work, stage and ledger, one and two of them. All three are not told: then only Level-1 knows more."""
    del backups
    for snapshot in SNAPSHOTS:
        for number in (1, 2):
            for places in combinations(PLACES, number):
                yield " and ".join(places), snapshot, places


@pytest.fixture(scope="module")
def backups(tmp_path_factory: pytest.TempPathFactory) -> Backups:
    return Backups(tmp_path_factory.mktemp("backups"))


@pytest.mark.parametrize(
    ("put", "way"),
    [
        (whole_places, "next"),
        pytest.param(whole_places, "again", marks=pytest.mark.faults),
        pytest.param(single_files, "next", marks=pytest.mark.faults),
        pytest.param(single_files, "again", marks=pytest.mark.faults),
    ],
)
def test_what_is_put_back_is_told_or_harmless(
    put: Callable[[Backups], Iterable[Put]], way: str, backups: Backups, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on a site where the newest records are those of other downlinks and runs.
    monkeypatch.setattr(stage_mark, "LOOKED_AT", 1)
    expected = backups.undisturbed(way)
    table: dict[tuple[str, ...], int] = {}
    for kind, snapshot, names in put(backups):
        seen = backups.look(snapshot, names, way, expected)
        books = f"{seen.events} events, {seen.twice} twice, {seen.lacking} lacking"
        row = kind, snapshot, f"{seen.outcome} {', '.join(sorted(seen.codes))}".strip(), books
        table[row] = table.get(row, 0) + 1
        assert not seen.twice, row
    rows = [(*row, f"{number} x") for row, number in sorted(table.items())]
    print("", f"put back, then {way}:", *aligned(rows), sep="\n")
    assert [row for row in rows if Outcome.NOT_TOLD in row[2]] == []
    assert any(row[2].startswith(Outcome.TOLD) for row in rows)
