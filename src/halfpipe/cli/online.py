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
from halfpipe.site.online_handoff import OnlineOutcome

QUIET = {OnlineOutcome.BEFORE, OnlineOutcome.OTHER}  # not printed, because most runs are like this


@click.command(
    "online",
    cls=Verb,
    examples=[
        ("halfpipe online", "hand off all runs that are ready; list why the others wait"),
        ("halfpipe online --again r0702010205", "regenerate the file of a run"),
        ("halfpipe online --started r0702010205", "record that its command did its work"),
    ],
    statuses={
        0: "all ready runs are handed off; others may wait or be held",
        1: "something failed or is unknown, or the named run is held",
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

    Each run with complete data from start to stop becomes one file in paths.online, once. The runs that wait are
    listed with their missing data. Details: docs/online.md.
    """
    named = [run for run in (again, started, not_started) if run]
    if len(named) > 1:
        raise click.UsageError("Give only one of --again, --started and --not-started.")
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
            if result.what is OnlineOutcome.FAILED:
                click.echo(result, err=True)
            elif not as_json and (again or result.what not in QUIET):
                click.echo(result)
    counts = Counter(result.what for result in found)
    if as_json:
        printed.as_json(work=site.work, runs=found)
    else:
        click.echo(
            ", ".join(f"{counts[each]} {each}" for each in OnlineOutcome if counts[each]) or "no run is known"
        )
    return 1 if counts[OnlineOutcome.FAILED] or (again is not None and not counts[OnlineOutcome.MADE]) else 0
