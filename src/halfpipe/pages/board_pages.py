"""The pages: one of the site, and one of each downlink on it. A page is a file of its own and asks for no other.

Each is written beside its place and renamed, the page of the site last, so that whoever looks sees whole pages. That
of a downlink is left as it is while nothing on it changes but the time.
"""

import base64
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from math import isnan
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader

from halfpipe import paths
from halfpipe.causes import Verdict
from halfpipe.decode.shortfall import missing_hours, sentences
from halfpipe.downlink.receipt import state_of
from halfpipe.downlink.submissions import Record
from halfpipe.errors import HalfPipeError
from halfpipe.files.durable import remove_file, write_bytes
from halfpipe.files.reading import modified
from halfpipe.ids import DownlinkId
from halfpipe.pages import downlink_picture
from halfpipe.pages.board_figures import (
    COLUMNS,
    MEASURES,
    STEPS,
    USUAL_DAYS,
    by_day,
    compared,
    figures,
    unusual,
    usual,
)
from halfpipe.pages.drawn import duration
from halfpipe.run.receipt_file import hand_offs, read_receipt
from halfpipe.settings import Settings
from halfpipe.status.account import Account, Site
from halfpipe.status.failures import end_of, failed_jobs
from halfpipe.status.overview import Overview, known
from halfpipe.status.site_causes import last_turn, youngest_retdef
from halfpipe.tables.latency import latencies
from halfpipe.words import count

DAY = 86400.0
MOST_DAYS = 30  # on the page of the site
MOST_PICTURES = 12  # small ones on the page of the site
SIGNS = {Verdict.ACTION: "✗", Verdict.NOTE: "!", Verdict.GOOD: ""}
# What a remedy may be, so that a click copies it; words may stand before it.
COMMAND = re.compile(r"((?:.*: )?)((?:snakemake|halfpipe|mkdir|rm|touch|ls|kill) .*)", re.DOTALL)
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
    frame = _figures(site, list(accounts))
    recent = frame[frame["when"] >= now - USUAL_DAYS * DAY]
    middles = usual(recent)
    medians = middles.to_dict()
    every, far = frame.to_dict("index"), unusual(frame, middles).to_dict("index")
    rows, written = [], 0
    for downlink, account in accounts.items():
        row = _row(account, home)
        if own := every.get(downlink):
            names = [name for name, is_far in far[downlink].items() if is_far]
            row["steps"] = [(words, own[name]) for name, words in STEPS.items() if not isnan(own[name])]
            row |= {"figures": own, "far": {name: compared(name, own[name], medians[name]) for name in names}}
        rows.append(row)
        values = {"row": row, "medians": medians, **_downlink(settings, account)}
        written += _replace(home / paths.board_page(downlink), page("downlink.html", settings, now, values))
    for path in home.glob(paths.board_page("*")):
        if DownlinkId.matches(path.stem) and path.stem not in accounts:
            remove_file(path)
    values = _site(site, found, home) | {
        "rows": rows,
        "medians": medians,
        "compared": len(recent),
        "days": by_day(recent).tail(MOST_DAYS).iloc[::-1].to_dict("records"),
    }
    _replace(home / paths.board(), page("board.html", settings, now, values))
    return written + 1


def _draw(site: Site, shown: Sequence[DownlinkId], home: Path, most: int) -> None:
    """Draw downlinks that were handed off and have no picture, and remove what tells of an earlier hand-off."""
    handed_off = {
        downlink: at
        for downlink in shown
        if (at := modified(f"{site.settings.paths.work}/{paths.receipt(downlink)}")) is not None
    }
    for path in home.glob(paths.board_picture("*")):
        if DownlinkId.matches(path.stem) and path.stat().st_mtime < handed_off.get(
            DownlinkId(path.stem), float("inf")
        ):
            remove_file(path)
    lacking = [downlink for downlink in handed_off if not (home / paths.board_picture(downlink)).exists()]
    for downlink in lacking[:most]:
        with suppress(HalfPipeError):  # one that cannot be drawn is not there: its causes say why
            drawn = downlink_picture.picture(site, downlink, "svg")
            write_bytes(home / paths.board_picture(downlink), drawn, lasting=False)


