"""Invocations of Snakemake as programs of others: each with a log of its own, and ended with all that it started."""

import ctypes
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from halfpipe.settings import ROOT

GOOD, FAILED, OUT_OF_TIME = 0, 1, 3  # how one ends
PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
GRACE_SECONDS = 60.0  # in which Snakemake cancels its Slurm jobs, and local jobs end their decoders
ORPHAN_SECONDS = 5.0  # the same for what Snakemake leaves behind when it has ended
POLL_SECONDS = 0.1
SIGN_SECONDS = 60.0


def again(words: Sequence[str]) -> str:
    """Return the command that gives an invocation once more, wherever one is."""
    return f"cd {shlex.quote(str(ROOT))} && {shlex.join(words)}"


def invocation(targets: Iterable[str], options: Sequence[str]) -> list[str]:
    """Return the command that makes `targets` with these options of Snakemake, to be given in the project's root."""
    return [str(Path(sys.executable).with_name("snakemake")), *targets, *options]


def process(
    words: Sequence[str],
    log: Path,
    seconds: float,
    sign: Callable[[], object] = lambda: None,
) -> int:
    """Run one invocation into `log`. At the time limit, or if we are told to end, all that it started ends.

    Meanwhile `sign` is called once a minute, to show that we get on. From the first call on this process takes
    care of what dead children of it leave behind.

    Returns
    -------
    int
        `GOOD`, `FAILED` or `OUT_OF_TIME`.
    """
    take_orphans()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as out:
        out.write(shlex.join(words) + "\n")
        out.flush()
        running = start(words, out)
        until = time.monotonic() + seconds
        try:
            while (left := until - time.monotonic()) > 0:
                sign()
                with suppress(subprocess.TimeoutExpired):
                    return FAILED if running.wait(min(left, SIGN_SECONDS)) else GOOD
            out.write(f"\nhalfpipe: ended after {seconds:g} s, the time limit\n")
            return OUT_OF_TIME
        finally:
            end(running)


def start(words: Sequence[str], out: IO[Any]) -> subprocess.Popen[bytes]:
    """Start a command of the project in a session of its own, both of its outputs into `out`."""
    return subprocess.Popen(
        words, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
    )


def take_orphans() -> None:
    """Take care, from now on, of what dead children of this process leave behind: `end` finds it."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end(head: subprocess.Popen[bytes]) -> None:
    """End Snakemake and what is left of all that it started, in order if that is possible.

    SIGINT lets it cancel its Slurm jobs (at SIGTERM it would wait for them); then it waits for its local
    jobs, which are told to end by SIGTERM.
    """
    if head.poll() is None:
        head.send_signal(signal.SIGINT)
    told = {head.pid}
    last = time.monotonic() + GRACE_SECONDS
    while True:
        if head.poll() is not None:
            last = min(last, time.monotonic() + ORPHAN_SECONDS)
            with suppress(ChildProcessError):  # its orphans, which are our children now
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
        left = descendants(os.getpid())
        late = time.monotonic() - last
        if not left or late > GRACE_SECONDS:  # what SIGKILL does not end waits for a file system
            return
        for pid in left:
            with suppress(ProcessLookupError):
                if late > 0:
                    os.kill(pid, signal.SIGKILL)
                elif pid not in told:
                    os.kill(pid, signal.SIGTERM)
        told.update(left)
        time.sleep(POLL_SECONDS)


def descendants(ancestor: int) -> list[int]:
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
