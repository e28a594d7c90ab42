"""`halfpipe online`."""

import sys
from collections import Counter

import click

from halfpipe.cli import printed
from halfpipe.cli.verbs import RUN, Site, Verb, as_json
from halfpipe.downlink import halts
from halfpipe.ids import RunId
from halfpipe.run.downlinks_of_run import every_run
from halfpipe.site import online_handoff
from halfpipe.site.online_handoff import What

QUIET = {What.BEFORE, What.OTHER}  # most runs of a mission


@click.command(
    "online",
    cls=Verb,
    examples=[
        ("halfpipe online", "all runs that are ready; why the others wait"),
        ("halfpipe online --again r0702010205", "regenerate the file of a run"),
        ("halfpipe online --started r0702010205", "record that its command did its work"),
    ],
    statuses={
        0: "all that is ready is handed off; runs may wait or be held",
        1: "something failed or is unknown, or the run that was named is held",
    },
)
@click.option("--again", type=RUN, metavar="RUN", help="Regenerate the file of a run, and run its command.")
@click.option("--started", type=RUN, metavar="RUN", help="Record that the command of a run did its work.")
@click.option("--not-started", type=RUN, metavar="RUN", help="Record that it did not.")
@as_json
def command(
    site: Site,
    again: RunId | None,
    started: RunId | None,
    not_started: RunId | None,
    as_json: bool,
) -> int:
    """Hand whole runs to Online.

    Each run whose data are complete from start to stop becomes one file in paths.online, once; none is named for
    that. The other runs are listed with what they lack. docs/online.md explains it.
    """
    named = [run for run in (again, started, not_started) if run]
    if len(named) > 1:
        raise click.UsageError("Give --again, --started or --not-started: one of them.")
    if site.settings.paths.online is None and not named:
        click.echo("paths.online is null: the hand-off to Online is switched off")
        return 0
    with online_handoff.alone(site.settings):
        if run := started or not_started:
            online_handoff.settle(site.settings, run, started=started is not None)
            click.echo(f"{run}: settled, {'started' if started else 'not started'}")
            return 0
        switch = halts.holding(site.work, halts.Switch.ONLINE)
        if switch is not None and again is None:
            click.echo(f"the hand-off to Online is held by {switch}")
            return 0
        runs = [again] if again else every_run(site.work)
        results = online_handoff.hand_off(site.settings, runs, sys.stderr, again=again is not None)
        found = []
        for result in results:
            found.append(result)
            if result.what is What.FAILED:
                click.echo(result, err=True)
            elif not as_json and (again or result.what not in QUIET):
                click.echo(result)
    counts = Counter(result.what for result in found)
    if as_json:
        printed.as_json(work=site.work, runs=found)
    else:
        click.echo(", ".join(f"{counts[each]} {each}" for each in What if counts[each]) or "no run is known")
    return 1 if counts[What.FAILED] or (again is not None and not counts[What.MADE]) else 0
