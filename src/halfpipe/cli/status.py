"""`halfpipe status`."""

import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import click

from halfpipe.causes import Cause, Verdict
from halfpipe.cli import printed
from halfpipe.cli.verbs import Site, Verb, as_json, downlinks
from halfpipe.ids import DownlinkId
from halfpipe.status.account import Account, account
from halfpipe.status.account import Site as Looked
from halfpipe.status.overview import DAY, known, overview, recent
from halfpipe.words import utc

DAYS = 7.0
DROP = ["when (UTC)", "chunks", "runs"]  # where a terminal is narrow
SIGNS = {Verdict.ACTION: "✗ ", Verdict.NOTE: "! ", Verdict.GOOD: ""}
COLOURS = {Verdict.ACTION: "red", Verdict.NOTE: "yellow"}


@click.command(
    "status",
    cls=Verb,
    examples=[
        ("halfpipe status", "the last week, and all that is not done or needs action"),
        ("halfpipe status 230401001", "one downlink"),
        ("halfpipe status --check 230401001", "and each file against the receipt, byte for byte"),
        ("halfpipe status --check --mend 230401001", "make damaged merged indexes again, and check"),
        ("halfpipe status --all --json", "all there ever were, for a program"),
    ],
    statuses={0: "nothing needs action", 1: "something does"},
)
@downlinks
@click.option(
    "--days", type=click.FloatRange(min=0), default=DAYS, show_default=True, help="How far to look back."
)
@click.option("--all", "every", is_flag=True, help="All downlinks of which there is anything.")
@click.option("--check", "checks", is_flag=True, help="Compare receipts, manifests and files, too.")
@click.option("--mend", "mends", is_flag=True, help="With --check: first regenerate damaged merged indexes.")
@click.option("--no-checksums", is_flag=True, help="With --check: sizes only.")
@as_json
def command(
    site: Site,
    downlinks: tuple[DownlinkId, ...],
    days: float,
    every: bool,
    checks: bool,
    mends: bool,
    no_checksums: bool,
    as_json: bool,
) -> int:
    """Show the state of each downlink, and what needs action.

    Downlinks that need action come first, then the newest. "waiting" are events that are kept for the next
    downlink of their run and wait now, shown at the last one that brought some of it; "level-1" is the number of the
    hand-off that Level-1 has.

    Each downlink is shown with its worst cause: "action" means that somebody must act, "note" that nobody need.
    With --check all causes are shown; --mend regenerates damaged merged indexes from the chunks and hands nothing off.
    Files that Level-1 has taken away, or that clean-up has removed, are notes.
    """
    if no_checksums and not checks:
        raise click.UsageError("--no-checksums is for --check")
    if mends and not (checks and downlinks):
        raise click.UsageError("--mend is for --check, and wants downlinks.")
    draw_up = account
    if checks:
        from halfpipe.run.run_state import mend  # noqa: PLC0415 - numpy
        from halfpipe.status.checks import examine  # noqa: PLC0415 - numpy

        draw_up = partial(examine, checksums=not no_checksums)
        for downlink in downlinks if mends else ():
            for run in mend(site.settings, downlink, sys.stderr):
                click.echo(f"the merged index of run {run} in downlink {downlink} was made again", err=True)
    now = time.time()
    looked = Looked(site.settings, now, 0.0 if every or downlinks else now - days * DAY)
    found = overview(looked, downlinks or (known(looked) if every else recent(looked, days)), draw_up)
    if as_json:
        simulated = site.settings.is_simulated
        printed.as_json(work=site.work, simulated=simulated, downlinks=found.accounts, site=found.site)
    else:
        click.echo(utc(now))
        _table(found.accounts, len(found.accounts) if checks else len(found.wanting))
        click.echo(found.headline(looked))
        for cause in found.site:
            _say("site", cause)
        for one in found.accounts if checks else found.wanting:
            for cause in one.causes:
                if checks or cause.verdict is Verdict.ACTION:
                    _say(one.downlink, cause)
    return 1 if found.needs_action else 0


def _table(accounts: Sequence[Account], told_below: int) -> None:
    """Print a table of accounts; on a terminal what a row says has a line of its own, unless all is told below."""
    rows, colours = [_row(one) for one in accounts], [COLOURS.get(one.verdict) for one in accounts]
    if printed.on_terminal():
        says = [row.pop("what") for row in rows]
        printed.table(rows, drop=DROP, colours=colours)
        for one, note in list(zip(accounts, says, strict=True))[told_below:]:
            if note:
                click.echo(f"  {one.downlink}  {note}")
    else:
        printed.table(rows)


def _row(one: Account) -> dict[str, Any]:
    first = one.causes[0] if one.causes else None
    return {
        "downlink": one.downlink,
        "state": one.state,
        "chunks": "{}/{}".format(*one.chunks),
        "runs": one.runs or None,
        "events": one.events if one.handoff else None,
        "waiting": one.orphans if one.handoff else None,
        "hand-off": one.handoff,
        "level-1": one.submitted,
        "when (UTC)": datetime.fromtimestamp(one.handed_off, UTC) if one.handed_off else None,
        "what": first and f"{SIGNS[first.verdict]}{first.verdict}: {first.text}" + _by(first.on_it),
    }


def _by(on_it: str) -> str:
    return f" ({on_it})" if on_it else ""


def _say(what: str, cause: Cause) -> None:
    """Print what a person is to do: in a pipe without what parts it from the table on a terminal."""
    since = f", since {utc(cause.since)}" if cause.since and utc(cause.since) not in cause.text else ""
    sign, edge = (SIGNS[cause.verdict], "  ") if printed.on_terminal() else ("", "")
    click.echo(f"{sign}{what}: {cause.text}{since}")
    if cause.on_it:
        click.echo(f"{edge}{cause.on_it}")
    for step in cause.remedy.steps:
        click.echo(f"{edge}→ {step}")
