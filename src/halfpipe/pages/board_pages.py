"""The board: HTML pages of the site, of its open runs, of each downlink, and of each run.

Each page is one file that loads no others. It is written next to its place and renamed, the page of the site last, so
that readers always see complete pages.

The page of the site is a matrix with a row for each downlink, or for several with equal notes, and a cell for each
phase.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from halfpipe import paths
from halfpipe.causes import PHASES, Cause, Verdict
from halfpipe.downlink.submissions import submissions
from halfpipe.errors import HalfPipeError
from halfpipe.files.durable import remove_file, write_bytes
from halfpipe.ids import DownlinkId
from halfpipe.pages import timeline
from halfpipe.pages.rendering import SIGNS, render
from halfpipe.pages.run_pages import MOST_PICTURES, run_pages
from halfpipe.run.receipt_file import hand_offs
from halfpipe.settings import Settings
from halfpipe.status.account import UNKNOWN, Account
from halfpipe.status.failed_jobs import end_of, failed_jobs
from halfpipe.status.overview import Overview
from halfpipe.status.site_causes import LIGHTS, free, last_turn, light
from halfpipe.status.survey import Survey
from halfpipe.tables import columns
from halfpipe.tables.frames import chunk_row
from halfpipe.tables.site_frames import SiteFrames


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


def make(survey: Survey, found: Overview, home: Path) -> None:
    """Write the board into a directory.

    Parameters
    ----------
    survey, found
        The survey of the site, and the accounts of the downlinks on the board.
    home
        The directory, which is made if necessary. Pages of downlinks and runs that are no longer on the board are
        removed.

    Raises
    ------
    HalfPipeError
        If a page cannot be written.
    """
    downlinks = [one.downlink for one in found.accounts]
    frame = SiteFrames(survey.settings, downlinks).downlinks if downlinks else columns.DOWNLINKS.frame(())
    delivered = {row["downlink"]: row for row in columns.as_rows(frame)}
    runs, pages = run_pages(survey, found), set[str]()

    of_site = {
        "work": str(survey.work),
        "simulated": survey.settings.is_simulated,
        "now": survey.now,
        "runs": runs,
    }

    def write(page: str, template: str, values: Mapping[str, Any]) -> None:
        write_bytes(home / page, render(template, {**of_site, **values}), lasting=False)
        pages.add(page)

    for one in found.accounts:
        late = {"latency": delivered.get(one.downlink, {}).get("latency")}
        write(paths.board_page(one.downlink), "downlink.html", _downlink(survey.settings, one) | late)
    for run, page in runs.items():
        marks = [
            of_site["simulated"],
            *(delivered[dl]["simulated"] for dl in {row["downlink"] for row in page.rows} & delivered.keys()),
        ]
        of_run = {"page": page, "most": MOST_PICTURES, "shown": delivered, "simulated": any(marks)}
        write(paths.board_run(run), "run.html", of_run)
    values = {"waits": [page.wait for page in runs.values() if page.wait]}
    write(paths.BOARD_RUNS, "runs.html", values)
    values |= _site(survey, found) | {"rows": list(rows(found.accounts))}
    write(paths.BOARD, "board.html", values | {"timeline": timeline.of(found.accounts, delivered)})
    for of_any in (paths.board_page("[0-9]" * 9), paths.board_run("[0-9a-f]" * 8)):
        for path in home.glob(of_any):
            if path.name not in pages:
                remove_file(path)


def _readable(read: Callable[[Path, DownlinkId], Any], work: Path, downlink: DownlinkId) -> Any:
    """Return what `read` reads for a downlink, or nothing if it is damaged: the account reports that."""
    try:
        return read(work, downlink)
    except HalfPipeError:
        return ()


def _site(survey: Survey, found: Overview) -> dict[str, Any]:
    """Return what the page of the site shows in addition to downlinks."""
    headline = found.headline(survey)
    turn = last_turn(survey.work)
    texts = {
        "disk": " and ".join(f"{left / 1e9:,.0f} GB free" for left, _ in free(survey.settings).values()),
        "mounts": "there",
        "ledger": "answers" if survey.settings.ledger.url else "none",
        "timer": ("not good, last turn" if turn.get("status") else "good, last turn")
        if turn
        else "no turn yet",
    }
    return {
        "headline": headline[0].upper() + headline[1:],
        "needs_action": found.needs_action,
        "site": found.site,
        "downlinks": len(found.accounts),
        "last_retdef": survey.last_retdef,
        "turn": turn,
        "lights": [(name, light(name, found.site), texts[name]) for name in LIGHTS],
    }


def _downlink(settings: Settings, one: Account) -> dict[str, Any]:
    """Return the content of the page of a downlink."""
    work, downlink = settings.paths.work, one.downlink
    failed = failed_jobs(work, downlink) if any(cause.failed for cause in one.causes) else ()
    made = _readable(lambda home, dl: hand_offs(home, dl, only_look=True), work, downlink)
    receipt = made[-1].receipt if made else {}
    return {
        "one": one,
        "simulated": settings.is_simulated or bool(receipt.get("simulated")),
        "receipt": receipt,
        "chunk_row": chunk_row,
        "handoffs": made,
        "attempts": _readable(lambda home, dl: submissions(home, dl).every, work, downlink),
        "logs": [(job.log, end_of(job.log)) for job in failed],
    }
