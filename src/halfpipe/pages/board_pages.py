"""The board: HTML pages of the site, of its open runs, and of each downlink.

Each page is one file that loads no others. It is written next to its place and renamed, the page of the site last, so
that readers always see complete pages.

The page of the site is a matrix with a row for each downlink, or for several with equal notes, and a cell for each
phase.
"""

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader

from halfpipe import paths
from halfpipe.causes import PHASES, Cause, Verdict
from halfpipe.decode.shortfall import sentences
from halfpipe.downlink.receipt import state_word
from halfpipe.downlink.submissions import submissions
from halfpipe.errors import HalfPipeError
from halfpipe.files.durable import remove_file, write_bytes
from halfpipe.ids import DownlinkId, RunId
from halfpipe.pages import timeline
from halfpipe.run.receipt_file import hand_offs, read_receipt
from halfpipe.settings import Settings
from halfpipe.status.account import UNKNOWN, Account, Survey
from halfpipe.status.failed_jobs import end_of, failed_jobs
from halfpipe.status.overview import Overview
from halfpipe.status.site_causes import LIGHTS, free, last_turn, light
from halfpipe.tables import columns, frames
from halfpipe.tables.incomplete_runs import waiting_runs
from halfpipe.tables.site_frames import SiteFrames
from halfpipe.words import lasted

SIGNS = {Verdict.ACTION: "✗", Verdict.NOTE: "!", Verdict.GOOD: ""}


class Cell(NamedTuple):
    """The progress of a phase, `done` of `most`, and its worst verdict; with `most` 0, no downlink has the phase."""

    verdict: Verdict
    done: int
    most: int

    def __str__(self) -> str:
        """Return the cell as text with a sign, because color alone is not enough for everyone."""
        part = f"{self.done}/{self.most}" if 0 < self.done < self.most else ""
        plain = "–" if not self.most else "·" if not self.done else "✓"
        return f"{SIGNS[self.verdict]} {part}".strip() or plain


class Row(NamedTuple):
    """A row: one downlink, or all with the same notes, the newest first. The row shows the cause of the first."""

    accounts: Sequence[Account]
    state: str
    cells: Sequence[Cell]


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


def rows(accounts: Sequence[Account]) -> Iterator[Row]:
    """Yield the rows of accounts, in their order. Accounts that have only notes, of the same codes, share a row.

    Their cells count the downlinks: how many are done, among those that have the phase.
    """
    found: dict[DownlinkId | tuple[str, ...], list[Account]] = {}
    for one in accounts:
        codes = tuple(sorted({cause.code for cause in one.causes}))
        found.setdefault(codes if one.verdict is Verdict.NOTE else one.downlink, []).append(one)
    for several in found.values():
        columns = list(zip(*map(cells, several), strict=True))
        both = [
            column[0]
            if len(column) == 1
            else Cell(
                Verdict.NOTE if any(one.verdict is Verdict.NOTE for one in column) else Verdict.GOOD,
                sum(0 < one.most == one.done for one in column),
                sum(one.most > 0 for one in column),
            )
            for column in columns
        ]
        # The cause shows what failed, and which process is at work.
        state = several[0].state if len({one.state for one in several}) == 1 else ""
        words = ("taken", "failed", "in progress")
        yield Row(several, next((word for word in words if state.startswith(word)), state), both)


