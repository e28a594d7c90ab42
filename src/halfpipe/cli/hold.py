"""`halfpipe hold`."""

import click

from halfpipe.cli.verbs import DOWNLINK, Site, Verb, reason_given, row_options
from halfpipe.ids import DownlinkId
from halfpipe.state import halts
from halfpipe.state.downlinks_of_run import every_downlink
from halfpipe.state.halts import Switch
from halfpipe.words import count


@click.command(
    "hold",
    cls=Verb,
    only_look=True,
    examples=[
        ("halfpipe hold", "list what is held, by whom, and why"),
        ('halfpipe hold stage --reason "disk full"', "stage nothing for any downlink"),
        ('halfpipe hold l1 230401001 --reason "ask N. N."', "do not submit one downlink"),
        ("halfpipe hold stage --undo", "resume staging"),
    ],
    statuses={
        0: "good; an earlier hold is not changed",
        1: "the switch cannot be set or removed, or nothing was held",
    },
)
@click.argument(
    "what",
    required=False,
    type=click.Choice(Switch, case_sensitive=False),
    help="stage: staging and the hand-off; l1: submission and rollbacks; online; cleanup.",
)
@click.argument("downlinks", nargs=-1, type=DOWNLINK, metavar="[DL]...", help="Downlinks; none: all.")
@click.option("--reason", metavar="TEXT", help="Why, for the next person; who and when are added.")
@click.option("--undo", is_flag=True, help="Remove the hold.")
@row_options
def command(
    site: Site,
    what: Switch | None,
    downlinks: tuple[DownlinkId, ...],
    reason: str | None,
    undo: bool,
) -> None:
    """Pause staging, submission, Online or cleanup; without arguments, list pauses.

    The work is held until its switch is removed: a file in halts/ of the working directory, or in the directory of a
    downlink. Running work continues. Held work is not a failure: the next command or timer turn after the hold does it.
    """
    if what is None and undo:
        raise click.UsageError("Name the work to resume, as in: halfpipe hold stage --undo.")
    if what is not None:
        if what is Switch.CLEANUP and downlinks:
            raise click.UsageError("cleanup can only be held for all downlinks: name none.")
        why = "" if undo else reason_given(reason)
        for downlink in downlinks or [None]:
            if undo:
                since = halts.resume(site.work, what, downlink)
                of = f"downlink {downlink}" if downlink else "all downlinks"
                click.echo(f"{what.what} of {of} was held since {since or 'an unknown time'}", err=True)
            else:
                halts.hold(site.work, what, downlink, why)
    held = halts.held(site.work, every_downlink(site.work))
    foot = count(len(held), "halt switch", "halt switches")
    if what is not None and not undo:
        foot += f"\nto resume: {' '.join(['halfpipe hold', what.called, *downlinks])} --undo"
    site.listed("held", held, foot)
