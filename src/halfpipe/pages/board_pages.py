"""The board: HTML pages of the site, of its open runs, of each downlink, and of each run.

Each page is one file that loads no others. It is written next to its place and renamed, the page of the site last, so
that readers always see complete pages.

The page of the site is a matrix with a row for each downlink, and a cell for each phase, below the downlinks of each
day. The page of trends shows the latency, the events that waited, and the open runs of each hand-off. Programs read the
same accounts and numbers from ``status.json`` and ``metrics.prom``, which Prometheus understands.
"""

import json
import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import count
from math import ceil, log1p, log10
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from halfpipe import paths
from halfpipe.causes import PHASES, Cause, Verdict
from halfpipe.errors import HalfPipeError
from halfpipe.files.advice import DISK_FULL
from halfpipe.files.durable import remove_file, write_bytes
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.books import Standing
from halfpipe.pages.pictures import Picture, picture
from halfpipe.pages.rendering import SIGNS, render
from halfpipe.state.downlinks_of_run import begun_downlinks
from halfpipe.status.account import UNKNOWN, Account
from halfpipe.status.failed_jobs import end_of, failed_jobs
from halfpipe.status.overview import Overview, overview
from halfpipe.status.site_causes import LIGHTS, free, last_turn, light
from halfpipe.status.survey import DownlinkFacts, Survey, read_facts
from halfpipe.tables import columns
from halfpipe.tables.frames import chunk_row, downlink_row, run_rows, waiting_runs
from halfpipe.version import DOCUMENTS
from halfpipe.words import grouped

MOST_PICTURES = 40  # because each reads all events of its run
Row = Mapping[str, Any]
GOAL_HOURS = 6.0  # from the last event to the hand-off
MOST_DAYS = 92  # a quarter; older days are left out


class Cell(NamedTuple):
    """The progress of a phase, `done` of `most`, and its worst verdict; with `most` 0, no downlink has the phase."""

    verdict: Verdict
    done: int
    most: int

    def __str__(self) -> str:
        """Return the cell as text with a sign, because color alone is not enough for everyone."""
        part = f"{self.done}/{self.most}" if 0 < self.done < self.most else ""
        plain = "-" if not self.most else "·" if not self.done else "✓"
        return f"{SIGNS[self.verdict]} {part}".strip() or plain


def phase_of(cause: Cause, one: Account) -> str:
    """Return the phase of a cause of an account; a cause without a phase belongs to the first that is not done."""
    if cause.phase in PHASES:
        return cause.phase
    return next((name for name, (done, most) in one.phases.items() if done < most), PHASES[-1])


def cells(one: Account) -> list[Cell]:
    """Return the cells of a downlink."""
    worst = {phase_of(cause, one): cause.verdict for cause in reversed(one.causes)}
    unknown = (0, int(one.state == UNKNOWN or bool(one.phases)))
    return [Cell(worst.get(name, Verdict.GOOD), *one.phases.get(name, unknown)) for name in PHASES]


def make(survey: Survey, downlinks: Iterable[DownlinkId], home: Path) -> Overview:
    """Draw up the accounts of downlinks, and write the board into a directory.

    Parameters
    ----------
    survey, downlinks
        The survey of the site, and the downlinks on the board.
    home
        The directory, which is made if necessary. Pages of downlinks and runs that are no longer on the board are
        removed.

    Returns
    -------
    Overview
        The accounts.

    Raises
    ------
    HalfPipeError
        If a page cannot be written.
    """
    settings = survey.settings
    begun = time.monotonic()
    of_site = {
        "work": str(survey.work),
        "simulated": settings.is_simulated,
        "now": survey.now,
        "turn": last_turn(survey.work),
        "contacts": settings.board.contacts,
    }
    pages: set[str] = set()
    handed_off: dict[str, Row] = {}
    parts: list[Row] = []

    def write(page: str, template: str, values: Mapping[str, object]) -> None:
        made = survey.now + time.monotonic() - begun
        write_bytes(home / page, render(template, {**of_site, "made": made, **values}), lasting=False)
        pages.add(page)

    def see(one: Account, facts: DownlinkFacts | None) -> None:
        if facts and facts.last and facts.damage is None:
            values = downlink_row(facts.last, facts.submitted)
            own = parts_of(facts)
            is_open = [row["state"] == "open" for row in own]
            handed_off[one.downlink] = {**columns.DOWNLINKS.row(values), "open": sum(is_open)}
            parts.extend(own)
        late = {"latency": handed_off.get(one.downlink, {}).get("latency")}
        write(paths.board_page(one.downlink), "downlink.html", _downlink(survey, one, facts) | late)

    found = overview(survey, downlinks, see=see)
    runs = run_pages(survey, found, parts)
    shown = {one.downlink for one in found.accounts}
    for run, page in runs.items():
        there = (handed_off[row["downlink"]] for row in page.rows if row["downlink"] in handed_off)
        simulated = of_site["simulated"] or any(row["simulated"] for row in there)
        of_run = {"page": page, "most": MOST_PICTURES, "shown": shown, "simulated": simulated}
        write(paths.board_run(run), "run.html", of_run)
    waits = [page.wait for page in runs.values() if page.wait]
    write(paths.BOARD_RUNS, "runs.html", {"waits": waits})
    # The cause shows what failed, and which process is at work.
    rows = [(one, re.sub(r"^(taken|failed) .*", r"\1", one.state), cells(one)) for one in found.accounts]
    days = timeline(found.accounts, handed_off)
    causes = Counter(("site", cause.code, cause.verdict) for cause in found.site)
    causes.update(("downlink", each.code, each.verdict) for one in found.accounts for each in one.causes)
    latencies = sorted(row["latency"] for row in handed_off.values() if row["latency"] is not None)
    numbers = {"accounts": found.accounts, "causes": causes, "latencies": latencies, "waits": waits}
    disks = {"free": free(settings), "stage": settings.paths.stage}
    write(paths.BOARD_METRICS, "metrics.prom", {**numbers, **disks})
    status = {
        "version": DOCUMENTS,
        "work": str(survey.work),
        "simulated": settings.is_simulated,
        "at": datetime.fromtimestamp(survey.now, UTC).isoformat(),
        "downlinks": found.accounts,
        "site": found.site,
    }
    content = json.dumps(status, default=lambda one: one.as_json(), indent=1) + "\n"
    write_bytes(home / paths.BOARD_STATUS, content.encode(), lasting=False)
    write(paths.BOARD_CODES, "codes.html", {})
    write(paths.BOARD_TRENDS, "trends.html", {"timeline": days})
    write(paths.BOARD, "board.html", {**_site(survey, found), "waits": waits, "rows": rows, "timeline": days})
    for of_any in (paths.board_page("[0-9]" * 9), paths.board_run("[0-9a-f]" * 8)):
        for path in home.glob(of_any):
            if path.name not in pages:
                remove_file(path)
    return found


