"""`halfpipe online`."""

import sys
from collections import Counter

import click

from halfpipe.cli import printed
from halfpipe.cli.verbs import RUN, Site, Verb, as_json
from halfpipe.ids import RunId


@click.command(
    "online",
    cls=Verb,
    examples=[
        ("halfpipe online", "hand off all runs that are ready; list why the others wait"),
        ("halfpipe online --again r0702010205", "regenerate the file of a run"),
        ("halfpipe online r0702010205 --settle started", "record that its command did its work"),
    ],
    statuses={
        0: "all ready runs are handed off; others may wait or be held",
        1: "something failed or is unknown, or the named run is held",
    },
)
@click.argument("run", required=False, type=RUN, metavar="[RUN]", help="The run of --again or --settle.")
@click.option("--again", is_flag=True, help="Regenerate the file of the run, and run its command.")
@click.option(
    "--settle", type=click.Choice(["started", "not-started"]), help="Record whether its command did its work."
)
@as_json
def command(
    site: Site,
    run: RunId | None,
    again: bool,
    settle: str | None,
    as_json: bool,
) -> int:
    """Hand whole runs to Online.

    Each run with complete data from start to stop becomes one file in paths.online, once. The runs that wait are
    listed with their missing data. Details: docs/online.md.
    """
    if (run is not None) != (again or settle is not None) or (again and settle):
        raise click.UsageError(
            "Name a run and give either --again or --settle, or name no run and give neither."
        )
    from halfpipe.notify import online_handoff
    from halfpipe.notify.online_handoff import OnlineOutcome
    from halfpipe.state import halts
    from halfpipe.state.downlinks_of_run import every_run

    quiet = {OnlineOutcome.BEFORE, OnlineOutcome.OTHER}  # not printed, because most runs are like this
    if site.settings.paths.online is None and run is None:
        click.echo("paths.online is null: the hand-off to Online is switched off")
        return 0
    with online_handoff.alone(site.settings):
        if run and settle:
            online_handoff.settle(site.settings, run, started=settle == "started")
            click.echo(f"{run}: settled, {settle}")
            return 0
        switch = halts.holding(site.work, halts.Switch.ONLINE)
        if switch is not None and run is None:
            click.echo(f"the hand-off to Online is held by {switch}")
            return 0
        runs = [run] if run else every_run(site.work)
        results = online_handoff.hand_off(site.settings, runs, sys.stderr, again=again)
        found = []
        for result in results:
            found.append(result)
            if result.what is OnlineOutcome.FAILED:
                click.echo(result, err=True)
            elif not as_json and (again or result.what not in quiet):
                click.echo(result)
    counts = Counter(result.what for result in found)
    if as_json:
        printed.as_json(work=site.work, runs=found)
    else:
        click.echo(
            ", ".join(f"{counts[each]} {each}" for each in OnlineOutcome if counts[each]) or "no run is known"
        )
    return 1 if counts[OnlineOutcome.FAILED] or (again and not counts[OnlineOutcome.MADE]) else 0
