"""`halfpipe release`."""

import click

from halfpipe.cli.verbs import DOWNLINK, RUN, Site, Verb
from halfpipe.ids import DownlinkId, RunId
from halfpipe.run import deliveries


@click.command(
    "release",
    cls=Verb,
    examples=[('halfpipe release 29d7d35d 230401001 --reason "rolled back"', "open what stayed closed")],
    statuses={0: "good", 1: "nothing is closed, or it could not be written down"},
)
@click.argument("run", type=RUN, metavar="RUN")
@click.argument("downlink", type=DOWNLINK, metavar="DL")
@click.option("--reason", metavar="TEXT", help="Why, for the next person; who and when are added.")
def command(site: Site, run: RunId, downlink: DownlinkId, reason: str | None) -> int:
    """Let other downlinks deliver what a downlink no longer delivers of a run.

    What an accepted loss (shrink.accept) left out stays closed to other downlinks, because Level-1 may have it. Roll
    Level-1 back first: after this the next downlink of the run may deliver the same events.
    """
    if not (reason or "").strip():
        raise click.UsageError('Say why, for the next person: --reason "TEXT".')
    assert reason is not None
    spans = deliveries.release(site.work, run, downlink, reason)
    said = ", ".join(f"{first} to {last}" for first, last in spans)
    click.echo(f"run {run} ({run.l1}): sequences {said} of downlink {downlink} are open to other downlinks")
    return 0