def _site(survey: Survey, found: Overview) -> dict[str, object]:
    """Return what the page of the site shows in addition to downlinks."""
    headline = found.headline(survey)
    turn = last_turn(survey.work)
    texts = {
        "disk": " and ".join(f"{left / 1e9:,.0f} GB free" for left, _ in free(survey.settings).values()),
        "mounts": "there",
        "ledger": "answers" if survey.settings.ledger.url else "none",
        "timer": "none" if turn is None else "last turn not good" if turn.status else "last turn good",
    }
    of_disks = [cause for one in found.accounts for cause in one.causes if cause.code == DISK_FULL]
    return {
        "headline": headline[0].upper() + headline[1:],
        "needs_action": found.needs_action,
        "site": found.site,
        "downlinks": len(found.accounts),
        "last_retdef": survey.last_retdef,
        "lights": [(name, light(name, [*found.site, *of_disks]), texts[name]) for name in LIGHTS],
    }


def _downlink(survey: Survey, one: Account, facts: DownlinkFacts | None) -> dict[str, object]:
    """Return the content of the page of a downlink. The account reports what cannot be read."""
    failed = failed_jobs(survey.work, one.downlink) if any(cause.failed for cause in one.causes) else ()
    made = facts.hand_offs if facts else ()
    last = made[-1] if made and facts and facts.damage is None else None
    stream = survey.settings.board.stream
    return {
        "one": one,
        "stream": stream.replace("{dl}", one.downlink) if stream else None,
        "simulated": survey.settings.is_simulated or (last is not None and last.receipt.simulated),
        "last": last,
        "chunk_row": chunk_row,
        "handoffs": made,
        "attempts": facts.attempts.every if facts and facts.attempts else (),
        "logs": [(job.log, end_of(job.log)) for job in failed],
    }


class Day(NamedTuple):
    """Downlinks of a day, by the date in their ids, in order."""

    date: date
    downlinks: Sequence[Account]


class Point(NamedTuple):
    """A value at the hand-off of a downlink; `day` is its place on the axis, in days from the first."""

    downlink: DownlinkId
    day: float
    value: float


class Trend(NamedTuple):
    """A quantity: its name, its points, the ticks of its axis, and what it should not exceed (0: no goal)."""

    name: str
    points: Sequence[Point]
    ticks: Sequence[int]
    goal: float

    def height(self, value: float) -> float:
        """Return the place of a value on the axis, from 0 to 1."""
        if self.name in LOGARITHMIC:
            return log1p(value) / log1p(self.ticks[-1])
        return value / self.ticks[-1]


# The quantities of the time axis: the name, the key of a hand-off, its unit in that of the key, and the goal.
QUANTITIES = (
    ("latency, hours", "latency", 3600, GOAL_HOURS),
    ("waiting events", "waiting", 1, 0.0),
    ("open runs", "open", 1, 0.0),
)
LOGARITHMIC = {"waiting events"}  # because they range from tens to millions


class Timeline(NamedTuple):
    """Consecutive days, the most downlinks of a day, and the trends of `QUANTITIES`."""

    days: Sequence[Day]
    downlinks: int
    trends: Sequence[Trend]


