"""When each step of a downlink's hand-offs was done, and so the latency: derived from what is there.

Nothing depends on it. What cannot be told, because logs or RetDefs are gone, is None.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

from halfpipe import paths
from halfpipe.downlink.submissions import Record
from halfpipe.errors import HalfPipeError
from halfpipe.files.reading import changed
from halfpipe.ids import DownlinkId
from halfpipe.process import usage
from halfpipe.process.told_once import Outcome
from halfpipe.run.receipt_file import hand_offs
from halfpipe.settings import Settings


@dataclass(frozen=True)
class Latency:
    """When the steps of one hand-off were done, Unix seconds; None what is not known.

    Attributes
    ----------
    handoff
        Its number.
    last_event
        Of the events that it delivered, UTC.
    retdef
        When the youngest RetDef came.
    start, decoded
        When the first chunk was begun, and when the last one was decoded; of a hand-off for which none was, None.
    handed_off, submitted
        When its receipt was recorded, and when it was submitted, the first time.
    """

    handoff: int
    last_event: float | None = None
    retdef: float | None = None
    start: float | None = None
    decoded: float | None = None
    handed_off: float | None = None
    submitted: float | None = None

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


def latencies(settings: Settings, downlink: DownlinkId) -> list[Latency]:
    """Return the times of each hand-off of a downlink in order; none if its receipts cannot be read."""
    work, found = settings.paths.work, []
    with suppress(HalfPipeError):
        decodes = sorted(_decodes(work, downlink), key=lambda one: one[1])
        submitted = _submitted(work, downlink)
        for handoff in hand_offs(work, downlink):
            made, receipt = handoff.made, handoff.receipt
            # Those that ended since the hand-off before.
            mine = [one for one in decodes if made is not None and one[1] <= made]
            decodes = decodes[len(mine) :]
            found.append(
                Latency(
                    handoff.number,
                    max((run["times"][1] for run in receipt["runs"] if run.get("times")), default=None),
                    _came(settings, downlink, receipt, made),
                    min((begun for begun, _ in mine), default=None),
                    max((ended for _, ended in mine), default=None),
                    made,
                    submitted.get(handoff.number),
                )
            )
    return found


def latency(settings: Settings, downlink: DownlinkId) -> Latency | None:
    """Return the times of the first hand-off of a downlink: later ones come when somebody wants them."""
    return next(iter(latencies(settings, downlink)), None)


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


def _decodes(work: Path, downlink: DownlinkId) -> Iterator[tuple[float, float]]:
    """Yield when each decoding of a chunk that ended well was begun, and when it ended."""
    for took in usage.tries(work, downlink):
        if took.job.startswith("decode_chunk"):
            with suppress(ValueError):
                begun = datetime.fromisoformat(took.begun).timestamp()
                yield begun, begun + took.seconds


def _submitted(work: Path, downlink: DownlinkId) -> dict[int, float]:
    found: dict[int, float] = {}
    with suppress(HalfPipeError):  # damaged: others say so
        for attempt in Record(work, downlink).attempts:
            if attempt.outcome is Outcome.TOLD:
                with suppress(ValueError):
                    found.setdefault(attempt.handoff, datetime.fromisoformat(attempt.when).timestamp())
    return found
