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
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.config import write_down
from halfpipe.downlink.plan import Plan
from halfpipe.downlink.plan_causes import outstanding
from halfpipe.errors import HalfPipeError, LockedError, MissingInputError
from halfpipe.files.durable import remove_file
from halfpipe.files.json_files import read_json, write_json
from halfpipe.files.reading import modified
from halfpipe.ids import DownlinkId, RunId
from halfpipe.run.receipt_file import last_number, read_receipt
from halfpipe.settings import ROOT, Settings
from halfpipe.site import invocations
from halfpipe.site.element import FAILED, FULL, HANDED_OFF, KILLED, LEFT, WAITS, End
from halfpipe.site.slurm import SLURM_SECONDS, TRIES, Arrays, BusyError
from halfpipe.status.failures import end_of

MOST = (
    10  # downlinks of an element: what a killed one has to begin again is little, and its start costs little
)
EQUAL = 20  # downlinks that fail for one cause, one after the other: it is none of them
HERE_SECONDS = 0.1  # between two looks
BUSY_SECONDS = 60.0  # between two submissions, if Slurm takes none
LOCKED_SECONDS = 10.0  # until those are tried again that others have in work
SHOW_SECONDS = 10.0  # until the last line of another node's log shows here


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
        Those that nothing was tried of, and why: held, in work elsewhere.
    messages
        What else there is to say.
    waits
        What all that is left waits for at the moment: a full disk, or Slurm; empty: nothing.
    log
        Of the element that was begun last.
    """

    named: tuple[DownlinkId, ...]
    todo: tuple[DownlinkId, ...] = ()
    done: set[DownlinkId] = field(default_factory=set)
    left: dict[DownlinkId, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    waits: str = ""
    log: Path = Path()

    @property
    def failed(self) -> list[DownlinkId]:
        """Those that were tried, or would have been, and were not handed off."""
        return [dl for dl in self.todo if dl not in self.done and dl not in self.left]


class Here:
    """Elements as processes of this machine, so many at a time; `Arrays` starts them in Slurm."""

    largest, seconds, look = sys.maxsize, HERE_SECONDS, ""

    def __init__(self, cores: int) -> None:
        self.slots = self.cores = cores
        self._waiting = list[tuple[list[str], str]]()
        self._running = list[subprocess.Popen[bytes]]()

    def start(
        self,
        words: Sequence[str],
        log: str,
        elements: int,
        downlinks: int,  # noqa: ARG002
        tries: int,  # noqa: ARG002
        cores: int,  # noqa: ARG002
    ) -> None:
        """Have elements started, as `Arrays.start`."""
        invocations.take_orphans()
        numbers = map(str, range(elements))
        self._waiting += [([*words, "--element", number], log.replace("%a", number)) for number in numbers]

    def left(self) -> int:
        """Start what there is room for, and return how many have not ended."""
        self._running = [one for one in self._running if one.poll() is None]
        while self._waiting and len(self._running) < self.slots:
            words, log = self._waiting.pop(0)
            with open(log, "ab") as out:  # noqa: PTH123 - of a pattern
                self._running.append(invocations.start(words, out))
        return len(self._running) + len(self._waiting)

    def end(self) -> None:
        """End all, with all that they have started."""
        self._waiting.clear()
        for one in self._running:
            invocations.end(one)


Launcher = Here | Arrays


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

    @property
    def since(self) -> float:
        """When it began, Unix seconds by the file server's clock: what was made before is made anew."""
        return self.file.stat().st_mtime

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
    work.left = {dl: f"it is held by {file}" for dl, file in found.held.items()}
    return work


def launcher(
    work: Path, profile: Mapping[str, Any], named: Sequence[DownlinkId], cores: int | None, sbatch: str = ""
) -> Launcher:
    """Return what starts elements: an array of Slurm if that is the profile's executor and nobody names `cores`.

    Its arrays get the options `sbatch` besides.
    """
    if profile.get("executor") != "slurm" or cores:
        return Here(cores or profile.get("cores") or os.cpu_count() or 1)
    digest = hashlib.sha256("".join([str(work), *named]).encode()).hexdigest()[:8]
    arrays = Arrays(profile, f"halfpipe-{named[0]}-{digest}", sbatch)
    arrays.end(waiting_only=True)  # of the same command, if that was killed
    return arrays


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


