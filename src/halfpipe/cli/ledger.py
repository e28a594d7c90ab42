"""`halfpipe ledger`: work on the ledger by hand. scripts/ledger.py loads a downlink as a job."""

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
        ("halfpipe ledger check", "compare all downlinks with their receipts"),
        ("halfpipe ledger check 230401001", "one downlink"),
        ("halfpipe ledger load 230401001", "load a downlink and update its runs"),
        ("halfpipe ledger rebuild", "load all downlinks"),
        ("halfpipe ledger moot", "send missing runs to MOOT"),
    ],
    statuses={
        0: "good: the ledger has all last receipts; MOOT has all runs",
        1: "a difference; MOOT lacks runs; the ledger cannot be reached or used",
    },
)
@click.argument(
    "what",
    type=click.Choice(list(TAKES_DOWNLINKS)),
    help="check: compare with receipts. load, remove: downlinks; a removed downlink keeps its files, and a submission "
    "loads it again. rebuild: load all. moot: notify the MOOT database.",
)
@click.argument(
    "downlinks", nargs=-1, type=DOWNLINK, metavar="[DL]...", help=f"{SEVERAL}. check without any: all."
)
@as_json
def command(site: Site, what: str, downlinks: tuple[DownlinkId, ...], as_json: bool) -> int:
    """Compare and repair the ledger, the database with the state of runs that Level-1 reads.

    A submission loads its downlink into the ledger. Use this verb if the ledger and the files disagree.
    Details: docs/ledger.md.
    """
    if bool(downlinks) not in TAKES_DOWNLINKS[what]:
        raise click.UsageError("load and remove need downlinks; rebuild and moot take none.")
    # Importing SQLAlchemy takes 0.2 s, and the help does not need it.
    from halfpipe.ledger import load, moot_update
    from halfpipe.ledger.check import check
    from halfpipe.ledger.database import Ledger

    ledger = Ledger.of(site.settings)
    status = 0
    if what == "check":
        found = check(ledger, site.settings, downlinks)
        status = 1 if found else 0
        if as_json:
            lacks = moot_update.pending(ledger)
            printed.as_json(work=site.work, ledger=ledger.name, differences=found, moot_lacks=lacks)
            return status
        for each in found:
            printed.cause("ledger", each)
        click.echo(f"{count(len(found), 'difference')} between {ledger.name} and {site.work}")
    elif what == "rebuild":
        number = load.rebuild(ledger, site.settings, shown=printed.shown)
        click.echo(f"{count(number, 'downlink')} in {ledger.name}")
    elif what == "moot":
        if site.settings.moot.update is None:
            raise ConfigError(
                "moot.update is null, so the MOOT database cannot be notified. Set it in the config."
            )
        status = 1 if moot_update.send(ledger, site.settings.moot.update, sys.stderr) else 0
    for downlink in downlinks if what == "load" else ():
        load.load_downlink(site.settings, downlink, sys.stderr)
        click.echo(f"downlink {downlink}: loaded into the ledger")
    for downlink in downlinks if what == "remove" else ():
        runs = load.remove_downlink(ledger, site.settings, downlink)
        click.echo(f"downlink {downlink}: removed from the ledger, with {count(len(runs), 'run')}")
    if pending := moot_update.pending(ledger):
        click.echo(f"the MOOT database lacks {count(len(pending), 'run')}: halfpipe ledger moot")
    return status
