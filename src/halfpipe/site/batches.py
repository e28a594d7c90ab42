"""Many downlinks in elements of neighbours, oldest first: processes here, or an array in Slurm.

What is outstanding is asked of the files each time, so the same command goes on wherever the last one has ended. A
downlink that fails is left behind, and all others go on. Nothing is submitted to Level-1: what is asked for are
receipts, whatever `submit.automatic` says.

A run that several downlinks bring is delivered in their order, so the bytes are those of single commands, one after the
other. An element has its downlinks one after the other; where one that comes first has not delivered the run yet, for
it is in another element or in work elsewhere, the later one is finished in the next round.
"""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.config import write_down
from halfpipe.downlink.halts import HeldError
from halfpipe.downlink.plan import Plan
from halfpipe.downlink.plan_causes import outstanding
from halfpipe.errors import HalfPipeError
from halfpipe.files.advice import DISK_FULL
from halfpipe.files.json_files import write_json
from halfpipe.files.reading import is_made, names_in
from halfpipe.ids import DownlinkId, RunId
from halfpipe.process import failure
from halfpipe.process.failure import Failure
from halfpipe.process.programs import send
from halfpipe.run.receipt_file import last_number
from halfpipe.settings import ROOT, Settings
from halfpipe.site.element import LATER, LEFT, MEMORY, record
from halfpipe.site.slurm import TRIES, Arrays, BusyError
from halfpipe.status.failures import end_of

MOST = 10  # downlinks of an element: a killed one has little to begin again, and its start costs little
EQUAL = 20  # downlinks that fail for one cause, one after the other: it is none of them
BUSY_SECONDS = 60.0  # between two submissions, if Slurm takes none
LOOK_SECONDS = 10.0  # between two looks at what downlinks in work have become
GRACE_SECONDS = 60.0  # in which elements end their downlinks, and jobs their decoders

UNHEARD = Failure("killed", "nothing was heard of it")


class Here:
    """Elements as processes of this machine, so many at a time; `halfpipe.site.slurm.Arrays` starts them in Slurm."""

    largest, seconds, shows, look = sys.maxsize, 0.1, 0.0, ""

    def __init__(self, cores: int) -> None:
        self.slots = self.cores = cores
        self._waiting = list[tuple[list[str], str]]()
        self._running = list[subprocess.Popen[bytes]]()

    def start(self, words: Sequence[str], log: str, elements: int, *_: int) -> None:
        """Have elements started, as `Arrays.start`."""
        numbers = map(str, range(elements))
        self._waiting += [([*words, "--element", number], log.replace("%a", number)) for number in numbers]

    def left(self) -> int:
        """Start what there is room for, and return how many have not ended."""
        self._running = [one for one in self._running if one.poll() is None]
        while self._waiting and len(self._running) < self.slots:
            words, log = self._waiting.pop(0)
            with open(log, "ab") as out:  # noqa: PTH123 - of a pattern
                self._running.append(
                    subprocess.Popen(
                        words,
                        cwd=ROOT,
                        stdin=subprocess.DEVNULL,
                        stdout=out,
                        stderr=out,
                        start_new_session=True,
                    )
                )
        return len(self._running) + len(self._waiting)

    def end(self) -> None:
        """End all, in order if that is possible, with all of their groups."""
        self._waiting.clear()
        for one in self._running:
            send(one, signal.SIGTERM, whole_group=True)
        until = time.monotonic() + GRACE_SECONDS
        for one in self._running:
            with suppress(subprocess.TimeoutExpired):
                one.wait(max(0.0, until - time.monotonic()))
            send(one, signal.SIGKILL, whole_group=True)


Launcher = Here | Arrays


def launcher(
    work: Path, profile: Mapping[str, Any], named: Sequence[str], cores: int | None, sbatch: str = ""
) -> Launcher:
    """Return what starts elements: an array of Slurm if that is the profile's executor and nobody names `cores`.

    It takes the place of an earlier one for what is `named`. Its arrays get the options `sbatch` besides.
    """
    if profile.get("executor") != "slurm" or cores:
        return Here(cores or profile.get("cores") or os.cpu_count() or 1)
    digest = hashlib.sha256("".join([str(work), *named]).encode()).hexdigest()[:8]
    arrays = Arrays(profile, f"halfpipe-{named[0]}-{digest}", sbatch)
    arrays.end(waiting_only=True)  # of the same command, if that was killed
    return arrays


def begin_again(work: Path, named: Sequence[DownlinkId]) -> tuple[Path, bool]:
    """Have it remembered since when downlinks are regenerated, until all are, and whether that has begun earlier.

    Returns
    -------
    tuple
        A file: what was made before it, by the file server's clock, is made anew. Whether it was there already.
    """
    every = sorted(named)
    digest = hashlib.sha256("".join(every).encode()).hexdigest()[:8]
    file = work / paths.reprocessing(f"{every[0]}-{every[-1]}-{digest}")
    if not (there := file.exists()):
        write_json(file, every)
    return file, there


