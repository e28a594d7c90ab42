"""The time axis of the board: for each day its downlinks, their latencies, and the number of delivered events."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from halfpipe.status.account import Account

GOAL_HOURS = 6.0  # from the last event to the hand-off
MOST_DAYS = 92  # a quarter; older days are left out


@dataclass(frozen=True)
class Day:
    """Downlinks of a day, by the date in their ids; `hours` are their latencies, `events` how many they delivered."""

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


def of(accounts: Sequence[Account], handed_off: Mapping[str, Mapping[str, Any]]) -> Timeline:
    """Return the days from the first downlink to the last, at most `MOST_DAYS`, including days without downlinks.

    Parameters
    ----------
    accounts
        The downlinks. Made-up ids without a date are left out.
    handed_off
        The ``latency`` (seconds, or None) and the ``events`` of the downlinks that were handed off.
    """
    by_date: dict[date, list[Account]] = {}
    for one in sorted(accounts, key=lambda account: account.downlink):
        with suppress(ValueError):
            by_date.setdefault(date.fromisoformat(f"20{one.downlink[:6]}"), []).append(one)
    days = []
    for number in range(-MOST_DAYS, 0) if by_date else ():
        day = max(by_date) + timedelta(days=number + 1)
        rows = [handed_off[one.downlink] for one in by_date.get(day, ()) if one.downlink in handed_off]
        hours = sorted(row["latency"] / 3600 for row in rows if row["latency"] is not None)
        days.append(Day(day, by_date.get(day, ()), hours, sum(row["events"] for row in rows)))
    days = days[next((place for place, day in enumerate(days) if day.downlinks), 0) :]
    return Timeline(
        days,
        max((len(day.downlinks) for day in days), default=0),
        max([*(hours for day in days for hours in day.hours), 1.5 * GOAL_HOURS]),
        max([*(day.events for day in days), 1]),
    )
