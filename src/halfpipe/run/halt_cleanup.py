"""The haltCleanup tokens in the stage, by which a downlink keeps Level-1 from retiring its runs (ground-chain §6)."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from halfpipe import paths
from halfpipe.files.durable import fsync_directory, make_directory, remove_file
from halfpipe.ids import DownlinkId, RunId


def put(stage: Path, downlink: DownlinkId, runs: Iterable[RunId]) -> None:
    """Make haltCleanup tokens of `downlink`, so that Level-1 does not retire `runs` before all files are staged."""
    for run in runs:
        touch(stage, paths.halt_cleanup(run.l1, downlink))


def tokens(stage: Path, downlink: DownlinkId) -> set[Path]:
    """Return all haltCleanup tokens of `downlink` in the stage, for any run."""
    return set(stage.glob(paths.halt_cleanup("*", downlink)))


def remove(stage: Path, downlink: DownlinkId, runs: Iterable[RunId]) -> None:
    """Remove the haltCleanup tokens of `downlink` after everything is staged: for `runs`, and of earlier attempts."""
    of_runs = {stage / paths.halt_cleanup(run.l1, downlink) for run in runs}
    for token in sorted(of_runs | tokens(stage, downlink)):
        remove_file(token)
        with suppress(OSError):  # it still has other tokens
            token.parent.rmdir()


def touch(stage: Path, token: str) -> None:
    """Make a token and its directory, because Level-1 removes the whole directory of a retired run."""
    path = stage / token
    while True:
        with suppress(FileNotFoundError):  # the directory was removed between two calls
            make_directory(stage, str(Path(token).parent))
            path.touch()
            fsync_directory(path.parent)
            return
