"""Which downlinks have brought something of a run."""

import os
from pathlib import Path

from halfpipe import paths
from halfpipe.ids import DownlinkId, RunId


def begun_downlinks(work: Path, run: RunId) -> list[DownlinkId]:
    """Return the downlinks that have a directory in `run`, in order; they may have brought nothing yet."""
    try:
        names = os.listdir(f"{work}/{paths.run(run)}")  # noqa: PTH208 - asked of all runs
    except FileNotFoundError:
        return []
    return sorted(DownlinkId(name) for name in names if DownlinkId.matches(name))


def known_downlinks(work: Path, run: RunId) -> list[DownlinkId]:
    """Return the downlinks whose datagrams of `run` are known, in order."""
    return [dl for dl in begun_downlinks(work, run) if (work / paths.datagrams(run, dl)).exists()]
