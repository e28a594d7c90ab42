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
from datetime import UTC, datetime
from pathlib import Path

from halfpipe import paths
from halfpipe.files.reading import open_regular

LONGEST = 1 << 20  # bytes of a file that are read, from its end: thousands of lines
STATUS = Path("/proc/self/status")


@contextmanager
def recorded(log: Path | None) -> Iterator[None]:
    """Put down what the work inside the ``with`` took, and the job's log, with those of its downlink, if it ends well.

    A line has the ``job``, its rule and what tells it from the rule's other jobs, as ``decode_chunk-00001``; when it
    was ``begun``, UTC, and on which ``host``; ``seconds`` by the clock, from when its program had been loaded;
    ``cpu_seconds`` of processors, user and system, the programs that it started included; ``memory``, the most bytes
    that it, or one program that it started, had at a time.

    Without a log nothing is written. That it cannot be written (a full disk) is no fault of the job.
    """
    begun, start, cpu = datetime.now(UTC), time.monotonic(), _cpu_seconds()
    yield
    if log is None:
        return
    took = {
        "job": log.stem,
        "begun": begun.isoformat(timespec="milliseconds"),
        "host": os.uname().nodename,
        "seconds": round(time.monotonic() - start, 3),
        "cpu_seconds": round(_cpu_seconds() - cpu, 3),
        "memory": _memory(),
    }
    with suppress(OSError):
        _append(log.with_name(paths.USAGE), f"{json.dumps(took, sort_keys=True)}\n".encode())
        with open_regular(log) as file:
            _append(log.with_name(paths.DONE_LOG), file.read())
        log.unlink()


def _append(path: Path, content: bytes) -> None:
    """Append to a file that other jobs append to at the same time, in one call of the system if that takes it all.

    A disk that is nearly full takes a part, and says in the next call that it is full.
    """
    with path.open("ab", buffering=0) as out:
        while content:
            content = content[out.write(content) :]


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


def has_ended_well(log: Path) -> bool:
    """Tell whether the job with this log has ended well: its log is put down, and a line says what it took."""
    with suppress(OSError), log.with_name(paths.USAGE).open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - LONGEST))
        return is_put_down(log) and f'"job": "{log.stem}"'.encode() in file.read()
    return False


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
