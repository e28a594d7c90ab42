"""Why jobs failed, from the records beside their logs."""

import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.errors import HalfPipeError, LockedError, Remedy
from halfpipe.files import leases
from halfpipe.files.advice import size
from halfpipe.files.reading import modified
from halfpipe.ids import DownlinkId
from halfpipe.process import failure_record
from halfpipe.process.failure_record import Failure, in_a_line
from halfpipe.process.usage import has_ended_well, is_empty
from halfpipe.version import __version__
from halfpipe.words import count, first_names, grouped, shortened

LINES_OF_A_LOG = 8
LETTERS_OF_A_LINE = 600
LETTERS_OF_A_CAUSE = 480  # six lines of a narrow screen
TAIL_BYTES = 1 << 16  # logs may contain whatever a decoder prints
ENDS = (".log", paths.FAILURE_SUFFIX)  # of the names of the files that a failed job leaves
KILLED = Failure(
    "killed",
    "the job was killed before it ended, most often because memory ran out, or the machine crashed",
)
UNSEEN = Failure(
    "unseen", "the job succeeded, but its product is not visible: check that its file system is mounted"
)

PRODUCT: Mapping[str, Callable[[str, str], str]] = {
    "decode_chunk": paths.chunk,
    "deliver_run": lambda dl, run: paths.manifest(run, dl),
    "receipt": lambda dl, _: paths.receipt(dl),
    "ledger": lambda dl, _: paths.loaded(dl),
    "submit": lambda dl, _: paths.submitted(dl),
    "pictures": lambda dl, _: paths.drawn(dl),
}
LATE = ("ledger", "submit")  # rules after the receipt
TOLD = {"submission", "held", "simulated"}  # codes that the causes of submission already report


@dataclass(frozen=True)
class FailedJob:
    """A job that failed, or began and did not finish.

    Attributes
    ----------
    rule, log, why
        Its rule, its log, and the reason.
    ended
        When it ended, Unix seconds: the time of its failure record, or else of its log.
    has_log
        Whether there is a log. A job that could not be submitted has none.
    """

    rule: str
    log: Path
    why: Failure
    ended: float = 0.0
    has_log: bool = True

    @property
    def downlink(self) -> DownlinkId | None:
        """The downlink, from the directory of its log; None if the job belongs to no downlink."""
        name = self.log.parent.name
        return DownlinkId(name) if DownlinkId.matches(name) else None

    @property
    def ids(self) -> str:
        """The chunk or run of the job; empty if its rule has one job for each downlink."""
        return self.log.stem.removeprefix(self.rule).removeprefix("-")

    @property
    def archive(self) -> str:
        """The command that collects what the maintainers of its program need."""
        work = self.log.parents[2]
        dl = self.log.parent.name
        files = [
            str(each.relative_to(work)) for each in (self.log, self.log.with_suffix(paths.FAILURE_SUFFIX))
        ]
        if self.rule == "decode_chunk":
            files.append(paths.retdef(dl, self.ids))
        return shlex.join(["tar", "-czf", f"{dl}-{self.log.stem}.tar.gz", "-C", str(work), *files])

    @property
    def text(self) -> str:
        """The reason, shortened to fit on a screen."""
        return shortened(self.why.text, LETTERS_OF_A_CAUSE)


def failed(rule: str, log: Path, unsaid: Failure = KILLED) -> FailedJob:
    """Return the job with this log and its recorded failure; if nothing is recorded, the reason is `unsaid`."""
    why = Failure.read(log) or (UNSEEN if has_ended_well(log) else unsaid)
    if why is KILLED:  # a full disk may have prevented the record
        why = why.unless_full(log)
    logged = modified(str(log))
    return FailedJob(rule, log, why, failure_record.written(log) or logged or 0.0, logged is not None)


def refused(work: Path, target: str, error: HalfPipeError) -> FailedJob:
    """Return the job that failed because its target was refused with `error`."""
    log = work / paths.log("refused", target)
    return FailedJob("refused", log, Failure.of(error), has_log=log.exists())


def failed_jobs(work: Path, downlink: DownlinkId, unsaid: Failure = KILLED) -> list[FailedJob]:
    """Return the jobs of a downlink that left a failure record or a log that is not empty, but no product.

    They are in the order of the rules. `unsaid` is the reason for jobs without a record. By default they were killed,
    because no process works on the downlink any more.
    """
    home = work / paths.job_logs(downlink)
    with suppress(OSError):
        there = os.listdir(home)  # noqa: PTH208 - names only
        logs = {
            home / (name.removesuffix(end) + ".log") for name in there for end in ENDS if name.endswith(end)
        }
        jobs = [(*log.stem.partition("-")[::2], log) for log in sorted(logs)]
        return [
            failed(rule, log, unsaid)
            for rule, product in PRODUCT.items()
            for of, ids, log in jobs
            if of == rule and not (work / product(downlink, ids)).is_file()
            if log.with_suffix(paths.FAILURE_SUFFIX).exists() or not is_empty(log)
        ]
    return []


