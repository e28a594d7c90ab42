"""The week in some lines: downlinks, events, latency, and how often action was needed."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median

from halfpipe import paths
from halfpipe.ids import DownlinkId
from halfpipe.run.receipt_file import read_receipt
from halfpipe.settings import Settings
from halfpipe.tables.latency import latency
from halfpipe.words import count

WEEK = 7 * 86400.0


@dataclass(frozen=True)
class HandedOff:
    """A downlink that was handed off: its events, and how long after its last event, seconds; None if not known."""

    downlink: DownlinkId
    events: int
    latency: float | None


def iso_week(now: float) -> str:
    """Return the ISO week of Unix seconds, as ``2026-W48``; it begins on Monday, UTC."""
    year, week, _ = datetime.fromtimestamp(now, UTC).isocalendar()
    return f"{year}-W{week:02d}"


def handed_off(settings: Settings, after: float, until: float) -> Iterator[HandedOff]:
    """Yield the downlinks whose receipts were written between two times, Unix seconds."""
    work = settings.paths.work
    for path in sorted(work.glob(paths.receipt("*"))):
        name = path.name.removeprefix(paths.receipt(""))
        with suppress(Exception):  # a damaged receipt is for others to tell
            if DownlinkId.matches(name) and after <= path.stat().st_mtime < until:
                events = sum(run["delivered"] for run in read_receipt(work, DownlinkId(name))["runs"])
                yield HandedOff(DownlinkId(name), events, _latency(settings, DownlinkId(name)))


def _latency(settings: Settings, downlink: DownlinkId) -> float | None:
    """Return the seconds from a downlink's last event to its first hand-off; None if nobody knows."""
    first = latency(settings, downlink)
    if first is None or first.last_event is None or first.handed_off is None:
        return None
    return first.handed_off - first.last_event


def text(
    downlinks: Iterable[HandedOff],
    wanted: Sequence[tuple[float, Sequence[str]]],
    lasting: int,
    now: float,
) -> str:
    """Return the summary of the seven days before `now`.

    Parameters
    ----------
    downlinks
        Those that were handed off.
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
        f"{count(len(several), 'downlink')} handed off, {count(sum(one.events for one in several), 'event')}",
    ]
    known = sorted(one.latency for one in several if one.latency is not None)
    if known:
        late = known[min(len(known) - 1, int(0.95 * len(known)))]
        lines.append(
            f"from the last event to the hand-off: median {median(known) / 60:,.0f} min, 95 % within "
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
