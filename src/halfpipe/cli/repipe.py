"""`halfpipe repipe`."""

import click

from halfpipe import paths
from halfpipe.cli import printed
from halfpipe.cli.verbs import RUN, Site, Verb, as_json
from halfpipe.errors import HalfPipeError
from halfpipe.ids import RunId
from halfpipe.site.invocations import GOOD, again, invocation, process
from halfpipe.site.unattended_turn import MINUTES
from halfpipe.tools import run_alone
from halfpipe.words import count


@click.command(
    "repipe",
    cls=Verb,
    examples=[
        ("halfpipe repipe 29d7d35d", "the settled events of a run, into a stage of its own"),
        ("halfpipe repipe r0702010205 --orphans", "all that is known of it"),
    ],
    statuses={
        0: "it was delivered into its own stage",
        1: "it failed, or something has to be looked at before Level-1 gets it",
    },
)
@click.argument("run", type=RUN, metavar="RUN")
@click.option(
    "--orphans", is_flag=True, help="Deliver what is not settled too, as of a run that was given up."
)
@click.option(
    "--cores", type=int, metavar="N", help="For snakemake, if the profile has none; else all there are."
)
@click.option("--timeout-minutes", type=float, default=MINUTES, show_default=True, help="For all of it.")
@as_json
def command(
    site: Site, run: RunId, orphans: bool, cores: int | None, timeout_minutes: float, as_json: bool
) -> int:
    """Process a run once more on its own, from all that lies in the level-0 archive.

    A made-up downlink (repipe.ids) gets the run's packets, whatever delivery brought them, and is processed with a
    working directory and a stage of its own in repipe/ under paths.work. So what counts as delivered of the run stays
    as it is; its directory remembers that it was re-piped. Level-1 gets it only by hand; roll back first what it had of
    the run. If the command is cut off, give it again: it goes on with the same id.
    """
    prepared = run_alone.prepare(site.settings, run, orphans=orphans)
    words = invocation([paths.receipt(prepared.downlink)], site.snakemake_options(cores, prepared.configfile))
    log = site.work / paths.repipe_log(prepared.downlink)
    if not as_json:
        begun = "is processed as" if prepared.new else "goes on as"
        click.echo(f"run {run} {begun} downlink {prepared.downlink}; what snakemake prints: {log}", err=True)
    if process(words, log, timeout_minutes * 60) != GOOD:
        raise HalfPipeError(
            f"run {run} was not delivered by downlink {prepared.downlink}; all that was printed: {log}. Fix this "
            f"and re-run the command; to see it fail: {again(words)}"
        )
    found = run_alone.finish(site.settings, run, prepared)
    if as_json:
        printed.as_json(work=site.work, repiped=found)
    else:
        left = f", {count(found.orphans, 'orphan')} left" if found.orphans else ""
        click.echo(
            f"run {run} ({run.l1}) as downlink {found.downlink}: {count(found.events, 'event')} in "
            f"{count(found.files, 'file')}{left}: {found.stage}"
        )
        for complaint in found.complaints:
            click.echo(complaint)
    return 1 if found.complaints or not found.files else 0
