"""`halfpipe cleanup`."""

import time

import click

from halfpipe.cli import printed
from halfpipe.cli.verbs import Site, Verb, as_json
from halfpipe.downlink import halts
from halfpipe.site import leftovers, removable_products
from halfpipe.words import count

ROW = "{:8}  {:11}  {:9}  {:>5}  {:>15}  {}"  # each is printed as soon as it is known


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
    goes = "removed" if remove else "goes"
    rows, left = list[removable_products.Products](), list[leftovers.Leftover]()

    def say(line: str) -> None:
        if not as_json:
            click.echo(line)

    def bytes_of(size: int) -> str:
        return f"{size:,}" if printed.on_terminal() else str(size)

    run = "L1 run" if printed.on_terminal() else "L1_run"
    say(ROW.format("run", run, "downlink", "files", "bytes", "what becomes of it"))
    for row in removable_products.clean(settings, now, halted, remove=remove):
        rows.append(row)
        what = f"stays: {row.kept}" if row.kept else goes
        say(ROW.format(row.run, row.run.l1, row.downlink, row.files, bytes_of(row.size), what))
    for one in leftovers.clean(settings, now, halted, remove=remove):
        left.append(one)
        what = f"stays: {one.kept}" if one.kept else goes
        say(f"left half-made: {one.path}, {count(one.size, 'byte')}, {what}")
    logs, of_logs = (0, 0) if halted else leftovers.clean_logs(settings, now, remove=remove)
    if logs:
        days = f"{settings.cleanup.log_days:g}"
        say(f"{count(logs, 'log')} older than {days} days, {count(of_logs, 'byte')}, {goes}")
    every: list[removable_products.Products | leftovers.Leftover] = [*rows, *left]
    size = of_logs + sum(each.size for each in every if not each.kept)
    say(
        f"{count(size, 'byte')} freed"
        if remove
        else f"{count(size, 'byte')} would be freed; --remove does it"
    )
    if as_json:
        printed.as_json(
            work=site.work,
            removed=remove,
            held_by=switch,
            products=rows,
            left_half_made=left,
            logs={"files": logs, "size": of_logs},
            size=size,
        )
    return 1 if any(each.failed for each in every) else 0