def make(site: Survey, found: Overview, home: Path) -> None:
    """Write the board into a directory.

    Parameters
    ----------
    site, found
        The state of the site, and the accounts of the downlinks on the board.
    home
        The directory, which is made if necessary. Pages of downlinks that are no longer on the board are removed.

    Raises
    ------
    HalfPipeError
        If a page cannot be written.
    """
    open_runs, downlinks = set[RunId](), [one.downlink for one in found.accounts]
    frame = SiteFrames(site.settings, downlinks).downlinks if downlinks else columns.DOWNLINKS.frame(())
    delivered = {row["downlink"]: row for row in columns.as_rows(frame)}
    for one in found.accounts:
        open_runs |= {run for run in one.books if site.has_waiting(run)}
        receipt = _readable(read_receipt, site.work, one.downlink) or {}
        for run in receipt.get("runs", ()):
            if not run["complete"]:
                open_runs.add(RunId(run["run"]))
        late = {"latency": delivered.get(one.downlink, {}).get("latency")}
        page = home / paths.board_page(one.downlink)
        _write(page, "downlink.html", site, _downlink(site.settings, one, receipt) | late)
    shown = {one.downlink for one in found.accounts}
    for path in home.glob(paths.board_page("*")):
        if DownlinkId.matches(path.stem) and path.stem not in shown:
            remove_file(path)
    # The accounts of its downlinks report a damaged run.
    waits = columns.as_rows(waiting_runs(site, sorted(open_runs), damaged=lambda _: None))
    _write(home / paths.BOARD_RUNS, "runs.html", site, {"runs": waits})
    values = _site(site, found) | {"rows": list(rows(found.accounts)), "open_runs": len(waits)}
    values["timeline"] = timeline.of(found.accounts, delivered)
    _write(home / paths.BOARD, "board.html", site, values)


def _readable(read: Callable[[Path, DownlinkId], Any], work: Path, downlink: DownlinkId) -> Any:
    """Return what `read` reads for a downlink, or nothing if it is damaged: the account reports that."""
    try:
        return read(work, downlink)
    except HalfPipeError:
        return ()


def _site(site: Survey, found: Overview) -> dict[str, Any]:
    """Return what the page of the site shows in addition to downlinks."""
    headline = found.headline(site)
    turn = last_turn(site.work)
    texts = {
        "disk": " and ".join(f"{left / 1e9:,.0f} GB free" for left, _ in free(site.settings).values()),
        "mounts": "there",
        "ledger": "answers" if site.settings.ledger.url else "none",
        "timer": ("not good, last turn" if turn.get("status") else "good, last turn")
        if turn
        else "no turn yet",
    }
    return {
        "headline": headline[0].upper() + headline[1:],
        "needs_action": found.needs_action,
        "site": found.site,
        "downlinks": len(found.accounts),
        "last_retdef": site.last_retdef,
        "turn": turn,
        "lights": [(name, light(name, found.site), texts[name]) for name in LIGHTS],
    }


def _downlink(settings: Settings, one: Account, receipt: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of the page of a downlink."""
    work, downlink = settings.paths.work, one.downlink
    failed = failed_jobs(work, downlink) if any(cause.failed for cause in one.causes) else ()
    return {
        "one": one,
        "simulated": settings.is_simulated or bool(receipt.get("simulated")),
        "receipt": receipt,
        "handoffs": _readable(hand_offs, work, downlink),
        "attempts": _readable(lambda home, dl: submissions(home, dl).every, work, downlink),
        "logs": [(job.log, end_of(job.log)) for job in failed],
    }


def _write(page: Path, template: str, site: Survey, values: Mapping[str, Any]) -> None:
    """Write a page from the template with the name `template`."""
    of_site = {"work": str(site.work), "simulated": site.settings.is_simulated, "now": site.now}
    content = _environment().get_template(template).render({**of_site, **values}).encode()
    write_bytes(page, content, lasting=False)


@cache
def _environment() -> Environment:
    """Return the templates of the package, with their filters and shared values."""
    made = Environment(
        loader=PackageLoader("halfpipe.pages"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    made.filters |= {"utc": _utc, "grouped": "{:,}".format, "lasted": lasted}
    made.globals |= {
        "SIGNS": SIGNS,
        "PHASES": PHASES,
        "state_word": state_word,
        "chunk_row": frames.chunk_row,
        "lacks": sentences,
        "index": paths.BOARD,
        "page_of": paths.board_page,
        "runs_page": paths.BOARD_RUNS,
    }
    # A browser runs only this script and style, and loads nothing.
    style, script = (
        base64.b64encode(hashlib.sha256(made.get_template(name).render().encode()).digest()).decode()
        for name in ("board.css", "board.js")
    )
    made.globals["policy"] = (
        f"default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; img-src data:"
    )
    return made


def _utc(unix: float, form: str = "%Y-%m-%d %H:%M UTC") -> str:
    return f"{datetime.fromtimestamp(unix, UTC):{form}}"
