"""The end of an invocation that failed: which downlink, which job, why in words, its log, and what to do next.

It is for a person who has not slept, so it is short, and the last that stands on the screen. The head of Snakemake
says it from the jobs that it knows, unattended processing from what Snakemake printed.
"""

import atexit
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path

from halfpipe.account.account import Site, account
from halfpipe.account.why_failed import Unfinished, cause, first_cause, names, parted, told_by
from halfpipe.causes import Verdict
from halfpipe.ids import DownlinkId
from halfpipe.planning import halts
from halfpipe.settings import Settings
from halfpipe.storage import leases, paths
from halfpipe.words import count

LINE_LIMIT = 1 << 16  # logs may hold whatever a decoder prints
MOST_TOLD = 2  # downlinks of which all is told in the last ten lines; of others it is a line
WIDTH = 19  # columns of what is left: the name of a job, as `deliver_run 29d7d35d`
MOST_WANTS = 10  # causes that want a person, below the table
COLUMNS = ("downlink", "hand-off", "runs", "events", "waiting", "state")
BEGIN = re.compile(r"(?:Error in rule|rule|localrule) (\w+):$")
FINISHED = re.compile(r"Finished jobid: (\d+) ")
KILLED = re.compile(r"died with <Signals\.(\w+): \d+>|returned non-zero exit status (\d+)")
WITH_LOG = re.compile(r"^Command '.* --log '?(\S+?)'?(?: .*)?' (.*)$")
SLURM = re.compile(r"SLURM status is: '(\w+)")
INTERRUPTED = {
    "Terminating processes on user request": "ended by Ctrl-C",
    "Will exit after finishing currently running jobs": "ended by SIGTERM",
}
STATUSES = {
    137: "SIGKILL",
    130: "SIGINT",
    143: "SIGTERM",
    129: "SIGHUP",
    139: "SIGSEGV",
    134: "SIGABRT",
    135: "SIGBUS",
    152: "SIGXCPU",
}  # of a shell, 128 and the signal


def unfinished_jobs(said: Iterable[str], work: Path) -> list[Unfinished]:
    """Find the jobs that failed, or were begun and not finished, in the lines that Snakemake printed."""
    found: dict[str, Unfinished] = {}
    ended: dict[str, str] = {}
    limits: dict[str, Mapping[str, str]] = {}
    rule, field, fields = "", "", dict[str, str]()
    for line in chain(said, [""]):
        if rule and line.startswith("        "):
            fields.setdefault(field, line.strip())
        elif rule and line.startswith("    "):
            field, _, value = line.strip().partition(":")
            if value:
                fields[field] = value.strip()
        else:
            if rule:
                number = fields.get("jobid", "")
                if "resources" in fields:
                    limits[number] = dict(
                        pair.split("=", 1) for pair in fields["resources"].split(", ") if "=" in pair
                    )
                found[number] = replace(_job(rule, fields, ended, work), limits=limits.get(number))
            match = BEGIN.match(line)
            rule, fields = match[1] if match else "", {}
            if match := FINISHED.match(line):
                found.pop(match[1], None)
            elif match := WITH_LOG.match(line.rstrip()):
                ended[match[1]] = _signal(match[2])
    return list(found.values())


def _job(rule: str, fields: Mapping[str, str], ended: Mapping[str, str], work: Path) -> Unfinished:
    """Return the job that a paragraph of Snakemake's tells of."""
    logs = [log for log in fields.get("log", "").split(" (check log")[0].split(", ") if log]
    here = tuple(work / log for log in logs)
    command = fields.get("shell") or (repeats(here[0]) if here else "")
    match = SLURM.search(fields.get("message", ""))
    how = match[1] if match else ended.get(logs[0], "") if logs else ""
    return Unfinished(rule, fields.get("output", ""), here, command, how)


def _signal(said: str) -> str:
    """Return the signal that ended a command, empty if none did."""
    match = KILLED.search(said)
    if match is None:
        return ""
    return match[1] or STATUSES.get(int(match[2]), "")


def repeats(log: Path) -> str:
    """Return the command that a job's log begins with, empty if it was never begun."""
    with suppress(OSError), log.open(errors="replace") as file:
        return file.readline(LINE_LIMIT).partition(" INFO ")[2].strip()
    return ""


