"""Who is at work on what clean-up looks at: it never waits for anybody, and nobody has to wait for it for long."""

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from halfpipe import paths
from halfpipe.errors import LockedError
from halfpipe.files.leases import Found, Lease, found
from halfpipe.ids import DownlinkId, RunId


def at_work(work: Path, downlinks: Collection[DownlinkId], runs: Collection[RunId]) -> str:
    """Say who is at work on one of `downlinks`, also as a job of a head that was killed, or of `runs`.

    Nothing is taken or waited for.

    Returns
    -------
    str
        Empty if nobody is who lives.
    """
    names = {
        Path(place).name for place in (*map(paths.downlink_lease, downlinks), *map(paths.run_lease, runs))
    }
    busy = (lease for lease in found(work) if lease.name in names and (lease.lives or lease.jobs))
    return next(map(_in_work, busy), "")


def _in_work(lease: Found) -> str:
    who = (
        lease
        if lease.lives and not lease.ours
        else f"{', '.join(lease.jobs)}, which a killed process left behind,"
    )
    return f"in work: {who} holds {lease.name}"


@contextmanager
def nobody_else(work: Path, downlink: DownlinkId | None, run: RunId | None) -> Iterator[None]:
    """Hold the leases of `downlink` and `run`, so that no job of theirs runs meanwhile.

    Raises
    ------
    LockedError
        If somebody else has one of them, or a job of the downlink is still running.
    """
    places = [paths.downlink_lease(downlink)] if downlink is not None else []
    places += [paths.run_lease(run)] if run is not None else []
    with ExitStack() as held:
        for place in places:
            lease = Lease(work, place)  # not waited for: a merge may take an hour
            taken = lease.try_take()
            held.callback(lease.give_back)
            now = lease.look()
            if not taken or now is None or now.jobs:
                raise LockedError(
                    _in_work(now) if now else f"in work: {lease.home} was given back at this moment"
                )
        yield
