"""`halfpipe explain`."""

from collections.abc import Callable, Iterator, Sequence

import click

from halfpipe.cli import printed
from halfpipe.cli.verbs import Named, Site, Verb, as_json, read_either, read_run
from halfpipe.errors import HalfPipeError, IdError
from halfpipe.formats import met
from halfpipe.ids import DownlinkId, Downlinks, RunId, RunKind
from halfpipe.status.account import Survey
from halfpipe.status.explanation import WORDS, Explained, State, runs_of, together
from halfpipe.words import count, utc


def _read(text: str) -> RunId | DownlinkId | Downlinks | tuple[RunId, int]:
    run, colon, sequence = text.partition(":")
    if not colon:
        return read_either(text)
    if not sequence.isdecimal():
        raise IdError(f"{sequence!r} is not a sequence: a whole number, as in 2c2e5787:1702")
    return read_run(run), int(sequence)


WHAT = Named("run, downlink, or sequence", _read)


@click.command(
    "explain",
    cls=Verb,
    only_look=True,
    examples=[
        ("halfpipe explain 230401001", "all runs of a downlink"),
        ("halfpipe explain r0702010205", "one run"),
        ("halfpipe explain 29d7d35d:1702", "one sequence of a run"),
    ],
    statuses={0: "all known events are delivered", 1: "some are not, or the run is unknown"},
)
@click.argument(
    "what",
    nargs=-1,
    required=True,
    type=WHAT,
    metavar="DL|RUN|RUN:SEQUENCE...",
    help="A downlink, a run as 2c2e5787 or r0741234567, or one sequence of a run.",
)
@as_json
def command(site: Site, what: tuple[DownlinkId | RunId | tuple[RunId, int], ...], as_json: bool) -> int:
    """Explain why events of a run or a downlink are not delivered, and what to do.

    For the current state of each run, independent of the downlink: what its events wait for, where that may be, and
    the next command. RUN:SEQUENCE explains the events around that sequence.
    """
    if not as_json:
        site.say_trouble()
    looked, every, unread = Survey(site.settings), list[Explained](), 0
    failed = list[HalfPipeError]()
    for each in what:
        asked, sequence = each if isinstance(each, tuple) else (each, None)
        for state in _states(looked, asked, failed.append):
            groups = [one for one in state.groups if sequence is None or one.first <= sequence <= one.last]
            every += groups
            unread += state.unread_waiting
            if not as_json:
                _print_run(state)
                which = "still there" if state.unread else "known"
                _print_groups(groups, which if sequence is None else f"{which} at sequence {sequence}")
    if as_json:
        printed.as_json(work=site.work, groups=every, failed=list(map(str, failed)))
    printed.errors(failed)
    return 1 if every or unread or failed else 0


def _states(
    looked: Survey, asked: DownlinkId | RunId, failed: Callable[[HalfPipeError], object]
) -> Iterator[State]:
    """Yield the state of a run, or of the runs of a downlink. Damaged records of one run hide no other."""
    try:
        runs = runs_of(looked.settings, asked) if isinstance(asked, DownlinkId) else [asked]
    except HalfPipeError as error:
        failed(error)
        return
    for run in runs:
        try:
            yield State(looked, run)
        except HalfPipeError as error:
            failed(error)


def _print_run(state: State) -> None:
    run, now = state.run, state.now
    waiting = count(now.waiting + now.refused, "waits", "wait")
    click.echo(
        f"run {run}, {run.l1}, {RunKind.of(state.segments)}, started {utc(met.met_to_unix(run.met))}: "
        f"{count(now.delivered, 'event')} delivered, {waiting}, {now.late:,} late"
    )
    if state.unread:
        click.echo(
            f"  not looked at: events of downlink {', '.join(state.unread)}, whose chunk products are gone; when the "
            f"run was merged last, {count(state.unread_waiting, 'event')} waited"
        )


def _print_groups(groups: Sequence[Explained], which: str) -> None:
    if not groups:
        click.echo(f"  all its events that are {which} are delivered")
    for alike in together(groups):
        for group in alike:
            where = (
                f"sequence {group.first}"
                if group.first == group.last
                else f"sequences {group.first} to {group.last}"
            )
            events = f"{count(group.events, 'event')} {WORDS[group.kind]}"
            click.echo(f"  {events}: {where} of EPU {group.apid}")
        for line in alike[0].why:
            click.echo(f"    {line}")
        if alike[0].do:
            click.echo(f"    → {alike[0].do}")
