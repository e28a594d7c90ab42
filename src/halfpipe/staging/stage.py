"""The stage: the directories, event files and tokens that Level-1 finds (ground-chain §6).

Level-1 takes every sub-directory of ``<stage>/<downlink>`` for a run, so files are written to scratch next to it and
renamed into it. Functions here raise OSError unchanged.
"""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from halfpipe import paths
from halfpipe.files.durable import fsync_directory, make_directory, remove_file
from halfpipe.ids import DownlinkId, RunId
from halfpipe.state.deliveries import EventFile


@contextmanager
def scratch(stage: Path, downlink: DownlinkId, what: str) -> Iterator[Path]:
    """Make a new scratch directory on the stage's file system; leftovers of a killed job are removed first."""
    path = stage / paths.stage_scratch(downlink, what)
    shutil.rmtree(path, ignore_errors=True)
    (path / "new").mkdir(parents=True)
    try:
        yield path / "new"
    finally:
        shutil.rmtree(path, ignore_errors=True)
        with suppress(OSError):  # it still has scratch of another job
            path.parent.rmdir()


def place(
    stage: Path, new: Path, downlink: DownlinkId, run: RunId, files: Iterable[EventFile], stale: Iterable[str]
) -> None:
    """Make the files in the scratch directory `new` visible as the run's directory of a hand-off.

    Files and tokens of an earlier hand-off that are not in this one are removed.

    Parameters
    ----------
    stage
        `paths.stage`.
    new
        Directory with the new files, from `scratch`; the former directory of the run is moved next to it.
    downlink, run
        The downlink and the run to which the files belong.
    files
        The new files. Without files, the run has no directory in the stage afterwards.
    stale
        Names of files of the run that the downlink delivered before and does not deliver now.
    """
    names = [file.name for file in files]
    home = stage / paths.staged_run(downlink, run.l1)
    fsync_directory(new)  # before any change: raises if another job has staged the run meanwhile
    for name in stale:
        remove_file(stage / paths.tokens(run.l1) / Path(name).stem)
    old = new.with_name("old")
    if home.is_dir():
        home.rename(old)
    if names:
        new.rename(make_directory(stage, paths.staged(downlink)) / home.name)
    if home.parent.is_dir():
        fsync_directory(home.parent)
    for name in names:
        token = f"{paths.tokens(run.l1)}/{Path(name).stem}"
        touch(stage, token)
        # If this process was suspended, another job may have staged the file, and Level-1 may have taken it.
        if not (home / name).exists():
            remove_file(stage / token)


def put_texts(stage: Path, new: Path, downlink: DownlinkId) -> None:
    """Make the texts in the scratch directory `new` visible; other texts of an earlier hand-off are removed."""
    home = stage / paths.staged(downlink)
    make_directory(stage, paths.staged(downlink))
    names = sorted(path.name for path in new.iterdir())
    for name in names:
        (new / name).rename(home / name)
    for path in home.glob(paths.text("*", downlink)):
        if path.name not in names:
            path.unlink()
    fsync_directory(home)


def put_halt_cleanup(stage: Path, downlink: DownlinkId, runs: Iterable[RunId]) -> None:
    """Make haltCleanup tokens of `downlink`, so that Level-1 does not retire `runs` before all files are staged."""
    for run in runs:
        touch(stage, paths.halt_cleanup(run.l1, downlink))


def halt_cleanup_tokens(stage: Path, downlink: DownlinkId) -> set[Path]:
    """Return all haltCleanup tokens of `downlink` in the stage, for any run."""
    return set(stage.glob(paths.halt_cleanup("*", downlink)))


def remove_halt_cleanup(stage: Path, downlink: DownlinkId, runs: Iterable[RunId]) -> None:
    """Remove the haltCleanup tokens of `downlink` after everything is staged: for `runs`, and of earlier attempts."""
    of_runs = {stage / paths.halt_cleanup(run.l1, downlink) for run in runs}
    for token in sorted(of_runs | halt_cleanup_tokens(stage, downlink)):
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
