"""`halfpipe board`."""

import time
from pathlib import Path

import click

from halfpipe import paths
from halfpipe.cli.verbs import Site, Verb
from halfpipe.errors import ConfigError
from halfpipe.status.overview import DAY, recent
from halfpipe.status.survey import Survey
from halfpipe.words import count


@click.command(
    "board",
    cls=Verb,
    only_look=True,
    examples=[
        ("halfpipe board -o /tmp/board", "then open /tmp/board/index.html in a browser"),
        ("halfpipe board --config board.days=7", "the last week, into board.dir"),
    ],
    statuses={0: "nothing needs action", 1: "something does"},
)
@click.option(
    "-o",
    "--output",
    "output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Directory of the pages; default: board.dir.",
)
def command(site: Site, output: Path | None) -> int:
    """Write web pages that show the state of the site and of each downlink.

    One page lists the downlinks of the last weeks, and all that are not done or need action; each downlink has its
    own page. The pages need no server and no network. status.json and metrics.prom have the same for programs. If
    board.dir is set, unattended processing writes them, too.
    """
    from halfpipe.pages import board_pages  # noqa: PLC0415 - the library of templates

    home = output or site.settings.board.dir
    days = site.settings.board.days
    if home is None:
        raise ConfigError("there is no directory for the pages: give -o DIR, or set board.dir in the config")
    now = time.time()
    survey = Survey(site.settings, now, now - days * DAY)
    found = board_pages.make(survey, recent(survey, days), home)
    click.echo(f"{home / paths.BOARD}: {count(len(found.accounts), 'downlink')}")
    return 1 if found.needs_action else 0
