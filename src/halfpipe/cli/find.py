"""`halfpipe find`."""

import time
from datetime import UTC, datetime

import click

from halfpipe.cli import printed
from halfpipe.cli.printed import Column, Marked
from halfpipe.cli.verbs import RUN, Site, Verb, as_json
from halfpipe.errors import HalfPipeError
from halfpipe.formats import met as met_of
from halfpipe.ids import DownlinkId, RunId
from halfpipe.status.account import Site as Looked
from halfpipe.status.account import account
from halfpipe.tables.found_downlinks import Found, find
from halfpipe.words import count

COLUMNS = [
    Column("downlink"),
    Column("run"),
    Column("L1 run", drop=3),
    Column("from (UTC)"),
    Column("to (UTC)", drop=2),
    Column("MET", drop=1),
    Column("events", number=True),
    Column("state"),
    Column("what"),
]


class _Utc(click.ParamType[float]):
    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read a date and time; without a zone it is UTC."""
        try:
            time = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is no date and time, as in 2023-04-01T12:34:56", param, ctx)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


@click.command(
    "find",
    cls=Verb,
    examples=[
        ("halfpipe find --utc 2023-04-01T12:34:56", "the downlinks that have this time"),
        ("halfpipe find --met 702045301", "the same, by mission elapsed time"),
        ("halfpipe find --run r0702010205", "all that there is of a run"),
    ],
    statuses={0: "something was found", 1: "nothing was, or a receipt cannot be believed"},
)
@click.option("--utc", type=_Utc(), metavar="TIME", help="A date and time, as 2023-04-01T12:34:56.")
@click.option("--met", type=click.FloatRange(0, 2**32), metavar="SECONDS", help="Mission elapsed time.")
@click.option("--run", "runs", type=RUN, multiple=True, metavar="RUN", help="A run; may be given again.")
@as_json
def command(site: Site, utc: float | None, met: float | None, runs: tuple[RunId, ...], as_json: bool) -> int:
    """Find the downlinks, runs and files that have a time, or a run.

    It finds processed downlinks by the event files that their receipts name, and outstanding ones by the spans of
    their RetDefs. For these it prints the command that processes them first.
    """
    if utc is not None and met is not None:
        raise click.UsageError("Give --utc or --met, not both.")
    if utc is None and met is None and not runs:
        raise click.UsageError("Give a time (--utc or --met), or a run (--run).")
    when = met if utc is None else met_of.unix_to_met(utc)
    failed: list[HalfPipeError] = []
    found = find(site.settings, when, runs, failed.append)
    looked = Looked(site.settings, time.time(), time.time())
    states = {one.downlink: account(looked, one.downlink).state for one in found}
    outstanding = sorted({one.downlink for one in found if one.outstanding})
    do = " ".join(["snakemake", *(f"dl={downlink}" for downlink in outstanding)]) if outstanding else ""
    if as_json:
        printed.as_json(work=site.work, met=when, found=found, states=states, do=do)
    else:
        printed.table(COLUMNS, [_row(one, states) for one in found])
        click.echo(f"{count(len(states), 'downlink')} found")
        if do:
            click.echo(
                f"{len(outstanding)} of them {'is' if len(outstanding) == 1 else 'are'} outstanding: {do}"
            )
    for error in failed:
        click.echo(str(error), err=True)
    return 1 if failed or not found else 0


def _row(one: Found, states: dict[DownlinkId, str]) -> list[printed.Cell]:
    times = [None if at is None else met_of.utc(met_of.met_to_unix(at)) for at in (one.begin, one.end)]
    return [
        one.downlink,
        one.run,
        one.run.l1,
        *times,
        None if one.begin is None or one.end is None else f"{one.begin:.0f}-{one.end:.0f}",
        one.events,
        Marked(states[one.downlink], "yellow") if one.outstanding else states[one.downlink],
        one.what or "nothing delivered",
    ]
