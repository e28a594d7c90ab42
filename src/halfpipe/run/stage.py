"""The stage: the directories, event files and tokens that Level-1 finds (ground-chain §6).

Every sub-directory of ``<stage>/<downlink>`` is a run to Level-1, so nothing else is ever made in
there: files are written in scratch beside it and renamed. What the operating system refuses is raised as it is.
"""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from halfpipe import paths
from halfpipe.files.durable import fsync_directory, make_directory, remove_file
from halfpipe.ids import DownlinkId, RunId
from halfpipe.run.deliveries import EventFile


@contextmanager
def scratch(stage: Path, downlink: DownlinkId, what: str) -> Iterator[Path]:
    """Give a new directory in scratch on the stage's file system; what a killed job left there goes first."""
    path = stage / paths.stage_scratch(downlink, what)
    shutil.rmtree(path, ignore_errors=True)
    (path / "new").mkdir(parents=True)
    try:
        yield path / "new"
    finally:
        shutil.rmtree(path, ignore_errors=True)
        with suppress(OSError):  # somebody else's scratch is still in it
            path.parent.rmdir()


def keep_from_retiring(stage: Path, downlink: DownlinkId, runs: Iterable[RunId]) -> None:
    """Keep Level-1 from retiring `runs` while `downlink` may still add files to them, by its haltCleanup tokens."""
    for run in runs:
        _touch(stage, paths.halt_cleanup(run.l1, downlink))


def halt_tokens(stage: Path, downlink: DownlinkId) -> set[Path]:
    """Return the haltCleanup tokens of `downlink` that lie in the stage, of whatever run."""
    return set(stage.glob(paths.halt_cleanup("*", downlink)))


def let_retire(stage: Path, downlink: DownlinkId, runs: Iterable[RunId]) -> None:
    """Remove the haltCleanup tokens of `downlink` after all is staged: of `runs`, and of those of an earlier try."""
    of_runs = {stage / paths.halt_cleanup(run.l1, downlink) for run in runs}
    for token in sorted(of_runs | halt_tokens(stage, downlink)):
        remove_file(token)
        with suppress(OSError):  # others are in it
            token.parent.rmdir()


def _touch(stage: Path, token: str) -> None:
    """Make a token; Level-1 removes the directory of a retired run whole, so make that too."""
    path = stage / token
    while True:
        with suppress(FileNotFoundError):  # the directory went between two calls
            make_directory(stage, str(Path(token).parent))
            path.touch()
            fsync_directory(path.parent)
            return


def place(
    stage: Path, new: Path, downlink: DownlinkId, run: RunId, files: Iterable[EventFile], stale: Iterable[str]
) -> None:
    """Make the files in the scratch directory `new` visible as the run's directory of a hand-off.

    What an earlier processing of the downlink staged and this one does not make goes, tokens included.

    Parameters
    ----------
    stage
        `paths.stage`.
    new
        Directory with the new files, as `scratch` gives it; what was in the stage before goes with that.
    downlink, run
        Whose files they are.
    files
        The new files; none: the run has no directory in the stage afterwards.
    stale
        Names of files that the downlink delivered of the run before and does not now.
    """
    names = [file.name for file in files]
    home = stage / paths.staged_run(downlink, run.l1)
    fsync_directory(new)  # it is gone if others have staged the run meanwhile: then nothing is changed
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
        _touch(stage, token)
        # This process may have stood still, and others have staged and Level-1 taken it meanwhile.
        if not (home / name).exists():
            remove_file(stage / token)


def put_texts(stage: Path, new: Path, downlink: DownlinkId) -> None:
    """Make the texts in the scratch directory `new` visible; those of an earlier hand-off besides them go."""
    home = stage / paths.staged(downlink)
    make_directory(stage, paths.staged(downlink))
    names = sorted(path.name for path in new.iterdir())
    for name in names:
        (new / name).rename(home / name)
    for path in home.glob(paths.text("*", downlink)):
        if path.name not in names:
            path.unlink()
    fsync_directory(home)
