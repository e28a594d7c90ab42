"""Lists of downlinks and runs, and the downlinks that contain a run."""

from pathlib import Path

from halfpipe import paths
from halfpipe.errors import MissingInputError
from halfpipe.files.reading import modified, names_in
from halfpipe.ids import DownlinkId, RunId


def every_downlink(work: Path) -> list[DownlinkId]:
    """Return all downlinks that have a receipt, or a directory for their products, in order."""
    names = {name.removeprefix(paths.receipt("")) for name in names_in(work)}
    return sorted(DownlinkId(name) for name in names if DownlinkId.matches(name))


def every_run(work: Path) -> list[RunId]:
    """Return all runs that have a directory, in order."""
    return sorted(RunId(name) for name in names_in(f"{work}/{paths.RUNS}") if RunId.matches(name))


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


def begun_downlinks(work: Path, run: RunId) -> list[DownlinkId]:
    """Return the downlinks that have a directory in `run`, in order. The directory may still be empty."""
    names = names_in(f"{work}/{paths.run(run)}")
    return sorted(DownlinkId(name) for name in names if DownlinkId.matches(name))


def known_downlinks(work: Path, run: RunId) -> list[DownlinkId]:
    """Return the downlinks that have published datagrams of `run`, in order."""
    return [dl for dl in begun_downlinks(work, run) if (work / paths.datagrams(run, dl)).exists()]


def last_handoff(work: Path, run: RunId) -> float | None:
    """Return when a downlink of a run was last handed off for the first time, Unix seconds; None if none was."""
    first = (modified(f"{work}/{paths.receipts(dl)}/000001.json") for dl in begun_downlinks(work, run))
    return max((when for when in first if when is not None), default=None)
