"""`halfpipe cleanup`."""

import time

import click

from halfpipe.cli import printed
from halfpipe.cli.verbs import Site, Verb, as_json
from halfpipe.operate.cleanup import FileKind, clean
from halfpipe.state import halts
from halfpipe.words import count


@click.command(
    "cleanup",
    cls=Verb,
    examples=[
        ("halfpipe cleanup", "look: what would be removed, and why the rest stays"),
        ("halfpipe cleanup --do", "remove it"),
    ],
    statuses={
        0: "everything removable was removed, or without --do would be",
        1: "something could not be removed; the rest was done",
    },
)
@click.option("--do", is_flag=True, help="Remove these files; without this option, only look.")
@as_json
def command(site: Site, do: bool, as_json: bool) -> int:
    """Remove large files that can be regenerated, leftovers of killed jobs, and old logs.

    Decoded chunks of a run are removed when the run is retired, all its downlinks are handed off and
    submitted, and cleanup.retention_days have passed; partial files of killed jobs after a day; logs after
    cleanup.log_days. Files in use stay.
    """
    now = time.time()
    settings = site.settings
    switch = halts.holding(site.work, halts.Switch.CLEANUP)
    halted = f"cleanup is held by {switch}" if switch else ""
    found = list(clean(settings, now, halted, remove=do))
    size = sum(each.size for each in found if not each.kept)
    done = "removed" if do else "goes"
    if as_json:
        printed.as_json(work=site.work, removed=do, held_by=switch, found=found, size=size)
    else:
        printed.table(
            [
                {
                    "what": next(iter(each.sizes)) if each.what is FileKind.PARTIAL else each.what,
                    "run": each.run,
                    "downlinks": len(each.downlinks) or None,
                    "files": len(each.sizes),
                    "bytes": each.size,
                    "what becomes of it": f"stays: {each.kept}" if each.kept else done,
                }
                for each in found
            ]
        )
        if halted:
            click.echo(f"{halted}: nothing is removed; to resume: halfpipe hold cleanup --undo")
        click.echo(f"{count(size, 'byte')} {'freed' if do else 'would be freed; --do does it'}")
    return 1 if any(each.failed for each in found) else 0
