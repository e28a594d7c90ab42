"""`halfpipe resume`."""

import click

from halfpipe.cli.halt import SWITCHES, WHAT, switch_of
from halfpipe.cli.verbs import DOWNLINK, Site, Verb
from halfpipe.downlink import halts
from halfpipe.ids import DownlinkId
from halfpipe.site import switches


@click.command(
    "resume",
    cls=Verb,
    examples=[
        ("halfpipe resume stage", "what was held for all downlinks"),
        ("halfpipe resume l1 230401001", "what was held for one"),
    ],
    statuses={0: "good", 1: "it was not held, or the file cannot be removed"},
)
@click.argument("what", type=click.Choice(list(SWITCHES)), help=f"{WHAT}.")
@click.argument(
    "downlinks", nargs=-1, type=DOWNLINK, metavar="[DL]...", help="Downlinks; none: the switch for all."
)
def command(site: Site, what: str, downlinks: tuple[DownlinkId, ...]) -> None:
    """Let work go on that was held.

    It removes the file that halfpipe halt, or a person by hand, has made. The next command, or the next turn of
    unattended processing, does what is outstanding by then.
    """
    switch = switch_of(what, downlinks)
    for downlink in downlinks or [None]:
        said = switches.let_go(site.work, switch, downlink)
        of = f"downlink {downlink}" if downlink else "all downlinks"
        click.echo(f"{switch.what} of {of} may go on; it was held since {said or 'nobody knows when'}")
        if other := halts.holding(site.work, switch, downlink):
            click.echo(f"but it is held for all downlinks, by {other}: halfpipe resume {what}")
