"""Many downlinks: batches of neighbors, oldest first, by the second Snakefile ``workflow/history.smk``.

A batch is one job of Snakemake, on this host or in Slurm. It runs ``snakemake dl=<id>`` for its downlinks one after the
other, in the order of their ids, so within a batch the products are the same as with single commands. Batches run side
by side. If a run continues in the next batch, that batch may deliver first. Each event still goes to Level-1 once.

Which downlinks are outstanding is read from the files each time, so the same command continues where the last one
ended. A downlink that fails is skipped. Nothing is submitted to Level-1.
"""

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from halfpipe import paths
from halfpipe.config import write_down
from halfpipe.errors import HalfPipeError, LockedError
from halfpipe.files import leases
from halfpipe.files.advice import DISK_FULL
from halfpipe.files.json_files import write_json
from halfpipe.files.reading import is_made
from halfpipe.ids import DownlinkId
from halfpipe.operate.invocation import SnakemakeCall, running, ticks
from halfpipe.plan.outstanding import outstanding
from halfpipe.plan.plan import Plan
from halfpipe.process import failure_record
from halfpipe.process.failure_record import Failure
from halfpipe.settings import ROOT, Settings
from halfpipe.state.downlinks_of_run import refuse_unknown_downlink
from halfpipe.state.halts import HeldError
from halfpipe.state.hand_offs import series
from halfpipe.status.failed_jobs import end_of, failed_jobs

SNAKEFILE = ROOT / "workflow" / "history.smk"
EQUAL = 20  # downlinks in a row that fail with one code: they share a cause
LOOK_SECONDS = 10.0  # between two checks of the downlinks
FULL_SECONDS = 60.0  # between two attempts at a downlink while a disk is full
BUSY_SECONDS = 900.0  # longest time that a batch waits for another process that works on a downlink
# Codes of the reasons why a downlink was not handed off.
LEFT = frozenset({HeldError.code, LockedError.code})  # it was left alone
MEMORY = frozenset({"killed", "memory"})  # the next attempt of its batch has more memory
UNKNOWN = Failure("killed", "its batch ended before it was done")


def record(downlink: DownlinkId) -> str:
    """Return the log, below `paths.work`, whose failure record contains why a downlink was not handed off."""
    return paths.log("batch", downlink)


def begin_again(work: Path, named: Sequence[DownlinkId]) -> tuple[Path, bool]:
    """Record when the regeneration of downlinks began, until all of them are done.

    Returns
    -------
    tuple
        A file, and whether an earlier command made it. Products older than the file, by the file server's clock, are
        made again.
    """
    every = sorted(named)
    digest = hashlib.sha256("".join(every).encode()).hexdigest()[:8]
    file = work / paths.reprocessing(f"{every[0]}-{every[-1]}-{digest}")
    if not (there := file.exists()):
        write_json(file, every)
    return file, there