def timeline(accounts: Sequence[Account], handed_off: Mapping[str, Row]) -> Timeline:
    """Return the days from the first downlink to the last, at most `MOST_DAYS`, including days without downlinks.

    Parameters
    ----------
    accounts
        The downlinks. Ids without a date are left out.
    handed_off
        The keys of `QUANTITIES` for the downlinks that were handed off; None if a value is not known.
    """
    by_date: dict[date, list[Account]] = {}
    for one in sorted(accounts, key=lambda account: account.downlink):
        with suppress(ValueError):
            by_date.setdefault(date.fromisoformat(f"20{one.downlink[:6]}"), []).append(one)
    last = max(by_date, default=date.max)
    first = max(min(by_date, default=last), last - timedelta(days=MOST_DAYS - 1))
    dates = [first + timedelta(days=number) for number in range((last - first).days + 1)] if by_date else []
    days = [Day(each, by_date.get(each, ())) for each in dates]
    places = {
        one.downlink: number + (place + 0.5) / len(day.downlinks)
        for number, day in enumerate(days)
        for place, one in enumerate(day.downlinks)
        if one.downlink in handed_off
    }
    trends = []
    for name, key, unit, goal in QUANTITIES:
        known = {dl: handed_off[dl][key] for dl in places if handed_off[dl][key] is not None}
        points = [Point(dl, places[dl], value / unit) for dl, value in known.items()]
        most = max([1.0, 1.5 * goal, *(point.value for point in points)])
        trends.append(Trend(name, points, ticks(most, powers=name in LOGARITHMIC), goal))
    return Timeline(days, max((len(day.downlinks) for day in days), default=0), trends)


def ticks(most: float, *, powers: bool = False) -> list[int]:
    """Return the ticks of an axis from 0 to at least `most`: even ones, at most six; or every second power of ten."""
    if powers:
        return [0, *(100**power for power in range(1, ceil(log10(most) / 2) + 1))] if most > 1 else [0, 1]
    steps = (digit * 10**power for power in count() for digit in (1, 2, 5))
    step = next(each for each in steps if 4 * each >= most)
    return [step * number for number in range(ceil(most / step) + 1)]


@dataclass
class RunPage:
    """The page of one run.

    Attributes
    ----------
    run
        The run.
    rows
        Rows of the frame `halfpipe.tables.columns.RUNS`, one for each downlink that is handed off.
    standing
        Its books now; None if they are counted at no downlink on the board.
    urgent
        Whether a downlink of it needs action.
    wait
        Its row of `halfpipe.tables.columns.WAITING`; None if the run is complete or damaged.
    picture, problem
        Its picture, or why it cannot be drawn; neither if it is not drawn.
    """

    run: RunId
    rows: Sequence[Row]
    standing: Standing | None
    urgent: bool
    wait: Row | None = None
    picture: Picture | None = None
    problem: str = ""

    @property
    def may_wait(self) -> bool:
        """Whether it was open at a hand-off, or events wait now, or it is not known whether they do."""
        now = self.standing
        waits = now is not None and (now.books is None or bool(now.books.all_waiting))
        return waits or any(row["state"] != "complete" for row in self.rows)

    @property
    def state(self) -> str:
        """Its state in a word: of now, or of the hand-offs if it waits for nothing or is damaged."""
        of_rows = {str(row["state"]) for row in self.rows} or {"unknown"}
        return self.wait["state"] if self.wait else "complete" if "complete" in of_rows else min(of_rows)


def run_pages(survey: Survey, found: Overview, parts: list[Row]) -> dict[RunId, RunPage]:
    """Return the pages of the open runs and of the runs of the downlinks on the board, in order.

    `parts` are the rows of `halfpipe.tables.columns.RUNS` for the downlinks on the board.
    """
    shown = {one.downlink for one in found.accounts}
    in_need = {one.downlink for one in found.needing_action}
    books = {run: standing for one in found.accounts for run, standing in one.books.items()}
    runs = sorted({*books, *(RunId(row["run"]) for row in parts)})
    for other in {downlink for run in runs for downlink in begun_downlinks(survey.work, run)} - shown:
        with suppress(HalfPipeError, OSError):
            parts = parts + parts_of(read_facts(survey, other))
    rows = grouped((row["run"], row) for row in sorted(parts, key=itemgetter("downlink")))
    urgent = {row["run"] for row in parts if row["downlink"] in in_need}
    urgent |= {run for one in found.needing_action for run in one.books}
    pages = {run: RunPage(run, rows.get(run, []), books.get(run), run in urgent) for run in runs}
    may_wait = [run for run, page in pages.items() if page.may_wait]
    # The accounts of its downlinks report a damaged run.
    for row in map(columns.WAITING.row, waiting_runs(survey, may_wait, {})):
        pages[row["run"]].wait = row
    for page in [page for page in pages.values() if page.urgent or page.state != "complete"][-MOST_PICTURES:]:
        try:
            page.picture = picture(survey, page.run)
        except HalfPipeError as error:
            page.problem = str(error)
    return pages


def parts_of(facts: DownlinkFacts) -> list[Row]:
    """Return the rows of `halfpipe.tables.columns.RUNS` of a downlink that is handed off."""
    made = run_rows(facts.last, facts.submitted) if facts.last and facts.damage is None else ()
    return [*map(columns.RUNS.row, made)]
