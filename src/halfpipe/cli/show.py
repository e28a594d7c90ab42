"""`halfpipe show`."""

import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from halfpipe import paths
from halfpipe.cli import printed
from halfpipe.cli.verbs import Known, Site, Verb, as_json, read_either
from halfpipe.errors import HalfPipeError, IdError
from halfpipe.formats import evt_view
from halfpipe.ids import DownlinkId, Downlinks, RunId
from halfpipe.run import force_list
from halfpipe.tables import names
from halfpipe.words import count

if TYPE_CHECKING:
    from pandas import DataFrame

What = RunId | DownlinkId | Path
STAGED = {"handoff": "staged"}  # what stands beside "submitted": the numbers of two hand-offs
RECEIPT_DROP = ("l1_run", "files")


def _read(text: str) -> RunId | DownlinkId | Downlinks | Path:
    try:
        return Path(text) if text.endswith(".evt") else read_either(text)
    except IdError as error:
        raise IdError(f"{error}, and no event file, whose name ends in .evt") from error


def _view(name: str, text: str) -> Callable[[Any], Any]:
    return click.option(f"--{name}", "view", flag_value=name, help=text)


@click.command(
    "show",
    cls=Verb,
    at_work=False,
    examples=[
        ("halfpipe show r0702010205", "a run, named as Level-1 does, or 29d7d35d"),
        ("halfpipe show 230401001", "a downlink"),
        ("halfpipe show --delivered 2023-04 --csv", "what was delivered, for a spreadsheet"),
        ("halfpipe show --jobs --by day", "how fast jobs were from day to day"),
        ("halfpipe show FILE.evt --event -1", "the last event of a file"),
    ],
    statuses={
        0: "good",
        1: "not all could be shown, a file is not good, or a run waits that was not abandoned",
    },
)
@click.argument(
    "what",
    nargs=-1,
    type=Known("run", _read, lambda work: [*names.downlinks(work), *names.runs(work)]),
    metavar="[RUN|DL|FILE]...",
    help="Runs, as 2c2e5787 or r0741234567; downlinks, as 230401001 or 2023-04; event files.",
)
@_view("delivered", "What was delivered, a line for each downlink and run: of DL..., or of all.")
@_view("waiting", "The runs that are not complete, and what each waits for: RUN..., or all.")
@_view("jobs", "What the jobs of each rule took, and how fast they were: of DL..., or of all.")
@_view("index", "The merged index of RUN within DL: datagrams, then events, delivered or not.")
@_view("check", "Whether event files are sound, a line for each FILE or fault.")
@click.option("--days", type=float, help="--waiting: runs older than this, not than retire.report_days.")
@click.option("--by", type=click.Choice(["day"]), help="--jobs: by the day on which they began, UTC.")
@click.option("--event", type=int, metavar="N", help="Event N of FILE, from 0; -1 is the last.")
@click.option("--sequence", type=int, metavar="S", help="Every event of FILE with this GEM sequence.")
@click.option("--csv", "as_csv", is_flag=True, help="Print comma separated values.")
@as_json
def command(site: Site, what: tuple[What, ...], view: str | None, **options: Any) -> int | None:
    """Show runs, downlinks and event files; what was delivered, which runs wait, how fast jobs were.

    Of a run: which downlink delivered which files of it and when; why the rest was not, `halfpipe explain` says. Of a
    downlink: how far it is, its runs, its hand-offs, and what was done to submit them. Of an event file: its header
    and counts, or any event with all its fields.
    """
    wanted: tuple[type, ...] = WANTED.get(view or "", (RunId, DownlinkId))
    if view is None and what and all(isinstance(one, Path) for one in what):
        view, wanted = "file", (Path,)
    if (not what and view in {None, "index", "check"}) or not all(isinstance(one, wanted) for one in what):
        option, kinds = f"--{view}: " if view else "", " or ".join(CALLED[kind] for kind in wanted)
        raise click.UsageError(f"{option}name {kinds}, and nothing else.")
    if wanted != (Path,):
        site.check()
        if not options["as_json"] and not options["as_csv"]:
            site.say()
    return VIEWS[view](site, what, options)


