"""`halfpipe takeover`."""

import signal
import time
from collections.abc import Sequence
from pathlib import Path

import click

from halfpipe.cli import printed
from halfpipe.cli.verbs import Site, Verb, as_json
from halfpipe.tools.legacy_downlink import Known
from halfpipe.tools.legacy_takeover import Report, takeover
from halfpipe.words import count

SHOWN = 20  # of a kind; --json has all
HOW = {
    Known.WHOLE: "whole: what was brought and what was delivered",
    Known.SPANS: "by their spans only: chunk products are gone",
    Known.NOTHING: "without anything recorded as delivered",
    Known.REFUSED: "REFUSED: nothing more of them is delivered until they can be read",
}


@click.command(
    "takeover",
    cls=Verb,
    examples=[
        ("halfpipe takeover /nfs/u42/Downlinks", "look: what would be taken over, and what refused"),
        ("halfpipe takeover /nfs/u42/Downlinks --do", "do it; again, it takes what has come since"),
        ("halfpipe takeover /nfs/u42/Downlinks --do --watch 600", "while both run: again every ten minutes"),
    ],
    statuses={
        0: "all was taken over, or would be",
        1: "something was refused; all else was done",
        130: "ended by SIGINT; the same command goes on",
        143: "ended by SIGTERM; the same command goes on",
    },
)
@click.argument("root", metavar="OUTPUTBASE", type=click.Path(path_type=Path))
@click.option("--do", is_flag=True, help="Do it; without this, only look.")
@click.option(
    "--watch", metavar="SECONDS", type=click.IntRange(min=1), help="Do it again and again, until ended."
)
@as_json
def command(site: Site, root: Path, do: bool, watch: int | None, as_json: bool) -> int:
    """Make known here what the legacy has delivered, so that HalfPipe goes on with its runs.

    OUTPUTBASE is the legacy's directory of downlinks; it is read and never written. Downlinks that are taken over count
    as processed here, and nothing of them is staged or submitted. It leaves alone what the legacy has not handed off.
    """
    if watch is not None:  # a shell starts what it puts into the background with SIGINT ignored
        signal.signal(signal.SIGINT, signal.getsignal(signal.SIGTERM))
    while True:
        report = takeover(site.settings, root, do=do, watch=_progress)
        if as_json:
            printed.as_json(**report.as_json())
        elif watch is None or report.taken or report.refused:
            _say(report)
        if watch is None:
            return 1 if report.refused else 0
        time.sleep(watch)


def _progress(done: int, of: int) -> None:
    if printed.on_terminal():
        click.echo(f"\r{done} of {count(of, 'downlink')}", nl=done >= of, err=True)


def _say(report: Report) -> None:
    would = "" if report.done else "would be "
    click.echo(f"{count(report.taken, 'downlink')} {would}taken over, {report.unchanged} had been before")
    counts = report.counts()
    for known, how in HOW.items():
        if counts[known]:
            click.echo(f"  {count(counts[known], 'run')} {how}")
    for reason, downlinks in sorted(report.left.items()):
        click.echo(f"{count(len(downlinks), 'downlink')} left, {reason}: {_few(downlinks)}")
    if report.given_up:
        click.echo(
            f"{count(len(report.given_up), 'run')} {would}given up as in the legacy: {_few(report.given_up)}"
        )
    if report.switches:
        switches = [f"{dl}/{name}" for dl, names in report.switches.items() for name in names]
        click.echo(
            f"{count(len(switches), 'switch', 'switches')} {would}put down as in the legacy: {_few(switches)}"
        )
    if report.odd:
        click.echo(
            f"{count(len(report.odd), 'name')} that belong to no downlink, left alone: {_few(report.odd)}"
        )
    for downlink, reasons in report.refused.items():
        for reason in reasons:
            click.echo(f"refused of downlink {downlink}: {reason}")
    if not report.done and report.taken:
        click.echo(f"to do it: halfpipe takeover {report.root} --do")


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
