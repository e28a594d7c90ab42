"""Who is at work on what clean-up looks at: it never waits for anybody, and nobody has to wait for it for long."""

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from halfpipe.errors import LockedError
from halfpipe.ids import DownlinkId, RunId
from halfpipe.storage import locks, paths


def at_work(work: Path, downlinks: Collection[DownlinkId], runs: Collection[RunId]) -> str:
    """Say who is at work on one of `downlinks`, also as a job of a head that was killed, or of `runs`.

    Nothing is taken or waited for.

    Returns
    -------
    str
        Empty if nobody is who lives.
    """
    wholes = {*map(paths.downlink_lock, downlinks), *map(paths.run_lock, runs)}
    return _held(work, wholes | {*map(paths.job_locks, downlinks)})


def _held(work: Path, places: Collection[str]) -> str:
    """Say who holds a lock that is one of `places`, or lies in one of them."""
    home = Path(paths.run_lock("")).parent
    for lock in locks.found(work):
        place = home / lock.name
        if not lock.dead and (str(place) in places or str(place.parent) in places):
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
            if said := _held(work, {paths.job_locks(downlink)}):
                raise LockedError(said)
        if run is not None:
            # Unlike `locks.run_locked` without waiting, for a merge may take an hour.
            lock = locks.FileLock(work / paths.run_lock(run))
            if not lock.try_take():
                raise LockedError(f"in work: {lock.held_by()} holds {lock.path}")
            held.callback(lock.give_back)
        yield
