"""The files by which an operator holds work or gives runs up: put down with who, when and why in them.

Anybody may make or remove them by hand as well: `halts` and `halfpipe.run.force_list` ask only whether they are
there.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.downlink import halts
from halfpipe.downlink.halts import Switch, says
from halfpipe.errors import MissingInputError
from halfpipe.files.advice import in_the_way
from halfpipe.files.leases import whoami
from halfpipe.ids import DownlinkId, RunId
from halfpipe.run import force_list
from halfpipe.tables import names


def hold(work: Path, switch: Switch, downlink: DownlinkId | None, reason: str) -> tuple[Path, bool]:
    """Put down a switch, for one downlink or for all; one that is there stays as it is.

    Returns
    -------
    tuple
        The file, and whether it is new.
    """
    file = _place(work, switch, downlink)
    return file, _put_down(file, reason)


def let_go(work: Path, switch: Switch, downlink: DownlinkId | None) -> str:
    """Remove a switch and return what its file said.

    Raises
    ------
    MissingInputError
        If it is not there; says which one holds the work all the same.
    """
    file = _place(work, switch, downlink)
    if not _is_there(file):
        other = halts.holding(work, switch, downlink)
        but = f", but {other} holds it: halfpipe hold {switch.called} --resume" if other else ""
        raise MissingInputError(f"{file}: no such file, so nothing was to be removed{but}")
    said = says(file)
    _remove(file)
    return said


def put_down(work: Path) -> list[dict[str, Any]]:
    """Return all switches that are there, those for all downlinks first: of which downlink, and what the file says."""
    places = [(switch, downlink) for downlink in (None, *names.downlinks(work)) for switch in Switch]
    found = ((switch, downlink, _place(work, switch, downlink)) for switch, downlink in places)
    return [
        {"switch": switch, "downlink": dl, "file": file, "says": says(file)}
        for switch, dl, file in found
        if _is_there(file)
    ]


def give_up(work: Path, run: RunId, reason: str) -> tuple[Path, bool]:
    """Put `run` on the list of runs that are abandoned; one that is on it stays as it is.

    Returns
    -------
    tuple
        The file, and whether it is new: it has the name of the run that cannot be mistaken for another's.

    Raises
    ------
    MissingInputError
        If nothing is known of the run.
    """
    if not (work / paths.run(run)).is_dir():
        raise MissingInputError(
            f"nothing is known of run {run} ({run.l1}): there is no {work / paths.run(run)}. Give the run as "
            "halfpipe show --waiting lists it."
        )
    file = next(iter(_names_of(work, run)), work / paths.force() / run.l1)
    return file, _put_down(file, reason)


def take_back(work: Path, run: RunId) -> list[Path]:
    """Take `run` off the list of runs that are abandoned, and return the files that were removed.

    Raises
    ------
    MissingInputError
        If it is not on the list.
    """
    files = _names_of(work, run)
    if not files:
        raise MissingInputError(
            f"run {run} ({run.l1}) is not abandoned: no file in {work / paths.force()} names it"
        )
    for file in files:
        _remove(file)
    return files


def given_up(work: Path) -> dict[RunId, str]:
    """Return the runs that are abandoned, in order, and what their files say."""
    runs = sorted(force_list.read(work).runs)
    return {run: "; ".join(filter(None, (says(file) for file in _names_of(work, run)))) for run in runs}


def _place(work: Path, switch: Switch, downlink: DownlinkId | None) -> Path:
    return work / (paths.downlink_halt(switch, downlink) if downlink else paths.halt(switch))


def _names_of(work: Path, run: RunId) -> list[Path]:
    """Return the files in the list that give up `run`."""
    if run not in force_list.read(work).runs:
        return []
    home = work / paths.force()
    return sorted(file for file in home.iterdir() if run in force_list.readings(file.name))


def _is_there(file: Path) -> bool:
    return file.exists() or file.is_symlink()


def _put_down(file: Path, reason: str) -> bool:
    """Make the file, at once under its name, for that it is there counts; tell whether it was not."""
    me, now = whoami(), datetime.now(UTC)
    if _is_there(file):
        return False
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x") as out:
            out.write(f"{now:%Y-%m-%d %H:%M:%S} UTC, {me.user} on {me.host}: {reason}\n")
    except OSError as error:
        raise in_the_way(file, error) from error
    return True


def _remove(file: Path) -> None:
    try:
        file.unlink()
    except OSError as error:
        raise in_the_way(file, error) from error
