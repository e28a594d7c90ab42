"""`halfpipe waiting`."""

import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import click

from halfpipe.cli import printed
from halfpipe.cli.printed import Column, Marked
from halfpipe.cli.verbs import RUN, Site, Verb, as_json
from halfpipe.ids import RunId
from halfpipe.run import force_list
from halfpipe.tables import names
from halfpipe.tables.incomplete_runs import Waiting, waiting
from halfpipe.words import count

DAY = 86400
COLUMNS = [
    Column("run"),
    Column("L1 run"),
    Column("kind"),
    Column("started (UTC)", drop=2),
    Column("MET", number=True, drop=3),
    Column("days", number=True),
    Column("state"),
    Column("downlinks", number=True, drop=1),
    Column("last"),
    Column("what is missing"),
]


@click.command(
    "waiting",
    cls=Verb,
    examples=[
        ("halfpipe waiting", "runs that have been open for too long (retire.report_days)"),
        ("halfpipe waiting --days 0", "all open runs"),
        ("halfpipe waiting r0702010205", "one run"),
    ],
    statuses={
        0: "no run is open for that long, except those that were given up",
        1: "one is, or a name in force/ gives up no run",
    },
)
@click.argument("runs", nargs=-1, type=RUN, metavar="[RUN]...", help="As 2c2e5787 or r0741234567; none: all.")
@click.option("--days", type=float, metavar="DAYS", help="Instead of retire.report_days; 0: all open runs.")
@as_json
def command(site: Site, runs: tuple[RunId, ...], days: float | None, as_json: bool) -> int:
    """List the runs that are not complete, and what each waits for.

    halfpipe force RUN delivers a run that will never be complete.
    """
    days = site.settings.retire.report_days if days is None else days
    now = time.time()
    refused = force_list.read(site.work).refused
    found = waiting(site.settings, runs or names.runs(site.work), now - days * DAY)
    if as_json:
        printed.as_json(work=site.work, days=days, refused=refused, runs=[_for_json(run) for run in found])
    else:
        for complaint in refused:
            click.echo(complaint)
        rows = [_row(run, now) for run in found]
        printed.table(COLUMNS, rows, notes=True)
        printed.notes_below(rows)
        said = count(len(found), "run") if found else "no run"
        given_up = sum(run.given_up for run in found)
        click.echo(
            f"{said} that started more than {days:g} days ago {'are' if len(found) > 1 else 'is'} open"
            f"{f', {given_up} of them given up' if given_up else ''}"
        )
    return 1 if refused or not all(run.given_up for run in found) else 0


def _for_json(one: Waiting) -> dict[str, Any]:
    started = datetime.fromtimestamp(one.started, UTC)
    return asdict(one) | {"l1_run": one.run.l1, "met": one.run.met, "started": started}


def _row(one: Waiting, now: float) -> list[printed.Cell]:
    return [
        one.run,
        one.run.l1,
        one.kind,
        datetime.fromtimestamp(one.started, UTC),
        str(one.run.met),
        (now - one.started) / DAY,
        "given up" if one.given_up else Marked("open", "yellow"),
        len(one.downlinks),
        one.downlinks[-1],
        one.missing,
    ]
