"""The end of an invocation that failed: which downlink, which job, why in words, its log, and what to do next.

It is for a person who has not slept, so it is short, and the last that stands on the screen.
"""

import atexit
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from halfpipe import paths
from halfpipe.causes import Verdict
from halfpipe.downlink.plan_causes import outstanding
from halfpipe.ids import DownlinkId
from halfpipe.settings import Settings
from halfpipe.status.account import Site, account
from halfpipe.status.failures import FailedJob, by_cause, end_of, names, repeats
from halfpipe.words import aligned, count

MOST_SHOWN = 2  # downlinks of which all is told in the last ten lines; of others it is a line
WIDTH = 19  # columns of what is left: the name of a job, as `deliver_run 29d7d35d`
MOST_ACTIONS = 10  # causes that need action, below the table
COLUMNS = ("downlink", "hand-off", "runs", "events", "waiting", "state")


def recap(
    jobs: Sequence[FailedJob],
    begun: Mapping[DownlinkId, int],
    again: str,
    work: Path,
    interrupted: str = "",
) -> str:
    """Return what stands last on the screen: its last ten lines are the whole story.

    Parameters
    ----------
    jobs
        Those that failed or were not finished.
    begun
        How many jobs the invocation had for each downlink that it did not finish.
    again
        The command that tries again.
    work
        `paths.work`.
    interrupted
        What ended the invocation before it was done, in words, as ``ended by Ctrl-C``; empty if nothing did.
    """
    groups: dict[DownlinkId | None, list[FailedJob]] = {dl: [] for dl in sorted(begun)}
    for job in sorted(jobs, key=lambda job: job.log):
        groups.setdefault(job.downlink, []).append(job)
    # What is told in full comes last; a downlink none of whose jobs began has little to tell.
    full = [dl for dl in sorted(groups, key=str) if groups[dl]][:MOST_SHOWN]
    lines, firsts = list[str](), list[FailedJob]()
    for same in (same for dl in full for same in by_cause(groups[dl])[:MOST_SHOWN]):
        lines += [f"the end of {same[0].log}", *(f"  | {line}" for line in end_of(same[0].log))]
    lines += [""] * bool(lines)
    for dl in sorted(groups, key=lambda dl: (dl in full, not groups[dl], str(dl))):
        several = groups[dl]
        done = dl is not None and (work / paths.receipt(dl)).exists()
        head = f"downlink {dl} is {'handed off, but not finished' if done else 'not handed off'}"
        head = "a target is not made" if dl is None else head
        same, *others = sorted(by_cause(several), key=len, reverse=True) if several else [[]]
        if dl in full:
            firsts.append(same[0])
            of = begun.get(dl, 0) if dl else 0
            how_many = f"{len(several)} of {count(of, 'job')}" if of else count(len(several), "job")
            ended = f"{interrupted}; not finished: {how_many}" if interrupted else f"{how_many} failed"
            lines += [f"{head}: {ended}", *_in_full(same, others, work)]
        elif several:
            lines.append(f"{head}: {names(same)}: {same[0].text}; {same[0].log}")
        else:
            lines.append(f"{head}: {interrupted or 'its jobs were not begun'}")
    if not lines:
        lines.append(
            f"the invocation was {interrupted}" if interrupted else "the invocation failed; see above"
        )
    # A name that is no downlink stays none, however often it is given; and some remedies end with the command.
    codes = {job.why.code for job in jobs}
    said = firsts and len(full) == len(groups) and all(repeats(one.why.remedy, one.rule) for one in firsts)
    if codes != {"id"} and not said:
        when = "once that is done" if any(one.why.remedy.steps for one in firsts) else "try again"
        lines.append(_line("once they are there" if codes == {"no-retdefs"} else when, again))
    return "\n".join(lines)


def _in_full(same: Sequence[FailedJob], others: Iterable[Sequence[FailedJob]], work: Path) -> Iterator[str]:
    """Yield what is told of jobs that failed for one cause, what matters most last; of others what they are."""
    first = same[0]
    if first.why.command:
        yield _line("repeat this job", f"cd {shlex.quote(str(work))} && {first.why.command}")
    yield _line("log", str(first.log))
    for other in others:
        yield _line("besides", f"{names(other)}: {other[0].text}")
    yield _line(names(same), first.text)
    if first.why.remedy.steps:
        yield _line("remedy", str(first.why.remedy))


def _line(name: str, words: str) -> str:
    return f"  {name:<{WIDTH}}  {words}"


def standing(settings: Settings, downlinks: Iterable[DownlinkId]) -> list[str]:
    """Return the lines of a table of what downlinks have now, by their accounts, and what needs action.

    Of none it is said what waits instead. What keeps an account from being drawn up must not fail an invocation that
    has ended well.
    """
    site, wants = Site(settings), list[str]()
    rows: list[tuple[str, ...]] = [COLUMNS]
    every = sorted(downlinks)
    if not every:
        return list(_why_none(site)) or ["no downlink was processed"]
    for dl in every:
        try:
            one = account(site, dl)
        except Exception as error:
            rows.append((dl, "-", "-", "-", "-", f"not known: {error}"))
            continue
        numbers = ["-"] * 4
        if one.handoff is not None:
            numbers = [f"{value:,}" for value in (one.handoff, one.runs, one.events, one.orphans)]
        rows.append((dl, *numbers, one.state))
        wants += [
            "\n    ".join([f"{dl} needs action: {cause.text}", *cause.remedy.steps])
            for cause in one.causes
            if cause.verdict is Verdict.ACTION and not cause.failed
        ]
    more = [f"and {len(wants) - MOST_ACTIONS} more: halfpipe status"] if len(wants) > MOST_ACTIONS else []
    return [*aligned(rows, range(1, 5)), *wants[:MOST_ACTIONS], *more]


def _why_none(site: Site) -> Iterator[str]:
    """Yield why no downlink is processed, if any is there to be."""
    with suppress(Exception):
        found = outstanding(site.plan, site.now)
        yield from found.lines(found.in_work(site.work))


def say_at_the_end(text: str, logs: Iterable[str]) -> None:
    """Print a text when this process ends, after all that Snakemake still has to say; its logs get it too."""
    files = [Path(name).absolute() for name in logs]

    def say() -> None:
        for path in files:
            with suppress(OSError), path.open("a") as out:
                out.write(f"\n{text}\n")
        with suppress(OSError, ValueError):
            print(f"\n{text}", file=sys.stderr, flush=True)  # noqa: T201 - this is what the terminal gets

    atexit.register(say)
