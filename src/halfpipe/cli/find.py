"""`halfpipe find`."""

import time
from datetime import datetime

import click

from halfpipe.cli import printed
from halfpipe.cli.verbs import RUN, TIME, Site, Verb, row_options, unix
from halfpipe.formats import met as met_of
from halfpipe.ids import DownlinkId, RunId
from halfpipe.status.account import account
from halfpipe.status.survey import Survey
from halfpipe.words import count

COLUMNS = [
    "downlink",
    "run",
    "l1_run",
    "begin",
    "begin_met",
    "end",
    "end_met",
    "events",
    "state",
    "name",
    "outstanding",
]


@click.command(
    "find",
    cls=Verb,
    only_look=True,
    examples=[
        ("halfpipe find --utc 2023-04-01T12:34:56", "the downlinks with data of this time"),
        ("halfpipe find --met 702045301", "the same, in mission elapsed time"),
        ("halfpipe find --run r0702010205", "all downlinks and files of a run"),
    ],
    statuses={0: "something was found", 1: "nothing was found, or a receipt is damaged"},
)
@click.option("--utc", type=TIME, metavar="TIME", help="A date and time, as 2023-04-01T12:34:56.")
@click.option("--met", type=click.FloatRange(0, 2**32), metavar="SECONDS", help="Mission elapsed time.")
@click.option("--run", "runs", type=RUN, multiple=True, metavar="RUN", help="A run; may be repeated.")
@row_options
def command(
    site: Site, utc: datetime | None, met: float | None, runs: tuple[RunId, ...], target: printed.Target
) -> int:
    """Find the downlinks, runs and files for a time or a run.

    Processed downlinks are found by the event files in their receipts, outstanding ones by the spans of their RetDefs.
    For outstanding downlinks the command that processes them is printed.
    """
    if utc is not None and met is not None:
        raise click.UsageError("Give --utc or --met, not both.")
    if utc is None and met is None and not runs:
        raise click.UsageError("Give a time (--utc or --met), or a run (--run).")
    from halfpipe.tables.found_downlinks import find

    when = met if utc is None else met_of.unix_to_met(unix(utc))
    found, failed = find(site.settings, when, runs)
    found = found.reset_index()
    survey = Survey(site.settings, time.time(), time.time())
    states = {dl: account(survey, DownlinkId(dl)).state for dl in found["downlink"].unique()}
    found["state"], found["l1_run"] = found["downlink"].map(states), [RunId(run).l1 for run in found["run"]]
    outstanding = sorted(set(found["downlink"][found["outstanding"]]))
    do = " ".join(["snakemake", *(f"dl={downlink}" for downlink in outstanding)]) if outstanding else ""
    foot = f"{count(len(states), 'downlink')} found" + (f"\noutstanding: {do}" if do else "")
    drop = ["l1_run", "end", "begin_met", "end_met", "outstanding"]
    site.listed(target, "found", found[COLUMNS], foot, drop=drop, document={"met": when, "do": do})
    printed.errors(failed)
    return 1 if failed or found.empty else 0
