"""How long data take to the stage, from receipts; and the week in some lines."""

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


def iso_week(now: float) -> str:
    """Return the ISO week of Unix seconds, as ``2026-W48``; it begins on Monday, UTC."""
    year, week, _ = datetime.fromtimestamp(now, UTC).isocalendar()
    return f"{year}-W{week:02d}"


def handed_off(settings: Settings, after: float, until: float) -> Iterator[tuple[int, float | None]]:
    """Yield of each downlink whose receipt was written between two times, Unix seconds, its events and its latency."""
    work = settings.paths.work
    for downlink in every_downlink(work):
        with suppress(Exception):  # a damaged receipt is for others to tell
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
        The events and the latency of those that were handed off.
    wanted
        When action was needed, Unix seconds, and for which codes.
    lasting
        How many troubles are not over.
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
    lines.append(
        f"{count(lasting, 'trouble')} not over: halfpipe status" if lasting else "nothing is amiss now"
    )
    return "\n".join(lines)
