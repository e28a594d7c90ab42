"""The last lines on the screen when an invocation ends: what failed, why, what to do next, and the log.

The operator may be short of sleep, so the text is short and repeats nothing.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from halfpipe.causes import Verdict
from halfpipe.ids import DownlinkId
from halfpipe.plan.outstanding import outstanding
from halfpipe.process.failure_record import Failure
from halfpipe.settings import Settings
from halfpipe.status.account import account
from halfpipe.status.failed_jobs import FailedJob, by_cause, cause_of, end_of
from halfpipe.status.survey import Survey
from halfpipe.words import count

MOST_SHOWN = 5  # causes of failed jobs
LAST_LINES = 3  # of the log of a job that did not say why it ended
CUT_OFF = {"interrupted", "unseen"}  # codes of jobs that ended with the invocation
MOST_ACTIONS = 10  # causes that need action


def recap(jobs: Iterable[FailedJob], again: str, work: Path, interrupted: str = "") -> str:
    """Return the last lines of an invocation that failed: the causes, worded as in `halfpipe status`.

    Parameters
    ----------
    jobs
        The jobs that failed or did not finish.
    again
        The command that tries again.
    work
        `paths.work`; logs are named relative to it.
    interrupted
        What ended the invocation before it was done, in words, as ``ended by Ctrl-C``; empty if nothing did.
    """
    cut_off = CUT_OFF if interrupted else ()
    told = [job for job in jobs if job.why.code not in cut_off]
    groups = by_cause(sorted(told, key=lambda job: job.log))
    lines = list[str]()
    if interrupted:
        lines += [f"the invocation was {interrupted}", *([] if groups else [f"  → {again}"])]
    elif not groups:
        lines.append("the invocation failed; see above")
    if len(groups) > MOST_SHOWN:
        lines.append(f"{count(len(groups) - MOST_SHOWN, 'more cause')}: halfpipe status")
    for same in groups[:MOST_SHOWN]:
        of = sorted({f"downlink {job.downlink}" if job.downlink else "a target" for job in same})
        # A name that is not a downlink fails again, so no command is proposed.
        cause = cause_of(same, again if same[0].why.code != "id" else "")
        lines.append(f"{', '.join(of)}: {cause.text}")
        if Failure.read(same[0].log) is None and same[0].log.exists():
            lines += [f"  | {line}" for line in end_of(same[0].log, LAST_LINES)]
        lines += [f"  {line}" for line in cause.lines if line != "→ "]
    return "\n".join(line.replace(f"log: {work}/", "log: ") for line in lines)


def standing(settings: Settings, downlinks: Iterable[DownlinkId], *, is_all: bool = False) -> list[str]:
    """Return a line on the state of each downlink, then what needs action, and what waits.

    Parameters
    ----------
    settings
        The settings.
    downlinks
        The downlinks of an invocation.
    is_all
        Whether the invocation was for all outstanding downlinks. Then the others follow, each with the reason why it
        was not processed.
    """
    survey = Survey(settings)
    every = sorted(downlinks)
    lines = list[str]()
    wants = list[str]()
    waits = list[str]()
    if is_all or not every:
        with suppress(Exception):  # a good invocation must not fail because of its last lines
            waits = outstanding(survey.plan, survey.now).lines(survey.work, done=every if is_all else None)
    if not every:
        return waits or ["no downlink was processed"]
    for dl in every:
        try:
            one = account(survey, dl)
        except Exception as error:
            lines.append(f"{dl}: not known: {error}")
            continue
        has = f", {count(one.runs, 'run')}, {count(one.events, 'event')}"
        has += f", {one.waiting:,} waiting" if one.waiting is not None else ", waiting not known"
        lines.append(f"{dl}: {one.state}{has if one.handoff is not None else ''}")
        wants += [
            "\n    ".join([f"{dl} needs action: {cause.text}", *cause.lines])
            for cause in one.causes
            if cause.verdict is Verdict.ACTION and not cause.failed
        ]
    return [*lines, *_few(wants), *_few([f"not processed: {line}" for line in waits])]


def _few(lines: Sequence[str]) -> list[str]:
    more = len(lines) - MOST_ACTIONS
    return [*lines[:MOST_ACTIONS], *([f"and {more} more: halfpipe status"] if more > 0 else [])]
