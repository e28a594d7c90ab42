"""Halt switches: files that an operator puts down to hold a kind of work, and removes to let it go on.

The names are those of the legacy (ground-chain §6, its defect list, no. 10). A switch in `halts/` of the
working directory holds all downlinks, one in the directory of a downlink holds that one. A file holds
whatever is in it; a line that says who and why helps the next person.
"""

import os
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path

from halfpipe import paths
from halfpipe.errors import HalfPipeError
from halfpipe.files import advice
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


HOLDS = {"deliver_run": Switch.STAGE, "receipt": Switch.STAGE, "submit": Switch.L1}  # by the name of a rule


class HeldError(HalfPipeError):
    """Work that a halt switch holds."""


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
    places = [paths.halt(switch)]
    if downlink is not None and switch is not Switch.CLEANUP:
        places.append(paths.downlink_halt(switch, downlink))
    return next((work / place for place in places if _is_there(work / place)), None)


def _is_there(path: Path) -> bool:
    try:
        os.lstat(path)  # a link that leads nowhere is a switch too
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise HalfPipeError(
            f"{path}: it cannot be told whether this halt switch is there: {error.strerror}. {advice(error)}"
        ) from error
    return True


def refuse(work: Path, switch: Switch, downlink: DownlinkId) -> None:
    """Raise an error if `switch` holds work for `downlink`.

    Raises
    ------
    HeldError
        Names the file.
    """
    file = holding(work, switch, downlink)
    if file is not None:
        raise HeldError(
            f"downlink {downlink}: {switch.what} is held by {file}. Nothing was done. "
            "Remove the file when it may go on, and give the same command again."
        )


def notes(work: Path, downlink: DownlinkId) -> list[str]:
    """Say which switches hold something that a command for `downlink` may ask for."""
    found = ((switch, holding(work, switch, downlink)) for switch in (Switch.STAGE, Switch.L1))
    return [f"downlink {downlink}: {switch.what} is held by {file}" for switch, file in found if file]


def summary(held: Mapping[DownlinkId, Path]) -> list[str]:
    """Say in one line a file which outstanding downlinks it holds."""
    return [
        f"held by {file}: {_few(dl for dl, by in sorted(held.items()) if by == file)}"
        for file in sorted(set(held.values()))
    ]


def _few(downlinks: Iterable[DownlinkId]) -> str:
    every = list(downlinks)
    if len(every) == 1:
        return f"downlink {every[0]}"
    return f"{len(every)} downlinks, {every[0]} to {every[-1]}"