def _everything(site: Site, what: tuple[Any, ...], options: Mapping[str, Any]) -> int:
    from halfpipe.tables.summaries import show, show_downlink

    found = [
        show(site.work, one) if isinstance(one, RunId) else show_downlink(site.settings, one) for one in what
    ]
    if options["as_json"]:
        printed.as_json(work=site.work, simulated=site.settings.is_simulated, shown=found)
        return 0
    for number, each in enumerate(found):
        if number:
            click.echo()
        _print_run(each) if "parts" in each else _print_downlink(each)
    return 0


def _print_run(run: Mapping[str, Any]) -> None:
    parts, files = run["parts"], run["files"]
    click.echo(f"run {run['run']}, {run['l1_run']}, started {_utc(run['started'])}, MET {run['met']}")
    printed.table(parts.rename(columns=STAGED), drop=["begin", "end", "handed_off"])
    printed.table(files.assign(sha256=files["sha256"].str[:16]), drop=["sha256", "MET"])
    for each in run["repipes"]:
        click.echo(
            f"re-piped as downlink {each['downlink']}, {each['when']}: {count(each['events'], 'event')}, into a stage "
            "of its own; they do not count here"
        )
    events = parts[parts["events"].notna()]
    click.echo(f"in all {_staged(events)} by {count(len(events), 'downlink')}")


def _staged(rows: "DataFrame") -> str:
    """Say how many events were staged, and of how many of them Level-1 was told."""
    told = rows[rows["submitted"].notna() & (rows["submitted"] == rows["handoff"])]
    return f"{count(sum(rows['events']), 'event')} staged, {sum(told['events']):,} of them submitted,"


