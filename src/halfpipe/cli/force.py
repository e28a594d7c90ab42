"""`halfpipe force`."""

import click

from halfpipe import paths
from halfpipe.cli.verbs import DOWNLINK, RUN, Site, Verb, reason_given, row_options
from halfpipe.files import markers
from halfpipe.ids import DownlinkId, RunId
from halfpipe.run import abandoned_runs, deliveries
from halfpipe.run.downlinks_of_run import begun_downlinks
from halfpipe.words import count


@click.command(
    "force",
    cls=Verb,
    examples=[
        ("halfpipe force", "list the abandoned runs"),
        ('halfpipe force r0702010205 --reason "EPU 1 was off"', "deliver its known events"),
        ("halfpipe force r0702010205 --take-back", "wait for its missing data again"),
        ('halfpipe force 29d7d35d --reopen 230401001 --reason "…"', "after a rollback in Level-1"),
    ],
    statuses={0: "good", 1: "a run is unknown or has no closed sequences, or force/ has a wrong name"},
)
@click.argument(
    "runs", nargs=-1, type=RUN, metavar="[RUN]...", help="As 2c2e5787 or r0741234567; none: list."
)
@click.option("--reason", metavar="TEXT", help="Why, for the next person; who and when are added.")
@click.option("--take-back", is_flag=True, help="Wait again. Delivered events stay delivered.")
@click.option(
    "--reopen",
    type=DOWNLINK,
    metavar="DL",
    help="Let other downlinks deliver the sequences that an accepted loss of DL has closed. Roll Level-1 back first, "
    "because it may get these events again.",
)
@row_options
def command(
    site: Site,
    runs: tuple[RunId, ...],
    reason: str | None,
    take_back: bool,
    reopen: DownlinkId | None,
) -> int:
    """Stop waiting for the missing data of runs, and list the abandoned runs.

    This creates a file for each run in force/ of the working directory. When a downlink of the run is processed next,
    all known events of the run are delivered, and Level-1 may retire the run. Details: docs/retirement.md.
    """
    if take_back + bool(reopen) > bool(runs):
        raise click.UsageError("Name the runs, and give --take-back or --reopen, not both.")
    why = "" if take_back or not runs else reason_given(reason)
    for run in runs:
        if take_back:
            for file in abandoned_runs.take_back(site.work, run):
                click.echo(f"{file} is removed", err=True)
        elif reopen:
            spans = deliveries.release(site.settings, run, reopen, why)
            sequences = ", ".join(f"{first} to {last}" for first, last in spans)
            said = f"sequences {sequences} of downlink {reopen} are open to other downlinks"
            click.echo(f"run {run} ({run.l1}): {said}", err=True)
        else:
            abandoned_runs.abandon(site.work, run, why)
            last = max(begun_downlinks(site.work, run), default="DL")
            ledger = f" {paths.loaded(last)}" if site.settings.ledger.url else ""
            at_once = f"snakemake dl={last}{ledger} -R deliver_run"
            click.echo(
                f"run {run}: this takes effect when a downlink of the run is processed; now: {at_once}",
                err=True,
            )
    found = abandoned_runs.read(site.work)
    abandoned = [
        {"run": run, "l1_run": run.l1, "says": "; ".join(filter(None, map(markers.content, files)))}
        for run, files in sorted(found.runs.items())
    ]
    foot = "\n".join([*found.refused, f"{count(len(abandoned), 'run')} abandoned"])
    site.listed("runs", abandoned, foot, document={"refused": found.refused})
    return 1 if found.refused else 0
