"""`halfpipe drill`: an exercise on a simulated site."""

import secrets
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import numpy as np

from halfpipe.causes import Cause, Verdict
from halfpipe.cli.verbs import Site, Verb
from halfpipe.decisions import DECIDED_OF, Decisions, What
from halfpipe.errors import ConfigError, MissingInputError, Remedy
from halfpipe.files.typed import Stored, read_stored, write_stored
from halfpipe.formats import evt
from halfpipe.ids import DownlinkId
from halfpipe.operate.alarms import due_messages, site_subject, subject_of, text_of
from halfpipe.operate.invocation import SnakemakeCall, running
from halfpipe.settings import Settings
from halfpipe.status.overview import overview
from halfpipe.status.survey import Survey
from halfpipe.words import count
from halfpipe_simulator.scenario import MARK, Scenario
from halfpipe_simulator.troubles import BY_NAME, TROUBLES, Ground

FIRST_DAY = datetime(2023, 5, 1, 2, 50, tzinfo=UTC)  # of the data of the first drill
EVENTS = 300
Event = tuple[int, int]
"""Sequence and APID."""


class _Drill(Stored, frozen=True):
    """The drill: its trouble, its downlinks, when it began (Unix seconds), and the events that were simulated."""

    trouble: str
    first: DownlinkId
    second: DownlinkId
    began: float
    events: list[Event]


@click.command(
    "drill",
    cls=Verb,
    only_look=True,
    examples=[
        ("halfpipe drill --do", "begin a drill: one of twelve troubles, by chance"),
        ("halfpipe drill --call", "the people whom the message names do their part"),
        ("halfpipe drill", "see whether the trouble is cured, and whether events are lost"),
        ("halfpipe drill --undo", "give up"),
    ],
    statuses={0: "cured, and no event is lost", 1: "not cured, or events are lost; or there is no drill"},
)
@click.argument(
    "name",
    required=False,
    type=click.Choice(sorted(BY_NAME)),
    metavar="[TROUBLE]",
    help="A trouble that you know already; none: by chance.",
)
@click.option("--do", is_flag=True, help="Begin.")
@click.option("--call", "calls", is_flag=True, help="Call the others: they do what only they can do.")
@click.option("--undo", is_flag=True, help="Give up: learn what the trouble was.")
def command(site: Site, name: str | None, do: bool, calls: bool, undo: bool) -> int:
    """Practice a trouble on a simulated site, with new SIMULATED downlinks.

    Cure it as in a real shift, with the screens and docs/quick-reference.md. Without an option, see whether it is
    cured.
    """
    if do + calls + undo > 1 or (name and not do):
        raise click.UsageError("Give one of --do, --call and --undo; a trouble only with --do.")
    ground = _Place(_home(site.settings), site.settings, site.snakemake())
    if do:
        return ground.begin(name or secrets.choice(TROUBLES).name)
    if not ground.file.exists():
        raise MissingInputError("there is no drill.", Remedy("halfpipe drill --do", first="Begin one"))
    drill = read_stored(ground.file, _Drill)
    if calls:
        return ground.call(drill)
    if undo:
        ground.call(drill)
        ground.file.unlink()
        click.echo(f"The trouble was {drill.trouble}. {BY_NAME[drill.trouble].lesson}")
        return 0
    return ground.look(drill)


def _home(settings: Settings) -> Path:
    """Return the directory of the simulated site.

    Raises
    ------
    ConfigError
        If the data are not simulated, or any place of the site is elsewhere.
    """
    archive = settings.paths.level0
    home = archive.parent if archive else Path()
    places = [settings.paths.work, settings.paths.stage, *settings.paths.retdef]
    if not (
        settings.is_simulated and (home / MARK).exists() and all(home in each.parents for each in places)
    ):
        raise ConfigError(
            "a drill makes real trouble, so it needs a site that scripts/simulate.py made: its working directory, "
            f"stage and RetDefs must be in the directory with {MARK}. To make one: make demo"
        )
    return home


