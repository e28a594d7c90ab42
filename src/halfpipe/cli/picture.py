"""`halfpipe picture`."""

import time
from pathlib import Path

import click

from halfpipe.cli.verbs import EITHER, Site, Verb
from halfpipe.files.durable import write_bytes
from halfpipe.ids import DownlinkId, RunId
from halfpipe.status.account import Site as Looked


@click.command(
    "picture",
    cls=Verb,
    examples=[
        ("halfpipe picture r0702010205", "a run, as run-29d7d35d.svg"),
        ("halfpipe picture 230401001 -o today.png", "a downlink, as this file"),
    ],
    statuses={0: "it is drawn", 1: "nothing is known of it, or the file cannot be written"},
)
@click.argument(
    "what", type=EITHER, metavar="RUN|DL", help="A run, as 2c2e5787 or r0741234567, or a downlink."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="An .svg or .png. Default: an SVG here, named after what is drawn.",
)
def command(site: Site, what: RunId | DownlinkId, output: Path | None) -> None:
    """Draw a run or a downlink, as SVG or PNG.

    A run: which downlink contains what of each EPU, what is missing, delivered, waiting, late, withheld or held, and
    the rate of events. A downlink: its chunks in time, and missing hours.
    docs/pictures.md explains them.
    """
    # They load what draws.
    from halfpipe.pages import downlink_picture, run_picture  # noqa: PLC0415

    word = "run" if isinstance(what, RunId) else "downlink"
    file = output or Path(f"{word}-{what}.svg")
    kind = file.suffix.removeprefix(".").lower()
    looked = Looked(site.settings, time.time())
    write_bytes(
        file,
        run_picture.picture(looked, what, kind)
        if isinstance(what, RunId)
        else downlink_picture.picture(looked, what, kind),
    )
    click.echo(f"{file}: {word} {what}")