@dataclass
class _Log:
    """The log of an element, how far it was read, and the downlinks of which it has not said how they ended."""

    path: Path
    left: set[DownlinkId]
    at: int = 0

    def hear(self) -> Iterator[End]:
        """Yield how downlinks have ended since the last time."""
        with suppress(OSError), self.path.open("rb") as file:
            file.seek(self.at)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self.at += len(line)
                if ended := End.read(line.decode(errors="replace")):
                    if ended.end != FULL:
                        self.left.discard(ended.downlink)
                    yield ended


class _Rounds:
    """The rounds of one command: what was heard, and what is to be done again."""

    def __init__(
        self, settings: Settings, work: Work, again: Reprocessing | None, launcher: Launcher, home: str
    ) -> None:
        self._settings, self._work, self._launcher = settings, work, launcher
        self._since = again.since if again else 0.0
        self._home = settings.paths.work / home
        self._written = write_down(settings)
        self._begun = self._written.stat().st_mtime  # by the clock of the file server
        self._equal = list[End]()
        self._fresh, self.heard = list[DownlinkId](), False
        self.ended, self.waiting, self.locked = (set[DownlinkId]() for _ in range(3))
        self._logs, self._lists = dict[str, _Log](), list[Path]()

    def fresh(self) -> Sequence[DownlinkId]:
        """Return those that were handed off since the last call."""
        self._fresh, fresh = [], self._fresh
        return fresh

    def round(self, downlinks: Sequence[DownlinkId], tries: int, *, alone: bool) -> Iterator[None]:
        """Process downlinks once; yield after each look."""
        self.waiting.clear()
        self.locked.clear()
        self._logs.clear()
        elements = compose(self._settings, downlinks, self._launcher.slots, alone=alone)
        largest = min(self._launcher.largest, len(elements))
        parts = [elements[begin : begin + largest] for begin in range(0, len(elements), largest)]
        most = max(entry["chunks"] for element in elements for entry in element)
        # Alone it gets one: perhaps no node has as much memory as its cores were to get.
        share = 1 if alone else self._launcher.slots // len(elements)
        cores = max(1, min(share, self._launcher.cores, most))
        next_try = 0.0
        while True:
            if parts and time.monotonic() >= next_try:
                try:
                    self._logs |= self._start(parts[0], tries, cores)
                    del parts[0]
                    self._work.waits = ""
                except BusyError as error:
                    self._work.waits, next_try = str(error), time.monotonic() + BUSY_SECONDS
            left = self._launcher.left()
            self.hear()
            yield
            if left == 0 and not parts:
                break
            time.sleep(self._launcher.seconds)
        until = time.monotonic() + (SHOW_SECONDS if self._launcher.seconds == SLURM_SECONDS else 0.0)
        while self.hear() and time.monotonic() < until:
            time.sleep(1.0)
        for file in self._lists:
            remove_file(file)
        self._lists.clear()

    def _start(
        self, elements: Sequence[Sequence[Mapping[str, Any]]], tries: int, cores: int
    ) -> dict[str, _Log]:
        home = self._home
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{elements[0][0]['downlink']}"
        file = home / f"{name}.json"
        home.mkdir(parents=True, exist_ok=True)
        write_json(file, {"since": self._since, "cores": cores, "elements": elements})
        script = str(ROOT / "scripts" / "process_downlinks.py")
        words = [sys.executable, script, "--settings", str(self._written), "--list", str(file)]
        most = max(map(len, elements))
        try:
            self._launcher.start(words, str(home / f"{name}-%a.log"), len(elements), most, tries, cores)
        except BusyError:
            file.unlink()
            raise
        self._lists.append(file)
        logs = [
            _Log(home / f"{name}-{number}.log", {entry["downlink"] for entry in element})
            for number, element in enumerate(elements)
        ]
        self._work.log = logs[0].path
        return {log.path.name: log for log in logs}

    def hear(self) -> bool:
        """Take in how downlinks have ended; return whether there is more to hear.

        Raises
        ------
        HalfPipeError
            If too many have failed for one cause, one after the other.
        """
        there = set(os.listdir(self._home)) if self._logs else set()  # noqa: PTH208 - thousands have not begun
        for name in sorted(self._logs.keys() & there):
            log = self._logs[name]
            for ended in log.hear():
                self._take(ended, log.path)
            if not log.left:
                del self._logs[name]
        return bool(self._logs)

    def look(self) -> None:
        """Count what was handed off by who was ended before it could say so."""
        for dl in self._work.todo:
            if (modified(str(self._settings.paths.work / paths.receipt(dl))) or 0.0) >= self._begun:
                self._work.done.add(dl)

    def _take(self, ended: End, log: Path) -> None:
        work, dl = self._work, ended.downlink
        self.heard = True
        work.waits = f"{dl}: {ended.text}" if ended.end == FULL else ""
        if ended.end == HANDED_OFF:
            work.done.add(dl)
            work.left.pop(dl, None)
            self._fresh.append(dl)
            self._equal.clear()
        elif ended.end == LEFT:
            work.left[dl] = ended.text
            if ended.code == LockedError.code:
                self.locked.add(dl)
        elif ended.end == WAITS:
            self.waiting.add(dl)
        elif ended.end in {FAILED, KILLED}:
            self._equal = [*(one for one in self._equal if one.code == ended.code), ended]
        if ended.end in {HANDED_OFF, LEFT, FAILED} and dl not in self.locked:
            self.ended.add(dl)
        if len(self._equal) >= EQUAL:
            raise HalfPipeError(
                f"{EQUAL} downlinks, one after the other, failed for one cause ({ended.code}), so all is ended: "
                f"{ended.text}; its log: {log}"
            )


