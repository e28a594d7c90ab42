"""`halfpipe diff`."""

import click

from halfpipe.cli import printed
from halfpipe.cli.verbs import DOWNLINK, Site, Verb, as_json
from halfpipe.ids import DownlinkId
from halfpipe.tables.handoff_diff import HandOff, diff, sentence

MOST = 6  # lines of input, and of config


@click.command(
    "diff",
    cls=Verb,
    examples=[
        ("halfpipe diff 230401001", "the last two hand-offs"),
        ("halfpipe diff 230401001 1 3", "two others"),
    ],
    statuses={0: "they were compared", 1: "there are not two hand-offs to compare"},
)
@click.argument("downlink", type=DOWNLINK, metavar="DL", help="As 230401001 or dl=230401001.")
@click.argument("before", type=click.IntRange(1), required=False, metavar="[N]", help="The earlier hand-off.")
@click.argument("after", type=click.IntRange(1), required=False, metavar="[M]", help="The later one.")
@as_json
def command(site: Site, downlink: DownlinkId, before: int | None, after: int | None, as_json: bool) -> None:
    """Say what changed between two hand-offs of a downlink.

    Events, files, spans and orphans of each run; chunks, RetDefs and hours of level-0; settings and version.
    """
    found = diff(site.work, downlink, before, after)
    if as_json:
        printed.as_json(work=site.work, diff=found)
        return
    reason = f", because {found.after.reason}" if found.after.reason else ""
    click.echo(f"downlink {downlink}: {_when(found.before)} → {_when(found.after)}{reason}")
    for change in found.runs:
        click.echo(f"  run {change.run}  {sentence(change)}")
    for title, lines in (("input", found.input), ("settings", found.config)):
        more = [f"and {len(lines) - MOST} more"] if len(lines) > MOST else []
        click.echo(f"  {title:12}  {'; '.join([*lines[:MOST], *more]) or 'the same'}")
    one, other = found.software
    click.echo(f"  HalfPipe      {f'{one}, the same' if one == other else f'{one} → {other}'}")


def _when(handoff: HandOff) -> str:
    when = f" ({handoff.when:%Y-%m-%d %H:%M} UTC)" if handoff.when else ""
    return f"hand-off {handoff.number}{when}"
