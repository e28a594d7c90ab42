"""Elements as processes of this machine, and their end with all that they have started."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from halfpipe.settings import ROOT

PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
GRACE_SECONDS = 60.0  # in which elements end their downlinks, and jobs their decoders
ORPHAN_SECONDS = 5.0  # the same for what elements leave behind when they have ended
POLL_SECONDS = 0.1


class Here:
    """Elements as processes of this machine, so many at a time; `halfpipe.site.slurm.Arrays` starts them in Slurm."""

    largest, seconds, shows, look = sys.maxsize, 0.1, 0.0, ""

    def __init__(self, cores: int) -> None:
        self.slots = self.cores = cores
        self._waiting = list[tuple[list[str], str]]()
        self._running = list[subprocess.Popen[bytes]]()

    def start(self, words: Sequence[str], log: str, elements: int, *_: int) -> None:
        """Have elements started, as `Arrays.start`; what dead children leave behind become children of ours."""
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
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
        """End all, with all that they have started, in order if that is possible."""
        self._waiting.clear()
        told, last = set[int](), time.monotonic() + GRACE_SECONDS
        while self._running:
            if all(one.poll() is not None for one in self._running):
                last = min(last, time.monotonic() + ORPHAN_SECONDS)
                with suppress(ChildProcessError):  # their orphans, which are our children now
                    while os.waitpid(-1, os.WNOHANG)[0]:
                        pass
            left = _descendants(os.getpid())
            late = time.monotonic() - last
            if not left or late > GRACE_SECONDS:  # what SIGKILL does not end waits for a file system
                self._running.clear()
            for pid in left:
                with suppress(ProcessLookupError):
                    if late > 0:
                        os.kill(pid, signal.SIGKILL)
                    elif pid not in told:
                        os.kill(pid, signal.SIGTERM)
            told.update(left)
            time.sleep(POLL_SECONDS)


def _descendants(ancestor: int) -> list[int]:
    """Return the ids of all processes that descend from `ancestor`."""
    children: dict[int, list[int]] = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # The name, in brackets, may hold anything.
            parent = int(place.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(place.parent.name))
    found, rest = list[int](), [ancestor]
    while rest:
        new = children.pop(rest.pop(), [])
        found += new
        rest += new
    return found