@dataclass
class Batches:
    """The downlinks of one `halfpipe process`, and what became of them.

    Attributes
    ----------
    todo
        The downlinks to process, in order.
    since
        Unix time: older products are made again; 0: existing products are good.
    ends
        Why a downlink was not handed off; None: it was. A downlink without an entry is not finished yet.
    messages
        What other downlinks wait for.
    """

    settings: Settings
    todo: tuple[DownlinkId, ...]
    since: float = 0.0
    ends: dict[DownlinkId, Failure | None] = field(default_factory=dict)
    messages: tuple[str, ...] = ()
    log: Path = Path()
    _equal: list[Failure] = field(default_factory=list)

    @classmethod
    def of(cls, settings: Settings, named: Sequence[DownlinkId], since: float = 0.0) -> "Batches":
        """Find which of the named downlinks are outstanding, or were handed off before the Unix time `since`."""
        for dl in named:
            refuse_unknown_downlink(settings, dl)
        found = outstanding(Plan(settings), time.time(), frozenset(named))
        work = settings.paths.work
        todo = set(found.ready)
        if since:
            todo |= {dl for dl in named if series(work, dl).records}
            todo = {dl for dl in todo if not is_made(f"{work}/{paths.receipt(dl)}", since)}
        held = {dl: Failure(HeldError.code, f"held by {file}") for dl, file in found.held.items()}
        return cls(settings, tuple(sorted({*todo, *held})), since, {**held}, found.waiting)

    @property
    def done(self) -> list[DownlinkId]:
        """The downlinks that were handed off."""
        return [dl for dl in self.todo if self.ends.get(dl, UNKNOWN) is None]

    @property
    def left(self) -> dict[DownlinkId, Failure]:
        """The downlinks that were not tried, with the reason: held, or another process works on them."""
        return {dl: why for dl in self.todo if (why := self.ends.get(dl)) and why.code in LEFT}

    @property
    def failed(self) -> list[DownlinkId]:
        """All other downlinks: they failed, or their batch did not reach them."""
        return [dl for dl in self.todo if self.ends.get(dl, UNKNOWN) and dl not in self.left]

    @property
    def waits(self) -> str:
        """The full disk that the downlinks wait for; empty without one."""
        full = (f"{dl}: {why.text}" for dl, why in self.ends.items() if why and why.code == DISK_FULL)
        return next(full, "")

    def run(self, snakemake: SnakemakeCall) -> Iterator[None]:
        """Process the batches, and yield after each look at the files.

        Raises
        ------
        HalfPipeError
            If 20 downlinks in a row fail with one code, or no batch can begin.
        """
        todo = [dl for dl in self.todo if dl not in self.ends]
        if not todo:
            return
        size = self.settings.history.batch
        work = self.settings.paths.work
        name = f"{datetime.fromtimestamp(time.time(), UTC):%Y%m%dT%H%M%S.%fZ}-{todo[0]}"
        file = work / paths.batches(name)
        self.log = work / paths.batches_log(name)
        batches = [todo[begin : begin + size] for begin in range(0, len(todo), size)]
        write_json(
            file, {"since": self.since, "settings": str(write_down(self.settings)), "batches": batches}
        )
        begun = file.stat().st_mtime
        words = ["history", "--snakefile", str(SNAKEFILE), "--directory", str(work)]
        try:
            with running([*snakemake.command(*words), "--config", f"batches={file}"], self.log) as process:
                for _ in ticks(process, LOOK_SECONDS):
                    self._look(todo, begun)
                    yield
        finally:
            self._look(todo, begun)
        if process.returncode and all(dl not in self.ends for dl in todo):
            raise HalfPipeError("\n".join([f"no batch has begun; its log: {self.log}", *end_of(self.log)]))

    def _look(self, todo: Sequence[DownlinkId], begun: float) -> None:
        """Read which downlinks were handed off or failed since the Unix time `begun`.

        Raises
        ------
        HalfPipeError
            If too many in a row failed with one code.
        """
        work = self.settings.paths.work
        for dl in todo:
            before = self.ends.get(dl, UNKNOWN)
            if before is None:
                continue
            if is_made(f"{work}/{paths.receipt(dl)}", max(begun, self.since)):
                self.ends[dl] = None
                self._equal.clear()
                continue
            log = work / record(dl)
            if is_made(str(log.with_suffix(paths.FAILURE_SUFFIX)), begun) and (why := Failure.read(log)):
                if why.text != before.text and why.code not in LEFT | {DISK_FULL}:
                    self._equal = [*(one for one in self._equal if one.code == why.code), why]
                self.ends[dl] = why
        if len(self._equal) >= EQUAL:
            raise HalfPipeError(
                f"{EQUAL} downlinks in a row failed ({self._equal[-1].code}), so the rest was not tried: "
                f"{self._equal[-1].text}; its log: {self.log}"
            )


def process_batch(
    settings: Settings, written: Path, downlinks: Sequence[DownlinkId], since: float, cores: int, log: Path
) -> bool:
    """Process downlinks one after the other, each by a command of Snakemake on this host.

    Parameters
    ----------
    settings, written
        The settings, and their file.
    downlinks
        The downlinks, in order.
    since
        As for `Batches`.
    cores
        Cores of this host.
    log
        The file for the output of the commands.

    Returns
    -------
    bool
        Whether a downlink failed that may succeed with more memory.
    """
    wants_memory = False
    for downlink in downlinks:
        while not _is_done(settings, downlink, since):
            why = _process_one(settings, written, downlink, again=since > 0, cores=cores, log=log)
            wants_memory |= why is not None and why.code in MEMORY
            if why is None or why.code != DISK_FULL:
                break
            time.sleep(FULL_SECONDS)
    return wants_memory


def _is_done(settings: Settings, downlink: DownlinkId, since: float) -> bool:
    """Tell whether a downlink was handed off since a Unix time; if the time is 0, with all its RetDefs."""
    receipt = f"{settings.paths.work}/{paths.receipt(downlink)}"
    return is_made(receipt, since) and (since > 0 or not Plan(settings).of(downlink).to_stage)


def _process_one(
    settings: Settings, written: Path, downlink: DownlinkId, *, again: bool, cores: int, log: Path
) -> Failure | None:
    """Process a downlink; record and return why it was not handed off."""
    work = settings.paths.work
    own = work / record(downlink)
    own.parent.mkdir(parents=True, exist_ok=True)
    failure_record.forget(own)
    own.touch()
    begun = own.stat().st_mtime
    why = _wait_for_others(work, downlink)
    if why is None:
        words = SnakemakeCall(cores=cores).command(f"dl={downlink}", *(["--forceall"] if again else []))
        with running(words, log, HALFPIPE_SETTINGS=str(written)) as process:
            status = process.wait()
        if status == 0:
            return None
        why = Failure("failed", f"snakemake ended with status {status}; its log: {log}")
        why = next((job.why for job in failed_jobs(work, downlink) if job.ended >= begun), why)
    why.write(own)
    return why


def _wait_for_others(work: Path, downlink: DownlinkId) -> Failure | None:
    """Wait until no other process works on a downlink; return the failure if that takes too long."""
    until = time.monotonic() + BUSY_SECONDS
    while who := leases.in_progress(work, downlink):
        if time.monotonic() > until:
            return Failure(LockedError.code, f"downlink {downlink} is in progress: {who}")
        time.sleep(1.0)
    return None
