"""The pages: one of the site, one of its open runs, and one of each downlink on it.

A page is a file of its own and asks for no other. Each is written beside its place and renamed, the page of the site
last, so that whoever looks sees whole pages. Others are left as they are while nothing on them changes but the time.

The figures of downlinks are a frame; a column is a series: a measure, of an EPU if it has the APID behind it, as in
``rate 956``. The matrix has a row a downlink, or many with equal notes, and a cell a phase.
"""

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import pairwise
from math import inf, isnan, nan
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.decode.shortfall import missing_hours, sentences
from halfpipe.downlink.receipt import state_of
from halfpipe.downlink.submissions import Record
from halfpipe.errors import HalfPipeError
from halfpipe.files.durable import remove_file, write_bytes
from halfpipe.files.json_files import read_json
from halfpipe.files.reading import modified
from halfpipe.ids import DownlinkId, RunId, RunKind
from halfpipe.pages.pictures import downlink_picture, duration
from halfpipe.run.downlinks_of_run import waiting_now
from halfpipe.run.receipt_file import hand_offs, read_receipt
from halfpipe.settings import Settings
from halfpipe.status import acknowledged
from halfpipe.status.account import PHASES, Account, Site
from halfpipe.status.failures import end_of, failed_jobs
from halfpipe.status.overview import Overview, known
from halfpipe.status.site_causes import LIGHTS, free, last_turn, light, youngest_retdef
from halfpipe.tables.incomplete_runs import waiting
from halfpipe.tables.latency import Latency, latencies
from halfpipe.words import count

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


