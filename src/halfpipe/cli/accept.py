"""`halfpipe accept`."""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence

import click

from halfpipe import paths
from halfpipe.cli import completion
from halfpipe.cli.verbs import Site, Verb, reason_given, row_options
from halfpipe.decisions import DECIDED_OF, Decisions, Subject, What, decide
from halfpipe.errors import IdError
from halfpipe.words import count

REOPENED = "reopened"
FOLLOWS = {
    What.LEFT_OUT: "no merge uses the chunk, and Level-1 does not get its events",
    What.EVENTS: "Level-1 does not get these events",
    What.LEVEL0: "Level-1 does not get the events in this level-0",
    What.LATE: "Level-1 does not get these events",
    What.SHRUNK: "the next hand-off has fewer events than Level-1 may have, and needs a rollback there",
    What.ABANDONED: "all known events of the run are delivered, and Level-1 may retire the run",
}
AGAIN = {What.LEFT_OUT, What.SHRUNK}  # another hand-off follows


@click.command(
    "accept",
    cls=Verb,
    only_look=True,
    examples=[
        ("halfpipe accept", "list the decisions"),
        ('halfpipe accept 230401001/00003 events=12 --reason "…"', "do without 12 events of a chunk"),
        ('halfpipe accept 230401001/00003 left-out --reason "…"', "use nothing of a chunk"),
        ('halfpipe accept r0702010205 abandoned --reason "EPU 1 was off"', "deliver its known events"),
        ('halfpipe accept 230401001/29d7d35d reopened --reason "…"', "after a rollback in Level-1"),
        ('halfpipe accept 230401001/00003 events --undo --reason "…"', "take a decision back"),
    ],
    statuses={
        0: "good; what was decided before is not changed",
        1: "refused: unknown, not open, or the number is another one now; then nothing was recorded",
    },
)
@click.argument(
    "words",
    nargs=-1,
    metavar="[SUBJECT WHAT[=N]]...",
    shell_complete=completion.completes(completion.decided, completion.downlinks),
    help="As a message of halfpipe status shows them; none: list.",
)
@click.option("--reason", metavar="TEXT", help="Why, for the next person; who and when are added.")
@click.option("--undo", is_flag=True, help="Take the decision back. What was delivered stays delivered.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@row_options
def command(site: Site, words: tuple[str, ...], reason: str | None, undo: bool, yes: bool) -> None:
    """Decide to do without something, and list what was decided.

    A decision covers the number that you looked at. If the number grows, the problem is back. Details:
    docs/deciding.md.
    """
    from halfpipe.state.downlinks_of_run import begun_downlinks
    from halfpipe.status.deciding import covered

    decided = [*_parsed(words, undo=undo)]
    why = reason_given(reason) if decided else ""
    if undo and not decided:
        raise click.UsageError("Name what to undo, as in: halfpipe accept 230401001/00003 events --undo.")
    if decided and not undo:
        _refuse_unfit(site, decided)
    if decided and not yes and sys.stdin.isatty() and not click.confirm("Record this?", err=True):
        raise click.Abort
    for name, subject, number in decided:
        if name == REOPENED:
            _reopen(site, subject, why)
            continue
        what = What(name)
        is_new = decide(site.work, what, subject, number, why, undone=undo)
        click.echo(f"{subject} {what}: {'recorded' if is_new else 'was decided before'}", err=True)
        if what is What.ABANDONED and subject.run is not None:
            last = max(begun_downlinks(site.work, subject.run), default="DL")
            ledger = f" {paths.loaded(last)}" if site.settings.ledger.url else ""
            click.echo(f"to deliver at once: snakemake dl={last}{ledger} -R deliver_run", err=True)
        elif what in AGAIN:
            click.echo(f"next: snakemake dl={subject.downlink}", err=True)
    covers = covered(site.settings)
    found = [
        {"subject": one.subject, "what": str(one.what), "number": one.number, "covers": covers(one)}
        | {"who": one.who, "host": one.host, "when": one.when, "reason": one.reason}
        for one in Decisions.read(site.work).of_kind(*map(What, DECIDED_OF))
    ]
    site.listed("decisions", found, count(len(found), "decision"))


def _parsed(words: Sequence[str], *, undo: bool) -> Iterator[tuple[str, Subject, int | None]]:
    """Yield what is decided, about what, and the number; None without one."""
    if len(words) % 2:
        raise click.UsageError("Name a subject and what you accept, as in: 230401001/00003 events=12.")
    for name, decided in zip(words[::2], words[1::2], strict=True):
        what, equals, number = decided.partition("=")
        try:
            subject = Subject.parse(name)
        except IdError as error:
            raise click.UsageError(f"{name}: {error}.") from error
        if what not in DECIDED_OF and what != REOPENED:
            raise click.UsageError(f"{what}: not one of {', '.join([*DECIDED_OF, REOPENED])}.")
        kind = DECIDED_OF.get(what, "a run of a downlink")
        if subject.kind != kind:
            raise click.UsageError(f"{what} is about {kind}, and {name} is {subject.kind}.")
        if undo and what == REOPENED:
            raise click.UsageError(f"{REOPENED} cannot be undone: other downlinks may have delivered since.")
        counts = what != REOPENED and What(what).is_counted and not undo
        if counts != bool(equals) or (counts and not number.isdecimal()):
            form = f"{what}=N" if counts else what
            raise click.UsageError(f"{decided}: write {form}.")
        yield what, subject, int(number) if counts else None


def _refuse_unfit(site: Site, decided: Iterable[tuple[str, Subject, int | None]]) -> None:
    """Refuse all if one does not fit the site now, and say what follows from each."""
    from halfpipe.status.deciding import offers, refuse_unfit
    from halfpipe.status.survey import Survey

    survey = Survey(site.settings, time.time())
    offered = offers(survey)
    for name, subject, number in decided:
        if name == REOPENED:
            continue
        # As of the moment of the offers, because another person may decide the same just now.
        known = survey.decisions.in_force.get((What(name), str(subject)))
        if known is None or known.number != number:
            refuse_unfit(survey, offered, What(name), subject, number)
            click.echo(f"{subject}: {FOLLOWS[What(name)]}", err=True)


def _reopen(site: Site, subject: Subject, why: str) -> None:
    from halfpipe.state import deliveries

    assert subject.downlink is not None
    assert subject.run is not None
    spans = deliveries.release(site.settings, subject.run, subject.downlink, why)
    sequences = ", ".join(f"{first} to {last}" for first, last in spans)
    said = f"sequences {sequences} of downlink {subject.downlink} are open to other downlinks"
    click.echo(f"run {subject.run} ({subject.run.l1}): {said}", err=True)
