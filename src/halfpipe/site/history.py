"""Many downlinks: batches of neighbours, oldest first, by the second Snakefile ``workflow/history.smk``.

A batch is one job of Snakemake, here or in Slurm. It runs ``snakemake dl=<id>`` for one downlink after the other, in
the order of their ids, so inside a batch the bytes are those of single commands. Batches run side by side. A run that
reaches over the end of a batch may be delivered by its later downlink first. Each event still goes to Level-1 once.

What is outstanding is read from the files each time, so the same command goes on where the last one ended. A downlink
that fails is left behind. Nothing is submitted to Level-1.
"""

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from halfpipe import paths
from halfpipe.config import write_down
from halfpipe.downlink.halts import HeldError
from halfpipe.downlink.plan import Plan
from halfpipe.downlink.plan_causes import outstanding
from halfpipe.errors import HalfPipeError, LockedError
from halfpipe.files import leases
from halfpipe.files.advice import DISK_FULL
from halfpipe.files.json_files import write_json
from halfpipe.files.reading import is_made
from halfpipe.ids import DownlinkId
from halfpipe.process import failure
from halfpipe.process.failure import Failure
from halfpipe.run.receipt_file import last_number
from halfpipe.settings import ROOT, Settings
from halfpipe.site.invocation import Which, running, ticks
from halfpipe.status.failures import end_of, failed_jobs

SNAKEFILE = ROOT / "workflow" / "history.smk"
EQUAL = 20  # downlinks that fail one after the other with one code: the cause is shared
LOOK_SECONDS = 10.0  # between two looks at what has become of downlinks
FULL_SECONDS = 60.0  # between two tries of a downlink where a disk is full
BUSY_SECONDS = 900.0  # that a batch waits for a downlink that another process has in work
# Codes of why a downlink was not handed off.
LEFT = frozenset({HeldError.code, LockedError.code})  # it was left alone
MEMORY = frozenset({"killed", "memory"})  # the next attempt of its batch has more memory
UNHEARD = Failure("killed", "its batch ended before it was done")


def record(downlink: DownlinkId) -> str:
    """Return the log whose failure record shows why a downlink was not handed off, relative to `paths.work`."""
    return paths.log("batch", downlink)


def begin_again(work: Path, named: Sequence[DownlinkId]) -> tuple[Path, bool]:
    """Remember since when downlinks are regenerated, until all are.

    Returns
    -------
    tuple
        A file: products older than it, by the file server's clock, are made again. Whether an earlier command made it.
    """
    every = sorted(named)
    digest = hashlib.sha256("".join(every).encode()).hexdigest()[:8]
    file = work / paths.reprocessing(f"{every[0]}-{every[-1]}-{digest}")
    if not (there := file.exists()):
        write_json(file, every)
    return file, there