def compared(own: Mapping[str, float], medians: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return the figures of a downlink that are known: ``name``, ``here`` and ``median`` in words.

    And whether each is ``unusual``, beyond a limit; without a median none is.
    """
    found = []
    for series, median in medians.items():
        if not isnan(value := own.get(series, nan)):
            of = MEASURES[kind(series)]
            low, high = of.limits(median)
            words = {"name": called(series), "here": of.shown(value), "median": of.shown(median)}
            found.append(words | {"unusual": value > high or value < low})
    return found


def trends(frame: pd.DataFrame, medians: Mapping[str, float]) -> Iterator[dict[str, Any]]:
    """Yield the trends of a frame in the order of `MEASURES`, EPU by EPU: the median of each day's hand-offs, UTC.

    Each has its ``name``, the ``last`` day, the ``median`` and the ``limits`` in words; and how it is drawn, `WIDTH` by
    `HEIGHT` pixels with zero at the foot: the points of a ``line``, the heights of its limits (``dashes``), and the
    days that are beyond them (``dots``).
    """
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
            yield {
                "name": called(series),
                "last": of.shown(known[-1][1]),
                "median": of.shown(medians[series]),
                "limits": " or ".join(said),
                "line": [(x + way, y(v)) for x, v in known for way in ((0,) if len(known) > 1 else (-2, 2))],
                "dashes": [y(limit) for limit in limits if limit > 0],
                "dots": [(x, y(value)) for x, value in known if value > high or value < low],
            }


SIGNS = {Verdict.ACTION: "✗", Verdict.NOTE: "!", Verdict.GOOD: ""}
OF_RULE = {
    "decode_chunk": "decoded",
    "deliver_run": "staged",
    "receipt": "staged",
    "ledger": "ledger",
    "submit": "submitted",
}
# How the codes of a phase's causes begin. All others are of the first phase that is not done.
OF_CODE: Mapping[str, tuple[str, ...]] = {
    "RetDefs": ("retdef", "waits-retdef", "settling", "search-path"),
    "level-0": ("level0",),
    "decoded": ("events-missing", "decoder", "chunks-"),
    "staged": (
        *("run-", "merged-", "late-events", "no-attitude", "shrunk-", "closed-", "stage-", "file-"),
        *("datagrams-", "delivery-", "deliveries-", "receipt-", "record-", "manifest-", "events-unaccounted"),
    ),
    "ledger": ("ledger",),
    "submitted": ("submission", "not-submitted", "handoff-not", "written-for"),
    "taken": ("not-taken", "token-"),
}


@dataclass(frozen=True)
class Cell:
    """How far a phase is: `done` of `most`, of no downlink if that is 0; and its worst verdict."""

    verdict: Verdict
    done: int
    most: int

    def __str__(self) -> str:
        """Say it with a sign: a colour alone tells not everybody."""
        part = f"{self.done}/{self.most}" if 0 < self.done < self.most else ""
        plain = "–" if not self.most else "·" if not self.done else "✓"
        return f"{SIGNS[self.verdict]} {part}".strip() or plain


def phase_of(cause: Cause, one: Account) -> str:
    """Return the phase that a cause of an account is of."""
    rule, _, _ = cause.failed.partition(" ")
    if rule in OF_RULE:
        return OF_RULE[rule]
    undone = next((name for name, (done, most) in one.phases.items() if done < most), PHASES[-1])
    return next((name for name, codes in OF_CODE.items() if cause.code.startswith(codes)), undone)


def cells(one: Account) -> list[Cell]:
    """Return the cells of a downlink."""
    worst = {phase_of(cause, one): cause.verdict for cause in reversed(one.causes)}
    return [Cell(worst.get(name, Verdict.GOOD), *one.phases.get(name, (0, 0))) for name in PHASES]


@dataclass(frozen=True)
class Row:
    """A row: one downlink, or all with the same notes; then a cell has how many are done, of those with the phase."""

    accounts: Sequence[Account]

    @property
    def first(self) -> Account:
        """The newest one, whose cause stands there for all."""
        return self.accounts[0]

    @property
    def state(self) -> str:
        """How far it is, or they are, if that is the same: what failed, and who is at work, stands elsewhere."""
        states = {one.state for one in self.accounts}
        words = ("taken", "failed", "in work")
        return next((w for w in words if self.first.state.startswith(w)), self.first.state) * (
            len(states) == 1
        )

    @property
    def cells(self) -> list[Cell]:
        """Its cells."""
        if len(self.accounts) == 1:
            return cells(self.first)
        several = zip(*(cells(one) for one in self.accounts), strict=True)
        return [
            Cell(
                Verdict.NOTE if any(one.verdict is Verdict.NOTE for one in column) else Verdict.GOOD,
                sum(0 < one.most == one.done for one in column),
                sum(one.most > 0 for one in column),
            )
            for column in several
        ]


def rows(accounts: Sequence[Account]) -> list[Row]:
    """Return the rows of accounts, in their order: those with notes of the same codes and nothing worse are one."""
    found: dict[DownlinkId | tuple[str, ...], list[Account]] = {}
    for one in accounts:
        codes = tuple(sorted({cause.code for cause in one.causes}))
        on_it = {cause.on_it for cause in one.causes} - {""}
        alike = one.verdict is Verdict.NOTE and not on_it
        found.setdefault(codes if alike else one.downlink, []).append(one)
    return [Row(several) for several in found.values()]


def alike(causes: Sequence[Cause]) -> list[Sequence[Cause]]:
    """Part the causes of a downlink: notes of one code are together."""
    found: dict[object, list[Cause]] = {}
    for cause in causes:
        found.setdefault(cause.code if cause.verdict is Verdict.NOTE else cause, []).append(cause)
    return list(found.values())


DAY = 86400.0
MOST_STRAYS = 50  # downlinks whose figures are unusual, on the page of the site
MADE = re.compile(rb'<time id="made" datetime="[^"]*">[^<]*</time>')


def make(site: Site, found: Overview, home: Path, new_pictures: int = 0) -> int:
    """Write the board into a directory, and return how many pages were written.

    Parameters
    ----------
    site, found
        What was looked at, and the accounts of the downlinks that the board has.
    home
        The directory; it is made. Pages and pictures of downlinks that the board has no more are removed.
    new_pictures
        How many downlinks that have no picture are drawn, each in about a second; the next time goes on.

    Raises
    ------
    HalfPipeError
        If a page cannot be written.
    """
    settings, now = site.settings, site.now
    accounts = {account.downlink: account for account in found.accounts}
    _draw(site, list(accounts), home, new_pictures)
    frame, runs = _figures(site, list(accounts))
    recent = frame[frame["when"] >= now - USUAL_DAYS * DAY]
    medians = {str(name): value for name, value in usual(recent).items()}
    every, strays, written = frame.to_dict("index"), list[tuple[DownlinkId, list[dict[str, Any]]]](), 0
    for downlink, account in accounts.items():
        own = every.get(downlink, {})
        beside = compared(own, medians)
        values = {
            "one": account,
            "figures": beside,
            "times": {words: own[name] for name, words in STEPS.items() if own and not isnan(own[name])},
            "picture": picture if (home / (picture := paths.board_picture(downlink))).exists() else None,
            **_downlink(settings, account),
        }
        if far := [each for each in beside if each["unusual"]]:
            strays.append((downlink, far))
        written += _replace(home / paths.board_page(downlink), page("downlink.html", settings, now, values))
    for path in (*home.glob(paths.board_page("*")), *home.glob(paths.board_picture("*"))):
        if DownlinkId.matches(path.stem) and path.stem not in accounts:
            remove_file(path)
    waits = list(_open_runs(site, runs))
    written += _replace(home / paths.board_runs(), page("runs.html", settings, now, {"runs": waits}))
    values = _site(site, found) | {
        "rows": rows(found.accounts),
        "downlinks": len(accounts),
        "open_runs": len(waits),
        "compared": len(recent),
        "trends": list(trends(recent, medians)) if len(recent) else [],
        "strays": strays[:MOST_STRAYS],
        "all_strays": len(strays),
    }
    _replace(home / paths.board(), page("board.html", settings, now, values))
    return written + 1


def _draw(site: Site, shown: Sequence[DownlinkId], home: Path, most: int) -> None:
    """Draw downlinks that were handed off and have no picture of this hand-off, some of them."""
    for downlink in shown:
        picture = home / paths.board_picture(downlink)
        made, handed_off = modified(str(picture)), modified(f"{site.work}/{paths.receipt(downlink)}")
        if made is not None and (handed_off is None or made < handed_off):
            remove_file(picture)
            made = None
        if made is None and handed_off is not None and most > 0:
            most -= 1
            with suppress(HalfPipeError):  # one that cannot be drawn is not there: its causes say why
                write_bytes(picture, downlink_picture(site, downlink), lasting=False)


def _figures(site: Site, shown: Sequence[DownlinkId]) -> tuple[pd.DataFrame, Counter[RunId]]:
    """Return the figures of downlinks that were handed off, of those shown and of those that say what is usual.

    And the runs that were not complete when one of them was handed off, with the events that wait now.
    """
    work, oldest = site.settings.paths.work, site.now - USUAL_DAYS * DAY
    found, runs = dict[DownlinkId, dict[str, float]](), Counter[RunId]()
    for downlink in sorted({*shown, *known(site)}):
        at = modified(f"{work}/{paths.receipt(downlink)}") or 0.0
        if at and (at >= oldest or downlink in shown) and (receipt := _receipt(work, downlink)):
            missing = missing_datagrams(work, downlink, receipt)
            found[downlink] = figures(receipt, missing, at, latencies(site.settings, downlink))
            for run in receipt["runs"]:
                if not run["complete"]:
                    runs[RunId(run["run"])] += waiting_now(work, downlink, run)
    frame = pd.DataFrame.from_dict(found, orient="index").astype(float)
    return (frame if len(frame) else pd.DataFrame(columns=["when"], dtype=float)), runs


def _open_runs(site: Site, runs: Mapping[RunId, int]) -> Iterator[Mapping[str, Any]]:
    """Yield what is known of runs that are not complete, the oldest first, and who is on them."""
    said = acknowledged.read(site.work, site.now)
    for run in sorted(runs):
        with suppress(HalfPipeError):  # of one that is damaged its downlinks tell
            for one in waiting(site.settings, [run], -inf, site.now).to_dict("records"):
                yield {
                    **one,
                    "waiting": runs[run],
                    "on_it": "; ".join(str(each) for each in said if each.what == run),
                }


def _readable(read: Callable[[], Any]) -> Any:
    """Return what is read, nothing if it is damaged: the account says what is wrong."""
    try:
        return read()
    except HalfPipeError:
        return ()


def _receipt(work: Path, downlink: DownlinkId) -> Mapping[str, Any]:
    return _readable(lambda: read_receipt(work, downlink)) or {}


def _site(site: Site, found: Overview) -> dict[str, Any]:
    """Return what the page of the site shows besides downlinks."""
    wanting, of_site = len(found.wanting), sum(cause.verdict is Verdict.ACTION for cause in found.site)
    parts = [f"{count(wanting, 'downlink')} {'needs' if wanting == 1 else 'need'} action"] if wanting else []
    parts += [f"the site needs action: {count(of_site, 'trouble')}"] if of_site else []
    good = "Nothing needs action" if found.accounts else "No downlinks found"
    last, turn = youngest_retdef(site.settings.paths.retdef, site.now), last_turn(site.work)
    says = {
        "disk": " and ".join(f"{left / 1e9:,.0f} GB free" for left, _ in free(site.settings).values()),
        "mounts": "there",
        "ledger": "answers" if site.settings.ledger.url else "none",
        "timer": f"{'not ' * bool(turn.get('status'))}good, last turn" if turn else "no turn yet",
    }
    return {
        "headline": " · ".join(parts) or good,
        "needs_action": found.needs_action,
        "site": found.site,
        "last_retdef": last[0] if last else None,
        "turn": turn,
        "lights": [(name, light(name, found.site), says[name]) for name in LIGHTS],
    }


def _downlink(settings: Settings, account: Account) -> dict[str, Any]:
    """Return what the page of a downlink shows besides its row."""
    work, downlink = settings.paths.work, account.downlink
    receipt = _receipt(work, downlink)
    failed = failed_jobs(work, downlink) if any(cause.failed for cause in account.causes) else ()
    return {
        "causes": alike(account.causes),
        "simulated": settings.is_simulated or bool(receipt.get("simulated")),
        "receipt": receipt,
        "handoffs": _readable(lambda: hand_offs(work, downlink)),
        "attempts": _readable(lambda: Record(work, downlink).attempts),
        "logs": [(job.log, end_of(job.log)) for job in failed],
    }


def _replace(path: Path, content: bytes) -> bool:
    """Write a page, unless it is there and only the time is another; tell whether it was written."""
    with suppress(OSError):
        if MADE.sub(b"", path.read_bytes()) == MADE.sub(b"", content) and path.name != paths.board():
            return False
    write_bytes(path, content, lasting=False)
    return True


def page(template: str, settings: Settings, now: float, values: Mapping[str, Any]) -> bytes:
    """Return a page of a site, made `now` (Unix seconds), by the name of its template."""
    of_site = {"work": str(settings.paths.work), "simulated": settings.is_simulated, "now": now}
    return _environment().get_template(template).render({**of_site, **values}).encode()


@cache
def _environment() -> Environment:
    """Return the templates of the package, with what they share."""
    made = Environment(
        loader=PackageLoader("halfpipe.pages"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    made.filters |= {"utc": _utc, "duration": duration, "grouped": _grouped}
    made.globals |= {
        "SIGNS": SIGNS,
        "PHASES": PHASES,
        "WIDTH": WIDTH,
        "HEIGHT": HEIGHT,
        "USUAL_DAYS": USUAL_DAYS,
        "state_of": state_of,
        "missing_hours": missing_hours,
        "lacks": sentences,
        "index": paths.board(),
        "page_of": paths.board_page,
        "runs_page": paths.board_runs(),
    }
    # A browser runs our script and style alone, and asks nobody for anything.
    style, script = (
        base64.b64encode(hashlib.sha256(made.get_template(name).render().encode()).digest()).decode()
        for name in ("board.css", "board.js")
    )
    made.globals["policy"] = (
        f"default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; img-src 'self' file: data:"
    )
    return made


def _grouped(value: float) -> str:
    """Return a number as ``2,412,077``; nothing for NaN."""
    return "" if isnan(value) else f"{value:,.0f}"


def _utc(unix: float, form: str = "%Y-%m-%d %H:%M UTC") -> str:
    return "" if isnan(unix) else f"{datetime.fromtimestamp(unix, UTC):{form}}"
