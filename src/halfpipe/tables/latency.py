"""When a downlink was first handed off, and when what it is made of came: derived from what is there.

Nothing depends on it. What cannot be told, because RetDefs are gone, is None.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from statistics import median
from typing import Any

from halfpipe import paths
from halfpipe.errors import HalfPipeError
from halfpipe.files.reading import changed
from halfpipe.ids import DownlinkId
from halfpipe.run.receipt_file import hand_offs
from halfpipe.settings import Settings


@dataclass(frozen=True)
class Latency:
    """The times of a downlink's first hand-off, Unix seconds: later ones come when somebody wants them.

    Attributes
    ----------
    last_event
        Of the events that it delivered, UTC.
    retdef
        When the youngest RetDef came.
    handed_off
        When its receipt was recorded.
    """

    last_event: float | None = None
    retdef: float | None = None
    handed_off: float | None = None

    @property
    def seconds(self) -> float | None:
        """From the youngest RetDef to the hand-off."""
        return between(self.retdef, self.handed_off)


def between(first: float | None, last: float | None) -> float | None:
    """Return the seconds from one time to another; None if one is not known."""
    return None if first is None or last is None else last - first


def median_and_95(values: Iterable[float]) -> tuple[float, float]:
    """Return the median, and what 95 % of the values are within."""
    known = sorted(values)
    return median(known), known[min(len(known) - 1, int(0.95 * len(known)))]


def latency(settings: Settings, downlink: DownlinkId) -> Latency:
    """Return the times of a downlink; none are known if its receipts cannot be read."""
    with suppress(HalfPipeError):
        for handoff in hand_offs(settings.paths.work, downlink):
            runs = handoff.receipt["runs"]
            last = max((run["times"][1] for run in runs if run.get("times")), default=None)
            return Latency(last, _came(settings, downlink, handoff.receipt, handoff.made), handoff.made)
    return Latency()


def _came(
    settings: Settings, downlink: DownlinkId, receipt: Mapping[str, Any], made: float | None
) -> float | None:
    """Return when the youngest RetDef of a receipt came; None if one is gone, or has come again since."""
    came: list[float | None] = []
    for chunk in receipt["chunks"]:
        name = paths.retdef(downlink, chunk["chunk"])
        there = (changed(f"{home}/{name}") for home in settings.paths.retdef)
        came.append(next((when for when in there if when is not None), None))
    known = [when for when in came if when is not None and (made is None or when <= made)]
    return max(known) if known and len(known) == len(came) else None
