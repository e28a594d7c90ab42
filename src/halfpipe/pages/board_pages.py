"""The pages: one of the site, and one of each downlink on it. A page is a file of its own and asks for no other.

Each is written beside its place and renamed, the page of the site last, so that whoever looks sees whole pages. That
of a downlink is left as it is while nothing on it changes but the time.
"""

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader

from halfpipe import paths
from halfpipe.causes import Verdict
from halfpipe.decode.shortfall import missing_hours, sentences
from halfpipe.downlink.receipt import state_of
from halfpipe.downlink.submissions import Record
from halfpipe.errors import HalfPipeError, MissingInputError
from halfpipe.files.durable import remove_file, write_bytes
from halfpipe.files.reading import modified
from halfpipe.ids import DownlinkId
from halfpipe.pages import board_drawings, board_pictures
from halfpipe.pages.board_figures import (
    MEASURES,
    USUAL_DAYS,
    Figures,
    Odd,
    by_day,
    figures,
    odd,
    shown,
    usual,
)
from halfpipe.pages.board_level0 import Hour, hours
from halfpipe.run.receipt_file import HandOff, ReceiptError, hand_offs, read_receipt
from halfpipe.settings import Settings
from halfpipe.status.account import Account, Site
from halfpipe.status.failures import end_of, failed_jobs
from halfpipe.status.overview import Overview, known
from halfpipe.status.site_causes import last_turn, youngest_retdef
from halfpipe.tables.latency import Latency, latencies
from halfpipe.words import count

DAY = 86400.0
LEVEL0_DAYS = 8.0  # downlinks that were handed off before brought no hour of the last week
MOST_PICTURES = 12  # small ones on the page of the site
SIGNS = {Verdict.ACTION: "✗", Verdict.NOTE: "!", Verdict.GOOD: ""}
# What a remedy may be, so that a click copies it; words may stand before it.
COMMAND = re.compile(r"((?:.*: )?)((?:snakemake|halfpipe|mkdir|rm|touch|ls|kill) .*)", re.DOTALL)
MADE = re.compile(rb'<time id="made" datetime="[^"]*">[^<]*</time>')


@dataclass(frozen=True)
class Row:
    """A downlink on the page of the site: its account, its times, and which of its figures are odd."""

    account: Account
    latency: Latency | None
    figures: Figures
    odd: Mapping[str, Odd]

    @property
    def state(self) -> str:
        """How far it is, in two words: what it failed at, and who is at work, stands elsewhere."""
        said = self.account.state
        return next((short for short in ("taken", "failed", "in work") if said.startswith(short)), said)


@dataclass(frozen=True)
class Known:
    """What is read of a downlink for the comparison with others: when it was handed off, figures, what waits."""

    handed_off: float
    figures: Figures
    latency: Latency | None
    waiting: int


def make(site: Site, found: Overview, home: Path, new_pictures: int = 0) -> int:
    """Write the board into a directory, and return how many pages were written.

    Parameters
    ----------
    site, found
        What was looked at, and the accounts of the downlinks that the board has.
    home
        The directory; it is made. Pages and pictures of downlinks that the board has no more are removed.
    new_pictures
        How many downlinks that have no picture are drawn.

    Raises
    ------
    HalfPipeError
        If a page cannot be written.
    """
    settings, now = site.settings, site.now
    board_pictures.draw(site, [account.downlink for account in found.accounts], home, new_pictures)
    every = {downlink: one for downlink in _compared(site, found) if (one := _known(settings, downlink))}
    recent = [one for one in every.values() if one.handed_off >= now - USUAL_DAYS * DAY]
    medians = usual([one.figures for one in recent])
    rows = [_row(account, every.get(account.downlink), medians) for account in found.accounts]
    pages, week = Templates(settings.paths.work, now), list[Hour]()
    written = 0
    for row in rows:
        receipt = _receipt(settings, row.account.downlink)
        if (row.account.handed_off or 0.0) >= now - LEVEL0_DAYS * DAY:
            week += hours(settings.paths.work, row.account.downlink, receipt.get("chunks", ()))
        page = pages.page("downlink.html", _downlink(settings, row, receipt, medians, home))
        written += _replace(home / paths.board_page(row.account.downlink), page)
    _remove_others(home, {paths.board_page(row.account.downlink) for row in rows})
    _replace(
        home / paths.board(), pages.page("board.html", _site(site, found, rows, recent, medians, week, home))
    )
    return written + 1


