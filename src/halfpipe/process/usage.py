"""Time and memory of the jobs that succeeded, in one file for each downlink, and their logs in another.

A job with a log that is not empty has failed or is running: Snakemake creates missing logs as empty files.

Snakemake's ``benchmark:`` is not used. It measures a job from outside, at first twice a second and later twice a
minute, so short jobs seem to take no time. Its files are also products: if one cannot be written, a finished job fails,
and an outdated one makes its job run again.
"""

import json
import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from halfpipe import paths
from halfpipe.files import typed
from halfpipe.files.durable import write_whole
from halfpipe.files.reading import open_regular
from halfpipe.files.typed import Stored

STATUS = Path("/proc/self/status")


class Usage(Stored, frozen=True):
    """A line of the file: what a job took.

    Attributes
    ----------
    job
        Its rule and its chunk or run, such as ``decode_chunk-00001``.
    begun, host
        When and where it began.
    seconds, cpu_seconds
        The wall clock of its work, and its user and system time, including the programs that it started.
    memory
        The peak memory of the job or of one program that it started, bytes.
    """

    job: str
    begun: Annotated[datetime, Meta(tz=True)]
    host: str
    seconds: float
    cpu_seconds: float
    memory: int


@contextmanager
def recorded(log: Path | None) -> Iterator[None]:
    """Append usage and log of the work inside the ``with`` to the files of the downlink, if the work ends well.

    Without a log nothing is written. A full disk does not fail the job.
    """
    begun = datetime.fromtimestamp(time.time(), UTC)
    start = time.monotonic()
    cpu = _cpu_seconds()
    yield
    if log is None:
        return
    took = Usage(
        job=log.stem,
        begun=begun,
        host=os.uname().nodename,
        seconds=round(time.monotonic() - start, 3),
        cpu_seconds=round(_cpu_seconds() - cpu, 3),
        memory=_memory(),
    )
    with suppress(OSError):
        _append(log.with_name(paths.USAGE), f"{json.dumps(typed.values(took), sort_keys=True)}\n".encode())
        with open_regular(log) as file:
            _append(log.with_name(paths.DONE_LOG), file.read())
        log.unlink()


def _append(path: Path, content: bytes) -> None:
    """Append to a file to which other jobs append at the same time, if possible in one system call."""
    with path.open("ab", buffering=0) as out:
        write_whole(out, content)


def is_empty(log: Path) -> bool:
    """Tell whether a log is empty or missing, because its job succeeded or never began."""
    try:
        return not log.stat().st_size
    except OSError:
        return True


def remove_empty_logs(work: Path, downlink: str) -> None:
    """Remove the empty logs that Snakemake created."""
    for log in (work / paths.job_logs(downlink)).glob("*.log"):
        with suppress(OSError):
            if is_empty(log):
                log.unlink()


def has_ended_well(log: Path) -> bool:
    """Tell whether the job with this log has succeeded: its log is empty, and its usage is recorded."""
    with suppress(OSError):
        return is_empty(log) and f'"job": "{log.stem}"'.encode() in log.with_name(paths.USAGE).read_bytes()
    return False


def _cpu_seconds() -> float:
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in spent)


def _memory() -> int:
    """Return the peak memory of this process or of one program that it started, in bytes."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with suppress(OSError, ValueError, IndexError):
        # getrusage also counts the process before exec, which was Snakemake.
        own = int(STATUS.read_text().partition("VmHWM:")[2].split()[0])
    return 1024 * max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
