"""Halt switches: files that an operator puts down to hold a kind of work, and removes to let it go on.

The names are those of the legacy (ground-chain §6, its defect list, no. 10). A switch in `halts/` of the
working directory holds all downlinks, one in the directory of a downlink holds that one. A file holds
whatever is in it; a line that says who and why helps the next person.

The jobs of the rules in `HOLDS` obey; `halfpipe online` and `halfpipe cleanup` ask for theirs before they begin.
"""

import os
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.errors import HalfPipeError, MissingInputError, Remedy
from halfpipe.files import markers
from halfpipe.files.advice import advice
from halfpipe.files.reading import modified
from halfpipe.ids import DownlinkId


class Switch(StrEnum):
    """What can be held. `CLEANUP` is global only, and not the token `haltCleanup-{dl}` for Level-1."""

    STAGE = "haltStage"
    L1 = "haltL1"
    ONLINE = "haltOnline"
    CLEANUP = "haltCleanup"

    @property
    def what(self) -> str:
        """What it holds, in words."""
        return {
            Switch.STAGE: "staging",
            Switch.L1: "submission to Level-1",
            Switch.ONLINE: "the hand-off to Online",
            Switch.CLEANUP: "clean-up",
        }[self]

    @property
    def called(self) -> str:
        """What a command calls it: ``stage``, ``l1``, ``online``, ``cleanup``."""
        return self.removeprefix("halt").lower()


OF_ALL = tuple(str(switch) for switch in Switch)
OF_A_DOWNLINK = tuple(str(switch) for switch in Switch if switch is not Switch.CLEANUP)
HOLDS = {"deliver_run": Switch.STAGE, "receipt": Switch.STAGE, "submit": Switch.L1}  # by the name of a rule


BEGINNING = "halt"  # of the names of all switches, in lower case


class HeldError(HalfPipeError):
    """Work that a halt switch holds."""

    code = "held"


def holding(work: Path, switch: Switch, downlink: DownlinkId | None = None) -> Path | None:
    """Return the file that holds a kind of work, None if none does.

    Parameters
    ----------
    work
        `paths.work`.
    switch
        The kind of work.
    downlink
        The downlink that the work is for; None, work for no downlink, or for all of them.

    Raises
    ------
    HalfPipeError
        If it cannot be told whether there is a file: then nothing may go on.
    """
    places = [work / paths.halt(switch, dl) for dl in dict.fromkeys((None, downlink))]
    return next((place for place in places if _is_there(place)), None)


def is_misspelt(name: str, downlink: str | None) -> bool:
    """Tell whether a file `name` beside the switches of a downlink, or of all, looks like one and is none."""
    if downlink is not None:
        return name.lower().startswith(BEGINNING) and name not in OF_A_DOWNLINK
    return not name.startswith((".", "README")) and name not in OF_ALL


def _is_there(path: Path) -> bool:
    try:
        os.lstat(path)  # a link that leads nowhere is a switch too
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise HalfPipeError(
            f"{path}: nobody can say whether this halt switch is there: {error.strerror}. {advice(error)}"
        ) from error
    return True


def cause(work: Path, switch: Switch, downlink: DownlinkId | None = None) -> Cause | None:
    """Return that a switch holds a kind of work, with who put it down, when and why; None if none does.

    To let a downlink go on its command is offered. Of a switch for all of them only who holds it, and why: it may stand
    because another system delivers again (docs/switch-over.md), and nobody lifts it by copying a line.
    """
    file = holding(work, switch, downlink)
    if file is None:
        return None
    said, remedy = markers.content(file), Remedy("halfpipe hold")
    if file.parent.name == downlink:
        remedy = Remedy(f"halfpipe hold {switch.called} {downlink} --resume")
    text = f"{switch.what} is held by {file}" + (f" ({said})" if said else "")
    return Cause("held", Verdict.NOTE, text, remedy, modified(str(file)))


def refuse(work: Path, switch: Switch, downlink: DownlinkId) -> None:
    """Raise an error if `switch` holds work for `downlink`.

    Raises
    ------
    HeldError
        Names the file.
    """
    if held := cause(work, switch, downlink):
        raise HeldError(
            f"downlink {downlink}: {held.text}. Nothing was done. See why, or let it go on:", held.remedy
        )


def hold(work: Path, switch: Switch, downlink: DownlinkId | None, reason: str) -> None:
    """Put down a switch, for one downlink or for all; one that is there stays as it is."""
    markers.make(work / paths.halt(switch, downlink), reason)


def let_go(work: Path, switch: Switch, downlink: DownlinkId | None) -> str:
    """Remove a switch and return what its file said.

    Raises
    ------
    MissingInputError
        If it is not there; says which one holds the work all the same.
    """
    file = work / paths.halt(switch, downlink)
    if not _is_there(file):
        other = holding(work, switch, downlink)
        but = f", but {other} holds it: halfpipe hold {switch.called} --resume" if other else ""
        raise MissingInputError(f"{file}: no such file, so nothing was to be removed{but}")
    said = markers.content(file)
    file.unlink()
    return said


def held(work: Path, downlinks: Iterable[DownlinkId]) -> list[dict[str, Any]]:
    """Return the switches that are there, those for all downlinks first: of which downlink, and what the file says."""
    places = [(switch, downlink) for downlink in (None, *downlinks) for switch in Switch]
    found = ((switch, downlink, work / paths.halt(switch, downlink)) for switch, downlink in places)
    return [
        {"switch": switch, "downlink": dl, "file": file, "says": markers.content(file)}
        for switch, dl, file in found
        if _is_there(file)
    ]


def summary(held: Mapping[DownlinkId, Path]) -> list[str]:
    """Say in one line a file which outstanding downlinks it holds."""
    lines = []
    for file in sorted(set(held.values())):
        of = sorted(downlink for downlink, by in held.items() if by == file)
        lines.append(
            f"held by {file}: {f'{len(of)} downlinks, {of[0]} to' if of[1:] else 'downlink'} {of[-1]}"
        )
    return lines
