"""What of a downlink is compared with other downlinks, what is usual, and which days were slow."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from halfpipe.ids import RunKind
from halfpipe.tables.latency import Latency, median_and_95

DAY = 86400
USUAL_DAYS = 90.0  # of which the median is taken
FEWEST = 10  # downlinks, below which nothing is called usual


@dataclass(frozen=True)
class Measure:
    """A figure that is compared.

    Attributes
    ----------
    name, unit
        For people.
    scale
        What its value, in SI units or as a share, is multiplied by for its unit.
    most, least
        It is odd above `most` or below `least` times the median.
    never_below
        It is never odd up to this, whatever the median: 3 exceptions instead of 1 are no news.
    digits
        Behind the point.
    """

    name: str
    unit: str
    scale: float = 1.0
    most: float = 3.0
    least: float = 0.0
    never_below: float = 0.0
    digits: int = 0


MEASURES: Mapping[str, Measure] = {
    "rate": Measure("event rate of LPA runs", "/s", most=2.0, least=0.5, digits=1),
    "waiting": Measure("events that wait", "%", 100.0, never_below=0.01, digits=1),
    "exceptions": Measure("exceptions of the decoder", "", never_below=10.0),
    "latency": Measure("RetDef to hand-off", "min", 1 / 60, never_below=600.0),
}
Figures = Mapping[str, float]  # by the name of the measure; what is not known is not there


@dataclass(frozen=True)
class Odd:
    """A figure that is far from what is usual: its measure, itself, and the median."""

    measure: Measure
    value: float
    median: float

    def __str__(self) -> str:
        if not self.median:
            return f"{self.measure.name}: {shown(self.measure, self.value)}, mostly none"
        return (
            f"{self.measure.name}: {shown(self.measure, self.value)}, {self.value / self.median:.1f} times the median "
            f"of {USUAL_DAYS:g} days ({shown(self.measure, self.median)})"
        )


def shown(measure: Measure, value: float) -> str:
    """Return a value with its unit, as ``14 min`` or ``3.1 %``."""
    return f"{value * measure.scale:,.{measure.digits}f} {measure.unit}".strip()


def figures(receipt: Mapping[str, Any], latency: Latency | None) -> Figures:
    """Return the figures of a downlink.

    Parameters
    ----------
    receipt
        Its receipt.
    latency
        The times of its first hand-off; None if they are not known.
    """
    found: dict[str, float] = {}
    spans = [
        (file["events"], file["seconds"][1] - file["seconds"][0])
        for run in receipt["runs"]
        if run["kind"] == RunKind.LPA
        for file in run["files"]
    ]
    seconds = sum(length for _, length in spans)
    if seconds:
        found["rate"] = sum(events for events, _ in spans) / seconds
    orphans = sum(run["orphans"] for run in receipt["runs"])
    if here := orphans + sum(run["delivered"] for run in receipt["runs"]):
        found["waiting"] = orphans / here
    found["exceptions"] = float(exceptions(receipt))
    if latency is not None and latency.seconds is not None:
        found["latency"] = latency.seconds
    return found


def exceptions(receipt: Mapping[str, Any]) -> int:
    """Return how many exceptions the decoders of a downlink met."""
    return sum(sum(chunk["said"]["exceptions"].values()) for chunk in receipt.get("chunks", ()))


def usual(every: Sequence[Figures]) -> dict[str, float]:
    """Return the median of each figure that enough downlinks have."""
    columns = {name: [each[name] for each in every if name in each] for name in MEASURES}
    return {name: median(values) for name, values in columns.items() if len(values) >= FEWEST}


def odd(own: Figures, medians: Figures) -> list[Odd]:
    """Return those figures of a downlink that are far from the medians."""
    found = []
    for name, measure in MEASURES.items():
        if name in own and name in medians:
            value, middle = own[name], medians[name]
            if value > max(measure.most * middle, measure.never_below) or value < measure.least * middle:
                found.append(Odd(measure, value, middle))
    return found


@dataclass(frozen=True)
class Day:
    """A day: what its downlinks, `count` of them, took from RetDef to hand-off, and the events that waited then.

    `middle` and `late`, seconds, are the median and what 95 % were within; None if no time is known.
    """

    day: int
    count: int
    middle: float | None
    late: float | None
    waiting: int


def by_day(entries: Iterable[tuple[float, float | None, int]]) -> list[Day]:
    """Sum up days, counted from the Unix epoch (UTC), from the first with a downlink to the last.

    Parameters
    ----------
    entries
        Of each downlink: when it was handed off (Unix seconds), what it took (seconds), and events that wait.
    """
    days: dict[int, list[tuple[float | None, int]]] = {}
    for when, took, waiting in entries:
        days.setdefault(int(when // DAY), []).append((took, waiting))
    found = []
    for day in range(min(days), max(days) + 1) if days else ():
        several = days.get(day, [])
        known = [took for took, _ in several if took is not None]
        middle, late = median_and_95(known) if known else (None, None)
        found.append(Day(day, len(several), middle, late, sum(number for _, number in several)))
    return found
