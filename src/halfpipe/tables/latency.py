"""How long data take from the telescope to the stage: derived from receipts; nothing depends on it."""

from collections.abc import Iterable
from contextlib import suppress
from statistics import median

from halfpipe.errors import HalfPipeError
from halfpipe.ids import DownlinkId
from halfpipe.run.receipt_file import hand_offs
from halfpipe.settings import Settings


def latency(settings: Settings, downlink: DownlinkId) -> float | None:
    """Return the seconds from the last event that a downlink delivered to its first hand-off; None if nobody knows.

    Later hand-offs come when somebody wants them.
    """
    with suppress(HalfPipeError):
        for first in hand_offs(settings.paths.work, downlink)[:1]:
            times = [run["times"][1] for run in first.receipt["runs"] if run.get("times")]
            if times and first.made is not None:
                return float(first.made - max(times))
    return None


def median_and_95(values: Iterable[float]) -> tuple[float, float]:
    """Return the median, and what 95 % of the values are within."""
    known = sorted(values)
    return median(known), known[min(len(known) - 1, int(0.95 * len(known)))]