def recap(
    jobs: Sequence[Unfinished],
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
        As for `cause`.
    """
    groups: dict[DownlinkId | None, list[Unfinished]] = {dl: [] for dl in sorted(begun)}
    for job in sorted(jobs, key=lambda job: (job.output, job.rule)):
        groups.setdefault(job.downlink, []).append(job)
    # What is told in full comes last; a downlink none of whose jobs began has little to tell.
    order = sorted(groups, key=lambda dl: (not groups[dl], str(dl)))
    full = [dl for dl in order if groups[dl]][:MOST_TOLD]
    lines = list[str]()
    for dl in full:
        lines += _ends_of_logs(groups[dl], interrupted)
    if lines:
        lines.append("")
    for dl in order:
        if dl not in full:
            lines.append(_in_a_line(dl, groups[dl], work, interrupted))
    remedies = list[str]()
    for dl in full:
        told, remedy = _in_full(dl, groups[dl], begun.get(dl, 0) if dl else 0, work, interrupted)
        lines += told
        remedies.append(remedy)
    if not jobs and not lines:
        lines.append(
            f"the invocation was {interrupted}" if interrupted else "the invocation failed; see above"
        )
    # A name that is no downlink stays none, however often it is given; and some remedies end with the command.
    hopeless = jobs and all(job.rule == "misspelt" for job in jobs)
    said = remedies and len(full) == len(order) and all("snakemake " in remedy for remedy in remedies)
    if not hopeless and not said:
        lines += _aligned([(_when_again(jobs, any(remedies)), again)])
    return "\n".join(lines)


def _when_again(jobs: Sequence[Unfinished], remedies: bool) -> str:
    """Say when it is of use to give the command again."""
    if jobs and all("has no RetDefs; looked in" in cause(job) for job in jobs):
        return "once they are there"
    return "once that is done" if remedies else "try again"


def _ends_of_logs(jobs: Iterable[Unfinished], interrupted: str) -> Iterator[str]:
    """Yield what the logs say of each cause, once."""
    seen = set[str]()
    for job in jobs:
        why = cause(job, interrupted)
        told = told_by(job.logs[0]) if job.logs else []
        if told and why not in seen and len(seen) < MOST_TOLD:
            seen.add(why)
            yield f"the end of {job.logs[0]}"
            yield from (f"  | {line}" for line in told)


def _state(downlink: DownlinkId | None, work: Path) -> str:
    if downlink is None:
        return "a target is not made"
    done = (work / paths.receipt(downlink)).exists()
    return f"downlink {downlink} is {'handed off, but not finished' if done else 'not handed off'}"


def _in_a_line(downlink: DownlinkId | None, jobs: Sequence[Unfinished], work: Path, interrupted: str) -> str:
    if not jobs:
        return f"{_state(downlink, work)}: {interrupted or 'its jobs were not begun'}"
    same, why = first_cause(jobs, interrupted)
    return f"{_state(downlink, work)}: {names(same)}: {why}; {same[0].logs[0] if same[0].logs else ''}"


def _in_full(
    downlink: DownlinkId | None, jobs: Sequence[Unfinished], of: int, work: Path, interrupted: str
) -> tuple[list[str], str]:
    """Return what is told of a downlink, what matters most last, and what is to be done, empty if nobody says it."""
    same, said = first_cause(jobs, interrupted)
    why, remedy = parted(said)
    how_many = f"{len(jobs)} of {count(of, 'job')}" if of else count(len(jobs), "job")
    ended = f"{interrupted}; not finished: {how_many}" if interrupted else f"{how_many} failed"
    told = []
    if same[0].command:
        told.append(("repeat this job", f"cd {shlex.quote(str(work))} && {same[0].command}"))
    if same[0].logs:
        told.append(("log", str(same[0].logs[0])))
    if others := [job for job in jobs if job not in same]:
        told.append(("besides", f"{names(others)}: {first_cause(others, interrupted)[1]}"))
    told.append((names(same), why))
    if remedy:
        told.append(("remedy", remedy))
    return [f"{_state(downlink, work)}: {ended}", *_aligned(told)], remedy


def _aligned(told: Sequence[tuple[str, str]]) -> list[str]:
    return [f"  {name:<{WIDTH}}  {words}" for name, words in told]


def interruption(said: Iterable[str]) -> str:
    """Say in words what ended an invocation before it was done, by what Snakemake printed; empty if nothing did."""
    for line in said:
        for begin, words in INTERRUPTED.items():
            if line.startswith(begin):
                return words
    return ""


def lines_of(logs: Iterable[str]) -> Iterator[str]:
    """Yield the lines of files, of each line no more than `LINE_LIMIT`; a file that cannot be read has none."""
    for name in logs:
        with suppress(OSError), Path(name).open(errors="replace") as file:
            yield from iter(lambda: file.readline(LINE_LIMIT), "")


def standing(settings: Settings, downlinks: Iterable[DownlinkId]) -> list[str]:
    """Return the lines of a table of what downlinks have now, by their accounts, and what wants a person.

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
            f"{dl} wants a person: {cause.text}\n    {cause.do}"
            for cause in one.causes
            if cause.verdict is Verdict.PERSON and cause.code != "failed"
        ]
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    table = [
        "  ".join(
            [r[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(r[1:5], widths[1:5], strict=True)), r[5]]
        )
        for r in rows
    ]
    more = [f"and {len(wants) - MOST_WANTS} more: halfpipe status"] if len(wants) > MOST_WANTS else []
    return [*table, *wants[:MOST_WANTS], *more]


def _why_none(site: Site) -> Iterator[str]:
    """Yield why no downlink is processed, if any is there to be."""
    with suppress(Exception):
        found = site.plan.outstanding(site.now)
        yield from [*found.waiting, *halts.summary(found.held)]
        for dl in found.ready:
            if who := leases.in_work(site.settings.paths.work, dl):
                yield f"downlink {dl} is in work: {who}"


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
