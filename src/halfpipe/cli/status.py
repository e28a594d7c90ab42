"""`halfpipe status`."""

import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime

import click

from halfpipe.causes import Cause, Verdict
from halfpipe.cli import printed
from halfpipe.cli.verbs import Site, Verb, downlinks, row_options
from halfpipe.errors import HalfPipeError
from halfpipe.ids import DownlinkId
from halfpipe.notify.submit import stream
from halfpipe.status.account import Account
from halfpipe.status.failed_jobs import together
from halfpipe.status.overview import DAY, OfFiles, known, overview, recent
from halfpipe.status.survey import Survey
from halfpipe.words import count, utc

DAYS = 7.0
DROP = ["when (UTC)", "chunks", "runs"]  # columns dropped in a narrow terminal
COLORS = {Verdict.ACTION: "red", Verdict.NOTE: "yellow"}


@click.command(
    "status",
    cls=Verb,
    only_look=True,
    examples=[
        ("halfpipe status", "the last week, and all unfinished ones"),
        ("halfpipe status 230401001", "one downlink"),
        ("halfpipe status --check 230401001", "also check its records and files"),
        ("halfpipe status --check --repair 230401001", "first regenerate damaged merged indexes"),
        ("halfpipe status --all -o all.csv", "all downlinks, for other programs"),
    ],
    statuses={0: "nothing needs action", 1: "something does"},
)
@downlinks
@click.option(
    "--days", type=click.FloatRange(min=0), default=DAYS, show_default=True, help="How far to look back."
)
@click.option("--all", "every", is_flag=True, help="All downlinks with any files.")
@click.option("--check", "checks", is_flag=True, help="Check records, chunks, indexes and files, too.")
@click.option(
    "--repair", "repairs", is_flag=True, help="With --check: first regenerate damaged merged indexes."
)
@click.option("--no-checksums", is_flag=True, help="With --check: sizes only.")
@row_options
def command(
    site: Site,
    downlinks: tuple[DownlinkId, ...],
    days: float,
    every: bool,
    checks: bool,
    repairs: bool,
    no_checksums: bool,
) -> int:
    """Show the state of each downlink, and what needs action.

    Downlinks that need action come first, then the newest. "waiting" is the number of events that wait for the next
    downlink of their run. "level-1" is the number of the hand-off that Level-1 has.

    Each downlink is shown with its worst cause: "action" needs action, "note" does not. With --check all causes are
    shown, and for a single downlink the state of Level-1's stream (submit.check); --repair regenerates damaged merged
    indexes from the chunks and hands nothing off. Files that Level-1 has taken away, or that cleanup has removed, are
    notes.
    """
    if no_checksums and not checks:
        raise click.UsageError("--no-checksums belongs to --check.")
    if repairs and not (checks and downlinks):
        raise click.UsageError("--repair belongs to --check, and needs downlinks.")
    of_files: OfFiles | None = None
    checked = Counter[str]()
    if checks:
        from halfpipe.state.run_state import rebuild_indexes  # noqa: PLC0415 - numpy
        from halfpipe.status.receipt_check import Check  # noqa: PLC0415 - numpy

        sees_stage = Survey(site.settings).plan.sees_stage

        def of_files(downlink: DownlinkId) -> Iterator[Cause]:
            check = Check(site.settings, downlink, not no_checksums, sees_stage, checked)
            yield from check.causes()
            if downlinks == (downlink,):
                yield from stream(site.settings, downlink)

        for downlink in downlinks if repairs else ():
            for run in rebuild_indexes(site.settings, downlink, sys.stderr):
                click.echo(f"the merged index of run {run} in downlink {downlink} was regenerated", err=True)
    now = time.time()
    survey = Survey(site.settings, now, 0.0 if every or downlinks else now - days * DAY)
    found = overview(survey, downlinks or (known(survey) if every else recent(survey, days)), of_files)
    if site.form == "table":
        click.echo(utc(now))
        for cause in found.site:
            printed.cause("site", cause)
    shown = (
        [_row(one) for one in found.accounts]
        if site.form == "table"
        else [
            {**one.as_json(), "causes": " ".join(cause.code for cause in one.causes)}
            for one in found.accounts
        ]
    )
    colors = [COLORS.get(one.verdict) for one in found.accounts]
    foot = found.headline(survey)
    document: dict[str, object] = {
        "at": datetime.fromtimestamp(now, UTC),
        "downlinks": found.accounts,
        "site": found.site,
    }
    if checks:
        with suppress(HalfPipeError):  # the site has this as a cause
            checked["decision"] = len(survey.decisions.in_force)
        how = "sizes" if no_checksums else "checksums"
        foot += f"\nchecked ({how}): {', '.join(count(n, what) for what, n in checked.items()) or 'nothing'}"
        document["checked"] = checked
    site.listed("downlinks", shown, foot, drop=DROP, colors=colors, document=document)
    if site.form == "table":
        causes = [(one.downlink, cause) for one in found.accounts for cause in one.causes]
        for what, cause in together(each for each in causes if checks or each[1].verdict is Verdict.ACTION):
            printed.cause(what, cause)
    return 1 if found.needs_action else 0


def _row(one: Account) -> dict[str, object]:
    """Return the row of a downlink, with its worst cause; the text of a cause that needs action is below the table."""
    what = ""
    number = one.handoff
    for first in one.causes[:1]:
        text = first.code
        if first.verdict is not Verdict.ACTION:
            text = first.text
            for line in first.remedy.lines[:1]:
                text += f" {line}" if line.startswith("→") else f". {line}"
        what = f"{printed.SIGNS[first.verdict]}{first.verdict}: {text}"
    return {
        "downlink": one.downlink,
        "state": one.state,
        "chunks": "{}/{}".format(*one.chunks) if one.chunks[1] else printed.NOT_YET,
        "runs": one.runs if number else printed.NOT_YET,
        "events": one.events if number else printed.NOT_YET,
        "waiting": one.waiting if one.waiting or (number and one.waiting is not None) else printed.NOT_YET,
        "hand-off": one.handoff,
        "level-1": one.submitted,
        "when (UTC)": datetime.fromtimestamp(one.handed_off, UTC) if one.handed_off else None,
        "what": what,
    }
