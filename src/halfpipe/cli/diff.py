"""`halfpipe diff`."""

import click

from halfpipe.cli import printed
from halfpipe.cli.verbs import DOWNLINK, Site, Verb, as_json
from halfpipe.ids import DownlinkId
from halfpipe.words import utc

MOST = 6  # lines of input, and of config


@click.command(
    "diff",
    cls=Verb,
    only_look=True,
    examples=[
        ("halfpipe diff 230401001", "the last two hand-offs"),
        ("halfpipe diff 230401001 1 3", "two others"),
    ],
    statuses={0: "the hand-offs were compared", 1: "there are no two hand-offs to compare"},
)
@click.argument("downlink", type=DOWNLINK, metavar="DL", help="As 230401001 or dl=230401001.")
@click.argument("before", type=click.IntRange(1), required=False, metavar="[N]", help="The earlier hand-off.")
@click.argument("after", type=click.IntRange(1), required=False, metavar="[M]", help="The later one.")
@as_json
def command(site: Site, downlink: DownlinkId, before: int | None, after: int | None, as_json: bool) -> None:
    """Show what changed between two hand-offs of a downlink.

    Events, files, spans and waiting events of each run; chunks, RetDefs and level-0 hours; settings and version.
    """
    from halfpipe.tables import handoff_diff

    one, other = handoff_diff.two_hand_offs(site.work, downlink, before, after)
    old = one.receipt
    new = other.receipt
    runs = handoff_diff.changed_runs(one, other)
    versions = ({"halfpipe": each.software} for each in (old, new))
    changes = {
        "input": handoff_diff.changes(*map(handoff_diff.input_of, (old, new))),
        "settings": handoff_diff.changes(*map(handoff_diff.settings_of, (old, new))),
        "HalfPipe": handoff_diff.changes(*versions),
    }
    if as_json:
        numbers = {"before": one.number, "after": other.number, "reason": new.reason}
        printed.as_json(work=site.work, downlink=downlink, **numbers, runs=runs, **changes)
        return
    reason = f", because {new.reason}" if new.reason else ""
    made = (
        f"hand-off {each.number}" + (f" ({utc(each.made)})" if each.made else "") for each in (one, other)
    )
    click.echo(f"downlink {downlink}: {' → '.join(made)}{reason}")
    for line in handoff_diff.sentences(runs):
        click.echo(f"  {line}")
    for title, lines in changes.items():
        more = [f"and {len(lines) - MOST} more"] if len(lines) > MOST else []
        click.echo(f"  {title}: {'; '.join([*lines[:MOST], *more]) or 'the same'}")
