"""Who is at work on what clean-up looks at: it never waits for anybody, and nobody has to wait for it for long."""

from collections.abc import Iterable, Iterator, Set
from contextlib import ExitStack, contextmanager
from pathlib import Path

from halfpipe import locks, paths
from halfpipe.errors import LockedError
from halfpipe.ids import DownlinkId, RunId


def at_work(work: Path, downlinks: Iterable[DownlinkId], runs: Iterable[RunId]) -> str:
    """Say who is at work on one of `downlinks`, also as a job of a head that was killed, or of `runs`.

    Nothing is taken or waited for.

    Returns
    -------
    str
        Empty if nobody is who lives.
    """
    wholes = {*map(paths.downlink_lock, downlinks), *map(paths.run_lock, runs)}
    return _held(work, wholes, {*map(paths.job_locks, downlinks)})


def _held(work: Path, wholes: Set[str], registers: Set[str]) -> str:
    """Say who holds one of the locks `wholes`, or one in the directories `registers`."""
    home = Path(paths.run_lock("")).parent
    for lock in locks.found(work):
        place = home / lock.name
        if not lock.dead and (str(place) in wholes or str(place.parent) in registers):
            return f"in work: {lock.holder or 'somebody who does not say who it is'} holds {work / place}"
    return ""


@contextmanager
def nobody_else(work: Path, downlink: DownlinkId | None, run: RunId | None) -> Iterator[None]:
    """Hold the locks of `downlink` and `run`, so that no job of theirs runs meanwhile.

    Raises
    ------
    LockedError
        If somebody else has one of them, or a job of the downlink is still running.
    """
    with ExitStack() as held:
        if downlink is not None:
            held.enter_context(locks.downlink_job(work, downlink))
            # A job that a killed head left and that registers later finds that the downlink is ours.
            if said := _held(work, set(), {paths.job_locks(downlink)}):
                raise LockedError(said)
        if run is not None:
            held.enter_context(_run_at_once(work, run))
        yield


@contextmanager
def _run_at_once(work: Path, run: RunId) -> Iterator[None]:
    """Hold the lock of `run`; unlike `locks.run_locked` without waiting, for a merge may take an hour."""
    lock = locks.FileLock(work / paths.run_lock(run))
    if not lock.try_take():
        raise LockedError(f"in work: {lock.held_by()} holds {lock.path}")
    try:
        yield
    finally:
        lock.give_back()