def _figures(site: Site, shown: Sequence[DownlinkId]) -> pd.DataFrame:
    """Return the figures of downlinks that were handed off: of those shown, and of those that say what is usual."""
    work, oldest = site.settings.paths.work, site.now - USUAL_DAYS * DAY
    handed_off = {
        downlink: modified(f"{work}/{paths.receipt(downlink)}") or 0.0 for downlink in {*shown, *known(site)}
    }
    rows = {
        downlink: figures(receipt, at, latencies(site.settings, downlink))
        for downlink, at in sorted(handed_off.items())
        if at and (at >= oldest or downlink in shown) and (receipt := _receipt(work, downlink))
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=COLUMNS).astype(float)


def _readable(read: Callable[[], Any]) -> Any:
    """Return what is read, nothing if it is damaged: the account says what is wrong."""
    try:
        return read()
    except HalfPipeError:
        return ()


def _receipt(work: Path, downlink: DownlinkId) -> Mapping[str, Any]:
    return _readable(lambda: read_receipt(work, downlink)) or {}


def _row(account: Account, home: Path) -> dict[str, Any]:
    """Return a row of the page of the site, for a downlink of which nothing is known but its account."""
    # What it failed at, and who is at work, stands elsewhere.
    state = next((word for word in ("taken", "failed", "in work") if account.state.startswith(word)), None)
    picture = paths.board_picture(account.downlink)
    return {
        "account": account,
        "state": state or account.state,
        "picture": picture if (home / picture).exists() else None,
        "figures": None,
        "far": {},
        "steps": (),
    }


def _site(site: Site, found: Overview, home: Path) -> dict[str, Any]:
    """Return what the page of the site shows besides downlinks."""
    wanting, of_site = len(found.wanting), sum(cause.verdict is Verdict.ACTION for cause in found.site)
    parts = [f"{count(wanting, 'downlink')} {'needs' if wanting == 1 else 'need'} action"] if wanting else []
    parts += [f"the site needs action: {count(of_site, 'trouble')}"] if of_site else []
    good = "Nothing needs action" if found.accounts else "No downlinks found"
    last = youngest_retdef(site.settings.paths.retdef, site.now)
    return {
        "headline": " · ".join(parts) or good,
        "needs_action": found.needs_action,
        "site": found.site,
        "last_retdef": last[0] if last else None,
        "turn": last_turn(site.settings.paths.work),
        "compared_page": paths.board_compared() if (home / paths.board_compared()).exists() else None,
        "most_pictures": MOST_PICTURES,
    }


def _downlink(settings: Settings, account: Account) -> dict[str, Any]:
    """Return what the page of a downlink shows besides its row."""
    work, downlink = settings.paths.work, account.downlink
    receipt = _receipt(work, downlink)
    failed = failed_jobs(work, downlink) if any(cause.failed for cause in account.causes) else ()
    return {
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
    """Return a page of a working directory, made `now` (Unix seconds), by the name of its template."""
    about = {"work": str(settings.paths.work), "simulated": settings.is_simulated, "now": now}
    return _environment().get_template(template).render(values, **about).encode()


@cache
def _environment() -> Environment:
    """Return the templates of the package, with what they share."""
    made = Environment(
        loader=PackageLoader("halfpipe.pages"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    made.filters |= {"utc": _utc, "duration": duration, "grouped": _grouped, "remedy": remedy}
    made.globals |= {
        "SIGNS": SIGNS,
        "MEASURES": MEASURES,
        "USUAL_DAYS": USUAL_DAYS,
        "state_of": state_of,
        "index": paths.board(),
        "page_of": paths.board_page,
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


def remedy(do: str) -> tuple[str, str]:
    """Return what to do as words, and the command behind them; either may be empty."""
    found = COMMAND.fullmatch(do)
    return (found[1], found[2]) if found else (do, "")