def failures(
    downlink: DownlinkId,
    jobs: Iterable[FailedJob],
    lease: leases.Found | None = None,
    after: float | None = None,
) -> Iterator[Cause]:
    """Yield why jobs of a downlink did not end well, each cause once, in the order of the rules.

    Parameters
    ----------
    downlink, jobs, lease
        The downlink, its failed jobs, and the process that works on it.
    after
        When the receipt was last written, Unix seconds: only jobs of the ledger and the submission that failed since
        then count. Killed jobs are left out, and so are attempted submissions, because their own records show the
        outcome.
    """
    again = f"snakemake dl={downlink}"
    if lease is not None and lease.jobs:  # they may outlive their head, and others began too late
        jobs = [job for job in jobs if job.why is not KILLED and job.why.code != LockedError.code]
    if after is not None:
        again = f"snakemake submit={downlink}"
        late = (job for job in jobs if job.rule in LATE and job.ended >= after)
        jobs = [job for job in late if job.why is not KILLED and job.why.code not in TOLD]
    for group in by_cause(jobs):
        only_ledger = all(job.rule == "ledger" for job in group)
        yield cause_of(group, f"snakemake {paths.loaded(downlink)}" if only_ledger else again)


def cause_of(jobs: Sequence[FailedJob], again: str) -> Cause:
    """Return the cause of jobs that failed for one reason. `again` is added if their remedy does not rerun them."""
    first = jobs[0]
    named = names(jobs)
    remedy = first.why.remedy
    text = first.text.rstrip(".")
    if needed := sum(job.why.needed for job in jobs):
        text += f"; {size(needed)} needed for {count(len(jobs), 'job')}"
    # Jobs after the receipt have their own command.
    if contact := first.why.contact:
        times = max(job.why.times for job in jobs)
        to_do = f"It has failed {times} times in a row, so do not rerun it. Send this archive to {contact}, with the"
        remedy = Remedy(first.archive, first=f"{to_do} version: HalfPipe {__version__}")
    elif first.rule in LATE or not any(command.startswith("snakemake ") for command in remedy.do):
        remedy = remedy.but(do=(*remedy.do, again), first=remedy.first.rstrip("."))
    logs = [str(job.log) for job in jobs if job.has_log] or [str(first.log.with_suffix(paths.FAILURE_SUFFIX))]
    log = logs[0] + (f" (and {len(logs) - 1} more)" if logs[1:] else "")
    return Cause(
        first.why.code,
        Verdict.ACTION,
        f"{named}: {text}",
        remedy,
        first.why.since or first.ended or None,
        named,
        log=log,
    )


def together(found: Iterable[tuple[DownlinkId, Cause]]) -> Iterator[tuple[str, Cause]]:
    """Yield causes with their downlinks; equal failures of several downlinks become one, with all their commands."""

    def key(downlink: DownlinkId, cause: Cause) -> object:
        why = cause.text.removeprefix(f"{cause.failed}: ")
        return (cause.code, why, cause.remedy.first, cause.seen) if cause.failed else (downlink, cause)

    for several in grouped((key(*each), each) for each in found).values():
        downlinks = [downlink for downlink, _ in several]
        _, one = several[0]
        if len(several) > 1 and one.failed:
            do = [*dict.fromkeys(command for _, cause in several for command in cause.remedy.do)]
            if do == [f"snakemake dl={downlink}" for downlink in downlinks]:
                do = [f"snakemake {' '.join(f'dl={downlink}' for downlink in downlinks)}"]
            log = f"{one.log.partition(' (and ')[0]} (of {count(len(several), 'downlink')})"
            text = one.text.removeprefix(f"{one.failed}: ")
            accept = dict.fromkeys(each for _, cause in several for each in cause.remedy.accept)
            one = replace(one, text=text, remedy=one.remedy.but(do=do, accept=accept), log=log)
        yield first_names(downlinks), one


def by_cause(jobs: Iterable[FailedJob]) -> list[list[FailedJob]]:
    """Group jobs by the reason of their failure, in order."""
    keyed = (((job.why.code, job.why.place or job.why.text, str(job.why.remedy)), job) for job in jobs)
    return list(grouped(keyed).values())


def names(jobs: Sequence[FailedJob]) -> str:
    """Name jobs by rule, then by chunk or run: ``decode_chunk 00001, 00002``."""
    rules = grouped((job.rule, job.ids) for job in jobs)
    return "; ".join(f"{rule} {first_names([*dict.fromkeys(ids)])}".strip() for rule, ids in rules.items())


def end_of(log: Path, most: int = LINES_OF_A_LOG) -> list[str]:
    """Return the last lines of a log, without control characters."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError as error:
        return [f"(no log: {error.strerror})"]
    return [shortened(in_a_line(line), LETTERS_OF_A_LINE) for line in lines[-most:]]
