"""The closed downlinks, which no report and no turn looks at again until something of them changes.

A downlink is closed if Level-1 has all that it will get of it, nothing needs action, and no more of its level-0 can
arrive (`halfpipe.status.account`). Turns of unattended processing write the closed downlinks to one file. It only makes
things faster: without it, everything is looked at again.
"""

from collections.abc import Mapping

from halfpipe import paths
from halfpipe.errors import HalfPipeError
from halfpipe.files.reading import changed, modified
from halfpipe.files.typed import Stored, read_stored, write_stored
from halfpipe.ids import DownlinkId
from halfpipe.settings import Settings


class _Closed(Stored, frozen=True):
    """The file: the closed downlinks, each with its `last_change` when it was looked at."""

    closed: dict[DownlinkId, float]


def last_change(settings: Settings, downlink: DownlinkId) -> float:
    """Return when the receipt or a directory of RetDefs of a downlink last changed, Unix seconds; 0 if outstanding."""
    receipt = modified(f"{settings.paths.work}/{paths.receipt(downlink)}")
    if receipt is None:
        return 0.0
    return max([receipt, *(changed(f"{home}/{downlink}") or 0.0 for home in settings.paths.retdef)])


def read_closed(settings: Settings) -> dict[DownlinkId, float]:
    """Return the downlinks that were closed and have not changed since, each with its `last_change`."""
    try:
        noted = read_stored(settings.paths.work / paths.CLOSED, _Closed).closed
    except HalfPipeError:
        return {}
    return {downlink: when for downlink, when in noted.items() if last_change(settings, downlink) == when}


def write_closed(settings: Settings, closed: Mapping[DownlinkId, float]) -> None:
    """Write the file.

    Raises
    ------
    HalfPipeError, OSError
        If it cannot be written.
    """
    path = settings.paths.work / paths.CLOSED
    path.parent.mkdir(parents=True, exist_ok=True)
    write_stored(path, _Closed(dict(closed)))