@dataclass
class History:
    """The downlinks of one command, and what has become of them.

    Attributes
    ----------
    todo
        What must be processed, in order.
    since
        Unix time: what was made before it is made again; 0: what exists is good.
    ends
        Why a downlink was not handed off, None for one that was; no entry where the files do not show it yet.
    messages
        What there is to say of others.
    """

    settings: Settings
    todo: tuple[DownlinkId, ...]
    since: float = 0.0
    ends: dict[DownlinkId, Failure | None] = field(default_factory=dict)
    messages: tuple[str, ...] = ()
    log: Path = Path()
    _equal: list[Failure] = field(default_factory=list)

    @classmethod
    def of(cls, settings: Settings, named: Sequence[DownlinkId], since: float = 0.0) -> "History":
        """Find what must be done of downlinks, and of those that were handed off before the Unix time `since`."""
        found, work = outstanding(Plan(settings), time.time(), frozenset(named)), settings.paths.work
        todo = set(found.ready)
        if since:
            todo |= {dl for dl in named if last_number(work, dl)}
            todo = {dl for dl in todo if not is_made(f"{work}/{paths.receipt(dl)}", since)}
        held = {dl: Failure(HeldError.code, f"held by {file}") for dl, file in found.held.items()}
        return cls(settings, tuple(sorted({*todo, *held})), since, {**held}, found.waiting)

    @property
    def done(self) -> list[DownlinkId]:
        """The downlinks that were handed off."""
        return [dl for dl in self.todo if self.ends.get(dl, UNHEARD) is None]

    @property
    def left(self) -> dict[DownlinkId, Failure]:
        """The downlinks that were left alone, and why: held, or in work elsewhere."""
        return {dl: why for dl in self.todo if (why := self.ends.get(dl)) and why.code in LEFT}

    @property
    def failed(self) -> list[DownlinkId]:
        """The downlinks that were tried, or would have been, and were not handed off."""
        others = {*self.done, *self.left}
        return [dl for dl in self.todo if dl not in others]

    @property
    def waits(self) -> str:
        """What the downlinks in work wait for, a full disk; empty if they do not."""
        full = (f"{dl}: {why.text}" for dl, why in self.ends.items() if why and why.code == DISK_FULL)
        return next(full, "")

    def run(self, which: Which) -> Iterator[None]:
        """Process the batches, and yield after each look at the files.

        Raises
        ------
        HalfPipeError
            If 20 downlinks in a row fail with one code, or no batch can begin.
        """
        todo = [dl for dl in self.todo if dl not in self.ends]
        if not todo:
            return
        size, work = self.settings.history.batch, self.settings.paths.work
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{todo[0]}"
        file, self.log = work / paths.batches(name), work / paths.batches_log(name)
        written = write_down(self.settings)
        parts = [todo[begin : begin + size] for begin in range(0, len(todo), size)]
        write_json(file, {"since": self.since, "settings": str(written), "batches": parts})
        begun = file.stat().st_mtime
        words = ["history", "--snakefile", str(SNAKEFILE), "--directory", str(work)]
        try:
            with running([*which.command(*words), "--config", f"batches={file}"], self.log) as snakemake:
                for _ in ticks(snakemake, LOOK_SECONDS):
                    self._look(todo, begun)
                    yield
                status = snakemake.status()
        finally:
            self._look(todo, begun)
        if status and all(dl not in self.ends for dl in todo):
            raise HalfPipeError("\n".join([f"no batch has begun; its log: {self.log}", *end_of(self.log)]))

    def _look(self, todo: Sequence[DownlinkId], begun: float) -> None:
        """Take in how downlinks have ended since the command began.

        Raises
        ------
        HalfPipeError
            If too many have failed with one code, one after the other.
        """
        work = self.settings.paths.work
        for dl in todo:
            before = self.ends.get(dl, UNHEARD)
            if before is None:
                continue
            if is_made(f"{work}/{paths.receipt(dl)}", max(begun, self.since)):
                self.ends[dl] = None
                self._equal.clear()
                continue
            log = work / record(dl)
            if is_made(str(log.with_suffix(paths.FAILURE_SUFFIX)), begun) and (why := Failure.read(log)):
                if why != before and why.code not in LEFT | {DISK_FULL}:
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
    """Process downlinks one after the other, each by a command of Snakemake on cores of this machine.

    Parameters
    ----------
    settings, written
        The settings, and their file.
    downlinks
        In order.
    since
        As for `History`.
    cores
        Of this machine.
    log
        Takes what the commands print.

    Returns
    -------
    bool
        Whether a downlink failed that may do better with more memory.
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
    """Tell whether a downlink is handed off, since a Unix time if one is given, with all RetDefs that there are."""
    receipt = f"{settings.paths.work}/{paths.receipt(downlink)}"
    return is_made(receipt, since) and (since > 0 or not Plan(settings).of(downlink).to_stage)


def _process_one(
    settings: Settings, written: Path, downlink: DownlinkId, *, again: bool, cores: int, log: Path
) -> Failure | None:
    """Process a downlink; return, and record, why it was not handed off."""
    work = settings.paths.work
    own = work / record(downlink)
    own.parent.mkdir(parents=True, exist_ok=True)
    failure.forget(own)
    own.touch()
    begun = own.stat().st_mtime
    why = _in_work(work, downlink)
    if why is None:
        words = Which(cores=cores).command(f"dl={downlink}", *(["--forceall"] if again else []))
        with running(words, log, HALFPIPE_SETTINGS=str(written)) as snakemake:
            while (status := snakemake.wait(3600.0)) is None:
                pass
        if status == 0:
            return None
        jobs = [job for job in failed_jobs(work, downlink) if job.ended >= begun]
        why = (
            jobs[0].why
            if jobs
            else Failure("failed", f"snakemake ended with status {status}; its log: {log}")
        )
    why.write(own)
    return why


def _in_work(work: Path, downlink: DownlinkId) -> Failure | None:
    """Wait for another process that has a downlink in work; return that it takes too long."""
    until = time.monotonic() + BUSY_SECONDS
    while who := leases.in_work(work, downlink):
        if time.monotonic() > until:
            return Failure(LockedError.code, f"downlink {downlink} is in work: {who}")
        time.sleep(1.0)
    return None
