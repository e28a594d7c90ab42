"""The pages: one of the site, one of its open runs, and one of each downlink on it.

A page is a file of its own and asks for no other. Each is written beside its place and renamed, the page of the site
last, so that whoever looks sees whole pages. Others are left as they are while nothing on them changes but the time.
"""

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from math import inf, isnan
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
from halfpipe.ids import DownlinkId, RunId
from halfpipe.pages import downlink_picture
from halfpipe.pages.board_figures import (
    HEIGHT,
    STEPS,
    USUAL_DAYS,
    WIDTH,
    Compared,
    compared,
    figures,
    missing_datagrams,
    trends,
    usual,
)
from halfpipe.pages.drawn import duration
from halfpipe.pages.matrix import SIGNS, alike, rows
from halfpipe.run.downlinks_of_run import waiting_now
from halfpipe.run.receipt_file import hand_offs, read_receipt
from halfpipe.settings import Settings
from halfpipe.status import acknowledged
from halfpipe.status.account import PHASES, Account, Site
from halfpipe.status.failures import end_of, failed_jobs
from halfpipe.status.overview import Overview, known
from halfpipe.status.site_causes import LIGHTS, free, last_turn, light, youngest_retdef
from halfpipe.tables.incomplete_runs import waiting
from halfpipe.tables.latency import latencies
from halfpipe.words import count

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
    every, strays, written = frame.to_dict("index"), list[tuple[DownlinkId, list[Compared]]](), 0
    for downlink, account in accounts.items():
        own = every.get(downlink, {})
        figures = compared(own, medians)
        values = {
            "one": account,
            "figures": figures,
            "steps": [(words, own[name]) for name, words in STEPS.items() if own and not isnan(own[name])],
            "picture": picture if (home / (picture := paths.board_picture(downlink))).exists() else None,
            **_downlink(settings, account),
        }
        if far := [each for each in figures if each.unusual]:
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
                write_bytes(picture, downlink_picture.picture(site, downlink), lasting=False)


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
