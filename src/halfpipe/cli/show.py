"""`halfpipe show`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from halfpipe.cli import completion, printed
from halfpipe.cli.verbs import Named, Site, Verb, read_either, row_options
from halfpipe.errors import HalfPipeError
from halfpipe.ids import DownlinkId, RunId
from halfpipe.words import count, utc

if TYPE_CHECKING:
    from pandas import DataFrame

    from halfpipe.status.account import Account
    from halfpipe.tables.frames import StepByStep

TABLES = ("downlinks", "runs", "files", "chunks", "waiting", "jobs", "records")
TABLE_DROP = (
    "old",
    "sha256",
    "begin_met",
    "end_met",
    "handed_off",
    "started_met",
    "first_sequence",
    "last_sequence",
    "begin",
    "end",
    "l1_run",
    "started",
    "files",
    "downlinks",
    "problem",
)


@click.command(
    "show",
    cls=Verb,
    at_work=False,
    examples=[
        ("halfpipe show r0702010205", "a run, named as Level-1 does, or 29d7d35d"),
        ("halfpipe show 230401001", "a downlink"),
        ("halfpipe show --table runs 2023-04 -o april.csv", "deliveries, for other programs"),
        ("halfpipe show FILE.evt --event -1", "the last event of a file"),
    ],
    statuses={0: "good", 1: "something could not be shown, or a run waits that was not abandoned"},
)
@click.argument(
    "what",
    nargs=-1,
    type=Named(
        "run",
        lambda text: Path(text) if text.endswith(".evt") else read_either(text),
        completion.downlinks,
        completion.runs,
    ),
    metavar="[RUN|DL|FILE]...",
    help="Runs, as 2c2e5787 or r0741234567; downlinks, as 230401001 or 2023-04; event files.",
)
@click.option(
    "--table",
    "name",
    type=click.Choice(TABLES),
    help="Print a table (docs/frames.md): waiting for RUN..., the others for DL...; none: all.",
)
@click.option(
    "--books",
    "books",
    is_flag=True,
    help="The books of RUN or DL: events decoded, merged, delivered, in files and submitted.",
)
@click.option("--days", type=float, help="--table waiting: least age of a run; replaces retire.report_days.")
@click.option("--event", type=int, metavar="N", help="Event N of FILE, from 0; -1 is the last.")
@click.option("--sequence", type=int, metavar="S", help="Every event of FILE with this GEM sequence.")
@row_options
def command(
    site: Site,
    what: tuple[Any, ...],
    name: str | None,
    books: bool,
    days: float | None,
    event: int | None,
    sequence: int | None,
) -> int:
    """Show runs, downlinks and event files; deliveries, and runs that wait.

    For a run: the files, with their downlinks and times (`halfpipe explain`: why the rest is not delivered). For a
    downlink: its progress, its runs, its hand-offs and submissions. For an event file: its header and counts, or an
    event with all fields.
    """
    files = [one for one in what if isinstance(one, Path)]
    if files and len(files) == len(what) and not (name or books):
        return _files(files, event, sequence)
    known = {None: (RunId, DownlinkId), "waiting": (RunId,)}.get(name, (DownlinkId,))
    of_file = event is not None or sequence is not None
    if not (what or name) or (name and books) or of_file or not all(isinstance(one, known) for one in what):
        raise click.UsageError(
            "Name runs and downlinks, or event files (.evt). --event and --sequence take event files, --table waiting "
            "takes runs, other tables take downlinks."
        )
    site.check()
    if site.form == "table":
        site.say(trouble=True)
    if name is not None:
        return _table(site, name, what, days)
    if site.form not in printed.FORMS[:2]:
        raise click.UsageError("A summary is text or JSON; for rows use --table.")
    from halfpipe.status.survey import Survey
    from halfpipe.tables import frames

    found: list[frames.StepByStep | ShownRun | ShownDownlink] = []
    failed: list[HalfPipeError] = []
    for one in what:
        try:
            if books:
                found.append(frames.books(Survey(site.settings), one))
            elif isinstance(one, RunId):
                found.append(_run(site, one, failed))
            else:
                found.append(_downlink(site, one))
        except HalfPipeError as error:  # damaged records of one do not hide the others
            failed.append(error)
    if site.form != "table":
        said = {"shown": found, "failed": list(map(str, failed))}
        printed.as_json(work=site.work, simulated=site.settings.is_simulated, **said)
    else:
        for each in found:
            if isinstance(each, ShownRun):
                _print_run(each)
            elif isinstance(each, ShownDownlink):
                _print_downlink(each)
            else:
                _print_books(each)
    printed.errors(failed)
    balances = all(each.balances for each in found if isinstance(each, frames.StepByStep))
    return 0 if balances and not failed else 1


@dataclass(frozen=True)
class ShownRun:
    """What is shown of a run: its deliveries, with the columns of `halfpipe.tables.columns.RUNS`, and their files."""

    run: RunId
    l1_run: str
    started: datetime
    met: int
    parts: "DataFrame"
    files: "DataFrame"


@dataclass(frozen=True)
class ShownDownlink:
    """What is shown of a downlink: its account, runs and records, and the last lines of running jobs."""

    account: "Account"
    runs: "DataFrame"
    records: "DataFrame"
    running: Sequence[str]


def _run(site: Site, run: RunId, failed: list[HalfPipeError]) -> ShownRun:
    """Return what is shown of a run, also of downlinks in progress; add the errors of damaged submissions."""
    from halfpipe.formats import met
    from halfpipe.state.deliveries import Deliveries
    from halfpipe.state.downlinks_of_run import refuse_unknown
    from halfpipe.tables.columns import RUNS
    from halfpipe.tables.frames import event_files, run_row
    from halfpipe.tables.site_frames import SiteFrames

    refuse_unknown(site.work, run)
    latest = Deliveries(site.work, run, only_look=True).latest()
    frames = SiteFrames(site.settings, latest)
    rows = [run_row(run, made, made.handoff, frames.submitted(downlink)) for downlink, made in latest.items()]
    failed.extend(frames.problems.values())
    parts = RUNS.frame(rows).droplevel("run").drop(columns=["l1_run", "kind", "started", "started_met"])
    files = event_files((run, made) for made in latest.values()).droplevel("run")
    return ShownRun(run, run.l1, met.utc_datetime(met.met_to_unix(run.met)), run.met, parts, files)


def _downlink(site: Site, downlink: DownlinkId) -> ShownDownlink:
    """Return what is shown of a downlink."""
    from halfpipe.process.failure_record import Failure
    from halfpipe.state.downlinks_of_run import refuse_unknown_downlink
    from halfpipe.status.account import account
    from halfpipe.status.failed_jobs import end_of, failed_jobs
    from halfpipe.status.survey import Survey
    from halfpipe.tables.site_frames import SiteFrames

    refuse_unknown_downlink(site.settings, downlink)
    frames = SiteFrames(site.settings, [downlink])
    begun = [failed.log for failed in failed_jobs(site.work, downlink) if Failure.read(failed.log) is None]
    return ShownDownlink(
        account(Survey(site.settings), downlink),
        frames.runs,
        frames.records.droplevel("downlink"),
        [f"{log.stem}: {''.join(end_of(log, 1))}" for log in begun],
    )


def _files(files: Sequence[Path], event: int | None, sequence: int | None) -> int:
    from halfpipe.formats import evt_view

    if event is not None and sequence is not None:
        raise click.UsageError("Give --event or --sequence, not both.")
    for path in files:
        lines = (
            evt_view.describe_file(path)
            if event is None and sequence is None
            else evt_view.describe_events(path, number=event, sequence=sequence)
        )
        for line in lines:
            click.echo(line)
    return 0


def _print_books(one: "StepByStep") -> None:
    click.echo(f"books of {one.what}")
    for part in (one.chunks, one.runs, one.accounts):
        printed.table(part)
    for finding in one.findings:
        printed.cause(finding.verdict, finding)


def _print_run(one: ShownRun) -> None:
    click.echo(f"run {one.run}, {one.l1_run}, started {utc(one.started.timestamp())}, MET {one.met}")
    printed.table(one.parts, drop=TABLE_DROP)
    printed.table(one.files, drop=TABLE_DROP)
    click.echo(f"in all {_staged(one.parts)}, by {count(sum(one.parts.events > 0), 'downlink')}")


def _staged(rows: "DataFrame") -> str:
    """Return how many events were staged, and how many of them were submitted."""
    told = rows.events[rows.submitted == rows.handoff]
    return f"{count(rows.events.sum(), 'event')} staged, {told.sum():,} of them submitted"


def _print_downlink(shown: ShownDownlink) -> None:
    one = shown.account
    click.echo(f"downlink {one.downlink}, {one.state}: {one.verdict}")
    for cause in one.causes:
        printed.cause(cause.verdict, cause)
    click.echo(f"{one.chunks[0]} of {count(one.chunks[1], 'chunk')} decoded")
    for line in shown.running:
        click.echo(f"  {line}")
    printed.table(shown.runs, drop=TABLE_DROP)
    printed.table(shown.records, drop=["reason"])


def _table(site: Site, name: str, what: Sequence[RunId | DownlinkId], days: float | None) -> int:
    from halfpipe.tables.site_frames import SiteFrames

    frames = SiteFrames(site.settings, what or None)
    found = getattr(frames, name)
    foot = count(len(found), name.removesuffix("s"))
    is_bad = False
    if name == "runs":
        of = (count(found.index.get_level_values(each).nunique(), each) for each in ("downlink", "run"))
        foot = ", ".join([*of, _staged(found)])
    if name == "waiting":
        days = site.settings.retire.report_days if days is None else days
        found = found.query("days > @days")
        abandoned = int((found.state == "abandoned").sum())
        more = f", {abandoned} of them abandoned" if abandoned else ""
        foot = f"{count(len(found), 'open run')} older than {days:g} days{more}"
        is_bad = abandoned < len(found)
    document = {"failed": list(map(str, frames.problems.values()))}
    site.listed(name, found, foot, drop=TABLE_DROP, document=document)
    printed.errors(frames.problems.values())
    return 1 if is_bad or frames.problems else 0
