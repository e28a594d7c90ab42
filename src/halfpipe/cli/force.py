"""`halfpipe force`."""

import click

from halfpipe import paths
from halfpipe.cli import printed
from halfpipe.cli.printed import Column
from halfpipe.cli.verbs import RUN, Site, Verb, as_json
from halfpipe.downlink import halts
from halfpipe.ids import RunId
from halfpipe.run import force_list
from halfpipe.run.downlinks_of_run import begun_downlinks
from halfpipe.site import switches
from halfpipe.words import count

COLUMNS = [Column("run"), Column("L1 run"), Column("says")]


@click.command(
    "force",
    cls=Verb,
    examples=[
        ('halfpipe force r0702010205 --reason "EPU 1 was off"', "give one up"),
        ("halfpipe force r0702010205 --take-back", "take that back"),
        ("halfpipe force", "list those that are given up, by whom, and why"),
    ],
    statuses={0: "good", 1: "nothing is known of a run, or a name in force/ gives up no run"},
)
@click.argument(
    "runs", nargs=-1, type=RUN, metavar="[RUN]...", help="As 2c2e5787 or r0741234567; none: list."
)
@click.option("--reason", metavar="TEXT", help="Why, for the next person; who and when are added.")
@click.option(
    "--take-back", is_flag=True, help="Take runs off the list instead; what was delivered stays so."
)
@as_json
def command(site: Site, runs: tuple[RunId, ...], reason: str | None, take_back: bool, as_json: bool) -> int:
    """Give up runs that will never be complete, or list them.

    It puts a file for each run into force/ of the working directory. The next time a downlink of the run is
    processed, all that is known of it is delivered, and Level-1 may retire it. docs/retirement.md has the rest.
    """
    if take_back and not runs:
        raise click.UsageError("Name the runs that are to be taken off the list.")
    if not runs:
        return _list(site, as_json=as_json)
    if as_json:
        raise click.UsageError("--json goes with the list.")
    if take_back:
        for run in runs:
            for file in switches.take_back(site.work, run):
                click.echo(f"run {run} ({run.l1}) is no longer given up: {file} is removed")
        return 0
    if not (reason or "").strip():
        raise click.UsageError('Say why, for the next person: --reason "TEXT".')
    assert reason is not None
    for run in runs:
        file, new = switches.give_up(site.work, run, reason)
        said = halts.says(file)
        click.echo(
            f"run {run} ({run.l1}) {'is' if new else 'was already'} given up {f'({said})' if said else f'by {file}'}"
        )
        click.echo(f"  it counts when a downlink of it is processed; at once: {_at_once(site, run)}")
    return 0


def _at_once(site: Site, run: RunId) -> str:
    """Return the command that delivers a run that was given up; the ledger is to hear of it."""
    last = max(begun_downlinks(site.work, run), default="DL")
    ledger = f" {paths.loaded(last)}" if site.settings.ledger.url else ""
    return f"snakemake dl={last}{ledger} -R deliver_run"


def _list(site: Site, *, as_json: bool) -> int:
    refused, found = force_list.read(site.work).refused, switches.given_up(site.work)
    if as_json:
        runs = [{"run": run, "l1_run": run.l1, "says": says} for run, says in found.items()]
        printed.as_json(work=site.work, refused=refused, runs=runs)
    else:
        for complaint in refused:
            click.echo(complaint)
        printed.table(COLUMNS, [[run, run.l1, says] for run, says in found.items()])
        click.echo(f"{count(len(found), 'run')} given up")
    return 1 if refused else 0
