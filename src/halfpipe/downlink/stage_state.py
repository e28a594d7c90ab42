"""What lies in the stage of a hand-off, and so whether Level-1 has taken it."""

import os
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from halfpipe import paths
from halfpipe.downlink.stage_look import look
from halfpipe.downlink.submissions import Record
from halfpipe.ids import DownlinkId
from halfpipe.settings import Settings


class StageState(StrEnum):
    """What of a hand-off's event files and texts lies in the stage.

    `WHOLE`: all of them, or it has none. `PARTLY`: some are gone; after a submission Level-1 is taking them. `TAKEN`:
    the downlink's directory is gone, and the hand-off was submitted. `GONE`: it is gone, and nobody was to take it.
    """

    WHOLE = "whole"
    PARTLY = "partly"
    TAKEN = "taken"
    GONE = "gone"


def is_submitted(receipt: Mapping[str, Any], record: Record) -> bool:
    """Tell whether the hand-off of a receipt is the one that Level-1 has, or had by a roll-back."""
    return record.last_confirmed is not None and record.last_confirmed.handoff == receipt["handoff"]


def names_files(receipt: Mapping[str, Any]) -> bool:
    """Tell whether there is anything to take: without event files there is no magic-7, and Level-1 fails."""
    return any(run["named"] and run["files"] for run in receipt["runs"])


def stage_state(
    settings: Settings, downlink: DownlinkId, receipt: Mapping[str, Any], record: Record
) -> StageState:
    """Say what lies in the stage of the hand-off that `receipt` is of; of one that was taken it is one look.

    Level-1 moves the event files out, and deletes the directory of the downlink when it is done (ground-chain §6).
    So does whoever clears the stage: only after a submission it was Level-1.
    """
    if not names_files(receipt):
        return StageState.WHOLE
    if not os.path.isdir(f"{settings.paths.stage}/{paths.staged(downlink)}"):  # noqa: PTH112 - asked of all downlinks
        return StageState.TAKEN if is_submitted(receipt, record) else StageState.GONE
    wrong = next(look(settings.paths.stage, downlink, receipt), None)
    return StageState.WHOLE if wrong is None else StageState.PARTLY
