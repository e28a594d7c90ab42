"""Leases held by other processes, and their leftovers."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from halfpipe import paths
from halfpipe.files.heartbeat import Holder
from halfpipe_simulator.troubles import another_holder

ALIVE = Path(paths.HEARTBEATS).name


def left_by_another(work: Path, place: str, silent: float = 0.0, number: int = 1) -> Holder:
    """Make a lease of a process on another host."""
    return another_holder(work, lambda _: f"{place}/{number:06d}", silent)[0]


def job_of_another(work: Path, place: str, silent: float = 0.0) -> Path:
    """Register a job of another host; return its file."""
    return another_holder(work, lambda holder: f"{place}/job-{holder.heart}-{holder.token}", silent)[1]


@contextmanager
def held_by_another(work: Path, place: str, silent: float = 0.0) -> Iterator[Holder]:
    """Have another host hold a lease."""
    holder = left_by_another(work, place, silent)
    try:
        yield holder
    finally:
        (work / paths.HEARTBEATS / holder.heart).unlink(missing_ok=True)
        (work / place / "000001").unlink(missing_ok=True)
        with suppress(OSError):
            (work / place).rmdir()


@contextmanager
def living(work: Path, holder: Holder) -> Iterator[None]:
    """Keep touching the heartbeat of a holder on another host while a block runs."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(0.1):
            os.utime(work / paths.HEARTBEATS / holder.heart)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def time_passes(work: Path) -> None:
    """Let the lifetime of all heartbeats end."""
    beats = (work / paths.HEARTBEATS).glob("*")
    # After a crash of the machine a lease file may be empty or cut short, and then it has no heartbeat.
    torn = (path for path in (work / paths.LEASES).glob("*/[0-9]*") if not path.read_bytes().endswith(b"}"))
    for path in (*beats, *torn):
        os.utime(path, (1, 1))


def leases(work: Path) -> list[str]:
    """Return all files of leases, except for the directory of heartbeats, which stays."""
    home = work / paths.LEASES
    return sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.name != ALIVE)