def run(
    settings: Settings,
    work: Work,
    again: Reprocessing | None,
    launcher: Launcher,
    home: str = paths.batch_logs(),
) -> Generator[Sequence[DownlinkId], None, None]:
    """Process what is to be done, round after round; `work` has what became of it, whatever ends this.

    Parameters
    ----------
    settings, work, again
        As of `work_on`.
    launcher
        Starts elements.
    home
        Where their logs are, below `paths.work`.

    Yields
    ------
    Sequence
        After each look, the downlinks that were handed off since the last time.

    Raises
    ------
    HalfPipeError
        If elements cannot begin, or too many downlinks fail for one cause.
    """
    rounds = _Rounds(settings, work, again, launcher, home)
    rest = [dl for dl in work.todo if dl not in work.left]
    tries, stalled, patience = 1, 0, 0.0
    try:
        while rest:
            for _ in rounds.round(rest, tries, alone=stalled > 0):
                yield rounds.fresh()
            yield rounds.fresh()
            left = [dl for dl in rest if dl not in rounds.ended]
            # An element or a job was killed, perhaps for its memory.
            tries += any(dl not in rounds.waiting | rounds.locked for dl in left)
            if left != rest:
                stalled, patience = 0, 0.0
            elif rounds.locked and not stalled:  # who has them in work may have been killed, or end
                now = time.monotonic()
                patience = patience or now + settings.lease.seconds
                if now < patience:
                    time.sleep(LOCKED_SECONDS)
                else:
                    stalled = 1
            else:
                stalled += 1
            if stalled == TRIES:
                if not rounds.heard:
                    words = [f"no element has come to its first downlink; a log: {work.log}"]
                    words += [f"what Slurm says: {launcher.look}"] if launcher.look else []
                    raise HalfPipeError("\n".join([*words, *end_of(work.log)]))
                return
            rest = left
        if again is not None and not set(work.todo) - work.done:
            again.end()
    finally:
        with suppress(HalfPipeError):
            launcher.end()
        rounds.look()
