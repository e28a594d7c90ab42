"""Runs that an operator abandoned in the legacy: one file for each in `force/` of its working directory.

The names of the files are in ground-chain §7 and §8. A name is the start of the run in
hexadecimal, with or without the ground id in front, or in decimal. Eight digits are hexadecimal, because a decimal
start with eight digits would be years before the launch. After a ground id, a leading zero may be omitted.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from halfpipe.errors import HalfPipeError
from halfpipe.files.advice import advice
from halfpipe.ids import RunId

FORCE = "force"
_NAME = re.compile(r"(?:[0-9a-f]{8}-)?([0-9a-f]{8}|(?<=-)[0-9a-f]{7})|r?([0-9]{1,10})", re.ASCII)


@dataclass(frozen=True)
class ForceList:
    """The abandoned runs, each with the files that name it, and an error text for every file that is not valid."""

    runs: Mapping[RunId, tuple[Path, ...]]
    refused: tuple[str, ...]


def read(work: Path) -> ForceList:
    """Read the operator's list of abandoned runs.

    A file whose name is not a run has no effect and is in `refused`.

    Raises
    ------
    HalfPipeError
        If the directory exists but cannot be read: then it is unknown which runs are abandoned.
    """
    home = work / FORCE
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
