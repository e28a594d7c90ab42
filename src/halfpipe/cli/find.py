"""`halfpipe find`."""

from datetime import UTC, datetime

import click

from halfpipe.cli import printed
from halfpipe.cli.show import TABLE_DROP
from halfpipe.cli.verbs import RUN, Site, Verb, row_options
from halfpipe.ids import DownlinkId, RunId
from halfpipe.words import count

TIME = click.DateTime([f"%Y-%m-%dT{time}" for time in ("%H:%M", "%H:%M:%S", "%H:%M:%S%z", "%H:%M:%S.%f")])


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
@click.argument("unnamed", nargs=-1, metavar="")
@row_options
def command(
    site: Site, utc: datetime | None, met: float | None, runs: tuple[RunId, ...], unnamed: tuple[str, ...]
) -> int:
    """Find the downlinks, runs and files for a time or a run.

    Processed downlinks are found by the event files in their receipts, outstanding ones by the spans of their RetDefs.
    For outstanding downlinks, the command that processes them is printed.
    """
    if utc is not None and met is not None:
        raise click.UsageError("Give --utc or --met, not both.")
    if unnamed or (utc is None and met is None and not runs):
        raise click.UsageError("Give a time (--utc 2023-04-01T12:34, or --met), or a run (--run).")
    from halfpipe.formats import met as met_of
    from halfpipe.status.account import account
    from halfpipe.status.survey import Survey
    from halfpipe.tables.site_frames import find

    when = met
    if utc is not None:  # without a zone it is UTC
        when = met_of.unix_to_met((utc if utc.tzinfo else utc.replace(tzinfo=UTC)).timestamp())
    found, failed = find(site.settings, when, runs)
    survey = Survey(site.settings)
    downlinks = found.index.get_level_values("downlink")
    states = {dl: account(survey, DownlinkId(dl)).state for dl in downlinks.unique()}
    outstanding = sorted(set(downlinks[found["outstanding"]]))
    do = " ".join(["snakemake", *(f"dl={downlink}" for downlink in outstanding)]) if outstanding else ""
    foot = f"{count(len(states), 'downlink')} found" + (f"\noutstanding: {do}" if do else "")
    found = found.assign(state=downlinks.map(states))
    site.listed("found", found, foot, drop=TABLE_DROP, document={"met": when, "do": do})
    printed.errors(failed)
    return 1 if failed or found.empty else 0
