"""`halfpipe ledger`: the ledger of acquisitions by hand. The job of a downlink is scripts/ledger.py."""

import sys

import click

from halfpipe.cli import printed
from halfpipe.cli.verbs import DOWNLINK, SEVERAL, Site, Verb, as_json
from halfpipe.errors import ConfigError
from halfpipe.ids import DownlinkId
from halfpipe.words import count

TAKES_DOWNLINKS = {
    "check": {True, False},
    "load": {True},
    "remove": {True},
    "rebuild": {False},
    "moot": {False},
}


@click.command(
    "ledger",
    cls=Verb,
    examples=[
        ("halfpipe ledger check", "compare all"),
        ("halfpipe ledger check 230401001", "one downlink and its runs"),
        ("halfpipe ledger load 230401001", "enter it, and the state of its runs"),
        ("halfpipe ledger rebuild", "from all files"),
        ("halfpipe ledger moot", "notify MOOT of what it has not received"),
    ],
    statuses={
        0: "good: ledger and files agree, MOOT has all",
        1: "one is behind; or the ledger cannot be reached or used, and nothing changed in it",
    },
)
@click.argument(
    "what",
    type=click.Choice(list(TAKES_DOWNLINKS)),
    help="check: compare with the files. load, remove: enter downlinks, or take them out; their files stay, and "
    "loading them again is outstanding. rebuild: from the files. moot: notify the MOOT database.",
)
@click.argument(
    "downlinks", nargs=-1, type=DOWNLINK, metavar="[DL]...", help=f"{SEVERAL}; check: none is all."
)
@click.option("--no-moot", is_flag=True, help="rebuild: MOOT knows all of it already, do not notify it.")
@as_json
def command(site: Site, what: str, downlinks: tuple[DownlinkId, ...], no_moot: bool, as_json: bool) -> int:
    """Compare and repair the ledger, the database in which Level-1 sees the runs.

    Submitting a downlink loads it into the ledger. This verb is for the day on which ledger and files disagree.
    docs/ledger.md explains it.
    """
    if bool(downlinks) not in TAKES_DOWNLINKS[what]:
        raise click.UsageError("load and remove want downlinks, rebuild and moot take none.")
    # The library of the database takes 0.2 s, which help need not.
    from halfpipe.ledger import load, moot_update
    from halfpipe.ledger.check import check
    from halfpipe.ledger.database import Ledger

    ledger, status = Ledger.of(site.settings), 0
    if what == "check":
        found = check(ledger, site.settings, downlinks)
        status = 1 if found else 0
        if as_json:
            told = {"differences": found, "moot_has_not_heard_of": moot_update.pending(ledger)}
            printed.as_json(work=site.work, ledger=ledger.name, **told)
            return status
        for each in found:
            printed.cause("ledger", each)
        click.echo(f"{count(len(found), 'difference')} between {ledger.name} and {site.work}")
    elif what == "rebuild":
        number = load.rebuild(ledger, site.settings, tell_moot=not no_moot, shown=printed.shown)
        click.echo(f"{count(number, 'downlink')} in {ledger.name}")
    elif what == "moot":
        if site.settings.moot.update is None:
            raise ConfigError(
                "moot.update is null: the MOOT database cannot be notified. Set it in the config."
            )
        status = 1 if moot_update.send(ledger, site.settings.moot.update, sys.stderr) else 0
    for downlink in downlinks if what == "load" else ():
        load.load_downlink(site.settings, downlink, sys.stderr)
        click.echo(f"downlink {downlink}: loaded into the ledger")
    for downlink in downlinks if what == "remove" else ():
        runs = load.remove_downlink(ledger, site.settings, downlink)
        click.echo(f"downlink {downlink}: taken out of the ledger, with {count(len(runs), 'run')}")
    if pending := moot_update.pending(ledger):
        click.echo(f"the MOOT database lacks {count(len(pending), 'run')}: halfpipe ledger moot")
    return status
