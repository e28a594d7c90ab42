"""`halfpipe repair`."""

import click

from halfpipe.commands.verbs import EITHER, Site, Verb
from halfpipe.handoff import handoffs
from halfpipe.ids import DownlinkId, RunId
from halfpipe.runs import repair
from halfpipe.runs.journal import Delivery
from halfpipe.storage.leases import downlink_job
from halfpipe.words import count


@click.command(
    "repair",
    cls=Verb,
    examples=[
        ("halfpipe repair 29d7d35d", "look: what the run's journal lacks, and what it would be"),
        ("halfpipe repair 29d7d35d --do", "do it"),
        ("halfpipe repair 230401001 --do", "the list of hand-offs of a downlink"),
    ],
    statuses={0: "good, or done", 1: "something is to be done, and --do does it"},
)
@click.argument("what", type=EITHER, metavar="RUN_OR_DL")
@click.option("--do", is_flag=True, help="Do it; without this, only look.")
def command(site: Site, what: RunId | DownlinkId, do: bool) -> int:
    """Rebuild a damaged record of deliveries from the other records.

    A run's journal is rebuilt from the manifests and receipts of its downlinks, a downlink's list of hand-offs from
    the copies of its receipts. What can be read stays; the old journal is kept beside the new one.
    """
    needed = _handoffs(site, what, do) if isinstance(what, DownlinkId) else _journal(site, what, do)
    return 1 if needed and not do else 0


def _journal(site: Site, run: RunId, do: bool) -> bool:
    found = repair.repair(site.work, run, do=do)
    for number in found.damaged:
        click.echo(f"{found.path}, line {number}: cannot be read, goes")
    for voucher in found.missing:
        click.echo(f"{found.path} lacks what {voucher} vouches for")
    if not found.needed:
        click.echo(f"{found.path}: {count(found.kept, 'line')}, nothing is missing")
        return False
    click.echo(
        f"{found.path}: {count(found.kept, 'line')} {'stayed' if do else 'would stay'}, "
        f"{count(len(found.lines) - found.kept, 'line')} {'added' if do else 'would be added'}:"
    )
    for line in found.lines[found.kept :]:
        assert isinstance(line, Delivery)
        spans = ", ".join(f"{first} to {last}" for first, last in line.spans)
        click.echo(f"  downlink {line.downlink}, {count(line.events, 'event')}, sequences {spans}")
    if not do:
        click.echo(f"to do it: halfpipe repair {run} --do")
    return True


def _handoffs(site: Site, downlink: DownlinkId, do: bool) -> bool:
    missing = handoffs.unlisted(site.work, downlink, handoffs.listed(site.work, downlink))
    for handoff in missing:
        click.echo(
            f"the list of hand-offs of downlink {downlink} lacks hand-off {handoff.number}, of which there is a receipt"
        )
    if not missing:
        click.echo(f"the list of hand-offs of downlink {downlink}: nothing is missing")
    elif do:
        with downlink_job(site.work, downlink):
            for handoff in missing:
                handoffs.record(site.work, downlink, handoff)
        click.echo(f"{count(len(missing), 'line')} added")
    else:
        click.echo(f"to do it: halfpipe repair {downlink} --do")
    return bool(missing)
