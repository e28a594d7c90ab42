"""`halfpipe takeover`."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click

from halfpipe.cli import printed
from halfpipe.cli.verbs import Site, Verb, as_json
from halfpipe.legacy.takeover import SAID, Report, takeover
from halfpipe.words import count

SHOWN = 20  # of a kind; --json has all


@click.command(
    "takeover",
    cls=Verb,
    at_work=False,
    examples=[
        ("halfpipe takeover /nfs/u42/Downlinks", "look: what would be taken over"),
        ("halfpipe takeover /nfs/u42/Downlinks --do", "do it; again, it takes what is new"),
        ("halfpipe takeover /nfs/u42/Downlinks --list", "count the files, by kind and year"),
        ("halfpipe takeover /nfs/u42/Downlinks --list -o DIR", "list what to copy, for rsync"),
    ],
    statuses={
        0: "all was taken over, or would be",
        1: "something was refused or cannot be read, or was delivered here, too; all else was done",
    },
)
@click.argument("root", metavar="OUTPUTBASE", type=click.Path(path_type=Path, file_okay=False))
@click.option("--do", is_flag=True, help="Do it; without this, only look.")
@click.option("--list", "list_files", is_flag=True, help="Import nothing: count the files of the tree.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="With --list: write the names of what has to be copied there, for rsync and sha256sum.",
)
@as_json
def command(
    site: Site,
    root: Path,
    do: bool,
    list_files: bool,
    output: Path | None,
    as_json: bool,
) -> int:
    """Import the legacy's delivery records, so that HalfPipe continues its runs.

    OUTPUTBASE is the legacy's directory of downlinks. It is read and never written. Downlinks that are taken over count
    as processed, and nothing of them is staged or submitted. What the legacy has not handed off is left alone.
    """
    if list_files:
        if do:
            raise click.UsageError("--list imports nothing: give it without --do.")
        if not root.is_dir():
            raise click.UsageError(f"{root}: no such directory.")
        return _list(root, output, as_json=as_json)
    if output:
        raise click.UsageError("-o goes with --list.")
    site.check()
    if not as_json:
        site.say()
    report = takeover(site.settings, root, do=do, shown=printed.shown)
    if as_json:
        printed.as_json(**report.as_json())
    else:
        _say(report)
    return 1 if report.refused or report.both else 0


def _list(tree: Path, output: Path | None, *, as_json: bool) -> int:
    """Count what a tree holds, by kind and year; with `output`, list what has to be copied."""
    from halfpipe.legacy import legacy_files  # noqa: PLC0415 - pandas

    files, unread = legacy_files.take_inventory(tree)
    listed = legacy_files.write_lists(files, output) if output else None
    sums = files.groupby(["kind", "year", "becomes"])["size"].agg(files="size", bytes="sum").reset_index()
    if as_json:
        printed.as_json(tree=tree, kinds=sums, unread=unread, listed=listed)
        return 1 if unread else 0
    shown = sums.assign(what=sums["kind"], MB=sums["bytes"] / 1e6)
    printed.table(shown[["what", "year", "files", "MB", "becomes"]])
    for kind in legacy_files.ODD:
        if odd := list(files.path[files.kind == kind]):
            click.echo(f"{kind}: {_few(odd)}")
    for text in unread:
        click.echo(f"error: {text}", err=True)
    if output:
        click.echo(f"{count(listed or 0, 'name')} to copy are listed in {output}")
    return 1 if unread else 0


def _say(report: Report) -> None:
    would = "" if report.done else "would be "
    click.echo(f"{count(report.taken, 'downlink')} {would}taken over, {report.unchanged} had been before")
    for known, many in Counter(report.runs.values()).most_common():
        click.echo(f"  {count(many, 'run')} {known}: {SAID[known]}")
    for reason, downlinks in sorted(report.left.items()):
        click.echo(f"{count(len(downlinks), 'downlink')} left, {reason}: {_few(downlinks)}")
    switches = [f"{dl}/{name}" for dl, names in report.switches.items() for name in names]
    for names, what in (
        (report.given_up, f"{would}abandoned, as runs in the legacy"),
        (switches, f"{would}put down, as switches in the legacy"),
        (report.odd, "names that belong to no downlink, left alone"),
    ):
        if names:
            click.echo(f"{len(names)} {what}: {_few(names)}")
    for downlink, pairs in report.both.items():
        for pair in pairs:
            click.echo(f"delivered twice, downlink {downlink}: {pair}. Level-1 must give one of the two back")
    for downlink, reasons in report.refused.items():
        for reason in reasons:
            click.echo(f"refused of downlink {downlink}: {reason}")
    if not report.done and report.taken:
        click.echo(f"to do it: halfpipe takeover {report.root} --do")


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
