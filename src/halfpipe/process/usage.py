"""What a job that ends well leaves beside its product: a line of what it took, and its log, each with its downlink's.

A job of whose log more than an empty file is there has not ended well, or has not ended: Snakemake makes a log that is
not there.

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

from halfpipe import paths
from halfpipe.files.reading import open_regular

LONGEST = 1 << 20  # bytes of a file that are read, from its end: thousands of lines
STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Usage:
    """What one job took.

    Attributes
    ----------
    job
        Its rule and what tells it from the rule's other jobs of its downlink, as ``decode_chunk-00001``.
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

    job: str
    begun: str
    host: str
    seconds: float
    cpu_seconds: float
    memory: int


@contextmanager
def recorded(log: Path | None) -> Iterator[None]:
    """Put down what the work inside the ``with`` took, and the job's log, with those of its downlink, if it ends well.

    Without a log nothing is written. That it cannot be written (a full disk) is no fault of the job.
    """
    begun, start, cpu = datetime.now(UTC), time.monotonic(), _cpu_seconds()
    yield
    if log is None:
        return
    usage = Usage(
        log.stem,
        begun.isoformat(timespec="milliseconds"),
        os.uname().nodename,
        round(time.monotonic() - start, 3),
        round(_cpu_seconds() - cpu, 3),
        _memory(),
    )
    with suppress(OSError):
        _append(log.with_name(paths.USAGE), f"{json.dumps(asdict(usage), sort_keys=True)}\n".encode())
        with open_regular(log) as file:
            _append(log.with_name(paths.DONE_LOG), file.read())
        log.unlink()


def _append(path: Path, content: bytes) -> None:
    """Append to a file that other jobs append to at the same time, in one call of the system."""
    with path.open("ab", buffering=0) as out:
        out.write(content)


def is_put_down(log: Path) -> bool:
    """Tell whether the job with this log has ended well, or was never begun."""
    try:
        return not log.stat().st_size
    except OSError:
        return True


def remove_empty_logs(work: Path, downlink: str) -> None:
    """Remove what Snakemake has made in the place of logs that were put down."""
    for log in (work / paths.job_logs(downlink)).glob("*.log"):
        with suppress(OSError):
            if is_put_down(log):
                log.unlink()


def forget(work: Path, product: str) -> None:
    """Remove what Snakemake has noted of a product, if that can be done."""
    with suppress(OSError):
        (work / paths.record_of_snakemake(product)).unlink()


def tries(work: Path, downlink: str) -> Iterator[Usage]:
    """Yield what each job of a downlink that ended well took, the latest first, as far as lines say it."""
    path = work / paths.usage(downlink)
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
