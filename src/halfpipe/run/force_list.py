"""Runs that an operator has abandoned: a file for each in `force/` of the working directory.

The directory and its names are the legacy's (ground-chain §7, §8): a run by its start, or with the ground id
ahead of it, in hexadecimal, and by its decimal start. Removing the file takes the decision back.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from halfpipe import paths
from halfpipe.errors import HalfPipeError, MissingInputError
from halfpipe.files import put_down
from halfpipe.files.advice import advice
from halfpipe.files.json_files import read_json
from halfpipe.ids import DownlinkId, RunId

_HEX = re.compile(r"(?:[0-9a-f]{8}-)?([0-9a-f]{8})", re.ASCII)
_DECIMAL = re.compile(r"r?([0-9]{1,10})", re.ASCII)


@dataclass(frozen=True)
class ForceList:
    """The list as it stands: the runs abandoned, and what is wrong with the names that give no run."""

    runs: frozenset[RunId]
    refused: tuple[str, ...]


def read(work: Path) -> ForceList:
    """Read the operator's list of runs abandoned.

    A name that is no run, or may be two, gives up nothing and is among `refused`: work goes on, and
    whoever shows the list says so.

    Raises
    ------
    HalfPipeError
        If the directory is there and cannot be read: then nobody knows what was abandoned.
    """
    home = work / paths.force()
    try:
        names = sorted(path.name for path in home.iterdir())
    except FileNotFoundError:
        return ForceList(frozenset(), ())
    except OSError as error:
        raise HalfPipeError(f"{home}: cannot be read: {error.strerror}. {advice(error)}") from error
    runs: set[RunId] = set()
    refused = []
    for name in names:
        found = readings(name)
        known = {run for run in found if (work / paths.run(run)).is_dir()} if len(found) > 1 else found
        if len(known) == 1:
            runs.update(known)
        else:
            refused.append(f"{home / name}: {_complaint(found)}")
    return ForceList(frozenset(runs), tuple(refused))


def readings(name: str) -> frozenset[RunId]:
    """Return the runs that a name in the list may mean: none, one, or two."""
    found = set()
    if match := _HEX.fullmatch(name):
        found.add(RunId(match[1]))
    if (match := _DECIMAL.fullmatch(name)) and int(match[1]) < 2**32:
        found.add(RunId.from_met(int(match[1])))
    return frozenset(found)


def give_up(work: Path, run: RunId, reason: str) -> tuple[Path, bool]:
    """Put `run` on the list; one that is on it stays as it is.

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
    return file, put_down.make(file, reason)


def take_back(work: Path, run: RunId) -> list[Path]:
    """Take `run` off the list, and return the files that were removed.

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
        put_down.remove(file)
    return files


def reasons(work: Path) -> dict[RunId, str]:
    """Return the runs on the list, in order, and what their files say."""
    runs = sorted(read(work).runs)
    return {run: "; ".join(filter(None, map(put_down.says, _names_of(work, run)))) for run in runs}


def _names_of(work: Path, run: RunId) -> list[Path]:
    """Return the files in the list that name `run`."""
    if run not in read(work).runs:
        return []
    home = work / paths.force()
    return sorted(file for file in home.iterdir() if run in readings(file.name))


def _complaint(found: Iterable[RunId]) -> str:
    either = " or ".join(f"{run} ({run.l1})" for run in sorted(found))
    if not either:
        return (
            "names no run: expected a name such as 2c2e5787, 00770101-2c2e5787, r0741234567 or 741234567. "
            "Rename or remove the file."
        )
    return f"may be run {either}, so no run is abandoned. Rename the file to the one with r and ten digits."


def in_effect(work: Path, run: RunId, downlinks: Iterable[DownlinkId], forced: ForceList) -> bool:
    """Tell whether a run that is abandoned has been delivered as such: only then may Level-1 retire it.

    Parameters
    ----------
    work
        `paths.work`.
    run
        The run.
    downlinks
        The downlinks that bring it.
    forced
        The list as `read` gives it.
    """
    if run not in forced.runs:
        return False
    manifests = (work / paths.manifest(run, dl) for dl in downlinks)
    return any(path.exists() and read_json(path)["given_up"] for path in manifests)
