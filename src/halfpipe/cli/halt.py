"""`halfpipe halt`."""

import click

from halfpipe.cli import printed
from halfpipe.cli.printed import Column
from halfpipe.cli.verbs import DOWNLINK, Site, Verb, as_json
from halfpipe.downlink import halts
from halfpipe.downlink.halts import Switch
from halfpipe.ids import DownlinkId
from halfpipe.site import switches
from halfpipe.words import count

SWITCHES = {switch.called: switch for switch in Switch}
COLUMNS = [Column("what"), Column("downlink"), Column("held by")]
WHAT = "stage: staging and the hand-off; l1: submission and roll-backs; online; cleanup"


@click.command(
    "halt",
    cls=Verb,
    examples=[
        ('halfpipe halt stage --reason "disk full"', "stage nothing more, of all downlinks"),
        ('halfpipe halt l1 230401001 --reason "wait for N. N."', "submit one downlink not yet"),
        ("halfpipe halt", "list what is held, by whom, and why"),
    ],
    statuses={
        0: "good, though it was held before; the file then stays as it was",
        1: "the file cannot be made",
    },
)
@click.argument("what", required=False, type=click.Choice(list(SWITCHES)), help=f"{WHAT}. None: list.")
@click.argument("downlinks", nargs=-1, type=DOWNLINK, metavar="[DL]...", help="Downlinks; none: all of them.")
@click.option("--reason", metavar="TEXT", help="Why, for the next person; who and when are added.")
@as_json
def command(
    site: Site, what: str | None, downlinks: tuple[DownlinkId, ...], reason: str | None, as_json: bool
) -> None:
    """Hold a kind of work, or list what is held.

    It makes a file that holds the work until somebody removes it, in halts/ of the working directory, or in the
    directory of a downlink. Work that has begun goes on; held work is no failure. To let it go on: halfpipe resume.
    """
    if what is None:
        _list(site, as_json=as_json)
        return
    switch = switch_of(what, downlinks)
    if as_json:
        raise click.UsageError("--json goes with the list.")
    if not (reason or "").strip():
        raise click.UsageError('Say why, for the next person: --reason "TEXT".')
    assert reason is not None
    for downlink in downlinks or [None]:
        file, new = switches.hold(site.work, switch, downlink, reason)
        of = f"downlink {downlink}" if downlink else "all downlinks"
        click.echo(
            f"{switch.what} of {of} {'is' if new else 'was already'} held by {file}: {halts.says(file)}"
        )


def switch_of(what: str, downlinks: tuple[DownlinkId, ...]) -> Switch:
    """Return the switch that a person names, which may be for downlinks or not."""
    if SWITCHES[what] is Switch.CLEANUP and downlinks:
        raise click.UsageError("cleanup is held for all downlinks only: name none.")
    return SWITCHES[what]


def _list(site: Site, *, as_json: bool) -> None:
    found = switches.put_down(site.work)
    if as_json:
        printed.as_json(work=site.work, held=found)
        return
    printed.table(COLUMNS, [[one.switch.called, one.downlink or "all", _by(one)] for one in found])
    click.echo(count(len(found), "halt switch", "halt switches"))


def _by(one: switches.PutDown) -> str:
    return f"{one.file}: {one.says or 'it does not say who and why'}"
