"""The time axis of the board: for each day its downlinks, their latencies, and the number of delivered events."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from math import isfinite
from typing import Any

from halfpipe.status.account import Account

GOAL_HOURS = 6.0  # from the last event to the hand-off
MOST_DAYS = 92  # a quarter; older days are left out


@dataclass(frozen=True)
class Day:
    """The downlinks of a day, by the date in their ids; `hours` are their latencies, `events` what they delivered."""

    date: date
    downlinks: Sequence[Account]
    hours: Sequence[float]
    events: int


@dataclass(frozen=True)
class Timeline:
    """Consecutive days, and the largest values in them: downlinks, hours (at least 1.5 times the goal), events."""

    days: Sequence[Day]
    downlinks: int
    hours: float
    events: int
    goal: float = GOAL_HOURS


def of(accounts: Sequence[Account], delivered: Mapping[str, Mapping[str, Any]]) -> Timeline:
    """Return the timeline of accounts; `delivered` as for `days`."""
    found = days(accounts, delivered)
    hours = [each for day in found for each in day.hours]
    return Timeline(
        found,
        max((len(day.downlinks) for day in found), default=0),
        max([*hours, 1.5 * GOAL_HOURS]),
        max([*(day.events for day in found), 1]),
    )


def days(accounts: Sequence[Account], delivered: Mapping[str, Mapping[str, Any]]) -> list[Day]:
    """Return all days from the first downlink to the last, also days without downlinks.

    `delivered` has the ``latency`` (seconds) and the ``events`` of downlinks that were handed off.
    """
    by_date: dict[date, list[Account]] = {}
    for one in sorted(accounts, key=lambda account: account.downlink):
        by_date.setdefault(
            datetime.strptime(one.downlink[:6], "%y%m%d").replace(tzinfo=UTC).date(), []
        ).append(one)
    if not by_date:
        return []
    last = max(by_date)
    first = max(min(by_date), last - timedelta(days=MOST_DAYS - 1))
    found = []
    for number in range((last - first).days + 1):
        day = first + timedelta(days=number)
        rows = [delivered[one.downlink] for one in by_date.get(day, ()) if one.downlink in delivered]
        hours = [
            row["latency"] / 3600 for row in rows if row["latency"] is not None and isfinite(row["latency"])
        ]
        found.append(Day(day, by_date.get(day, []), hours, sum(row["events"] or 0 for row in rows)))
    return found
