"""Lists of downlinks and runs, and the downlinks that contain a run."""

import os
from itertools import pairwise
from pathlib import Path

from halfpipe import paths
from halfpipe.errors import MissingInputError
from halfpipe.files.reading import modified, names_in
from halfpipe.ids import DownlinkId, RunId
from halfpipe.settings import Settings

LATEST = 200  # runs from which waiting times are estimated


def every_downlink(work: Path, begin: str = "") -> list[DownlinkId]:
    """Return the downlinks that have a receipt, or a directory for their products, in order: those that begin so."""
    wanted = (begin, paths.receipt(begin))  # before anything else, because there may be 180,000 names
    names = {name.removeprefix(paths.receipt("")) for name in names_in(work) if name.startswith(wanted)}
    return sorted(DownlinkId(name) for name in names if DownlinkId.matches(name))


def every_run(work: Path, begin: str = "") -> list[RunId]:
    """Return the runs that have a directory, in order: those that begin so."""
    names = [name for name in names_in(f"{work}/{paths.RUNS}") if name.startswith(begin)]
    return sorted(RunId(name) for name in names if RunId.matches(name))


def refuse_unknown(work: Path, run: RunId) -> None:
    """Refuse a run that HalfPipe has never seen.

    Raises
    ------
    MissingInputError
        If it has no directory.
    """
    if not (home := work / paths.run(run)).is_dir():
        raise MissingInputError(
            f"run {run} ({run.l1}) is unknown: {home} does not exist. List known runs: "
            "halfpipe show --table runs"
        )


def refuse_unknown_downlink(settings: Settings, downlink: DownlinkId) -> None:
    """Refuse a downlink, perhaps a misspelt one, that has no directory here and none on the search path of RetDefs.

    Raises
    ------
    MissingInputError
        Names the directories.
    """
    places = [home / downlink for home in (settings.paths.work, *settings.paths.retdef)]
    if not any(map(os.path.lexists, places)):
        where = ", ".join(map(str, places))
        raise MissingInputError(f"downlink {downlink} is unknown: none of these exist: {where}")


def begun_downlinks(work: Path, run: RunId) -> list[DownlinkId]:
    """Return the downlinks that have a directory in `run`, in order. The directory may still be empty."""
    names = names_in(f"{work}/{paths.run(run)}")
    return sorted(DownlinkId(name) for name in names if DownlinkId.matches(name))


def known_downlinks(work: Path, run: RunId) -> list[DownlinkId]:
    """Return the downlinks that have published datagrams of `run`, in order."""
    return [dl for dl in begun_downlinks(work, run) if (work / paths.datagrams(run, dl)).exists()]


def handoff_times(work: Path, run: RunId) -> list[float]:
    """Return the times of the first hand-off of each downlink of a run, Unix seconds, in order."""
    first = (modified(f"{work}/{paths.receipts(dl)}/000001.json") for dl in begun_downlinks(work, run))
    return sorted(when for when in first if when is not None)


def past_waits(work: Path) -> list[float]:
    """Return how long the `LATEST` runs of this site waited for their next downlinks, in seconds, in order."""
    times = (handoff_times(work, run) for run in every_run(work)[-LATEST:])
    return sorted(after - before for each in times for before, after in pairwise(each))