def _utc(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"


def _print_downlink(shown: Mapping[str, Any]) -> None:
    one = shown["account"]
    click.echo(f"downlink {one.downlink}, {one.state}: {one.verdict}")
    for cause in one.causes:
        click.echo(f"  {cause.verdict}: {cause.text}")
        for step in cause.remedy.steps:
            click.echo(f"    → {step}")
    click.echo(f"{one.chunks[0]} of {count(one.chunks[1], 'chunk')} decoded")
    for line in shown["running"]:
        click.echo(f"  {line}")
    printed.table(shown["runs"].rename(columns=STAGED), drop=RECEIPT_DROP)
    for number, when in shown["handoffs"].items():
        click.echo(f"hand-off {number}, {_utc(when) if when else 'not ended, or its receipt is lost'}")
    for attempt in shown["submissions"]:
        outcome = attempt["outcome"] or "nobody knows how it ended"
        click.echo(f"{attempt['action']} of hand-off {attempt['handoff']}, {attempt['when']}: {outcome}")


def _table(site: Site, options: Mapping[str, Any], key: str, found: "DataFrame", **more: Any) -> bool:
    """Print a frame as the options ask for; `more` is what JSON has besides. Tell whether a person reads it."""
    if options["as_json"]:
        printed.as_json(work=site.work, **more, **{key: found})
    elif options["as_csv"]:
        found.to_csv(sys.stdout, index=False)
    return not options["as_json"] and not options["as_csv"]


def _delivered(site: Site, what: tuple[Any, ...], options: Mapping[str, Any]) -> int:
    from halfpipe.tables import frames

    every = (dl for dl in names.downlinks(site.work) if (site.work / paths.receipt(dl)).exists())
    failed: list[HalfPipeError] = []
    found = frames.runs(frames.receipts(site.work, what or every, failed.append))
    found = frames.with_submitted(site.work, found, failed.append)
    if _table(site, options, "delivered", found, failed=list(map(str, failed))):
        printed.table(found.rename(columns=STAGED), drop=RECEIPT_DROP)
        downlinks, runs = (count(found[name].nunique(), name) for name in ("downlink", "run"))
        click.echo(f"{downlinks}, {runs}, {_staged(found).removesuffix(',')}")
    for error in failed:
        click.echo(f"error: {error}", err=True)
    return 1 if failed else 0


def _waiting(site: Site, what: tuple[Any, ...], options: Mapping[str, Any]) -> int:
    from halfpipe.tables.incomplete_runs import waiting

    days = site.settings.retire.report_days if options["days"] is None else options["days"]
    refused = force_list.read(site.work).refused
    found = waiting(site.settings, what or names.runs(site.work), days, time.time())
    given_up = (found["state"] == "abandoned").sum()
    if _table(site, options, "runs", found, days=days, refused=refused):
        for complaint in refused:
            click.echo(complaint)
        printed.table(found, drop=["met", "started", "downlinks"], notes=slice(None))
        click.echo(
            f"{count(len(found), 'open run')} older than {days:g} days"
            f"{f', {given_up} of them abandoned' if given_up else ''}"
        )
    return 1 if refused or given_up < len(found) else 0


def _jobs(site: Site, what: tuple[Any, ...], options: Mapping[str, Any]) -> int:
    from halfpipe.tables import jobs

    wanted = what or jobs.downlinks(site.work)
    found = jobs.rates(jobs.jobs(site.work, wanted), ["day", "rule"] if options["by"] else ["rule"])
    if _table(site, options, "jobs", found, downlinks=wanted):
        printed.table(found, drop=["CPU_s", "memory_MB", "max_s"])
        click.echo(f"{count(len(wanted), 'downlink')}, {count(found['jobs'].sum(), 'job')}")
    return 0


def _index(site: Site, what: tuple[Any, ...], options: Mapping[str, Any]) -> int:
    from halfpipe.tables import index_text

    run, downlink = (
        sorted(what, key=lambda one: isinstance(one, DownlinkId)) if len(what) == 2 else (None, None)
    )
    if not isinstance(run, RunId) or not isinstance(downlink, DownlinkId):
        raise click.UsageError("--index: name a run and a single downlink.")
    sys.stdout.buffer.writelines(index_text.text(site.work, run, downlink))
    sys.stdout.buffer.flush()
    return 0


def _file(site: Site, what: tuple[Any, ...], options: Mapping[str, Any]) -> int:
    event, sequence = options["event"], options["sequence"]
    if event is not None and sequence is not None:
        raise click.UsageError("--event and --sequence: give one of the two.")
    for path in what:
        if event is None and sequence is None:
            lines = evt_view.describe_file(path)
        else:
            lines = evt_view.describe_events(path, number=event, sequence=sequence)
        for line in lines:
            click.echo(line)
    return 0


def _check(site: Site, what: tuple[Any, ...], options: Mapping[str, Any]) -> int:
    results = [_checked(path) for path in what]
    bad = sum(bool(one["faults"]) for one in results)
    if options["as_json"]:
        printed.as_json(files=results)
        return 1 if bad else 0
    for one in results:
        for fault in one["faults"] or [f"{count(one['events'], 'event')}, good"]:
            click.echo(f"{one['file']}: {fault}")
    if bad:
        click.echo(f"not good: {bad} of {count(len(what), 'file')}; have them made again", err=True)
    return 1 if bad else 0


def _checked(path: Path) -> dict[str, Any]:
    try:
        verdict = evt_view.check_evt(path)
    except HalfPipeError as error:
        return {"file": path, "events": 0, "faults": [str(error).removeprefix(f"{path}: ")]}
    return {"file": path, "events": verdict.events, "faults": verdict.faults}


VIEWS = {
    None: _everything,
    "delivered": _delivered,
    "waiting": _waiting,
    "jobs": _jobs,
    "index": _index,
    "check": _check,
    "file": _file,
}
CALLED: Mapping[type, str] = {
    RunId: "runs",
    DownlinkId: "downlinks",
    Path: "event files, whose names end in .evt",
}
WANTED: Mapping[str, tuple[type, ...]] = {
    "delivered": (DownlinkId,),
    "jobs": (DownlinkId,),
    "waiting": (RunId,),
    "check": (Path,),
}
