"""`halfpipe ledger`: the ledger of acquisitions by hand. The job of a downlink is scripts/ledger.py."""

import sys
from typing import TYPE_CHECKING

import click

from halfpipe.cli import printed
from halfpipe.cli.verbs import DOWNLINK, SEVERAL, Site, Verb, as_json
from halfpipe.errors import ConfigError
from halfpipe.ids import DownlinkId
from halfpipe.words import count

if TYPE_CHECKING:
    from halfpipe.ledger.adopt import Adoption

TAKES_DOWNLINKS = {
    "check": {True, False},
    "load": {True},
    "remove": {True},
    "rebuild": {False},
    "moot": {False},
    "adopt": {False},
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
        ("halfpipe ledger adopt", "look: what would become of the legacy's tables"),
        ("halfpipe ledger adopt --do", "use them; --back --do brings them back"),
    ],
    statuses={
        0: "good: ledger and files agree, MOOT has all, the legacy's tables are adopted or can be",
        1: "one is behind; or the ledger cannot be reached or used, and nothing changed in it",
    },
)
@click.argument(
    "what",
    type=click.Choice(list(TAKES_DOWNLINKS)),
    help="check: compare with the files. load, remove: enter downlinks, or take them out; their files stay, and "
    "loading them again is outstanding. rebuild: from the files. moot: notify the MOOT database. adopt: put HalfPipe's "
    "tables in the place of the legacy's, with their rows.",
)
@click.argument(
    "downlinks", nargs=-1, type=DOWNLINK, metavar="[DL]...", help=f"{SEVERAL}; check: none is all."
)
@click.option("--no-moot", is_flag=True, help="rebuild: MOOT knows all of it already, do not notify it.")
@click.option("--do", is_flag=True, help="adopt: do it; without this, only look.")
@click.option("--back", is_flag=True, help="adopt: bring the legacy's tables back, and drop HalfPipe's.")
@as_json
def command(
    site: Site,
    what: str,
    downlinks: tuple[DownlinkId, ...],
    no_moot: bool,
    do: bool,
    back: bool,
    as_json: bool,
) -> int:
    """Compare and repair the ledger, the database in which Level-1 sees the runs.

    Submitting a downlink loads it into the ledger. This verb is for the day on which ledger and files disagree.
    docs/ledger.md explains it.
    """
    if bool(downlinks) not in TAKES_DOWNLINKS[what]:
        raise click.UsageError("load and remove want downlinks, rebuild, moot and adopt take none.")
    if (do or back) and what != "adopt":
        raise click.UsageError("--do and --back belong to adopt.")
    # The library of the database takes 0.2 s, which help need not.
    from halfpipe.ledger import load, moot_update
    from halfpipe.ledger.check import check
    from halfpipe.ledger.database import Ledger

    ledger, status = Ledger.of(site.settings), 0
    if what == "adopt":
        from halfpipe.ledger.adopt import adopt

        return _say(ledger.name, adopt(ledger, do=do, back=back), as_json)
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


def _say(name: str, found: "Adoption", as_json: bool) -> int:
    """Print what was adopted or brought back, or would be; return the exit status."""
    if as_json:
        printed.as_json(ledger=name, problems=found.problems, **vars(found))
    elif found.done:
        done = "brought back" if found.back else "adopted"
        rows = count(sum(each.rows for each in found.tables), "row")
        click.echo(f"{done}: {count(len(found.tables), 'table')} of the legacy with {rows}")
        click.echo(f"Level-1's query has the same answers as before: {count(found.compared, 'run')} compared")
        if not found.back:
            click.echo("enter what HalfPipe knows: halfpipe ledger rebuild")
    else:
        _say_look(found)
    return 1 if found.problems else 0


def _say_look(found: "Adoption") -> None:
    kept, left = ("comes back as", "name") if found.back else ("is kept as", "adopted_name")
    now = "adopted_name" if found.back else "name"
    printed.table(
        [{"table": getattr(each, now), "rows": each.rows, kept: getattr(each, left)} for each in found.tables]
    )
    printed.table(
        [
            {
                "column": f"{each.table}.{each.column}",
                "legacy": each.legacy,
                "here": each.here,
                "what": each.what,
            }
            for each in sorted(found.columns, key=lambda each: not each.bad)
            if each.what
        ]
    )
    if same := [each for each in found.columns if not each.what]:
        click.echo(f"{count(len(same), 'other column is', 'other columns are')} in both")
    for each in found.tables:
        if each.left:
            click.echo(f"{each.name}: {count(each.left, 'row')} without a downlink would not be copied")
    if readers := sorted({reader for each in found.tables for reader in each.readers}):
        click.echo(f"may read HalfPipe's tables, too: {', '.join(readers)}")
    if found.carried:
        click.echo(
            f"{count(found.carried, 'run')} that only HalfPipe knows: the legacy's table gets their rows"
        )
    if found.problems:
        click.echo(f"cannot be adopted: {count(len(found.problems), 'column does', 'columns do')} not fit")
    else:
        click.echo(f"to do it: halfpipe ledger adopt {'--back ' if found.back else ''}--do")
