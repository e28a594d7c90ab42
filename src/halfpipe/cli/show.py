"""`halfpipe show`."""

from collections.abc import Sequence
from datetime import datetime

import click

from halfpipe.cli import printed
from halfpipe.cli.delivered import COLUMNS as OF_RECEIPT
from halfpipe.cli.delivered import row as row_of_receipt
from halfpipe.cli.printed import Column
from halfpipe.cli.verbs import EITHER, Site, Verb, as_json
from halfpipe.ids import DownlinkId, RunId
from halfpipe.tables.summaries import Downlink, Part, Run, show, show_downlink
from halfpipe.words import count

FILES = [
    Column("downlink"),
    Column("file"),
    Column("events", number=True),
    Column("sequences"),
    Column("MET", drop=2),
    Column("sha256", drop=3),
]


@click.command(
    "show",
    cls=Verb,
    examples=[
        ("halfpipe show r0702010205", "a run, named as Level-1 does"),
        ("halfpipe show 29d7d35d", "the same by its eight hex digits"),
        ("halfpipe show 230401001", "a downlink"),
    ],
    statuses={0: "good", 1: "nothing is known of one of them"},
)
@click.argument(
    "what",
    nargs=-1,
    required=True,
    type=EITHER,
    metavar="RUN|DL...",
    help="A run, as 2c2e5787 or r0741234567, or downlinks, as 230401001 or 2023-04-01.",
)
@as_json
def command(site: Site, what: tuple[RunId | DownlinkId, ...], as_json: bool) -> None:
    """Show what is known of runs or downlinks.

    Of a run: which downlink delivered which files of it and when, and why the rest was not delivered. Of a
    downlink: how far it is, its runs, its hand-offs, and what was done to submit them.
    """
    found = [
        show(site.work, each) if isinstance(each, RunId) else show_downlink(site.settings, each)
        for each in what
    ]
    if as_json:
        printed.as_json(work=site.work, shown=found)
        return
    for number, each in enumerate(found):
        if number:
            click.echo()
        _print_run(each) if isinstance(each, Run) else _print_downlink(each)


def _print_run(run: Run) -> None:
    started = f"{run.started:%Y-%m-%d %H:%M:%S} UTC"
    click.echo(f"run {run.run}, {run.l1_run}, started {started}, MET {run.met}")
    printed.table(FILES, [row for part in run.parts for row in _rows(part)])
    for part in run.parts:
        click.echo(f"downlink {part.downlink}, {_when(part)}")
        if not part.files:
            click.echo("  nothing delivered")
        if part.times:
            first, last = map(_utc, part.times)
            click.echo(f"  events from {first} to {last}")
        if part.state:
            click.echo(f"  {part.state} when it was delivered")
        for reason in part.why:
            click.echo(f"  {reason}")
    if run.parts and run.parts[-1].state == "open":
        click.echo(f"what it waits for: halfpipe waiting {run.run}")
    for each in run.repipes:
        click.echo(
            f"re-piped as downlink {each['downlink']}, {each['when']}: {count(each['events'], 'event')}, into a stage "
            "of its own; they do not count here"
        )
    click.echo(f"in all {count(run.events, 'event')} delivered by {count(run.deliveries, 'downlink')}")


def _rows(part: Part) -> list[Sequence[printed.Cell]]:
    return [
        [
            part.downlink,
            file.name,
            file.events,
            f"{file.sequences[0]}-{file.sequences[1]}",
            f"{file.seconds[0]}-{file.seconds[1]}",
            file.sha256[:16],
        ]
        for file in part.files
    ]


def _utc(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"


def _when(part: Part) -> str:
    if part.handoff is None:
        return "not handed off (no manifest)"
    return f"hand-off {part.handoff}, {_utc(part.handed_off)}" if part.handed_off else "not handed off yet"


def _print_downlink(shown: Downlink) -> None:
    one = shown.account
    click.echo(f"downlink {one.downlink}, {one.state}: {one.verdict}")
    for cause in one.causes:
        click.echo(f"  {cause.verdict}: {cause.text}")
        if cause.do:
            click.echo(f"    → {cause.do}")
    click.echo(f"{one.chunks[0]} of {count(one.chunks[1], 'chunk')} decoded")
    for line in shown.running:
        click.echo(f"  {line}")
    printed.table(OF_RECEIPT, [row_of_receipt(run) for run in shown.runs])
    for run, reasons in shown.why.items():
        for reason in reasons:
            click.echo(f"  run {run}: {reason}")
    for run in (said.run for said in shown.runs if said.state == "open"):
        click.echo(f"what run {run} waits for: halfpipe waiting {run}")
    for number, when in shown.handoffs.items():
        click.echo(f"hand-off {number}, {_utc(when) if when else 'not ended, or its receipt is lost'}")
    for attempt in shown.submissions:
        outcome = attempt.outcome or "nobody knows how it ended"
        click.echo(f"{attempt.action} of hand-off {attempt.handoff}, {attempt.when}: {outcome}")
