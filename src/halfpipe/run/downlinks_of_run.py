"""Which downlinks have brought something of a run, and how many of its events wait now."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.files.reading import modified
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


def waiting_now(work: Path, downlink: DownlinkId, of_run: Mapping[str, Any]) -> int:
    """Return how many events of a run wait now, at the downlink that was merged last: what another one says is past.

    So the events of a run are counted once, and sums over downlinks are right. Events that are withheld wait for
    nothing.

    Parameters
    ----------
    work, downlink
        `paths.work`, and the downlink.
    of_run
        The entry of the run in its receipt.
    """
    waiting: int = of_run["orphans"] - of_run["withheld"]
    if not waiting:
        return 0
    run = RunId(of_run["run"])
    merged = {dl: modified(f"{work}/{paths.manifest(run, dl)}") or 0.0 for dl in begun_downlinks(work, run)}
    last = max(merged, key=lambda dl: (merged[dl], dl), default=downlink)
    return waiting if last == downlink else 0
