"""One call of a flight program: its output passed on, its end judged, and all told as a shell would."""

import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import IO

from halfpipe.decode.flight_settings import Call, Flight
from halfpipe.decode.working_copy import WorkingCopy
from halfpipe.errors import DecoderError, HalfPipeError
from halfpipe.process.programs import Lines, run

TIMED_OUT = 124  # as timeout(1)
SIGNALLED = 128  # and the signal's number, as a shell says it
GRACE_SECONDS = 5.0  # between SIGTERM and SIGKILL; Slurm leaves 30 s for all of it
TERMINATION = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def call(
    flight: Flight,
    program: Call,
    options: Sequence[str],
    work: WorkingCopy,
    *,
    out: IO[bytes],
    errors: IO[bytes] | None,
    hear: Callable[[str], object],
) -> int:
    """Run a program to its end or its limit, its output passed on as it comes.

    Parameters
    ----------
    flight, program, options
        What is started and its limit.
    work
        The working copy, where it is started.
    out, errors
        Take what it prints, unchanged and unbounded; without `errors` both its streams go to `out`.
    hear
        Is told every line of what goes to `out`.

    Returns
    -------
    int
        Its exit status as a shell says it. Of one that ended badly it is told why. Nothing of its process group lives
        any more.

    Raises
    ------
    DecoderError
        If it cannot be started.
    """
    words = flight.command(program, options, work.source, work.target)
    ending = run(
        words,
        work.source,
        _passed_on(out, Lines(lambda line: hear(line.decode(errors="replace")))),
        None if errors is None else _passed_on(errors),
        seconds=program.seconds,
        grace=GRACE_SECONDS,
        environment=flight.process_environment(work.source, work.target),
        whole_group=True,
    )
    if ending.status is None:
        raise DecoderError(f"{words[0]}: {ending.how}. Check program in the settings.")
    if ending.well:
        return 0
    # The largest resident size of any process that was waited for: Linux counts it in KiB.
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10
    tell(
        f"the program {ending.how}, with all that it had started: at most {peak} MiB of memory were in use. Nothing of "
        "it was taken. If it only needs longer or more memory, raise that in the settings and the job."
    )
    if ending.late:
        return TIMED_OUT
    return ending.status if ending.status > 0 else SIGNALLED - ending.status


def _passed_on(to: IO[bytes], also: Callable[[bytes], None] | None = None) -> Callable[[bytes], None]:
    """Return what passes a stream on as it comes, unchanged, and lets `also` have it besides."""

    def take(data: bytes) -> None:
        to.write(data)
        to.flush()
        if also is not None:
            also(data)

    return take


def tell(message: str) -> None:
    """Print a line of our own to standard error, after all that the program printed."""
    sys.stdout.flush()
    sys.stderr.write(f"{Path(sys.argv[0]).stem}: {message}\n")
    sys.stderr.flush()


class Stopped(BaseException):
    """Somebody wants this process to end: SIGTERM, SIGINT or SIGHUP."""


def wrapped(job: Callable[[], int]) -> int:
    """Run the whole of a wrapper: `job`, ended in order by a signal, its errors told in one line.

    Parameters
    ----------
    job
        Does everything and returns the exit status.

    Returns
    -------
    int
        Exit status: that of `job`, 1 after an error of ours, 128 and its number after a signal.
    """

    def stop(number: int, _frame: FrameType | None) -> None:
        for each in TERMINATION:
            signal.signal(each, signal.SIG_IGN)
        raise Stopped(number)

    for number in TERMINATION:
        signal.signal(number, stop)
    try:
        return job()
    except Stopped as stopped:
        (number,) = stopped.args
        tell(f"ended by signal {number}: nothing was taken, nothing is left behind")
        return SIGNALLED + int(number)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        tell("nobody reads the output now: nothing was taken")
        return SIGNALLED + signal.SIGPIPE
    except HalfPipeError as error:
        tell(str(error))
        return 1
