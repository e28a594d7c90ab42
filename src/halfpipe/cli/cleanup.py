"""`halfpipe cleanup`."""

import time

import click

from halfpipe.cli import printed
from halfpipe.cli.verbs import Site, Verb, as_json
from halfpipe.downlink import halts
from halfpipe.site.clean_up import Leftover, Products, clean_leftovers, clean_logs, clean_products
from halfpipe.words import count


@click.command(
    "cleanup",
    cls=Verb,
    examples=[
        ("halfpipe cleanup", "look: what would be removed, and why the rest stays"),
        ("halfpipe cleanup --remove", "do it"),
        ('halfpipe hold cleanup --reason "…"', "hold it"),
    ],
    statuses={
        0: "all that may go is removed, or without --remove would be",
        1: "something could not be removed; the rest was done",
    },
)
@click.option("--remove", is_flag=True, help="Remove it; without this, only look.")
@as_json
def command(site: Site, remove: bool, as_json: bool) -> int:
    """Remove large files that can be regenerated, and what killed jobs left.

    Decoded chunks and merged events of a run are removed when the run is retired, all its downlinks are handed off and
    submitted, and cleanup.retention_days have passed; partial files of killed jobs after a day; logs after
    cleanup.log_days. Files in use stay.
    """
    now, settings = time.time(), site.settings
    switch = halts.holding(site.work, halts.Switch.CLEANUP)
    halted = f"clean-up is held by {switch}" if switch else ""
    products = list(clean_products(settings, now, halted, remove=remove))
    partial = list(clean_leftovers(settings, now, halted, remove=remove))
    logs, of_logs = (0, 0) if halted else clean_logs(settings, now, remove=remove)
    every: list[Products | Leftover] = [*products, *partial]
    size = of_logs + sum(each.size for each in every if not each.kept)
    failed = any(each.failed for each in every)
    if as_json:
        printed.as_json(
            work=site.work,
            removed=remove,
            held_by=switch,
            products=products,
            left_half_made=partial,
            logs={"files": logs, "size": of_logs},
            size=size,
        )
        return 1 if failed else 0

    def fate(each: Products | Leftover) -> str:
        return f"stays: {each.kept}" if each.kept else ("removed" if remove else "goes")

    rows = [
        {
            "run": row.run,
            "L1 run": row.run.l1,
            "downlink": row.downlink,
            "files": row.files,
            "bytes": row.size,
            "what becomes of it": fate(row),
        }
        for row in products
    ]
    printed.table(rows, drop=["L1 run"])
    for one in partial:
        click.echo(f"partial: {one.path}, {count(one.size, 'byte')}, {fate(one)}")
    if logs:
        click.echo(
            f"{count(logs, 'log')} older than {settings.cleanup.log_days:g} days, {count(of_logs, 'byte')}"
        )
    if halted:
        click.echo(f"{halted}: nothing is removed; to let it go on: halfpipe hold cleanup --resume")
    click.echo(f"{count(size, 'byte')} {'freed' if remove else 'would be freed; --remove does it'}")
    return 1 if failed else 0
