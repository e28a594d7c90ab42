"""The datagrams of a run that downlinks have made known."""

from pathlib import Path

from halfpipe.errors import FormatError
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.settle import KnownDatagrams
from halfpipe.runs.downlinks import known_downlinks
from halfpipe.storage import paths


def load_datagrams(work: Path, run: RunId, downlink: DownlinkId) -> KnownDatagrams:
    """Read those that one downlink has made known.

    Raises
    ------
    FormatError
        If a line is no DGM line, or the last one is cut.
    """
    path = work / paths.datagrams(run, downlink)
    *lines, cut = path.read_bytes().split(b"\n")
    if cut:
        raise FormatError(
            f"{path}: it is cut inside its last line, {cut!r}.",
            f"To have it written anew: snakemake dl={downlink} -R deliver_run",
        )
    return KnownDatagrams.of(lines, str(path))


def known_datagrams(work: Path, run: RunId) -> KnownDatagrams:
    """Read those that any downlink has made known."""
    return KnownDatagrams.together(load_datagrams(work, run, dl) for dl in known_downlinks(work, run))
