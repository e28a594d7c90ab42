"""`halfpipe ledger`: the ledger of acquisitions by hand. The job of a downlink is scripts/ledger.py.

What does the work is loaded when it is done: the library of the database takes 0.2 s, which help need not.
"""

import sys
from typing import TYPE_CHECKING

import click

from halfpipe.cli import printed
from halfpipe.cli.verbs import DOWNLINK, SEVERAL, Site, Verb, as_json, downlinks
from halfpipe.errors import ConfigError
from halfpipe.ids import DownlinkId
from halfpipe.words import count

if TYPE_CHECKING:
    from halfpipe.ledger.database import Ledger

FAILED = "the ledger cannot be reached or used; nothing changed in it"
GOOD = {0: "good", 1: FAILED}

of_downlinks = click.argument(
    "downlinks", nargs=-1, required=True, type=DOWNLINK, metavar="DL...", help=f"{SEVERAL}."
)


@click.group("ledger")
def command() -> None:
    """Compare and repair the ledger, the database in which Level-1 sees the runs.

    Submitting a downlink loads it into the ledger. These verbs are for the day on which ledger and files disagree.
    docs/ledger.md explains it.
    """


@command.command("load", cls=Verb, examples=[("halfpipe ledger load 230401001", "")], statuses=GOOD)
@of_downlinks
def load_downlinks(site: Site, downlinks: tuple[DownlinkId, ...]) -> None:
    """Enter downlinks, and the state of their runs."""
    from halfpipe.ledger import load

    for downlink in downlinks:
        load.load_downlink(site.settings, downlink, sys.stderr)
        click.echo(f"downlink {downlink}: loaded into the ledger")
    _say_pending(_ledger(site))


@command.command(
    "check",
    cls=Verb,
    examples=[
        ("halfpipe ledger check", "all"),
        ("halfpipe ledger check 230401001", "one downlink and its runs"),
    ],
    statuses={0: "ledger and files agree", 1: f"one is behind, or {FAILED}"},
)
@downlinks
@as_json
def compare(site: Site, downlinks: tuple[DownlinkId, ...], as_json: bool) -> int:
    """Compare the ledger with the files."""
    from halfpipe.ledger import moot_update
    from halfpipe.ledger.check import check

    ledger = _ledger(site)
    found = check(ledger, site.settings, downlinks)
    if as_json:
        pending = moot_update.pending(ledger)
        printed.as_json(work=site.work, ledger=ledger.name, differences=found, moot_has_not_heard_of=pending)
        return 1 if found else 0
    for finding in found:
        click.echo(finding)
    _say_pending(ledger)
    click.echo(f"{count(len(found), 'difference')} between {ledger.name} and {site.work}")
    return 1 if found else 0


@command.command(
    "rebuild", cls=Verb, examples=[("halfpipe ledger rebuild", "")], statuses={0: "good", 1: FAILED}
)
@click.option("--no-moot", is_flag=True, help="MOOT knows all of it already: do not notify it.")
def rebuild(site: Site, no_moot: bool) -> None:
    """Rebuild the ledger from the files."""
    from halfpipe.ledger import load

    ledger = _ledger(site)
    number = load.rebuild(ledger, site.settings, tell_moot=not no_moot, shown=printed.shown)
    click.echo(f"{count(number, 'downlink')} in {ledger.name}")
    _say_pending(ledger)


@command.command("remove", cls=Verb, examples=[("halfpipe ledger remove 230401001", "")], statuses=GOOD)
@of_downlinks
def remove(site: Site, downlinks: tuple[DownlinkId, ...]) -> None:
    """Take downlinks out of the ledger.

    Their files stay, and loading them again is outstanding.
    """
    from halfpipe.ledger import load

    ledger = _ledger(site)
    for downlink in downlinks:
        runs = load.remove_downlink(ledger, site.settings, downlink)
        click.echo(f"downlink {downlink}: taken out of the ledger, with {count(len(runs), 'run')}")
    _say_pending(ledger)


@command.command(
    "moot",
    cls=Verb,
    examples=[("halfpipe ledger moot", "")],
    statuses={0: "it has all", 1: f"some are left, or {FAILED}"},
)
def moot(site: Site) -> int:
    """Notify the MOOT database of what it has not received."""
    from halfpipe.ledger import moot_update

    if site.settings.moot.update is None:
        raise ConfigError("moot.update is null: the MOOT database cannot be notified. Set it in the config.")
    ledger = _ledger(site)
    before = moot_update.pending(ledger)
    left = moot_update.send(ledger, site.settings.moot.update, sys.stderr)
    click.echo(f"the MOOT database received {count(len(before) - len(left), 'run')}, {len(left)} left")
    return 1 if left else 0


def _ledger(site: Site) -> "Ledger":
    from halfpipe.ledger.database import Ledger

    return Ledger.of(site.settings)


def _say_pending(ledger: "Ledger") -> None:
    """Print how many runs MOOT has not received: only a load and the verb `moot` notify it."""
    from halfpipe.ledger import moot_update

    if pending := moot_update.pending(ledger):
        click.echo(f"the MOOT database lacks {count(len(pending), 'run')}: halfpipe ledger moot")
