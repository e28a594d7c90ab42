"""The figures of downlinks as a frame: what is usual, what is far from it, and how they went from day to day.

A column of the frame is a series: a measure, of an EPU if it has the APID behind it, as in ``rate 956``.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from math import isnan, nan
from pathlib import Path
from typing import Any

import pandas as pd

from halfpipe import paths
from halfpipe.errors import HalfPipeError
from halfpipe.files.json_files import read_json
from halfpipe.ids import DownlinkId, RunId, RunKind
from halfpipe.tables.latency import Latency

USUAL_DAYS = 90.0  # of which the median is taken
FEWEST = 10  # downlinks, below which nothing is called usual
WIDTH, HEIGHT = 180, 36  # of a trend, pixels


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

    def limits(self, median: float) -> tuple[float, float]:
        """Return below and above what a value is unusual; NaN where nothing is usual."""
        return self.least * median, nan if isnan(median) else max(self.most * median, self.never_below)


STEPS = {  # of a hand-off, by the names of their times
    "last_event": "last event",
    "retdef": "youngest RetDef came",
    "start": "first chunk was begun",
    "decoded": "last chunk was decoded",
    "handed_off": "handed off",
    "submitted": "submitted to Level-1",
}
MEASURES: Mapping[str, Measure] = {
    "rate": Measure("events of LPA runs", "/s", most=2.0, least=0.5, digits=1),
    "gaps": Measure("missing datagrams", "", never_below=5.0),
    "exceptions": Measure("exceptions of the decoder", "", never_below=10.0),
    "waiting": Measure("events that wait", "%", 100.0, never_below=0.01, digits=1),
    "latency": Measure("RetDef to hand-off", "min", 1 / 60, never_below=600.0),
}


def kind(series: str) -> str:
    """Return what a column of the frame measures: one of `MEASURES`, or a time."""
    return series.partition(" ")[0]


def called(series: str) -> str:
    """Return what people call a series."""
    name, _, apid = series.partition(" ")
    return f"EPU {apid}: {MEASURES[name].name}" if apid else MEASURES[name].name


def missing_datagrams(work: Path, downlink: DownlinkId, receipt: Mapping[str, Any]) -> Counter[int]:
    """Count by APID the datagrams between others that were not known of its runs when a downlink was handed off."""
    missing = Counter[int]()
    for run in receipt["runs"]:
        with suppress(HalfPipeError, KeyError):  # of one that is damaged its account tells
            if not run["complete"]:
                known = read_json(work / paths.manifest(RunId(run["run"]), downlink))["datagrams"]
                for apid, ranges in known.items():
                    missing[int(apid)] += sum(after[0] - before[1] - 1 for before, after in pairwise(ranges))
    return missing


def figures(
    receipt: Mapping[str, Any], missing: Mapping[int, int], written: float, times: Sequence[Latency]
) -> dict[str, float]:
    """Return the row of a downlink; NaN, or no column, is what is not known.

    `when` and the latency are those of its first hand-off, the times of the steps those of its last. The rate of an
    EPU is its share, of the events that came, of those delivered in a second.

    Parameters
    ----------
    receipt
        Its receipt.
    missing
        As `missing_datagrams` counts them.
    written
        When that was written, Unix seconds, for a downlink whose times are not known.
    times
        The times of its hand-offs.
    """
    runs = receipt["runs"]
    came, exceptions = dict[str, Counter[int]](), Counter[int]()
    for chunk in receipt.get("chunks", ()):
        for file in chunk["files"]:
            came.setdefault(file["run"], Counter())[int(file["apid"])] += file.get("events", 0)
        for apid in {int(file["apid"]) for file in chunk["files"]}:
            exceptions[apid] += sum(chunk["said"]["exceptions"].values())
    events, seconds = Counter[int](), Counter[int]()
    for run in runs:
        own = came.get(run["run"], Counter()) if run["kind"] == RunKind.LPA else {}
        whole, took = sum(own.values()), sum(f["seconds"][1] - f["seconds"][0] for f in run["files"])
        for apid, number in own.items() if whole and took else ():
            events[apid] += sum(file["events"] for file in run["files"]) * number / whole
            seconds[apid] += took
    orphans = sum(run["orphans"] for run in runs)
    known = orphans + sum(run["delivered"] for run in runs)
    first, last = (times[0], times[-1]) if times else (Latency(0), Latency(0))
    return {
        "when": first.handed_off or written,
        **{f"rate {apid}": events[apid] / seconds[apid] for apid in sorted(seconds)},
        **{f"gaps {apid}": missing.get(apid, 0) for apid in sorted(exceptions)},
        **{f"exceptions {apid}": exceptions[apid] for apid in sorted(exceptions)},
        "waiting": orphans / known if known else nan,
        "latency": nan if first.seconds is None else first.seconds,
        **{step: getattr(last, step) or nan for step in STEPS},
    }


def usual(frame: pd.DataFrame) -> pd.Series:
    """Return the median of each series; NaN where fewer than `FEWEST` downlinks have it."""
    known = frame[[name for name in frame if kind(str(name)) in MEASURES]]
    return known.median().where(known.count() >= FEWEST)


@dataclass(frozen=True)
class Compared:
    """A figure of a downlink beside the median: its name, both in words, and whether it is beyond a limit."""

    name: str
    here: str
    median: str
    unusual: bool


def compared(own: Mapping[str, float], medians: Mapping[str, float]) -> list[Compared]:
    """Return the figures of a downlink that are known; without a median none is unusual."""
    found = []
    for series, median in medians.items():
        if not isnan(value := own.get(series, nan)):
            of = MEASURES[kind(series)]
            low, high = of.limits(median)
            found.append(
                Compared(called(series), of.shown(value), of.shown(median), value > high or value < low)
            )
    return found


@dataclass(frozen=True)
class Trend:
    """A series from day to day: what it is called, its latest day, its median and limits.

    And how it is drawn, `WIDTH` by `HEIGHT` pixels with zero at the foot: the points of a line, the heights of its
    limits, and the days that are beyond them.
    """

    name: str
    last: str
    median: str
    limits: str
    line: Sequence[tuple[float, float]]
    dashes: Sequence[float]
    dots: Sequence[tuple[float, float]]


def trends(frame: pd.DataFrame, medians: Mapping[str, float]) -> Iterator[Trend]:
    """Yield the trends of a frame in the order of `MEASURES`, EPU by EPU: the median of each day's hand-offs, UTC."""
    days = frame.set_index(pd.to_datetime(frame["when"], unit="s")).resample("D").median()
    across = (WIDTH - 6) / max(1, len(days) - 1)
    order = list(MEASURES)
    for series in sorted(medians, key=lambda name: (order.index(kind(name)), name)):
        of, values = MEASURES[kind(series)], days[series].tolist()
        low, high = limits = of.limits(medians[series])
        top = 1.1 * max((value for value in (*values, high) if not isnan(value)), default=0) or 1.0

        def y(value: float, top: float = top) -> float:
            return round(HEIGHT * (1 - value / top), 1)

        known = [(round(3 + day * across, 1), value) for day, value in enumerate(values) if not isnan(value)]
        if known:
            said = [f"below {of.shown(low)}"] * (low > 0) + [f"above {of.shown(high)}"] * (not isnan(high))
            yield Trend(
                called(series),
                of.shown(known[-1][1]),
                of.shown(medians[series]),
                " or ".join(said),
                [(x + way, y(value)) for x, value in known for way in ((0,) if len(known) > 1 else (-2, 2))],
                [y(limit) for limit in limits if limit > 0],
                [(x, y(value)) for x, value in known if value > high or value < low],
            )
