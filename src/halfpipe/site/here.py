"""Elements as processes of this machine, and their end with all that they have started."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

from halfpipe.settings import ROOT

GRACE_SECONDS = 60.0  # in which elements end their downlinks, and jobs their decoders


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
            _send(one, signal.SIGTERM)
        until = time.monotonic() + GRACE_SECONDS
        for one in self._running:
            with suppress(subprocess.TimeoutExpired):
                one.wait(max(0.0, until - time.monotonic()))
            _send(one, signal.SIGKILL)


def _send(leader: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # nothing of it lives
        os.killpg(leader.pid, number)