@dataclass(frozen=True)
class _Place:
    """The simulated site: its directory, its settings, and how Snakemake is called there."""

    home: Path
    settings: Settings
    snakemake: SnakemakeCall

    @property
    def file(self) -> Path:
        """The record of the drill."""
        return self.home / "drill.json"

    def ground(self, first: DownlinkId, second: DownlinkId) -> Ground:
        """Return what a trouble works on."""
        return Ground(self.settings, first, second, self.home / "drills" / f"{first}-away", self.make)

    def make(self, *targets: str) -> None:
        """Make targets; what Snakemake prints is in a file."""
        with running(self.snakemake.command(*targets), self.home / "drills" / "snakemake.log") as process:
            process.wait()

    def begin(self, name: str) -> int:
        """Make new downlinks and a trouble, and print the message that the shift gets."""
        if self.file.exists():
            remedy = Remedy(
                "halfpipe drill", "halfpipe drill --undo", first="See whether it is cured, or give up"
            )
            raise ConfigError("a drill is not finished.", remedy)
        number = len([*(self.home / "drills").glob("*-made")])
        day = FIRST_DAY + timedelta(days=number)
        first, second = (DownlinkId(f"{day:%y%m%d}00{n}") for n in (1, 2))
        click.echo("making SIMULATED downlinks, and a trouble …", err=True)
        before = {(subject, cause.code) for subject, cause in self.problems()}
        events = self._simulate(day, number, first, second)
        self.make(f"dl={first}")
        BY_NAME[name].make(self.ground(first, second))
        write_stored(self.file, _Drill(name, first, second, time.time(), events))
        found = [each for each in self.problems(first, second) if (each[0], each[1].code) not in before]
        messages, _ = due_messages({}, found, time.time(), 0.0)
        click.echo(
            f"The shift gets this message:\n\nSubject: {subject_of(messages)}\n\n{text_of(messages)}\n"
        )
        click.echo("Cure it. Then: halfpipe drill")
        return 0

    def _simulate(self, day: datetime, number: int, first: DownlinkId, second: DownlinkId) -> list[Event]:
        """Add two downlinks of a run to the site; return their events."""
        scenario = Scenario(seed=number, downlinks=(first, second), start=day)
        made = scenario.lpa_run(events=EVENTS, parts=2).write(self.home / "drills" / f"{first}-made")
        assert self.settings.paths.level0 is not None
        shutil.copytree(made.level0, self.settings.paths.level0, dirs_exist_ok=True)
        for downlink in (first, second):
            shutil.copytree(made.path / "downlinks" / downlink, self.settings.paths.retdef[0] / downlink)
        with (self.home / "moot.txt").open("a") as keys:
            keys.write((made.path / "moot.txt").read_text())
        every = (row for runs in made.carried.values() for rows in runs.values() for row in rows)
        return sorted({(sequence, apid) for sequence, apid, _ in every})

    def problems(self, *downlinks: DownlinkId) -> list[tuple[str, Cause]]:
        """Return what needs action, of the site and of some downlinks, by the subject of a message."""
        found = overview(Survey(self.settings), downlinks)
        every = [(site_subject(cause.code), cause) for cause in found.site]
        every += [(one.downlink, cause) for one in found.accounts for cause in one.causes]
        return [(subject, cause) for subject, cause in every if cause.verdict is Verdict.ACTION]

    def call(self, drill: _Drill) -> int:
        """Let others do their part."""
        trouble = BY_NAME[drill.trouble]
        ground = self.ground(drill.first, drill.second)
        called = ground.away / "called"
        if not trouble.others or called.exists():
            click.echo("Nobody else can do anything: the rest is yours.")
            return 1
        trouble.call(ground)
        called.parent.mkdir(parents=True, exist_ok=True)
        called.touch()
        click.echo(f"{trouble.others}: done. The rest is yours.")
        return 0

    def look(self, drill: _Drill) -> int:
        """Tell whether the trouble is cured, and whether events are lost."""
        accounts = overview(Survey(self.settings), (drill.first, drill.second)).accounts
        left = [f"{subject}: {cause.text}" for subject, cause in self.problems(drill.first, drill.second)]
        for one in accounts:
            if one.handoff is None:
                left.append(f"{one.downlink}: {one.state}")
            left += [f"{one.downlink}: {cause.text}" for cause in one.causes if cause.code == "retdef-new"]
        if left:
            click.echo("\n".join(["Not cured:", *(f"  {line}" for line in dict.fromkeys(left))]))
            return 1
        staged = self._staged(drill.first, drill.second)
        lost = len({*drill.events} - {*staged})
        doubled = len(staged) - len({*staged})
        minutes = (time.time() - drill.began) / 60
        click.echo(f"Cured after {minutes:.0f} min. {BY_NAME[drill.trouble].lesson}")
        click.echo(f"{count(len(drill.events), 'event')}: {lost} not delivered, {doubled} delivered twice")
        for decision in Decisions.read(self.settings.paths.work).of_kind(*map(What, DECIDED_OF)):
            if decision.subject.startswith((drill.first, drill.second)):
                click.echo(f"you decided: {decision.subject} {decision.what}: {decision.why}")
        self.file.unlink()
        return 1 if lost or doubled else 0

    def _staged(self, *downlinks: DownlinkId) -> list[Event]:
        """Return the events in the files that Level-1 gets."""
        found = list[Event]()
        for path in (path for dl in downlinks for path in (self.settings.paths.stage / dl).glob("*/*.evt")):
            data = np.fromfile(path, np.uint8)
            offsets = evt.walk(data, str(path))
            names: Sequence[str] = ("scalers_sequence", "ccsds_apid")
            columns = (evt.context_column(data, offsets, name).tolist() for name in names)
            found += zip(*columns, strict=True)
        return found
