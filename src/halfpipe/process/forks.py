"""Work in forks of this process, side by side: nothing has to be started, and what kills one costs no other one."""

import os
import signal
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress

from halfpipe.files import leases
from halfpipe.process.rule_program import leave

DEFECT = 255  # how one ends that did not say how


def side_by_side(work: Sequence[Callable[[], int]], most: int = 1) -> list[int]:
    """Call each function in a fork of this process, and return how the forks ended.

    If this process leaves meanwhile (`rule_program.leave`, or an error), its forks are told to end and end before it.

    Parameters
    ----------
    work
        Functions; what they return is the exit status of their fork, below `DEFECT`.
    most
        How many forks there are at a time.

    Returns
    -------
    list
        By function the exit status, below 0 the signal that killed it.
    """
    ended, running = [DEFECT] * len(work), dict[int, int]()
    try:
        for number, each in enumerate(work):
            while len(running) >= most:
                _take_one(running, ended)
            with leases.told_later():
                pid = os.fork()
                if not pid:
                    _be_the_fork(each)
                running[pid] = number
        while running:
            _take_one(running, ended)
    finally:
        with leases.told_later():
            for pid in running:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            while running:
                _take_one(running, ended)
    return ended


def _take_one(running: dict[int, int], ended: list[int]) -> None:
    """Wait until a fork has ended, and take in how."""
    os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
    with leases.told_later():
        pid, status = os.waitpid(-1, 0)
        ended[running.pop(pid)] = os.waitstatus_to_exitcode(status)


def _be_the_fork(work: Callable[[], int]) -> None:
    """Do the work and end, in order if it is told to."""
    status = DEFECT
    try:
        try:
            for number in leases.ENDING:
                signal.signal(number, leave)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, leases.ENDING)
            status = work()
        finally:
            for number in leases.ENDING:
                signal.signal(number, signal.SIG_IGN)
    except Exception:
        traceback.print_exc()
    finally:  # whatever it is told meanwhile
        leases.give_back_downlinks()
        os._exit(status)
