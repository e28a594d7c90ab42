"""What a job took: time, processor and memory, as a line of JSON beside its log.

Snakemake's own ``benchmark:`` is not used. It looks at a job from outside, twice a second at first and
twice a minute later, so that short jobs seem to take nothing; and its files count as products: one that
cannot be written fails a job that has done its work, and an old one beside products that were made again by
hand makes them outstanding.
"""

import json
import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from halfpipe.paths import BENCHMARK_SUFFIX

LONGEST = 1 << 16  # bytes of a file that are read, from its end: hundreds of lines
STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Usage:
    """What one job took.

    Attributes
    ----------
    begun
        When it began, UTC.
    host
        Where it ran.
    seconds
        By the clock, from when its program had been loaded.
    cpu_seconds
        Of processors, user and system, the programs that it started included.
    memory
        Most bytes of memory that it, or one program that it started, had at a time.
    """

    begun: str
    host: str
    seconds: float
    cpu_seconds: float
    memory: int


@contextmanager
def recorded(log: Path | None) -> Iterator[None]:
    """Append what the work inside the ``with`` took to the file beside the job's log, if it ends well.

    Without a log nothing is written. That it cannot be written (a full disk) is no fault of the job.
    """
    begun, start, cpu = datetime.now(UTC), time.monotonic(), _cpu_seconds()
    yield
    usage = Usage(
        begun.isoformat(timespec="milliseconds"),
        os.uname().nodename,
        round(time.monotonic() - start, 3),
        round(_cpu_seconds() - cpu, 3),
        _memory(),
    )
    if log is not None:
        with suppress(OSError), log.with_suffix(BENCHMARK_SUFFIX).open("a") as out:
            out.write(json.dumps(asdict(usage), sort_keys=True) + "\n")


def latest(path: Path) -> Usage | None:
    """Return what the latest try of a job took; None if no line of the file `path` says it."""
    return next(tries(path), None)


def tries(path: Path) -> Iterator[Usage]:
    """Yield what each try of a job took, the latest first, as far as lines of the file `path` say it."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LONGEST))
            lines = file.read().splitlines()
    except OSError:
        return
    for line in reversed(lines):
        with suppress(TypeError, ValueError, RecursionError):
            yield Usage(**json.loads(line))


def _cpu_seconds() -> float:
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in spent)


def _memory() -> int:
    """Return the most bytes that this process or one that it started and waited for had."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with suppress(OSError, ValueError, IndexError):
        # The kernel's count for a process includes what it was before exec: Snakemake itself.
        own = int(STATUS.read_text().partition("VmHWM:")[2].split()[0])
    return 1024 * max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
