"""The end of an invocation that failed: which downlink, which job, why in words, its log, and what to do next.

It is for a person who has not slept, so it is short, and the last that stands on the screen.
"""

import shlex
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from halfpipe.causes import Verdict
from halfpipe.downlink.plan_causes import outstanding
from halfpipe.ids import DownlinkId
from halfpipe.settings import Settings
from halfpipe.status.account import Survey, account
from halfpipe.status.failures import FailedJob, by_cause, cause_of, end_of
from halfpipe.words import count

MOST_SHOWN = 3  # causes of failed jobs
MOST_ACTIONS = 10  # causes that need action


def recap(jobs: Iterable[FailedJob], again: str, work: Path, interrupted: str = "") -> str:
    """Return what stands last on the screen: the causes as status tells them, after the ends of their logs.

    Parameters
    ----------
    jobs
        Those that failed or were not finished.
    again
        The command that tries again.
    work
        `paths.work`.
    interrupted
        What ended the invocation before it was done, in words, as ``ended by Ctrl-C``; empty if nothing did.
    """
    groups, lines = by_cause(sorted(jobs, key=lambda job: job.log)), list[str]()
    for same in groups[:MOST_SHOWN]:
        lines += [f"the end of {same[0].log}", *(f"  | {line}" for line in end_of(same[0].log))]
    if len(groups) > MOST_SHOWN:
        lines.append(f"{count(len(groups) - MOST_SHOWN, 'more cause')}: halfpipe status")
    if interrupted or not groups:
        lines.append(
            f"the invocation was {interrupted}" if interrupted else "the invocation failed; see above"
        )
    for same in groups[:MOST_SHOWN]:
        of = sorted({f"downlink {job.downlink}" if job.downlink else "a target" for job in same})
        # A name that is no downlink stays none, however often it is given.
        cause = cause_of(same, again if same[0].why.code != "id" else "")
        lines.append(f"{', '.join(of)}: {cause.text}")
        if command := same[0].why.command:
            lines.append(f"  to repeat this job alone: cd {shlex.quote(str(work))} && {command}")
        lines += [f"  → {step}" for step in cause.remedy.steps if step]
    return "\n".join(lines)


def standing(settings: Settings, downlinks: Iterable[DownlinkId]) -> list[str]:
    """Say in a line what each downlink has now, by its account, and what needs action.

    Of none it is said what waits instead. What keeps an account from being drawn up must not fail an invocation that
    has ended well.
    """
    site, lines, wants, every = Survey(settings), list[str](), list[str](), sorted(downlinks)
    if not every:
        with suppress(Exception):
            lines = outstanding(site.plan, site.now).lines(site.work)
        return lines or ["no downlink was processed"]
    for dl in every:
        try:
            one = account(site, dl)
        except Exception as error:
            lines.append(f"{dl}: not known: {error}")
            continue
        has = f", {count(one.runs, 'run')}, {count(one.events, 'event')}, {one.orphans:,} waiting"
        lines.append(f"{dl}: {one.state}{has if one.handoff is not None else ''}")
        wants += [
            "\n    ".join([f"{dl} needs action: {cause.text}", *cause.remedy.steps])
            for cause in one.causes
            if cause.verdict is Verdict.ACTION and not cause.failed
        ]
    more = [f"and {len(wants) - MOST_ACTIONS} more: halfpipe status"] if len(wants) > MOST_ACTIONS else []
    return [*lines, *wants[:MOST_ACTIONS], *more]
