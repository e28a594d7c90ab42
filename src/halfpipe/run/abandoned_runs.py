"""Runs that an operator has abandoned: one file for each in `force/` of the working directory.

The directory and the names of its files are the legacy's (ground-chain §7, §8). A name is the start of the run in
hexadecimal, with or without the ground id in front, or in decimal. Eight digits are hexadecimal, because a decimal
start with eight digits would be years before the launch. After a ground id, a leading zero may be omitted. Removing the
file reverses the decision.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from halfpipe import paths
from halfpipe.errors import HalfPipeError, MissingInputError
from halfpipe.files import markers
from halfpipe.files.advice import advice
from halfpipe.ids import RunId
from halfpipe.run.downlinks_of_run import refuse_unknown

_NAME = re.compile(r"(?:[0-9a-f]{8}-)?([0-9a-f]{8}|(?<=-)[0-9a-f]{7})|r?([0-9]{1,10})", re.ASCII)


@dataclass(frozen=True)
class ForceList:
    """The abandoned runs, each with the files that name it, and an error text for every file that is not valid."""

    runs: Mapping[RunId, tuple[Path, ...]]
    refused: tuple[str, ...]


def read(work: Path) -> ForceList:
    """Read the operator's list of abandoned runs.

    A file whose name is not a run has no effect and is in `refused`. The command that prints the list reports it.

    Raises
    ------
    HalfPipeError
        If the directory exists but cannot be read: then it is unknown which runs are abandoned.
    """
    home = work / paths.FORCE
    try:
        files = sorted(home.iterdir())
    except FileNotFoundError:
        files = []
    except OSError as error:
        text = f"{home}: cannot be read: {error.strerror}. {advice(error)}"
        raise HalfPipeError(text, code="file-system") from error
    runs: dict[RunId, tuple[Path, ...]] = {}
    refused = []
    for file in files:
        match = _NAME.fullmatch(file.name)
        digits, met = match.groups(default="") if match else ("", "")
        if digits or (met and int(met) < 2**32):
            run = RunId(digits.zfill(8)) if digits else RunId.from_met(int(met))
            runs[run] = (*runs.get(run, ()), file)
        else:
            refused.append(
                f"{file}: not the name of a run, such as 2c2e5787, 00770101-2c2e5787, r0741234567 or 741234567. "
                "Rename or remove the file."
            )
    return ForceList(runs, tuple(refused))


def abandon(work: Path, run: RunId, reason: str) -> None:
    """Add `run` to the list; an existing entry is not changed.

    Raises
    ------
    MissingInputError
        If the run is unknown.
    """
    refuse_unknown(work, run)
    listed = read(work).runs.get(run, ())
    markers.make(listed[0] if listed else work / paths.FORCE / run.l1, reason)


def take_back(work: Path, run: RunId) -> tuple[Path, ...]:
    """Remove `run` from the list; return the files that were removed.

    Raises
    ------
    MissingInputError
        If the run is not on the list.
    """
    files = read(work).runs.get(run, ())
    if not files:
        raise MissingInputError(
            f"run {run} ({run.l1}) is not abandoned: no file in {work / paths.FORCE} names it"
        )
    for file in files:
        file.unlink()
    return files
