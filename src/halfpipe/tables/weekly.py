"""Latency of data from the last event to the stage, and a summary of the week."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from statistics import median
from typing import Any

from halfpipe import paths
from halfpipe.errors import HalfPipeError
from halfpipe.ids import DownlinkId
from halfpipe.run.downlinks_of_run import every_downlink
from halfpipe.run.receipt_file import hand_offs, read_receipt
from halfpipe.settings import Settings
from halfpipe.words import count

WEEK = 7 * 86400.0


def latency(settings: Settings, downlink: DownlinkId) -> float | None:
    """Return the seconds from the last delivered event of a downlink to its first hand-off; None if unknown.

    Later hand-offs do not count, because people ask for them at any time.
    """
    with suppress(HalfPipeError):
        for first in hand_offs(settings.paths.work, downlink)[:1]:
            times = [run["times"][1] for run in first.receipt["runs"] if run.get("times")]
            if times and first.made is not None:
                return float(first.made - max(times))
    return None


def median_and_95(values: Iterable[float]) -> tuple[float, float]:
    """Return the median and the 95 % quantile."""
    known = sorted(values)
    return median(known), known[min(len(known) - 1, int(0.95 * len(known)))]


def iso_week(now: float) -> str:
    """Return the ISO week of Unix seconds, for example ``2026-W48``; weeks begin on Monday, UTC."""
    year, week, _ = datetime.fromtimestamp(now, UTC).isocalendar()
    return f"{year}-W{week:02d}"


def handed_off(settings: Settings, after: float, until: float) -> Iterator[tuple[int, float | None]]:
    """Yield events and latency of each downlink with a receipt written between two times (Unix seconds)."""
    work = settings.paths.work
    for downlink in every_downlink(work):
        with suppress(Exception):  # status reports damaged receipts
            if after <= (work / paths.receipt(downlink)).stat().st_mtime < until:
                events = sum(run["delivered"] for run in read_receipt(work, downlink)["runs"])
                yield events, latency(settings, downlink)


def text(
    downlinks: Iterable[tuple[int, float | None]],
    wanted: Sequence[Sequence[Any]],
    lasting: int,
    now: float,
) -> str:
    """Return the summary of the seven days before `now`.

    Parameters
    ----------
    downlinks
        Events and latency of each downlink that was handed off.
    wanted
        Each time when action was needed (Unix seconds), and the codes.
    lasting
        Number of problems that are not over.
    now
        Unix time, seconds.
    """
    several = list(downlinks)
    begin, end = (f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}" for at in (now - WEEK, now))
    lines = [
        f"HalfPipe: the week from {begin} to {end}",
        "",
        f"{count(len(several), 'downlink')} handed off, {count(sum(events for events, _ in several), 'event')}",
    ]
    known = [seconds for _, seconds in several if seconds is not None]
    if known:
        middle, late = median_and_95(known)
        lines.append(
            f"from the last event to the hand-off: median {middle / 60:,.0f} min, 95 % within "
            f"{late / 60:,.0f} min ({count(len(known), 'downlink')})"
        )
    codes = Counter(code for at, some in wanted if now - WEEK <= at < now for code in some)
    times = sum(now - WEEK <= at < now for at, _ in wanted)
    which = ", ".join(f"{code} {number}" for code, number in sorted(codes.items()))
    lines.append(f"action was needed {count(times, 'time')}{': ' + which if which else ''}")
    lines.append(f"{count(lasting, 'problem')} not over: halfpipe status" if lasting else "no problems now")
    return "\n".join(lines)
