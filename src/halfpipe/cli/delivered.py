"""`halfpipe delivered`."""

import csv
import sys
from dataclasses import astuple, fields

import click

from halfpipe import paths
from halfpipe.cli import printed
from halfpipe.cli.printed import Column, Marked
from halfpipe.cli.verbs import Site, Verb, as_json, downlinks
from halfpipe.errors import HalfPipeError
from halfpipe.ids import DownlinkId
from halfpipe.tables import names
from halfpipe.tables.delivered_runs import Delivered, delivered
from halfpipe.words import count

COLUMNS = [
    Column("downlink"),
    Column("hand-off", number=True, drop=3),
    Column("run"),
    Column("L1 run", drop=2),
    Column("kind"),
    Column("files", number=True, drop=1),
    Column("events", number=True),
    Column("orphans", number=True),
    Column("late", number=True),
    Column("state"),
]


@click.command(
    "delivered",
    cls=Verb,
    examples=[
        ("halfpipe delivered", "everything"),
        ("halfpipe delivered 230401001 230401002", "of two downlinks"),
        ("halfpipe delivered --csv > delivered.csv", "for a spreadsheet"),
    ],
    statuses={0: "good", 1: "a receipt is damaged or was edited, or a downlink that was named has none"},
)
@downlinks
@click.option("--csv", "as_csv", is_flag=True, help="Print comma separated values.")
@as_json
def command(site: Site, downlinks: tuple[DownlinkId, ...], as_csv: bool, as_json: bool) -> int:
    """List what was delivered, a line for each downlink and run.

    It is what the receipts say. "orphans" wait for the run's next downlink; "late" are events that came after
    the events around them were delivered.
    """
    wanted = downlinks or [
        dl for dl in names.downlinks(site.work) if (site.work / paths.receipt(dl)).exists()
    ]
    failed: list[HalfPipeError] = []
    found = delivered(site.work, wanted, failed.append)
    if as_json:
        printed.as_json(work=site.work, delivered=found, failed=list(map(str, failed)))
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(each.name for each in fields(Delivered))
        writer.writerows(astuple(one) for one in found)
    else:
        printed.table(COLUMNS, [row(one) for one in found])
        runs, events = len({one.run for one in found}), sum(one.events for one in found)
        click.echo(
            f"{count(len(wanted) - len(failed), 'downlink')}, {count(runs, 'run')}, {count(events, 'event')} delivered"
        )
    for error in failed:
        click.echo(f"error: {error}", err=True)
    return 1 if failed else 0


def row(one: Delivered) -> list[printed.Cell]:
    """Return the cells of `COLUMNS`."""
    *values, state = astuple(one)
    return [*values, Marked(state) if state == "HELD" else state]
