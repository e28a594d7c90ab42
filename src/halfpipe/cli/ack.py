"""`halfpipe ack`."""

from collections import Counter

import click

from halfpipe import paths
from halfpipe.cli import completion
from halfpipe.cli.verbs import Site, Verb, reason_given, row_options
from halfpipe.decisions import SITE, Decisions, UndecidedError, What, decide, open_problems
from halfpipe.errors import Remedy
from halfpipe.words import count

DAYS = 7.0  # as a turn looks back


@click.command(
    "ack",
    cls=Verb,
    only_look=True,
    examples=[
        ("halfpipe ack", "list who works on what"),
        ('halfpipe ack 230401001 --reason "archive called"', "all problems of a downlink"),
        ('halfpipe ack disk-low --reason "N. N. removes old runs"', "all problems with a code"),
        ('halfpipe ack 230401001 --undo --reason "N. N. is ill"', "remind again"),
    ],
    statuses={0: "good", 1: "nothing of it needs action, so nothing was recorded"},
)
@click.argument(
    "words",
    nargs=-1,
    metavar="[DL|CODE]...",
    shell_complete=completion.completes(completion.downlinks, completion.codes),
    help="Downlinks, or codes of problems; none: list.",
)
@click.option("--reason", metavar="TEXT", help="Why it is not done yet; who and when are added.")
@click.option("--undo", is_flag=True, help="Take it back: reminders come again.")
@row_options
def command(site: Site, words: tuple[str, ...], reason: str | None, undo: bool) -> None:
    """Note who works on a problem: its mails stop, and every screen shows the reason.

    The note ends when the problem changes or is over. No verdict and no exit status changes.
    """
    if undo and not words:
        raise click.UsageError("Name what to undo, as in: halfpipe ack 230401001 --undo.")
    why = reason_given(reason) if words else ""
    seen = [one.subject for one in Decisions.read(site.work).of_kind(What.SEEN)]
    now = _open(site) if words and not undo else Counter[str]()
    for word in words:
        chosen = [each for each in (seen if undo else now) if word.removeprefix("dl=") in each.split()[:2]]
        if not chosen:
            what = "is acknowledged" if undo else "needs action"
            raise UndecidedError(f"nothing of {word} {what}", Remedy("halfpipe status"))
        for each in chosen:
            decide(site.work, What.SEEN, each, now[each], why, undone=undo)
    found = [
        {"problem": one.subject, "who": one.who, "when": one.when, "reason": one.reason}
        for one in Decisions.read(site.work).of_kind(What.SEEN)
    ]
    site.listed("seen", found, count(len(found), "acknowledged problem"))


def _open(site: Site) -> Counter[str]:
    """Return the open problems, also those that only a turn of the timer knows, because it reported them."""
    from halfpipe.status.overview import overview, read_told, recent
    from halfpipe.status.survey import Survey

    survey = Survey(site.settings)
    found = overview(survey, recent(survey, DAYS))
    causes = [(SITE, cause) for cause in found.site]
    causes += [(one.downlink, cause) for one in found.accounts for cause in one.causes]
    told = read_told(site.work / paths.ALERT_STATE).items()
    return open_problems(causes) | Counter(
        f"{of.split()[0]} {each}" for of, last in told for each in last.facts
    )
