"""A downlink in one process, up to its receipt: the programs of its rules in forks of it, side by side.

Starting a program for each job, and Snakemake for each downlink and each Slurm job, costs more than the work
(docs/performance.md). No rule's work is done here in another way: each job is the `main` of its program with the words
that the rule gives it, its log and its record of usage included. Which jobs are to be done is what Snakemake would say:
those whose product is missing, older than what it is made of, or made of something else.
"""

import runpy
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from halfpipe import paths
from halfpipe.downlink import halts, plan_causes
from halfpipe.downlink.plan import DownlinkPlan, Plan
from halfpipe.files import leases, working_directory
from halfpipe.files.reading import is_made, modified
from halfpipe.ids import DownlinkId, RunId
from halfpipe.process.failure import Failure
from halfpipe.process.forks import side_by_side
from halfpipe.process.usage import forget
from halfpipe.run.merged_index import MergedIndex
from halfpipe.run.receipt_file import withdraw
from halfpipe.settings import BUILT_IN, ROOT, Settings

RULES = ("decode_chunk", "deliver_run", "receipt")
SCRIPT = f"{ROOT}/scripts/{{}}.py"  # of a rule
THREADS = 2  # of a delivery, as its rule has them


def load() -> None:
    """Load the programs of all rules, for whoever forks."""
    for rule in RULES:
        program(rule)


@cache
def program(rule: str) -> Callable[[], int]:
    """Return the `main` of a rule's program."""
    main: Callable[[], int] = runpy.run_path(SCRIPT.format(rule))["main"]
    return main


@dataclass(frozen=True)
class _Job:
    """A job of a rule: its product, what that is made of, and the words that the rule gives its program.

    `others` tells whether the product that is there is made of other files than these.
    """

    rule: str
    ids: tuple[str, ...]
    product: str
    made_of: Sequence[str]
    words: Sequence[str]
    others: bool = False