def batch_of(
    settings: Settings, named: Sequence[DownlinkId], since: float = 0.0
) -> tuple["Batch", Sequence[str]]:
    """Find what is to be done of downlinks, also of those that were handed off before the Unix time `since`.

    Returns
    -------
    tuple
        It, and what there is to say of others.
    """
    found = outstanding(Plan(settings), time.time(), frozenset(named))
    todo, work = set(found.ready), settings.paths.work
    if since:
        todo |= {dl for dl in named if last_number(work, dl)}
        todo = {dl for dl in todo if not is_made(f"{work}/{paths.receipt(dl)}", since)}
    batch = Batch(settings, sorted({*todo, *found.held}), since)
    batch.ends = {dl: Failure(HeldError.code, f"it is held by {file}") for dl, file in found.held.items()}
    return batch, found.waiting


def compose(
    settings: Settings, downlinks: Sequence[DownlinkId], slots: int, *, alone: bool = False
) -> list[list[dict[str, Any]]]:
    """Part downlinks into elements of neighbours, and say of each which others deliver its runs first, and its chunks.

    Parameters
    ----------
    settings
        The settings.
    downlinks
        Downlinks in order.
    slots
        How many elements there should be at least.
    alone
        Each is an element, and none waits: the last times that they are tried.
    """
    size = 1 if alone else max(1, min(MOST, -(-len(downlinks) // slots)))
    brought: dict[RunId, list[DownlinkId]] = {}
    elements = []
    for begin in range(0, len(downlinks), size):
        plan, element = Plan(settings), list[dict[str, Any]]()
        for dl in downlinks[begin : begin + size]:
            runs, chunks = _brings(plan, dl)
            after = {run: brought[run] for run in runs if run in brought}
            element.append({"downlink": dl, "after": after, "chunks": chunks})
            for run in () if alone else runs:
                brought[run] = [*brought.get(run, ()), dl]
        elements.append(element)
    return elements


def _brings(plan: Plan, downlink: DownlinkId) -> tuple[Sequence[RunId], int]:
    """Return the runs of a downlink, and how many chunks it has."""
    try:
        of = plan.of(downlink)
        return of.runs, len(of.chunks)
    except HalfPipeError:  # its own process says so
        return (), 0


class Batch:
    """What one command does, and what becomes of it.

    Parameters
    ----------
    settings
        The settings.
    todo
        What is to be processed, in order.
    since
        Unix time: what was made before it is made anew; 0: what is there is good.
    home
        Where logs of elements are, below `paths.work`.
    submits
        Whether downlinks that are handed off are submitted, and nothing else is done.

    Attributes
    ----------
    ends
        As far as files say it: None of a downlink that was handed off, or why it was not.
    waits
        What all that is left waits for at the moment: a full disk, or Slurm; empty: nothing.
    logs
        Of the elements that have downlinks, by downlink.
    """

    def __init__(
        self,
        settings: Settings,
        todo: Sequence[DownlinkId],
        since: float = 0.0,
        home: str = paths.BATCH_LOGS,
        *,
        submits: bool = False,
    ) -> None:
        self.settings, self.todo, self.since = settings, tuple(todo), since
        self.ends = dict[DownlinkId, Failure | None]()
        self._submits, self._product = submits, paths.submitted if submits else paths.receipt
        self.waits, self.logs = "", dict[DownlinkId, Path]()
        self._work, self._home = settings.paths.work, settings.paths.work / home
        self._written = write_down(settings)
        self._begun = self._written.stat().st_mtime  # by the clock of the file server
        self._equal = list[Failure]()

    @property
    def done(self) -> list[DownlinkId]:
        """Those that were handed off, or submitted."""
        return [dl for dl in self.todo if self.ends.get(dl, UNHEARD) is None]

    @property
    def left(self) -> dict[DownlinkId, str]:
        """Those that nothing was tried of, and why: held, in work elsewhere."""
        return {dl: why.text for dl in self.todo if (why := self.ends.get(dl)) and why.code in LEFT}

    @property
    def failed(self) -> list[DownlinkId]:
        """Those that were tried, or would have been, and were not handed off."""
        others = {*self.done, *self.left}
        return [dl for dl in self.todo if dl not in others]

    def run(self, launcher: Launcher) -> Generator[None, None, None]:
        """Process what is to be done, round after round, and yield after each look; it is known whatever ends this.

        Raises
        ------
        HalfPipeError
            If elements cannot begin, or too many downlinks fail for one cause.
        """
        rest = first = [dl for dl in self.todo if dl not in self.ends]
        tries, stalled = 1, 0
        try:
            while rest and stalled < TRIES:
                yield from self._round(launcher, rest, tries, alone=stalled > 0)
                ends = {dl: self.ends.get(dl, UNHEARD) for dl in rest}
                left = {dl: why for dl, why in ends.items() if why and why.code in LATER | MEMORY}
                full = [f"{dl}: {why.text}" for dl, why in left.items() if why.code == DISK_FULL]
                self.waits = full[0] if full else ""
                # An element or a job was killed, perhaps for its memory.
                tries += any(why.code in MEMORY for why in left.values())
                stalled = stalled + 1 if len(left) == len(rest) and not full else 0
                rest = [*left]
            if rest and rest == first and self.ends.keys().isdisjoint(rest):
                log = self.logs[rest[0]]
                words = [f"no element has come to its first downlink; a log: {log}"]
                words += [f"what Slurm says: {launcher.look}"] if launcher.look else []
                raise HalfPipeError("\n".join([*words, *end_of(log)]))
        finally:
            with suppress(HalfPipeError):
                launcher.end()
            for dl in filter(self._is_done, self.todo):  # who was ended could not say so
                self.ends[dl] = None

    def _round(
        self, launcher: Launcher, downlinks: Sequence[DownlinkId], tries: int, *, alone: bool
    ) -> Iterator[None]:
        """Process downlinks once; yield after each look."""
        for dl in downlinks:
            if self.ends.pop(dl, None):
                failure.forget(self._work / record(dl))
        elements = compose(self.settings, downlinks, launcher.slots, alone=alone)
        largest = min(launcher.largest, len(elements))
        parts = [elements[begin : begin + largest] for begin in range(0, len(elements), largest)]
        most = max(entry["chunks"] for element in elements for entry in element)
        # Alone it gets one: perhaps no node has as much memory as its cores were to get.
        cores = 1 if alone else max(1, min(launcher.slots // len(elements), launcher.cores, most))
        next_try = time.monotonic() + (BUSY_SECONDS if self.waits else 0.0)
        next_look = 0.0
        while True:
            if parts and time.monotonic() >= next_try:
                try:
                    self._start(launcher, parts[0], tries, cores)
                    del parts[0]
                    self.waits = ""
                except BusyError as error:
                    self.waits, next_try = str(error), time.monotonic() + BUSY_SECONDS
            left = launcher.left()
            if time.monotonic() >= next_look:
                there = set(names_in(self._home))  # thousands have not begun
                self._look([dl for dl in downlinks if dl in self.logs and self.logs[dl].name in there])
                next_look = time.monotonic() + LOOK_SECONDS
            yield
            if left == 0 and not parts:
                break
            time.sleep(launcher.seconds)
        until = time.monotonic() + launcher.shows
        while self._look(downlinks) and time.monotonic() < until:
            time.sleep(1.0)
        yield

    def _start(
        self, launcher: Launcher, elements: Sequence[Sequence[Mapping[str, Any]]], tries: int, cores: int
    ) -> None:
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{elements[0][0]['downlink']}"
        file = self._home / f"{name}.json"
        content = {"since": self.since, "cores": cores, "submits": self._submits, "elements": elements}
        write_json(file, content)
        script = str(ROOT / "scripts" / "process_downlinks.py")
        words = [sys.executable, script, "--settings", str(self._written), "--list", str(file)]
        log = f"{self._home}/{name}-%a.log"
        launcher.start(words, log, len(elements), max(map(len, elements)), tries, cores)
        for number, element in enumerate(elements):
            path = Path(log.replace("%a", str(number)))
            self.logs |= {entry["downlink"]: path for entry in element}

    def _is_done(self, downlink: DownlinkId) -> bool:
        return is_made(f"{self._work}/{self._product(downlink)}", self._begun)

    def _look(self, downlinks: Sequence[DownlinkId]) -> bool:
        """Take in how downlinks have ended; return whether there are any of which nothing is known.

        Raises
        ------
        HalfPipeError
            If too many have failed for one cause, one after the other.
        """
        for dl in downlinks:
            if dl not in self.ends:
                self._take(dl)
        return any(dl not in self.ends for dl in downlinks)

    def _take(self, downlink: DownlinkId) -> None:
        log = self._work / record(downlink)
        if self._is_done(downlink):
            self.ends[downlink] = None
            self._equal.clear()
        elif is_made(str(log.with_suffix(paths.FAILURE_SUFFIX)), self._begun) and (why := Failure.read(log)):
            self.ends[downlink] = why
            if why.code not in LEFT | LATER:
                self._equal = [*(one for one in self._equal if one.code == why.code), why]
            if len(self._equal) >= EQUAL:
                raise HalfPipeError(
                    f"{EQUAL} downlinks, one after the other, failed for one cause ({why.code}), so all is ended: "
                    f"{why.text}; its log: {self.logs[downlink]}"
                )
