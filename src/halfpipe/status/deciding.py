"""Whether a person can decide something now: the account of the downlink must offer exactly this."""

from collections.abc import Callable, Sequence
from functools import cache

from halfpipe.decisions import Subject, UndecidedError, What, offer
from halfpipe.errors import MissingInputError, Remedy
from halfpipe.ids import DownlinkId
from halfpipe.run.downlinks_of_run import refuse_unknown, refuse_unknown_downlink
from halfpipe.status.account import account
from halfpipe.status.survey import Survey

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
    if not what.is_counted or offer(what, subject, number) in offered(subject.downlink):
        return
    beginning = f"{offer(what, subject)}="
    now = [each for each in offered(subject.downlink) if each.startswith(beginning)]
    if now:
        text = f"{what} of {subject} is not {number} but {now[0].removeprefix(beginning)} now"
        raise UndecidedError(text, Remedy(Remedy(accept=now).decision))
    raise UndecidedError(
        f"no problem of downlink {subject.downlink} is solved by {offer(what, subject, number)}",
        Remedy(f"halfpipe status {subject.downlink}"),
    )


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
