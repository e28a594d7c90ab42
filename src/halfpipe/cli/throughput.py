"""`halfpipe throughput`."""

from pathlib import Path

import click

from halfpipe.cli import printed
from halfpipe.cli.printed import Column
from halfpipe.cli.verbs import Site, Verb, as_json, downlinks
from halfpipe.files.durable import write_bytes
from halfpipe.ids import DownlinkId
from halfpipe.tables import job_figures
from halfpipe.words import count

MEGA = 10**6
COLUMNS = [
    Column("rule"),
    Column("jobs", number=True),
    Column("median s", number=True),
    Column("max s", number=True, drop=1),
    Column("CPU s", number=True, drop=3),
    Column("max MB memory", number=True, drop=2),
    Column("events", number=True),
    Column("MB", number=True),
    Column("events/s", number=True),
    Column("MB/s", number=True),
]


@click.command(
    "throughput",
    cls=Verb,
    examples=[
        ("halfpipe throughput", "of all downlinks"),
        ("halfpipe throughput 230401001 --json", "of one, in seconds and bytes"),
        ("halfpipe throughput --by day", "how it has changed"),
        ("halfpipe throughput --by day -o throughput.svg", "the same as a picture, too"),
    ],
    statuses={0: "good", 1: "there is nothing to draw, or the file cannot be written"},
)
@downlinks
@click.option(
    "--by", type=click.Choice(["day"]), help="A line for each rule and day on which its jobs began (UTC)."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Draw the days too, into an .svg or .png; with --by day.",
)
@as_json
def command(
    site: Site, downlinks: tuple[DownlinkId, ...], by: str | None, output: Path | None, as_json: bool
) -> None:
    """Say what the jobs of each rule took, and how fast they were.

    The latest try of each job counts, as far as its log directory still says what it took. MB are 10^6 bytes;
    events/s and MB/s are those of one job while it runs.
    """
    if output is not None and not by:
        raise click.UsageError("-o draws what changed from day to day: give --by day too.")
    wanted = downlinks or job_figures.downlinks(site.work)
    jobs = job_figures.jobs(site.work, wanted)
    days = job_figures.rates_by_day(jobs) if by else {"": job_figures.rates(jobs)}
    rates = [rate for of_day in days.values() for rate in of_day]
    if output is not None:
        # They load what draws.
        from halfpipe.pages.drawn import simulated  # noqa: PLC0415
        from halfpipe.pages.throughput_picture import picture  # noqa: PLC0415

        kind = output.suffix.removeprefix(".").lower()
        write_bytes(output, picture(days, kind, simulated(site.settings)))
    if as_json:
        printed.as_json(work=site.work, downlinks=wanted, **({"days": days} if by else {"rules": rates}))
        return
    if by:
        rows = [[day, *_row(rate)] for day, of_day in days.items() for rate in of_day]
        printed.table([Column("day"), *COLUMNS], rows)
    else:
        printed.table(COLUMNS, [_row(rate) for rate in rates])
    if not rates:
        click.echo("no job has a record of what it took")
    drawn_in = f"; drawn in {output}" if output is not None else ""
    click.echo(
        f"{count(len(wanted), 'downlink')}, {count(sum(rate.jobs for rate in rates), 'job')}{drawn_in}"
    )


def _row(rate: job_figures.Rate) -> list[printed.Cell]:
    return [
        rate.rule,
        rate.jobs,
        rate.median_seconds,
        rate.max_seconds,
        rate.cpu_seconds,
        round(rate.max_memory / MEGA),
        rate.events,
        round(rate.size / MEGA),
        round(rate.events_per_second),
        rate.bytes_per_second / MEGA,
    ]