class Process:
    """The jobs of one downlink in forks of this process, which takes its lease.

    Parameters
    ----------
    settings, written
        The settings, and the file that they were written to for jobs.
    downlink
        The downlink.
    since
        Unix time: what was made before it is made anew; 0: what is there is good.
    after
        Runs of which other downlinks deliver first, if they still can: those that come before this one.
    cores
        How many jobs there are at a time.
    """

    def __init__(
        self,
        settings: Settings,
        written: Path,
        downlink: DownlinkId,
        since: float = 0.0,
        after: Mapping[RunId, Collection[DownlinkId]] | None = None,
        cores: int = 1,
    ) -> None:
        self.settings, self.downlink, self._written = settings, downlink, written
        self._work, self._since, self._after = settings.paths.work, since, after or {}
        self._cores = cores
        self.waits_for: set[DownlinkId] = set()
        self.done = False

    def run(self, say: Callable[[str], None]) -> None:
        """Do what is to be done; then `done` says whether all is, and `waits_for` for which downlinks a run waits.

        A job that fails leaves its record, and those go on that need nothing of it.

        Raises
        ------
        LockedError
            If another process is at work on the downlink.
        HeldError
            If a switch holds it.
        HalfPipeError
            If it cannot be begun for another reason.
        """
        of = self._begin(leases.hold_downlink(self._work, self.downlink, say), say)
        broken = self._failed(
            [
                _Job("decode_chunk", (chunk,), paths.chunk(self.downlink, chunk), (), ["--chunk", chunk])
                for chunk in of.chunks
            ]
        )
        of = Plan(self.settings).of(self.downlink)  # decoders may have brought runs besides
        whole = [run for run in of.runs if broken.isdisjoint(of.chunks_with(run))]
        first = {
            run: [dl for dl in self._after.get(run, ()) if not self._has(paths.manifest(run, dl))]
            for run in whole
        }
        self.waits_for.update(*first.values())
        ready = [run for run in whole if not first[run]]
        broken |= self._failed([self._run(run, of, max(1, self._cores // len(ready))) for run in ready])
        if not broken and not self.waits_for:
            words = ["--chunks", *of.chunks, "--runs", *of.runs]
            made_of = [*of.chunk_files, *of.manifests]
            receipt = _Job("receipt", (), paths.receipt(self.downlink), made_of, words)
            self.done = not self._failed([receipt])

    def submit(self, say: Callable[[str], None]) -> None:
        """Do what comes after the hand-off: the ledger, if there is one, and the submission.

        Raises
        ------
        LockedError
            If another process is at work on the downlink.
        """
        leases.hold_downlink(self._work, self.downlink, say)
        receipt, loaded = paths.receipt(self.downlink), paths.loaded(self.downlink)
        jobs = [_Job("ledger", (), loaded, [receipt], [])] if self.settings.ledger.url is not None else []
        made_of = [receipt, *(job.product for job in jobs)]
        jobs.append(_Job("submit", (), paths.submitted(self.downlink), made_of, []))
        self.done = not any(self._failed([job]) for job in jobs)

    def _begin(self, lease: leases.Lease, say: Callable[[str], None]) -> DownlinkPlan:
        """Do what the head of Snakemake does before the first job."""
        halts.refuse(self._work, halts.Switch.STAGE, self.downlink)
        of = Plan(self.settings).of(self.downlink)
        plan_causes.look(of, say)
        working_directory.begin(self._work)
        if self.settings.ledger.url not in {None, BUILT_IN}:
            from halfpipe.ledger.check import refuse_delivery  # noqa: PLC0415 - the library of the database

            refuse_delivery(self.settings, {self.downlink})
        lease.check()
        withdraw(self._work, self.downlink)
        return of

    def _run(self, run: RunId, of: DownlinkPlan, cores: int) -> _Job:
        """Return the delivery of a run."""
        chunks = of.chunks_with(run)
        words = ["--run", run, "--chunks", *chunks, "--runs", *of.runs, "--threads", str(min(cores, THREADS))]
        made_of = [paths.chunk(self.downlink, chunk) for chunk in chunks]
        merged = set[str]()
        with suppress(Exception):  # what is missing or damaged is made of nothing
            merged = {chunk.chunk for chunk in MergedIndex.read(self._work, run, self.downlink).chunks}
        others = merged != set(chunks)
        return _Job("deliver_run", (run,), paths.manifest(run, self.downlink), made_of, words, others)

    def _has(self, product: str) -> bool:
        return is_made(f"{self._work}/{product}", self._since)

    def _failed(self, jobs: Sequence[_Job]) -> set[str]:
        """Do those of the jobs that are to be done, side by side; return the ids of those that failed."""
        due = [job for job in jobs if self._is_due(job)]
        failed = set[str]()
        for job, status in zip(
            due, side_by_side([partial(self._do, job) for job in due], self._cores), strict=True
        ):
            if status < 0:
                Failure.by_signal(-status).write(self._work / self._log(job))
            if status:
                failed |= {self.downlink, *job.ids}
        return failed

    def _is_due(self, job: _Job) -> bool:
        if job.others or not self._has(job.product):
            return True
        times = [modified(f"{self._work}/{name}") or 0.0 for name in (job.product, *job.made_of)]
        return times[0] < max(times)

    def _do(self, job: _Job) -> int:
        """Do a job, and return the exit status of its program. Like Snakemake this removes the product before."""
        (self._work / job.product).unlink(missing_ok=True)
        forget(self._work, job.product)  # it would hold old inputs against what is made without Snakemake
        sys.argv = [
            SCRIPT.format(job.rule),
            *("--settings", str(self._written), "--downlink", self.downlink, *job.words),
            *("--log", self._log(job)),  # its command is repeated in `paths.work`
        ]
        return program(job.rule)()

    def _log(self, job: _Job) -> str:
        return paths.log(job.rule, self.downlink, *job.ids)
