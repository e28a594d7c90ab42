"""`halfpipe hold`."""

import click

from halfpipe.cli import printed
from halfpipe.cli.verbs import DOWNLINK, Site, Verb, as_json, reason_given
from halfpipe.downlink import halts
from halfpipe.downlink.halts import Switch
from halfpipe.ids import DownlinkId
from halfpipe.run.downlinks_of_run import every_downlink
from halfpipe.words import count


@click.command(
    "hold",
    cls=Verb,
    only_look=True,
    examples=[
        ("halfpipe hold", "list what is held, by whom, and why"),
        ('halfpipe hold stage --reason "disk full"', "stage nothing more, of all downlinks"),
        ('halfpipe hold l1 230401001 --reason "ask N. N."', "do not submit one downlink"),
        ("halfpipe hold stage --resume", "let it go on"),
    ],
    statuses={
        0: "good; what was held before stays as it was",
        1: "the file cannot be made or removed, or nothing was held",
    },
)
@click.argument(
    "what",
    required=False,
    type=click.Choice(Switch, case_sensitive=False),
    help="stage: staging and the hand-off; l1: submission and roll-backs; online; cleanup.",
)
@click.argument("downlinks", nargs=-1, type=DOWNLINK, metavar="[DL]...", help="Downlinks; none: all of them.")
@click.option("--reason", metavar="TEXT", help="Why, for the next person; who and when are added.")
@click.option("--resume", is_flag=True, help="Let it go on.")
@as_json
def command(
    site: Site,
    what: Switch | None,
    downlinks: tuple[DownlinkId, ...],
    reason: str | None,
    resume: bool,
    as_json: bool,
) -> None:
    """Hold staging, submission, Online or clean-up, or let it go on, and list what is held.

    A file holds the work until it is removed: in halts/ of the working directory, or in the directory of a downlink.
    Work that has begun goes on. Held work is no failure: the next command or timer does it when it is let go.
    """
    if what is None and resume:
        raise click.UsageError("Name what goes on, as in: halfpipe hold stage --resume.")
    if what is not None:
        if what is Switch.CLEANUP and downlinks:
            raise click.UsageError("cleanup is held for all downlinks only: name none.")
        why = "" if resume else reason_given(reason)
        for downlink in downlinks or [None]:
            if resume:
                since = halts.resume(site.work, what, downlink)
                of = f"downlink {downlink}" if downlink else "all downlinks"
                click.echo(f"{what.what} of {of} was held since {since or 'an unknown time'}", err=True)
            else:
                halts.hold(site.work, what, downlink, why)
    held = halts.held(site.work, every_downlink(site.work))
    foot = count(len(held), "halt switch", "halt switches")
    if what is not None and not resume:
        foot += f"\nto let it go on: {' '.join(['halfpipe hold', what.called, *downlinks])} --resume"
    printed.listed(site.work, as_json, "held", held, foot)
