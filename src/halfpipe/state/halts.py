"""Halt switches: files that an operator creates to hold a kind of work, and removes to resume it.

The names are those of the legacy (ground-chain §6, no. 10 in its list of defects). A switch in `halts/` of the working
directory holds all downlinks. A switch in the directory of a downlink holds only that one. A file holds the work
whatever it contains. `halfpipe hold` writes who created it, when and why.
"""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.errors import HalfPipeError, MissingInputError, Remedy
from halfpipe.files import markers
from halfpipe.files.advice import advice
from halfpipe.files.reading import modified
from halfpipe.ids import DownlinkId


class Switch(StrEnum):
    """A kind of work that can be held. `CLEANUP` is for all downlinks, and is not the token `haltCleanup-{dl}`."""

    STAGE = "haltStage"
    L1 = "haltL1"
    ONLINE = "haltOnline"
    CLEANUP = "haltCleanup"

    @property
    def what(self) -> str:
        """The work, in words."""
        return {
            Switch.STAGE: "staging",
            Switch.L1: "submission to Level-1",
            Switch.ONLINE: "the hand-off to Online",
            Switch.CLEANUP: "cleanup",
        }[self]

    @property
    def called(self) -> str:
        """The name in commands: ``stage``, ``l1``, ``online``, ``cleanup``."""
        return self.removeprefix("halt").lower()


OF_ALL = tuple(str(switch) for switch in Switch)
OF_A_DOWNLINK = tuple(str(switch) for switch in Switch if switch is not Switch.CLEANUP)
BEGINNING = "halt"  # how the names of all switches begin, in lower case


class HeldError(HalfPipeError):
    """Work that a halt switch holds."""

    code = "held"


def holding(work: Path, switch: Switch, downlink: DownlinkId | None = None) -> Path | None:
    """Return the file that holds a kind of work; None if there is none.

    Parameters
    ----------
    work, switch
        `paths.work`, and the kind of work.
    downlink
        The downlink of the work; None for work that concerns no single downlink.

    Raises
    ------
    HalfPipeError
        If a switch cannot be checked. Then the work must not be done.
    """
    places = [work / paths.halt(switch, dl) for dl in dict.fromkeys((None, downlink))]
    return next((place for place in places if _is_there(place)), None)


def is_misspelt(name: str, downlink: str | None) -> bool:
    """Return whether a file `name` looks like a switch of a downlink (None: of all downlinks) but is not one."""
    if downlink is not None:
        return name.lower().startswith(BEGINNING) and name not in OF_A_DOWNLINK
    return not name.startswith((".", "README")) and name not in OF_ALL


def _is_there(path: Path) -> bool:
    try:
        os.lstat(path)  # a broken link is a switch, too
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise HalfPipeError(
            f"{path}: cannot check this halt switch: {error.strerror}. {advice(error)}", code="file-system"
        ) from error
    return True


def cause(work: Path, switch: Switch, downlink: DownlinkId | None = None) -> Cause | None:
    """Return a cause if a switch holds a kind of work, with the person, time and reason; None if it is not held.

    For a single downlink, the remedy is the command to resume. For all downlinks, the remedy only lists the switches:
    another system may be delivering again, so copying the remedy must not resume the work.
    """
    file = holding(work, switch, downlink)
    if file is None:
        return None
    reason = markers.content(file)
    remedy = Remedy("halfpipe hold")
    if file.parent.name == downlink:
        remedy = Remedy(f"halfpipe hold {switch.called} {downlink} --undo")
    text = f"{switch.what} is held by {file}" + (f" ({reason})" if reason else "")
    return Cause("held", Verdict.NOTE, text, remedy, modified(str(file)))


def causes(work: Path, downlink: DownlinkId | None = None) -> dict[Switch, Cause]:
    """Return the causes of all kinds of work that a switch holds."""
    found = {switch: cause(work, switch, downlink) for switch in Switch}
    return {switch: held for switch, held in found.items() if held is not None}


def refuse(work: Path, switch: Switch, downlink: DownlinkId) -> None:
    """Raise an error if `switch` holds work for `downlink`.

    Raises
    ------
    HeldError
        If the work is held; the message names the file.
    """
    if held := cause(work, switch, downlink):
        raise HeldError(
            f"downlink {downlink}: {held.text}. Nothing was done. To see why, or to resume:",
            held.remedy,
            text=held.text,
        )


def hold(work: Path, switch: Switch, downlink: DownlinkId | None, reason: str) -> None:
    """Set a switch for one downlink, or for all; an existing one is not changed."""
    markers.make(work / paths.halt(switch, downlink), reason)


def resume(work: Path, switch: Switch, downlink: DownlinkId | None) -> str:
    """Remove a switch, and return the content of its file.

    Raises
    ------
    MissingInputError
        If the switch does not exist; the message names the one that still holds the work.
    """
    file = work / paths.halt(switch, downlink)
    if not _is_there(file):
        other = holding(work, switch, downlink)
        but = f", but {other} holds it: halfpipe hold {switch.called} --undo" if other else ""
        raise MissingInputError(f"{file}: no such file. Nothing was held{but}")
    reason = markers.content(file)
    file.unlink()
    with suppress(OSError):
        file.parent.rmdir()  # only a switch was in it
    return reason


def held(work: Path, downlinks: Iterable[DownlinkId]) -> list[dict[str, object]]:
    """Return the switches that are set, those for all downlinks first: their downlink, file, and content."""
    places = [(switch, downlink) for downlink in (None, *downlinks) for switch in Switch]
    found = ((switch, downlink, work / paths.halt(switch, downlink)) for switch, downlink in places)
    return [
        {"switch": switch, "downlink": dl, "file": file, "says": markers.content(file)}
        for switch, dl, file in found
        if _is_there(file)
    ]


def summary(held: Mapping[DownlinkId, Path]) -> list[str]:
    """Return a line for each file, with the outstanding downlinks that it holds."""
    lines = []
    for file in sorted(set(held.values())):
        of = sorted(downlink for downlink, by in held.items() if by == file)
        lines.append(
            f"held by {file}: {f'{len(of)} downlinks, {of[0]} to' if of[1:] else 'downlink'} {of[-1]}"
        )
    return lines
