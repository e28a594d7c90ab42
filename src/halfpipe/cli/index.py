"""`halfpipe index`."""

import sys
from pathlib import Path

import click

from halfpipe.cli.verbs import DOWNLINK, RUN, Site, Verb
from halfpipe.files.durable import replacing
from halfpipe.ids import DownlinkId, RunId
from halfpipe.process import progress
from halfpipe.tables import index_text


@click.command(
    "index",
    cls=Verb,
    examples=[
        ("halfpipe index r0702010205 230401001 | head", "the datagrams, then the events"),
        ("halfpipe index r0702010205 230401001 --out merged.idx", "into a file"),
    ],
    statuses={0: "good", 1: "there is no such index, or its events were cleaned up"},
)
@click.argument("run", type=RUN, metavar="RUN", help="As 2c2e5787 or r0741234567.")
@click.argument("downlink", type=DOWNLINK, metavar="DL", help="As 230401001 or dl=230401001.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Write to this file instead.")
def command(site: Site, run: RunId, downlink: DownlinkId, out: Path | None) -> None:
    """Print the merged index of a run within a downlink.

    A DGM line for each datagram, then an EVT line for each event, delivered or not.
    """
    pieces = index_text.text(site.work, run, downlink)
    if out is not None:
        with progress.of(f"index {run}") as bar, replacing(out) as file:
            for lines in pieces:
                file.write(lines)
                bar.add(events=lines.count(b"EVT:"), size=len(lines))
        return
    sys.stdout.buffer.writelines(pieces)
    sys.stdout.buffer.flush()
