"""The figures of downlinks as a frame: what is usual, what is far from it, and how the days were."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan
from typing import Any

import numpy as np
import pandas as pd

from halfpipe.ids import RunKind
from halfpipe.tables.latency import Latency

USUAL_DAYS = 90.0  # of which the median is taken
FEWEST = 10  # downlinks, below which nothing is called usual


@dataclass(frozen=True)
class Measure:
    """A figure that is compared with its median.

    Attributes
    ----------
    name, unit
        For people.
    scale
        What its value, in SI units or as a share, is multiplied by for its unit.
    most, least
        It is unusual above `most` or below `least` times the median.
    never_below
        It is never unusual up to this, whatever the median: 3 exceptions instead of 1 are no news.
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

    def shown(self, value: float) -> str:
        """Return a value with its unit, as ``14 min`` or ``3.1 %``; nothing for NaN."""
        return "" if isnan(value) else f"{value * self.scale:,.{self.digits}f} {self.unit}".strip()


STEPS = {  # of a hand-off, by the names of their times
    "last_event": "last event",
    "retdef": "youngest RetDef came",
    "start": "first chunk was begun",
    "decoded": "last chunk was decoded",
    "handed_off": "handed off",
    "submitted": "submitted to Level-1",
}
MEASURES: Mapping[str, Measure] = {
    "rate": Measure("event rate of LPA runs", "/s", most=2.0, least=0.5, digits=1),
    "waiting": Measure("events that wait", "%", 100.0, never_below=0.01, digits=1),
    "exceptions": Measure("exceptions of the decoder", "", never_below=10.0),
    "latency": Measure("RetDef to hand-off", "min", 1 / 60, never_below=600.0),
}


COLUMNS = ("when", "orphans", *MEASURES, *STEPS)


def figures(receipt: Mapping[str, Any], written: float, times: Sequence[Latency]) -> dict[str, float]:
    """Return the row of a downlink, `COLUMNS`; NaN is what is not known.

    `when` and the latency are those of its first hand-off, the times of the steps those of its last.

    Parameters
    ----------
    receipt
        Its receipt.
    written
        When that was written, Unix seconds, for a downlink whose times are not known.
    times
        The times of its hand-offs.
    """
    runs = receipt["runs"]
    files = [file for run in runs if run["kind"] == RunKind.LPA for file in run["files"]]
    seconds = sum(file["seconds"][1] - file["seconds"][0] for file in files)
    orphans = sum(run["orphans"] for run in runs)
    events = orphans + sum(run["delivered"] for run in runs)
    first, last = (times[0], times[-1]) if times else (Latency(0), Latency(0))
    return {
        "when": first.handed_off or written,
        "orphans": orphans,
        "rate": sum(file["events"] for file in files) / seconds if seconds else nan,
        "waiting": orphans / events if events else nan,
        "exceptions": sum(sum(chunk["said"]["exceptions"].values()) for chunk in receipt.get("chunks", ())),
        "latency": nan if first.seconds is None else first.seconds,
        **{step: getattr(last, step) or nan for step in STEPS},
    }


def usual(frame: pd.DataFrame) -> pd.Series:
    """Return the median of each measure; NaN where fewer than `FEWEST` downlinks have it."""
    known = frame[list(MEASURES)]
    return known.median().where(known.count() >= FEWEST)


def unusual(frame: pd.DataFrame, medians: pd.Series) -> pd.DataFrame:
    """Tell of each downlink which of its figures are far from the medians; what is not known is not."""
    return pd.DataFrame(
        {
            name: (frame[name] > np.maximum(each.most * medians[name], each.never_below))
            | (frame[name] < each.least * medians[name])
            for name, each in MEASURES.items()
        }
    )


def compared(name: str, value: float, median: float) -> str:
    """Say how far an unusual figure is from its median."""
    measure = MEASURES[name]
    said = f"{measure.name}: {measure.shown(value)}"
    if not median:
        return f"{said}, mostly none"
    times, middle = value / median, measure.shown(median)
    return f"{said}, {times:.1f} times the median of {USUAL_DAYS:g} days ({middle})"


def by_day(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each `day` (UTC) from the first hand-off to the last.

    Columns are the number of `downlinks`; `middle` and `late`, the median of their latencies and what 95 % were
    within, seconds; and `orphans`, the events that waited.
    """
    days = frame.set_index(pd.to_datetime(frame["when"], unit="s")).resample("D")
    late = days["latency"].quantile(0.95)
    found = pd.DataFrame({"downlinks": days.size(), "middle": days["latency"].median(), "late": late})
    return found.assign(orphans=days["orphans"].sum()).reset_index(names="day")
