"""Whether a person can decide something now, which the account must offer, and what a decision covers now."""

from collections.abc import Callable, Sequence
from functools import cache

from halfpipe.decisions import Decision, Decisions, Subject, UndecidedError, What, offer
from halfpipe.errors import MissingInputError, Remedy
from halfpipe.ids import DownlinkId
from halfpipe.plan.plan import Plan
from halfpipe.settings import Settings
from halfpipe.state.downlinks_of_run import refuse_unknown, refuse_unknown_downlink
from halfpipe.status.account import account
from halfpipe.status.survey import Survey
from halfpipe.words import count

NOTHING = "nothing now"
Offers = Callable[[DownlinkId], Sequence[str]]


def offers(survey: Survey) -> Offers:
    """Return what finds the offers of a downlink's causes, as in ``230401001/00003 events=12``, once for each."""

    @cache
    def of(downlink: DownlinkId) -> Sequence[str]:
        return [each for cause in account(survey, downlink).causes for each in cause.remedy.accept]

    return of


def refuse_unfit(survey: Survey, offered: Offers, what: What, subject: Subject, number: int | None) -> None:
    """Refuse a decision about an unknown subject, and a number that is not the one that the account shows now.

    Raises
    ------
    MissingInputError
        If the downlink, the chunk or the run is unknown.
    UndecidedError
        If nothing of this kind is open, or the number is another one.
    """
    if subject.run is not None:
        refuse_unknown(survey.work, subject.run)
    if subject.downlink is None:
        return
    refuse_unknown_downlink(survey.settings, subject.downlink)
    if what is What.LEFT_OUT:
        _refuse_unknown_chunk(survey, offered, subject.downlink, subject)
    if not what.is_counted:
        return
    now = _number(offered, what, subject)
    if now is None:
        raise UndecidedError(
            f"no problem of downlink {subject.downlink} is solved by {offer(what, subject, number)}",
            Remedy(f"halfpipe status {subject.downlink}"),
        )
    if now != number:
        text = f"{what} of {subject} is not {number} but {now} now"
        raise UndecidedError(text, Remedy(Remedy(accept=[offer(what, subject, now)]).decision))


def _number(offered: Offers, what: What, subject: Subject) -> int | None:
    """Return the number that a cause offers to accept now; None if none does."""
    assert subject.downlink is not None
    beginning = f"{offer(what, subject)}="
    found = (each for each in offered(subject.downlink) if each.startswith(beginning))
    return next((int(each.removeprefix(beginning)) for each in found), None)


class _Undecided(Plan):
    """The plan as if nothing were decided."""

    decisions = Decisions()


def covered(settings: Settings) -> Callable[[Decision], str]:
    """Return what tells what a decision covers now, as in ``12 of 12``."""
    survey = Survey(settings)
    survey.plan = _Undecided(settings)
    offered = offers(survey)

    def covers(one: Decision) -> str:
        subject = Subject.parse(one.subject)
        if subject.downlink is None:
            books = survey.books(subject.run).books if subject.run else None
            now = books.all_waiting if books else 0
            return count(now, "waiting event") if now else NOTHING
        if one.what is What.LEFT_OUT:
            return "the chunk" if subject.chunk in survey.plan.of(subject.downlink).chunks else NOTHING
        now = _number(offered, one.what, subject) or 0
        return f"{min(now, one.number or 0)} of {now}" if now else NOTHING

    return covers


def _refuse_unknown_chunk(survey: Survey, offered: Offers, downlink: DownlinkId, subject: Subject) -> None:
    """Refuse a chunk beyond the last one, unless a cause offers it, because its RetDef has disappeared.

    A missing RetDef below the last one is a chunk, too.
    """
    if subject.chunk is None or survey.plan.closed:
        return
    of = survey.plan.of(downlink)
    last = max(of.numbers | of.ignored, default=0)
    if subject.chunk.number > last and offer(What.LEFT_OUT, subject) not in offered(downlink):
        raise MissingInputError(
            f"chunk {subject.chunk} of downlink {downlink} is unknown: the last one is {last:05d}"
        )