def _compared(site: Site, found: Overview) -> list[DownlinkId]:
    """Return the downlinks that the board has, and those whose figures say what is usual."""
    shown_ones = {account.downlink for account in found.accounts}
    work, oldest = site.settings.paths.work, site.now - USUAL_DAYS * DAY
    others = (dl for dl in known(site) if (modified(f"{work}/{paths.receipt(dl)}") or 0.0) >= oldest)
    return sorted(shown_ones.union(others))


def _known(settings: Settings, downlink: DownlinkId) -> Known | None:
    """Read a downlink that was handed off; None if it was not, or its receipt cannot be believed."""
    receipt = _receipt(settings, downlink)
    times = latencies(settings, downlink)
    first = times[0] if times else None
    handed_off = modified(f"{settings.paths.work}/{paths.receipt(downlink)}")
    if not receipt or handed_off is None:
        return None
    if first is not None and first.handed_off is not None:
        handed_off = first.handed_off
    latest = times[-1] if times else None
    waiting = sum(run["orphans"] for run in receipt["runs"])
    return Known(handed_off, figures(receipt, first), latest, waiting)


def _receipt(settings: Settings, downlink: DownlinkId) -> Mapping[str, Any]:
    """Return a receipt; nothing if there is none, or none that can be believed: its account says so."""
    try:
        return read_receipt(settings.paths.work, downlink)
    except (MissingInputError, ReceiptError):
        return {}


def _row(account: Account, known_of: Known | None, medians: Figures) -> Row:
    own = known_of.figures if known_of else {}
    strays = {name: each for name in own for each in odd({name: own[name]}, medians)}
    return Row(account, known_of.latency if known_of else None, own, strays)


def _site(
    site: Site,
    found: Overview,
    rows: Sequence[Row],
    recent: Sequence[Known],
    medians: Figures,
    week: Sequence[Hour],
    home: Path,
) -> dict[str, Any]:
    """Return what the template of the site's page shows."""
    days = by_day((one.handed_off, one.figures.get("latency"), one.waiting) for one in recent)
    last = youngest_retdef(site.settings.paths.retdef, site.now)
    return {
        "rows": rows,
        "wanting": len(found.wanting),
        "headline": _headline(found),
        "needs_action": found.needs_action,
        "site": found.site,
        "last_retdef": last[0] if last else None,
        "turn": last_turn(site.settings.paths.work),
        "days": days,
        "latency": board_drawings.latency(days),
        "waiting": board_drawings.waiting(days),
        "level0": board_drawings.level0(week),
        "missing": sum(each.found is False for each in week),
        "compared_page": paths.board_compared() if (home / paths.board_compared()).exists() else None,
        "usual": [(measure, medians.get(name)) for name, measure in MEASURES.items()],
        "compared": len(recent),
        "strays": [row for row in rows if row.odd],
        "pictures": [(row.account, picture) for row in rows for picture in _pictures(home, row)][
            :MOST_PICTURES
        ],
    }


def _headline(found: Overview) -> str:
    wanting = len(found.wanting)
    of_site = sum(cause.verdict is Verdict.ACTION for cause in found.site)
    parts = [f"{count(wanting, 'downlink')} {'needs' if wanting == 1 else 'need'} action"] if wanting else []
    parts += [f"the site needs action: {count(of_site, 'trouble')}"] if of_site else []
    return " · ".join(parts) or ("Nothing needs action" if found.accounts else "No downlinks found")


def _downlink(
    settings: Settings,
    row: Row,
    receipt: Mapping[str, Any],
    medians: Figures,
    home: Path,
) -> dict[str, Any]:
    """Return what the template of a downlink's page shows."""
    work, downlink = settings.paths.work, row.account.downlink
    return {
        "row": row,
        "runs": receipt.get("runs", ()),
        "chunks": [
            {
                "chunk": chunk,
                "events": sum(file.get("events", 0) for file in chunk["files"]),
                "apids": sorted({file["apid"] for file in chunk["files"]}),
                "exceptions": sum(chunk["said"]["exceptions"].values()),
                "missing": len(missing_hours(chunk)),
                "short": list(sentences(chunk)),
            }
            for chunk in receipt.get("chunks", ())
        ],
        "ignored": receipt.get("ignored", ()),
        "compared": [
            (measure, row.figures.get(name), medians.get(name)) for name, measure in MEASURES.items()
        ],
        "steps": list(_steps(row.latency)),
        "handoffs": _handoffs(work, downlink),
        "attempts": _attempts(work, downlink),
        "logs": [(job.log, end_of(job.log)) for job in failed_jobs(work, downlink)]
        if any(cause.failed for cause in row.account.causes)
        else (),
        "pictures": list(_pictures(home, row)),
    }


