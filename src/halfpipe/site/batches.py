"""Many downlinks in batches, oldest first, each batch an invocation of Snakemake.

What is outstanding is asked of the files each time, so the same command goes on wherever the last one has ended. A
downlink that fails is left behind, and all others go on. Nothing is submitted to Level-1: what is asked for are
receipts, whatever `submit.automatic` says.
"""

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from halfpipe import paths
from halfpipe.downlink import halts
from halfpipe.downlink.plan import Plan
from halfpipe.downlink.plan_causes import outstanding
from halfpipe.errors import HalfPipeError, MissingInputError
from halfpipe.files import leases
from halfpipe.files.durable import remove_file
from halfpipe.files.json_files import read_json, write_json
from halfpipe.files.reading import modified
from halfpipe.ids import DownlinkId
from halfpipe.run.receipt_file import last_number, read_receipt
from halfpipe.settings import Settings
from halfpipe.site.invocations import GOOD, invocation, process
from halfpipe.status.failures import end_of

MOST = 100  # downlinks of a batch: Snakemake looks at all of their files before the first job starts
ENOUGH = (
    3  # invocations for a single downlink that fail before any job, one after the other: it is none of them
)


@dataclass
class Work:
    """What is to be done and what became of it.

    Attributes
    ----------
    named
        All downlinks that were named.
    todo
        Those that were outstanding at the beginning.
    done
        Those of them that were handed off meanwhile.
    left
        Those that nothing was tried of, and why: held, in work elsewhere, not ready.
    told
        What else there is to say.
    """

    named: tuple[DownlinkId, ...]
    todo: tuple[DownlinkId, ...] = ()
    done: set[DownlinkId] = field(default_factory=set)
    left: dict[DownlinkId, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    @property
    def failed(self) -> list[DownlinkId]:
        """Those that were tried, or would have been, and were not handed off."""
        return [dl for dl in self.todo if dl not in self.done and dl not in self.left]


class Reprocessing:
    """Downlinks that are regenerated though they were handed off: it is remembered which still wait for it.

    Parameters
    ----------
    work
        `paths.work`.
    downlinks
        Those that were named. A reprocessing of the same ones that has not ended is gone on with.
    """

    def __init__(self, work: Path, downlinks: Sequence[DownlinkId]) -> None:
        every = sorted(downlinks)
        digest = hashlib.sha256("".join(every).encode()).hexdigest()[:8]
        self._work, self.file = work, work / paths.reprocessing(f"{every[0]}-{every[-1]}-{digest}")
        try:
            self.before: Mapping[str, int] = read_json(self.file)
            self.begun_earlier = True
        except MissingInputError:
            self.before = {dl: last_number(work, dl) for dl in every}
            self.begun_earlier = False
            self.file.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.file, self.before)

    def is_done(self, downlink: DownlinkId) -> bool:
        """Tell whether a downlink has been handed off anew since this began."""
        try:
            return bool(read_receipt(self._work, downlink)["handoff"] > self.before[downlink])
        except HalfPipeError:
            return False

    def end(self) -> None:
        """Forget it: all are done."""
        remove_file(self.file)


def work_on(settings: Settings, named: Sequence[DownlinkId], again: Reprocessing | None) -> Work:
    """Find what is to be done of the downlinks that are `named`, all of it anew with `again`."""
    work = Work(tuple(named))
    found = outstanding(Plan(settings), time.time(), frozenset(named))
    work.messages += found.waiting
    todo = set(found.ready)
    if again is not None:
        todo |= {dl for dl in named if again.before[dl]}
        todo = {dl for dl in todo if not again.is_done(dl)}
    work.todo = tuple(sorted(todo | set(found.held)))
    return work


def run(
    settings: Settings, options: Sequence[str], work: Work, again: Reprocessing | None, most: int
) -> Iterator[tuple[Sequence[DownlinkId], Path]]:
    """Process what is to be done, batch after batch; `work` has what became of it, whatever ends this.

    Parameters
    ----------
    settings, work, again
        As of `work_on`.
    options
        The options of Snakemake that give it the same settings.
    most
        Downlinks of a batch.

    Yields
    ------
    tuple
        Of each batch, when it has ended, the downlinks that it handed off, and its log.

    Raises
    ------
    HalfPipeError
        If Snakemake cannot begin, whichever downlink it is given.
    """
    home = settings.paths.work
    options = [*options, *(["-F"] if again is not None else [])]
    queue = _batches(work.todo, most)
    waiting_for_others = True
    barren = 0
    while queue:
        batch = _free(settings, queue.pop(0), work)
        if batch:
            log = home / paths.batch_logs() / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{batch[0]}.log"
            words = invocation(map(paths.receipt, batch), options)
            before = _job_logs(home, batch)
            good = _invoke(words, log, home, batch, work)
            fresh = [dl for dl in batch if dl in work.done]
            yield fresh, log
            if good or fresh or _job_logs(home, batch) != before:
                barren = 0
            elif len(batch) > 1:  # one of them keeps all from being begun: the halves find it
                queue[:0] = _batches(batch, -(-len(batch) // 2))
            else:
                barren += 1
                if barren == ENOUGH:
                    raise HalfPipeError("\n".join([f"snakemake fails before any job: {log}", *end_of(log)]))
        if not queue and waiting_for_others:
            waiting_for_others = False  # by now they may have given back what they had
            queue = _batches(sorted(work.left), most)
    if again is not None and not set(work.todo) - work.done:
        again.end()


def _job_logs(work: Path, downlinks: Sequence[DownlinkId]) -> dict[str, float]:
    """Return the logs of jobs of downlinks and their times: one that begins changes them."""
    logs = (str(path) for dl in downlinks for path in (work / paths.benchmarks(dl)).glob("*.log"))
    return {path: modified(path) or 0.0 for path in logs}


def _batches(downlinks: Sequence[DownlinkId], most: int) -> list[Sequence[DownlinkId]]:
    return [downlinks[begin : begin + most] for begin in range(0, len(downlinks), most)]


def _free(settings: Settings, batch: Iterable[DownlinkId], work: Work) -> list[DownlinkId]:
    """Return those of a batch that nobody has in work or holds: one of these would stop all others."""
    plan, free = Plan(settings), []
    for dl in batch:
        work.left.pop(dl, None)
        try:
            plan.of(dl).refuse_closed()
            if who := leases.in_work(plan.work, dl):
                work.left[dl] = f"it is in work by {who}"
            elif file := halts.holding(plan.work, halts.Switch.STAGE, dl):
                work.left[dl] = f"it is held by {file}"
            else:
                free.append(dl)
        except HalfPipeError as error:
            work.left[dl] = str(error)
    return free


def _invoke(words: Sequence[str], log: Path, home: Path, batch: Sequence[DownlinkId], work: Work) -> bool:
    """Run one invocation, and note what it has handed off; return whether it ended well."""
    receipts = {dl: home / paths.receipt(dl) for dl in batch}
    before = {dl: modified(str(path)) for dl, path in receipts.items()}
    try:
        good = process(words, log, float("inf")) == GOOD
    finally:
        # A receipt goes before the first job of its downlink, so one that is there and another is a new one.
        work.done.update(dl for dl, path in receipts.items() if modified(str(path)) not in {None, before[dl]})
    if good:
        work.done.update(dl for dl, path in receipts.items() if path.is_file())
    return good
