"""`halfpipe takeover`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from halfpipe.cli import printed
from halfpipe.cli.verbs import Site, Verb, as_json
from halfpipe.ids import DownlinkId
from halfpipe.words import count
from halfpipe_switchover.takeover import DESCRIPTIONS, Report, takeover

SHOWN = 20  # names of each kind; --format json has all


@click.command(
    "takeover",
    cls=Verb,
    examples=[
        ("halfpipe takeover /nfs/u42/Downlinks", "look: what would be imported"),
        ("halfpipe takeover /nfs/u42/Downlinks --do", "import them; when repeated, only new ones"),
    ],
    statuses={
        0: "everything was imported, or would be",
        1: "something was refused or unreadable, or was delivered here, too; the rest was done",
    },
)
@click.argument("root", metavar="OUTPUTBASE", type=click.Path(path_type=Path, file_okay=False))
@click.option("--do", is_flag=True, help="Do it; without this option, only look.")
@as_json
def command(site: Site, root: Path, do: bool, as_json: bool) -> int:
    """Import the legacy's delivery records, so that HalfPipe continues its runs.

    OUTPUTBASE is the legacy's directory of downlinks. It is only read. Imported downlinks count as processed, and none
    of their files is staged or submitted. Downlinks that the legacy has not handed off are skipped.
    """
    report = takeover(site.settings, root, do=do, shown=printed.shown)
    if as_json:
        runs = {known: sorted(of) for known, of in report.runs.items()}
        printed.as_json(**vars(report) | {"runs": runs})
    else:
        _print(report)
    return 1 if report.refused or report.both else 0


def _print(report: Report) -> None:
    would = "" if report.done else "would be "
    click.echo(f"{count(report.taken, 'downlink')} {would}taken over, {report.unchanged} had been before")
    for known, runs in report.runs.items():
        if runs:
            click.echo(f"  {count(len(runs), 'run')} {known}: {DESCRIPTIONS[known]}")
    groups: list[tuple[Sequence[str], str]] = [
        *((downlinks, f"left, {reason}") for reason, downlinks in sorted(report.left.items())),
        (report.abandoned, f"{would}abandoned, as runs in the legacy"),
        (_named(report.switches, "/"), f"{would}set, as switches in the legacy"),
        (report.odd, "names that belong to no downlink, left alone"),
        (_named(report.both, ": "), "delivered twice, and Level-1 must give one of the two back"),
        (_named(report.refused, ": "), "refused"),
    ]
    for names, what in groups:
        if names:
            more = [f"and {len(names) - SHOWN} more"] if len(names) > SHOWN else []
            click.echo("\n  ".join([f"{len(names)} {what}:", *names[:SHOWN], *more]))
    if not report.done and report.taken:
        click.echo(f"to do it: halfpipe takeover {report.root} --do")


def _named(found: Mapping[DownlinkId, Sequence[str]], sign: str) -> list[str]:
    """Return each finding, after its downlink and `sign`."""
    return [f"{downlink}{sign}{each}" for downlink, several in found.items() for each in several]
