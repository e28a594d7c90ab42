"""Backups that are put back over a site that went on: each event once at Level-1, one stream, and somebody is told.

A story is a site with simulated downlinks of two runs, of which some are processed, submitted and taken; a backup of
something; more of the same; the backup put back; and then every command that a person may give at night. What is
done in the end is what the commands have said.
"""

import json
import os
import random
import shlex
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.downlink import stage_mark
from halfpipe.downlink.submissions import Record
from halfpipe.errors import HalfPipeError
from halfpipe.ids import DownlinkId
from halfpipe.ledger import check
from halfpipe_simulator.scenario import Scenario
from tests.support.harness import events_of
from tests.support.level1 import commands, submit_commands
from tests.support.workflow import Ended, Site, in_peace

pytestmark = pytest.mark.faults

STORIES = int(os.environ.get("HALFPIPE_BACKUPS", "8"))  # one for each thing that is put back; all ways in 30
DOWNLINKS = ("230401001", "230401002", "230401003", "230401004")
TARGETS = (
    "work",
    "run",
    "run and copies",
    "downlink",
    "downlink and copies",
    "stage",
    "ledger",
    "work and stage",
)
LEFT = {"not-submitted"}  # codes of what is no matter of a backup
Event = tuple[str, int, int]  # of a run: sequence and APID


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Simulated downlinks that were processed in peace."""
    scene = Scenario(seed=11, downlinks=DOWNLINKS)
    scene.lpa_run(events=120, parts=4, per_datagram=10, repeated_datagrams=2)
    scene.lpa_run(events=90, parts=3, first=1, per_datagram=10)
    home = tmp_path_factory.mktemp("world")
    return in_peace(home, scene, merge={"min_events": 1}, ledger={"url": None})


def events(files: Iterable[Path]) -> Iterator[Event]:
    """Yield the events of event files."""
    for path in files:
        yield from ((path.parent.name, *event) for event in events_of(path.read_bytes()))


@dataclass
class Story:
    """One story: the site, the stand-in of the pipeline, and what the commands have said."""

    world: Site
    site: Site
    seed: int
    target: str
    chance: random.Random = field(init=False)
    told: list[str] = field(default_factory=list)
    acted: list[Sequence[str]] = field(default_factory=list)  # commands that ended well, and ran jobs
    later: set[str] = field(default_factory=set)  # downlinks that went on since the backup

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        site, self.streams = self.site, self.site.home / "streams.jsonl"
        self.products = self.world.home.parent / "in"
        site.replay(self.products)
        self.ledger = site.home / "ledger.sqlite"
        submit: dict[str, object] = {**submit_commands(self.streams), "automatic": True}
        # Without a question to the pipeline, only what is remembered keeps a second stream from being made. If working
        # directory and stage are put back both, that is the ledger, which knows what was loaded and not what was told.
        if not (self.chance.random() < 0.3 or self.target == "work and stage"):
            submit["check"] = None
        site.configure(merge={"min_events": 1}, ledger={"url": f"sqlite:///{self.ledger}"}, submit=submit)
        site.stage.mkdir()
        site.work.mkdir()

    def retdefs(self, *downlinks: str) -> None:
        self.site.add_retdefs(self.products, *downlinks)

    def go_on(self, *downlinks: str) -> None:
        """Process downlinks; some are submitted, and Level-1 takes some of these."""
        for downlink in downlinks:
            self.retdefs(downlink)
            deed = self.chance.choice(["dl", "submit", "submit and take", "submit and take"])
            self.site.snakemake(f"{deed.split()[0]}={downlink}").good()
            if deed.endswith("take"):
                self.site.take(downlink)

    def roll_back(self, downlink: str) -> None:
        """Have Level-1 take what is staged now in the place of what it took of these runs before."""
        for words in (("ledger", "load", downlink), ("submit", downlink, "--rollback")):
            assert self.give(*words).status == 0, self.said
        for run in (self.site.stage / downlink).glob("r*"):
            shutil.rmtree(self.site.home / "level1" / downlink / run.name, ignore_errors=True)

    def give(self, *words: str) -> Ended:
        """Give a command, and see that nothing is at Level-1 twice, whatever it says."""
        ended = self.site.snakemake(*words[1:]) if words[0] == "snakemake" else self.site.halfpipe(*words)
        self.told.append(f"{' '.join(words)}: {ended.status}\n{ended.said}")
        if ended.status == 0 and ended.jobs and "-n" not in words:
            self.acted.append(words)
        assert "Traceback" not in ended.said, self.said
        assert "defect of the program" not in ended.said, self.said
        self.nothing_twice()
        return ended

    @property
    def said(self) -> str:
        return f"seed {self.seed}\n" + "\n".join(self.told)

    def at_level1(self) -> Counter[Event]:
        """Return the events that Level-1 has taken or finds in the stage; what it has taken it does not take again."""
        taken, stage = self.site.home / "level1", self.site.stage
        runs = {str(path.relative_to(top)): path for top in (stage, taken) for path in top.glob("[0-9]*/r*")}
        return Counter(events(path for run in runs.values() for path in run.glob("*.evt")))

    def streams_made(self) -> Counter[str]:
        """Return how often the stream of each downlink was created."""
        return Counter({dl: commands(self.streams, dl).count("createStream") for dl in DOWNLINKS})

    def nothing_twice(self) -> None:
        twice = [event for event, number in self.at_level1().items() if number > 1]
        assert not twice, f"{len(twice)} events twice\n{self.said}"
        made = self.streams_made()
        assert all(number <= 1 for number in made.values()), f"{made}\n{self.said}"

    def refused(self) -> str:
        """Return the code by which a command is refused that stages or submits something; empty if it is not."""
        settings = self.site.settings
        try:
            stage_mark.refuse_delivery(settings)
            check.refuse_delivery(settings, map(DownlinkId, DOWNLINKS))
        except HalfPipeError as error:
            return error.code
        return ""


@dataclass(frozen=True)
class Backup:
    """What was kept of a site: whole directories, and what of them is put back."""

    story: Story
    home: Path
    target: str

    @classmethod
    def take(cls, story: Story, home: Path, target: str) -> "Backup":
        for top in (story.site.work, story.site.stage):
            shutil.copytree(top, home / top.name, symlinks=True)
        if story.ledger.exists():
            shutil.copy2(story.ledger, home / "ledger.sqlite")
        return cls(story, home, target)

    def places(self) -> list[str]:
        """Return what is put back, relative to the site."""
        what = self.target.split(" ")[0]
        if what == "run":
            runs = sorted(path.name for path in (self.home / "work" / "runs").iterdir())
            found = [f"work/runs/{random.Random(self.story.seed).choice(runs)}"]
        elif what == "downlink":
            # Of one that has gone on since, if there is one.
            names = sorted(path.name for path in (self.home / "work").glob("[0-9]*"))
            later = [name for name in names if name in self.story.later]
            found = [f"work/{random.Random(self.story.seed).choice(later or names)}"]
        else:
            found = {"work": ["work"], "stage": ["stage"], "ledger": ["ledger.sqlite"]}[what]
        if self.target.endswith("copies"):
            found += [name.replace("work/", "work/copies/", 1) for name in found]
        return [*found, "stage"] if self.target == "work and stage" else found

    def put_back(self, over: bool) -> None:
        """Put it back in the place of what is there; `over`: what the backup has not stays, as rsync does it."""
        for name in self.places():
            source, place = self.home / name, self.story.site.home / name
            if source.is_file() or not source.exists():
                place.unlink(missing_ok=True)
                if source.exists():
                    shutil.copy2(source, place)
                continue
            if not over:
                shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(source, place, dirs_exist_ok=True, symlinks=True)


def night(story: Story, old: str, new: str) -> dict[str, int]:
    """Give every command that a person gives who knows of nothing; return how each ended."""
    commands = [
        ("status",),
        ("status", "--all", "--check"),
        ("snakemake", "-n", f"dl={new}"),
        ("snakemake", "-n", f"dl={old}", "-F"),
        ("snakemake", f"dl={new}"),
        ("snakemake", f"dl={old}"),
        ("snakemake", f"submit={old}"),
        ("snakemake", f"submit={new}"),
        ("unattended",),
        ("process", f"{DOWNLINKS[0]}..{DOWNLINKS[-1]}"),
    ]
    head, rest = commands[:4], commands[4:]
    story.chance.shuffle(rest)
    return {" ".join(words): story.give(*words).status for words in [*head, *rest]}


def remedy(story: Story, now: Backup, code: str) -> None:
    """Do what was said: a newer backup, or what a stage or a ledger wants that was put back."""
    site = story.site
    if code == "stage-restored":
        taken = {path.name for path in (site.home / "level1").glob("[0-9]*")}
        for downlink in taken:
            shutil.rmtree(site.stage / downlink, ignore_errors=True)
        for token in site.stage.glob("chunktokens/*/*"):
            if not (any(site.stage.glob(f"[0-9]*/*/{token.name}.evt")) or token.name.startswith("halt")):
                token.unlink()
        shutil.copytree(
            site.work / paths.stage_mark_copy(), site.stage / paths.stage_mark(), dirs_exist_ok=True
        )
        for downlink in sorted(path.name.removeprefix("dl=") for path in site.work.glob("dl=*")):
            if downlink not in taken and not (site.stage / downlink).exists():
                story.give("snakemake", f"dl={downlink}", "-R", "deliver_run")
    elif code:
        now.put_back(over=False)
    for downlink, number in story.streams_made().items():
        record = Record(site.work, DownlinkId(downlink))
        if number and record.last_confirmed is None:
            assert story.give("submit", downlink, "--settle", "submitted").status == 0, story.said
    for _ in range(3):
        found = json.loads(story.give("status", "--all", "--json").said)
        causes = [
            cause for one in [*found["downlinks"], {"causes": found["site"]}] for cause in one["causes"]
        ]
        for do in dict.fromkeys(
            do for cause in causes if cause["code"] not in LEFT for do in cause["do"].splitlines()
        ):
            if do.endswith(" --rollback"):
                story.roll_back(do.split()[2])
            elif do.startswith(("snakemake ", "halfpipe ")):
                story.give(*shlex.split(do.removeprefix("halfpipe ")))


def tell(story: Story, target: str, tmp_path: Path, over: bool) -> Counter[str]:
    """Tell a story to its good end; return what it was refused by, and how often."""
    first = story.chance.randint(1, 2)
    order = list(DOWNLINKS)
    if story.chance.random() < 0.3:
        order[0], order[1] = order[1], order[0]
    story.go_on(*order[:first])
    backup = Backup.take(story, tmp_path / "yesterday", target)
    for downlink in order[:first]:
        if not (story.site.work / f"submit={downlink}").exists():
            story.site.snakemake(f"submit={downlink}").good()
            story.later.add(downlink)
    story.go_on(*order[first:3])
    story.nothing_twice()
    now = Backup.take(story, tmp_path / "today", target)
    backup.put_back(over)
    story.retdefs(order[3])
    code = story.refused()
    statuses = night(story, story.chance.choice(order[:3]), order[3])
    refused = [words for words, status in statuses.items() if status != 0]
    if code:
        assert "status" in refused, story.said
        assert (story.acted, "unattended" in refused) == ([], True), f"{code}\n{story.said}"
    remedy(story, now, code)
    assert story.refused() == "", story.said
    for downlink in order:
        ended = story.give("snakemake", f"submit={downlink}")
        assert ended.status == 0, story.said
    assert story.give("ledger", "check").status == 0, story.said
    found = story.at_level1()
    assert set(found) == set(events(story.world.stage.glob("*/r*/*.evt"))), story.said
    assert story.give("unattended").status == 0, story.said
    return Counter([code] if code else refused)


@pytest.mark.parametrize("seed", range(STORIES))
def test_a_backup_that_is_put_back_has_nothing_at_level1_twice(
    seed: int, world: Site, tmp_path: Path
) -> None:
    target = TARGETS[seed % len(TARGETS)]
    story = Story(world, Site(tmp_path / "site"), seed, target)
    print(target, dict(tell(story, target, tmp_path, over=seed // len(TARGETS) % 2 == 1)))
