"""Whether a person can decide something now: the account of the downlink must offer exactly this."""

from halfpipe.decisions import Subject, UndecidedError, What
from halfpipe.errors import MissingInputError, Remedy
from halfpipe.ids import DownlinkId
from halfpipe.run.downlinks_of_run import refuse_unknown, refuse_unknown_downlink
from halfpipe.status.account import account
from halfpipe.status.survey import Survey


def refuse_unfit(survey: Survey, what: What, subject: Subject, number: int | None) -> None:
    """Refuse a decision about an unknown subject, and a number that is not the one that the account shows now.

    Raises
    ------
    MissingInputError
        If the downlink, the chunk or the run is unknown.
    UndecidedError
        If nothing of this kind is open, or the number is another one.
    """
    if subject.downlink is not None:
        refuse_unknown_downlink(survey.settings, subject.downlink)
    if subject.run is not None:
        refuse_unknown(survey.work, subject.run)
    if what is What.LEFT_OUT:
        _refuse_unknown_chunk(survey, subject)
    if subject.downlink is None or not what.is_counted:
        return
    offered = offers(survey, subject.downlink)
    beginning = f"{subject} {what}="
    if f"{beginning}{number}" in offered:
        return
    now = [each for each in offered if each.startswith(beginning)]
    if now:
        text = f"{what} of {subject} is not {number} but {now[0].removeprefix(beginning)} now"
        raise UndecidedError(text, Remedy(Remedy(accept=now).decision))
    raise UndecidedError(
        f"no problem of downlink {subject.downlink} is solved by {beginning}{number}",
        Remedy(f"halfpipe status {subject.downlink}"),
    )


def offers(survey: Survey, downlink: DownlinkId) -> list[str]:
    """Return what the causes of a downlink offer to accept, as in ``230401001/00003 events=12``."""
    return [each for cause in account(survey, downlink).causes for each in cause.remedy.accept]


def _refuse_unknown_chunk(survey: Survey, subject: Subject) -> None:
    """Refuse a chunk beyond the last one. A missing RetDef below the last one is a chunk, too."""
    if subject.downlink is None or subject.chunk is None or survey.plan.closed:
        return
    of = survey.plan.of(subject.downlink)
    last = max(of.numbers | of.ignored, default=0)
    failed = {
        each.partition(" ")[0] for each in offers(survey, subject.downlink)
    }  # such as a chunk whose RetDef has disappeared
    if subject.chunk.number > last and str(subject) not in failed:
        raise MissingInputError(
            f"chunk {subject.chunk} of downlink {subject.downlink} is unknown: the last one is {last:05d}"
        )
