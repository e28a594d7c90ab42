"""Which downlinks and runs a working directory knows, by the names in it."""

from pathlib import Path

from halfpipe import paths
from halfpipe.ids import DownlinkId, RunId


def downlinks(work: Path) -> list[DownlinkId]:
    """Return all downlinks that have a receipt, or something that a receipt would vouch for, in order."""
    prefix = paths.receipt("")
    names = {path.name.removeprefix(prefix) for path in work.glob("*")}
    return sorted(DownlinkId(name) for name in names if DownlinkId.matches(name))


def runs(work: Path) -> list[RunId]:
    """Return all runs of which something is known, in order."""
    names = (path.name for path in (work / paths.RUNS).glob("*"))
    return sorted(RunId(name) for name in names if RunId.matches(name))
