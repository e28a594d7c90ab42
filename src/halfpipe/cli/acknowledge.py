"""`halfpipe acknowledge`."""

import re
import time
from datetime import datetime

import click

from halfpipe.cli import printed
from halfpipe.cli.verbs import TIME, Named, Site, Verb, as_json, read_either, reason_given, unix
from halfpipe.errors import IdError
from halfpipe.ids import DownlinkId, Downlinks, RunId
from halfpipe.status import acknowledged
from halfpipe.words import count


def _read(text: str) -> RunId | DownlinkId | Downlinks | str:
    try:
        return read_either(text)
    except IdError as error:
        if re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", text):
            return text
        raise IdError(f"{error}, and no code of a cause, as in timer-dead") from error


@click.command(
    "acknowledge",
    cls=Verb,
    only_look=True,
    examples=[
        ("halfpipe acknowledge", "list who is on what, and until when"),
        ('halfpipe acknowledge 230401001 --until 2026-11-29 --reason "asks for it"', "a downlink"),
        ('halfpipe acknowledge timer-dead --until 2026-11-28 --reason "new host"', "a cause, by its code"),
    ],
    statuses={0: "it is noted, or listed"},
)
@click.argument(
    "what",
    required=False,
    type=Named("downlink, run or code", _read),
    metavar="[DL|RUN|CODE]",
    help="A downlink, a run, or the code of a cause.",
)
@click.option(
    "--until", type=TIME, metavar="TIME", help="UTC, as 2026-11-28T14:00; one that is over ends it."
)
@click.option(
    "--reason", metavar="TEXT", help="What is being done, for the next person; who and when are added."
)
@as_json
def command(
    site: Site,
    what: RunId | DownlinkId | str | None,
    until: datetime | None,
    reason: str | None,
    as_json: bool,
) -> None:
    """Say that somebody is on a trouble, and until when, and list who is.

    Status and the board show it beside the causes of the downlink, beside those that name the run, or beside those
    with the code. It silences nothing: what needs action still does, and mails go on. It ends by itself.
    """
    if what is not None:
        if until is None:
            raise click.UsageError("Say until when, UTC: --until 2026-11-28T14:00.")
        acknowledged.say(site.work, str(what), unix(until), reason_given(reason))
    rows = [{"what": what, "says": says} for what, says in acknowledged.read(site.work, time.time()).items()]
    foot = f"somebody is on {count(len(rows), 'trouble')}"
    printed.listed(site.work, as_json, "acknowledged", rows, foot)
