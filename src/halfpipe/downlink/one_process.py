"""A downlink in one process, up to its receipt: the programs of its rules, one after the other.

For many downlinks, where starting a program for each job, and Snakemake for each downlink, costs more than the work
(docs/performance.md). No rule's work is done here in another way: each job is the `main` of its program with the words
that the rule gives it, its log and its record of usage included. Which jobs are to be done is what Snakemake would say:
those whose product is missing, older than what it is made of, or made of something else.
"""

import importlib.util
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from halfpipe import paths
from halfpipe.downlink import halts, plan_causes
from halfpipe.downlink.plan import DownlinkPlan, Plan
from halfpipe.downlink.withdrawal import forget, withdraw
from halfpipe.files import leases, working_directory
from halfpipe.files.reading import modified
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.run.chunk_files import load_chunks
from halfpipe.settings import BUILT_IN, ROOT, Settings

RULES = ("decode_chunk", "deliver_run", "receipt")


def load() -> None:
    """Load the programs of all rules, for whoever forks."""
    for rule in RULES:
        program(rule)


@cache
def program(rule: str) -> Callable[[], int]:
    """Return the `main` of a rule's program."""
    spec = importlib.util.spec_from_file_location(f"scripts.{rule}", script(rule))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    main: Callable[[], int] = module.main
    return main


def script(rule: str) -> Path:
    """Return the program of a rule."""
    return ROOT / "scripts" / f"{rule}.py"


class Process:
    """The jobs of one downlink in this process, which takes its lease.

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
    """

    def __init__(
        self,
        settings: Settings,
        written: Path,
        downlink: DownlinkId,
        since: float = 0.0,
        after: Mapping[RunId, Collection[DownlinkId]] | None = None,
    ) -> None:
        self.settings, self.downlink, self._written = settings, downlink, written
        self._work, self._since, self._after = settings.paths.work, since, after or {}
        self.waits_for: set[DownlinkId] = set()
        self.done = True

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
        leases.hold_downlink(self._work, self.downlink, say)
        of = self._begin(say)
        broken = {chunk for chunk in of.chunks if not self._chunk(chunk)}
        of = Plan(self.settings).of(self.downlink)  # decoders may have brought runs besides
        for run in of.runs:
            chunks = of.chunks_with(run)
            self.done &= broken.isdisjoint(chunks) and self._run(run, chunks, of.runs)
        if self.done and not broken and not self.waits_for:
            made_of = [*of.chunk_files, *of.manifests]
            words = ["--chunks", *of.chunks, "--runs", *of.runs]
            self.done = self._job("receipt", (), [paths.receipt(self.downlink)], made_of, words)
        self.done &= not broken and not self.waits_for

    def _begin(self, say: Callable[[str], None]) -> DownlinkPlan:
        """Do what the head of Snakemake does before the first job."""
        halts.refuse(self._work, halts.Switch.STAGE, self.downlink)
        of, _ = plan_causes.look(Plan(self.settings), self.downlink, say, removes=True)
        working_directory.begin(self._work)
        if self.settings.ledger.url not in {None, BUILT_IN}:
            from halfpipe.ledger.lacks import refuse_delivery  # noqa: PLC0415 - the library of the database

            refuse_delivery(self.settings, {self.downlink})
        leases.check_downlink(self._work, self.downlink)
        withdraw(self._work, self.downlink)
        return of

    def _chunk(self, chunk: ChunkId) -> bool:
        """Decode a chunk; tell whether that is done."""
        product = paths.chunk(self.downlink, chunk)
        return self._job("decode_chunk", (chunk,), [product], (), ["--chunk", chunk])

    def _run(self, run: RunId, chunks: Sequence[ChunkId], runs: Sequence[RunId]) -> bool:
        """Deliver a run, unless another downlink comes first; tell whether nothing failed."""
        if first := [dl for dl in self._after.get(run, ()) if not self._has(paths.manifest(run, dl))]:
            self.waits_for.update(first)
            return True
        made_of = [paths.chunk(self.downlink, chunk) for chunk in chunks]
        words = ["--run", run, "--chunks", *chunks, "--runs", *runs]
        products = [paths.manifest(run, self.downlink)]
        others = set(self._merged(run)) != set(chunks)
        return self._job("deliver_run", (run,), products, made_of, words, others=others)

    def _merged(self, run: RunId) -> Iterator[str]:
        """Yield the chunks that the merged index of a run is made of."""
        with suppress(Exception):  # what is missing or damaged is made of nothing
            yield from (chunk.chunk for chunk in load_chunks(self._work, run, self.downlink))

    def _has(self, product: str) -> bool:
        made = modified(f"{self._work}/{product}")
        return made is not None and made >= self._since

    def _job(
        self,
        rule: str,
        ids: Iterable[str],
        products: Sequence[str],
        made_of: Iterable[str],
        words: Iterable[str],
        *,
        others: bool = False,
    ) -> bool:
        """Do a job if it is to be done, and tell whether its products are there.

        Like Snakemake this removes products before the job begins.
        """
        times = [modified(f"{self._work}/{name}") or 0.0 for name in made_of]
        if not others and all(map(self._has, products)):
            made = [modified(f"{self._work}/{name}") or 0.0 for name in products]
            if min(made) >= max(times, default=0.0):
                return True
        for name in products:
            (self._work / name).unlink(missing_ok=True)
            forget(self._work, name)  # it would hold old inputs against what is made without Snakemake
        sys.argv = [
            str(script(rule)),
            *("--settings", str(self._written), "--downlink", self.downlink, *words),
            *("--log", paths.log(rule, self.downlink, *ids)),  # its command is repeated in `paths.work`
        ]
        return program(rule)() == 0