def _steps(latency: Latency | None) -> Iterator[tuple[str, float, float | None]]:
    """Yield the steps of a hand-off whose times are known: in words, when, and the seconds since the one before."""
    named = (
        ("last_event", "last event"),
        ("retdef", "youngest RetDef came"),
        ("start", "first chunk was begun"),
    )
    more = (
        ("decoded", "last chunk was decoded"),
        ("handed_off", "handed off"),
        ("submitted", "submitted to Level-1"),
    )
    before: float | None = None
    for name, words in (*named, *more):
        at = getattr(latency, name, None)
        if at is not None:
            yield words, at, None if before is None else at - before
            before = at


def _handoffs(work: Path, downlink: DownlinkId) -> Sequence[HandOff]:
    with suppress(HalfPipeError):  # a damaged list is a cause
        return hand_offs(work, downlink)
    return ()


def _attempts(work: Path, downlink: DownlinkId) -> Sequence[Any]:
    with suppress(HalfPipeError):
        return Record(work, downlink).attempts
    return ()


def _pictures(home: Path, row: Row) -> Iterator[str]:
    """Yield the pictures of a downlink that lie in the board's directory, relative to it."""
    name = paths.board_picture(row.account.downlink)
    if (home / name).exists():
        yield name


def _replace(path: Path, content: bytes) -> bool:
    """Write a page, unless it is there and only the time is another; tell whether it was written."""
    with suppress(OSError):
        if MADE.sub(b"", path.read_bytes()) == MADE.sub(b"", content) and path.name != paths.board():
            return False
    write_bytes(path, content, lasting=False)
    return True


def _remove_others(home: Path, pages: set[str]) -> None:
    for path in home.glob(paths.board_page("*")):
        if DownlinkId.matches(path.stem) and path.name not in pages:
            remove_file(path)


class Templates:
    """The templates of the package, with what they share: words for times, and which script and style are allowed."""

    def __init__(self, work: Path, now: float) -> None:
        self._environment = Environment(
            loader=PackageLoader("halfpipe.pages"),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {
            "iso": _iso,
            "when": _when,
            "brief": _brief,
            "span": _span,
            "grouped": _grouped,
            "remedy": remedy,
            "below": lambda text: text.replace(f"{work}/", ""),
        }
        source = {name: self._environment.get_template(name).render() for name in ("board.css", "board.js")}
        self._environment.globals |= {
            "now": now,
            "work": work,
            "SIGNS": SIGNS,
            "USUAL_DAYS": USUAL_DAYS,
            "state_of": state_of,
            "policy": _policy(source),
            "index": paths.board(),
            "page_of": paths.board_page,
            "measured": shown,
        }

    def page(self, template: str, values: Mapping[str, Any]) -> bytes:
        """Return a page by the name of its template."""
        return self._environment.get_template(template).render(values).encode()


def _policy(source: Mapping[str, str]) -> str:
    """Return the policy by which a browser runs our script and style alone, and asks nobody for anything."""
    style, script = (
        f"'sha256-{base64.b64encode(hashlib.sha256(source[name].encode()).digest()).decode()}'"
        for name in ("board.css", "board.js")
    )
    return f"default-src 'none'; style-src {style}; script-src {script}; img-src 'self' file: data:"


def _grouped(value: object) -> str:
    """Return a number as ``2,412,077``; nothing for what is not known."""
    return f"{value:,}" if isinstance(value, int) else ""


def _iso(unix: float) -> str:
    return f"{datetime.fromtimestamp(unix, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _when(unix: float) -> str:
    return f"{datetime.fromtimestamp(unix, UTC):%Y-%m-%d %H:%M} UTC"


def _brief(unix: float) -> str:
    return f"{datetime.fromtimestamp(unix, UTC):%m-%d %H:%M}"


def remedy(do: str) -> tuple[str, str]:
    """Return what to do as words, and the command behind them; either may be empty."""
    found = COMMAND.fullmatch(do)
    return (found[1], found[2]) if found else (do, "")


def _span(seconds: float) -> str:
    """Return a time for people: ``40 s``, ``14 min``, ``5.2 h``, ``9.1 d``."""
    for unit, size, below in (("s", 1.0, 120.0), ("min", 60.0, 7200.0), ("h", 3600.0, 172800.0)):
        if abs(seconds) < below:
            return f"{seconds / size:,.{int(unit == 'h')}f} {unit}"
    return f"{seconds / DAY:,.1f} d"
