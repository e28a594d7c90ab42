"""`halfpipe explain`."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import click

from halfpipe.causes import CODES, Cause, Code, Verdict
from halfpipe.cli import completion, printed
from halfpipe.cli.verbs import Named, Site, Verb, as_json, read_either
from halfpipe.errors import HalfPipeError, IdError, MissingInputError
from halfpipe.ids import ChunkId, DownlinkId, Downlinks, RunId, RunKind
from halfpipe.words import count, utc

if TYPE_CHECKING:
    from halfpipe.decode.chunk import Chunk
    from halfpipe.status.explanation import Explained, State
    from halfpipe.status.survey import Survey

Run = RunId | tuple[RunId, int]  # all of a run, or one sequence


def _read(text: str) -> Code | DownlinkId | Downlinks | Run:
    if text in CODES:
        return CODES[text]
    run, colon, sequence = text.partition(":")
    if not colon:
        try:
            return read_either(text)
        except IdError as error:
            raise IdError(f"{error}, nor a code of halfpipe status") from error
    if not sequence.isdecimal():
        raise IdError(f"{sequence!r} is not a sequence: a whole number, as in 2c2e5787:1702")
    return RunId.parse(run), int(sequence)


@click.command(
    "explain",
    cls=Verb,
    at_work=False,
    examples=[
        ("halfpipe explain 230401001", "all runs of a downlink"),
        ("halfpipe explain r0702010205", "one run"),
        ("halfpipe explain 29d7d35d:1702", "one sequence of a run"),
        ("halfpipe explain not-taken", "a code of halfpipe status"),
    ],
    statuses={
        0: "all known events are delivered",
        1: "some are not, level-0 is missing, the downlink needs action, or nothing is known of it or of the run",
    },
)
@click.argument(
    "what",
    nargs=-1,
    required=True,
    type=Named(
        "run, downlink, sequence, or code", _read, completion.downlinks, completion.runs, completion.codes
    ),
    metavar="DL|RUN|RUN:SEQUENCE|CODE...",
    help="A downlink, a run as 2c2e5787 or r0741234567, one sequence of a run, or a code.",
)
@as_json
def command(site: Site, what: tuple[Code | DownlinkId | Run, ...], as_json: bool) -> int:
    """Explain why events of a run or a downlink are not delivered, or what a code means, and what to do.

    It explains the current state of each run, with the chunks of all downlinks: what its events wait for, where these
    data may be, and the next command. RUN:SEQUENCE explains the events around that sequence. For a downlink, it also
    prints the causes that `halfpipe status` has, each with its phase.
    """
    codes = [one for one in what if isinstance(one, Code)]
    asked_runs = [one for one in what if not isinstance(one, Code)]
    for one in () if as_json else codes:
        click.echo(f"{one.code} (phase: {one.phase}): {one.meaning}\n  → {one.action}")
    if not asked_runs:  # a code needs no site
        if as_json:
            printed.as_json(codes=codes)
        return 0
    site.check()
    if not as_json:
        site.say(trouble=True)
    from halfpipe.status.explanation import without_level0
    from halfpipe.status.survey import Survey

    survey = Survey(site.settings)
    every: list[Explained] = []
    unread = 0
    short: dict[tuple[DownlinkId, ChunkId], Chunk] = {}
    failed: list[HalfPipeError] = []
    causes: dict[tuple[DownlinkId, str], Cause] = {}
    for each in asked_runs:
        asked, sequence = each if isinstance(each, tuple) else (each, None)
        runs = _runs(survey, asked, failed.append)
        if isinstance(asked, DownlinkId):
            found = _causes(survey, asked, bool(runs), failed.append)
            causes |= {(asked, cause.text): cause for cause in found}
        for state in _states(survey, runs or (), failed.append):
            groups = [one for one in state.groups if sequence is None or one.first <= sequence <= one.last]
            every += groups
            unread += len(state.unread)
            short |= {(chunk.downlink, chunk.chunk): chunk for chunk in state.short}
            if not as_json:
                _print_run(state)
                if not (groups or state.unread or state.short):
                    which = "" if sequence is None else f" at sequence {sequence}"
                    click.echo(f"  all its known events{which} are delivered")
                _print_groups(groups)
    causes |= {(dl, cause.text): cause for dl, cause in without_level0(survey, short.values())}
    told = " ".join(line for group in every for line in group.why)
    for (downlink, _), cause in () if as_json else causes.items():
        if cause.text in told:
            continue
        head = f"downlink {downlink} (phase: {cause.phase}): {cause.text}"
        click.echo("\n  ".join([head, *cause.lines]))
    if as_json:
        printed.as_json(
            work=site.work,
            groups=every,
            causes=list(causes.values()),
            codes=codes,
            failed=list(map(str, failed)),
        )
    printed.errors(failed)
    return 1 if every or unread or causes or failed else 0


def _runs(
    survey: "Survey", asked: DownlinkId | RunId, failed: Callable[[HalfPipeError], object]
) -> list[RunId] | None:
    """Return the run, or the runs of a downlink; None if they cannot be listed."""
    from halfpipe.status.explanation import runs_of

    try:
        return runs_of(survey.settings, asked) if isinstance(asked, DownlinkId) else [asked]
    except HalfPipeError as error:
        failed(error)
        return None


def _causes(
    survey: "Survey", downlink: DownlinkId, has_runs: bool, failed: Callable[[HalfPipeError], object]
) -> list[Cause]:
    """Return the causes of a downlink's account that need action; all of them if it has no runs yet."""
    from halfpipe.status.account import account

    one = account(survey, downlink)
    if not has_runs and not one.causes:
        failed(MissingInputError(f"downlink {downlink} contains no run ({one.state})."))
    return [cause for cause in one.causes if not has_runs or cause.verdict is Verdict.ACTION]


def _states(
    survey: "Survey", runs: Iterable[RunId], failed: Callable[[HalfPipeError], object]
) -> Iterator["State"]:
    """Yield the state of each run. Damaged records of one run hide no other."""
    from halfpipe.status.explanation import State

    for run in runs:
        try:
            yield State(survey, run)
        except HalfPipeError as error:
            failed(error)


def _print_run(state: "State") -> None:
    from halfpipe.formats import met

    run = state.run
    now = state.survey.books(state.run)
    numbers = "its numbers are not known"
    if books := now.books:
        waiting = count(books.all_waiting, "waits", "wait")
        numbers = f"{count(books.delivered, 'event')} delivered, {waiting}, {books.late:,} late"
    click.echo(
        f"run {run}, {run.l1}, {RunKind.of(state.segments)}, started {utc(met.met_to_unix(run.met))}: {numbers}"
    )
    for why in state.unread.values():
        click.echo(f"  {why}, so its events are not explained here")
    if now.old and now.books:
        click.echo("  the numbers are those of the last merge")


def _print_groups(groups: Sequence["Explained"]) -> None:
    from halfpipe.status.explanation import together

    for alike in together(groups):
        for group in alike:
            where = (
                f"sequence {group.first}"
                if group.first == group.last
                else f"sequences {group.first} to {group.last}"
            )
            events = f"{count(group.events, 'event')} {group.kind}"
            click.echo(f"  {events}: {where} of EPU {group.apid}")
        for line in alike[0].why:
            click.echo(f"    {line}")
        if alike[0].do:
            click.echo(f"    → {alike[0].do}")
