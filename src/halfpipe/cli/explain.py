"""`halfpipe explain`."""

from collections.abc import Sequence

import click

from halfpipe.cli import printed
from halfpipe.cli.verbs import Known, Site, Verb, as_json, known, read_either, read_run
from halfpipe.errors import IdError
from halfpipe.formats import met
from halfpipe.ids import DownlinkId, Downlinks, RunId
from halfpipe.merge.undelivered import Kind
from halfpipe.status.account import Site as Looked
from halfpipe.status.explanation import (
    HELD,
    Explained,
    OfRun,
    Place,
    State,
    explain,
    explain_sequence,
    runs_of,
    together,
)
from halfpipe.words import count, utc

SAYS = {
    Kind.ORPHAN: ("waits", "wait"),
    Kind.WITHHELD: ("is withheld", "are withheld"),
    Kind.LATE: ("is late", "are late"),
    Kind.DUE: ("is due", "are due"),
    HELD: ("is held", "are held"),
}
Asked = DownlinkId | RunId | tuple[RunId, int]


def _read(text: str) -> Asked:
    run, colon, sequence = text.partition(":")
    if not colon:
        asked = read_either(text)
        return DownlinkId(asked) if isinstance(asked, Downlinks) else asked
    if not sequence.isdecimal() or int(sequence) >= 2**64:
        raise IdError(f"{sequence!r} is no sequence: a whole number, as in 2c2e5787:1702")
    return read_run(run), int(sequence)


WHAT = Known("run, downlink, or sequence", _read, known)


@click.command(
    "explain",
    cls=Verb,
    examples=[
        ("halfpipe explain 230401001", "all runs of a downlink"),
        ("halfpipe explain r0702010205", "one run"),
        ("halfpipe explain 29d7d35d:1702", "one sequence of a run"),
    ],
    statuses={0: "all events that are known are delivered", 1: "some are not, or nothing is known of it"},
)
@click.argument(
    "what",
    nargs=-1,
    required=True,
    type=WHAT,
    metavar="DL|RUN|RUN:SEQUENCE...",
    help="A downlink, a run as 2c2e5787 or r0741234567, or one sequence of it.",
)
@as_json
def command(site: Site, what: tuple[Asked, ...], as_json: bool) -> int:
    """Explain why events of a run or a downlink are not delivered, and what to do.

    It explains each run as it stands now, whichever downlinks have brought it: what its events wait for, where that may
    be, and the next command.
    """
    looked = Looked(site.settings)
    found: list[OfRun | Place] = []
    for each in what:
        if isinstance(each, tuple):
            found.append(explain_sequence(State(looked, each[0]), each[1]))
        else:
            runs = runs_of(site.settings, each) if isinstance(each, DownlinkId) else [each]
            found += [explain(State(looked, run)) for run in runs]
    if as_json:
        printed.as_json(work=site.work, groups=[group for one in found for group in one.groups])
    else:
        for number, one in enumerate(found):
            if number:
                click.echo()
            _print_run(one) if isinstance(one, OfRun) else _print_place(one)
    return 1 if any(one.groups for one in found) else 0


def _print_run(of: OfRun) -> None:
    waiting = count(of.events(Kind.ORPHAN, Kind.DUE, HELD), "waits", "wait")
    click.echo(
        f"run {of.run}, {of.run.l1}, {of.kind}, started {utc(met.met_to_unix(of.run.met))}: "
        f"{count(of.delivered, 'event')} delivered, {waiting}, {of.events(Kind.LATE):,} late"
    )
    if of.repeated:
        is_one = of.repeated == 1
        click.echo(
            f"  {count(of.repeated, 'copy of an event', 'copies of events')} {'was' if is_one else 'were'} known "
            "already: each event is delivered once"
        )
    if of.unread:
        click.echo(
            f"  not looked at: events of downlink {', '.join(of.unread)}, whose tables were cleaned up"
        )
    if not of.groups:
        click.echo("  all its events that are known are delivered")
    _print_groups(of.groups)


def _print_place(of: Place) -> None:
    click.echo(f"run {of.run}, sequence {of.sequence}")
    for line in of.known:
        click.echo(f"  {line}")
    _print_groups(of.groups)


def _print_groups(groups: Sequence[Explained]) -> None:
    for alike in together(groups):
        for group in alike:
            one, many = SAYS[group.kind]
            where = (
                f"sequence {group.first}"
                if group.first == group.last
                else f"sequences {group.first} to {group.last}"
            )
            click.echo(
                f"  {count(group.events, f'event {one}', f'events {many}')}: {where} of EPU {group.apid}"
            )
        for line in alike[0].why:
            click.echo(f"    {line}")
        if alike[0].do:
            click.echo(f"    {'→' if printed.on_terminal() else '>'} {alike[0].do}")
