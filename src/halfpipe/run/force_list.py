"""Runs that an operator has abandoned: a file for each in `force/` of the working directory.

The directory and its names are the legacy's (ground-chain §7, §8): a run by its start, or with the ground id
ahead of it, in hexadecimal, and by its decimal start. Eight digits are hexadecimal: as a decimal start they would be
years before the launch. Behind a ground id a leading zero may be left out. Removing the file takes the decision back.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from halfpipe import paths
from halfpipe.errors import HalfPipeError, MissingInputError
from halfpipe.files import put_down
from halfpipe.files.advice import advice
from halfpipe.files.json_files import read_json
from halfpipe.ids import DownlinkId, RunId
from halfpipe.run.downlinks_of_run import refuse_unknown

_NAME = re.compile(
    r"(?:[0-9a-f]{8}-)?(?P<hex>[0-9a-f]{8}|(?<=-)[0-9a-f]{7})|r?(?P<met>[0-9]{1,10})", re.ASCII
)


@dataclass(frozen=True)
class ForceList:
    """The list as it stands: the runs abandoned, each with the files that name it, and what is wrong with others."""

    runs: Mapping[RunId, tuple[Path, ...]]
    refused: tuple[str, ...]


def read(work: Path) -> ForceList:
    """Read the operator's list of runs abandoned.

    A name that is no run gives up nothing and is among `refused`: work goes on, and whoever shows the list says so.

    Raises
    ------
    HalfPipeError
        If the directory is there and cannot be read: then nobody knows what was abandoned.
    """
    home = work / paths.FORCE
    try:
        files = sorted(home.iterdir())
    except FileNotFoundError:
        files = []
    except OSError as error:
        raise HalfPipeError(f"{home}: cannot be read: {error.strerror}. {advice(error)}") from error
    runs: dict[RunId, tuple[Path, ...]] = {}
    refused = []
    for file in files:
        match = _NAME.fullmatch(file.name)
        if match and (match["hex"] or int(match["met"]) < 2**32):
            run = RunId(match["hex"].zfill(8)) if match["hex"] else RunId.from_met(int(match["met"]))
            runs[run] = (*runs.get(run, ()), file)
        else:
            refused.append(
                f"{file}: names no run: expected a name such as 2c2e5787, 00770101-2c2e5787, r0741234567 or 741234567. "
                "Rename or remove the file."
            )
    return ForceList(runs, tuple(refused))


def give_up(work: Path, run: RunId, reason: str) -> None:
    """Put `run` on the list; one that is on it stays as it is.

    Raises
    ------
    MissingInputError
        If nothing is known of the run.
    """
    refuse_unknown(work, run)
    file, *_ = (*read(work).runs.get(run, ()), work / paths.FORCE / run.l1)
    put_down.make(file, reason)


def take_back(work: Path, run: RunId) -> tuple[Path, ...]:
    """Take `run` off the list, and return the files that were removed.

    Raises
    ------
    MissingInputError
        If it is not on the list.
    """
    files = read(work).runs.get(run, ())
    if not files:
        raise MissingInputError(
            f"run {run} ({run.l1}) is not abandoned: no file in {work / paths.FORCE} names it"
        )
    for file in files:
        file.unlink()
    return files


def in_effect(work: Path, run: RunId, downlinks: Iterable[DownlinkId], forced: ForceList) -> bool:
    """Tell whether a run that is abandoned has been delivered as such: only then may Level-1 retire it.

    Parameters
    ----------
    work, run
        `paths.work`, and the run.
    downlinks
        The downlinks that bring it.
    forced
        The list as `read` gives it.
    """
    if run not in forced.runs:
        return False
    manifests = (work / paths.manifest(run, dl) for dl in downlinks)
    return any(path.exists() and read_json(path)["given_up"] for path in manifests)
