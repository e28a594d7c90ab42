"""What the board's pages of runs show."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from halfpipe.errors import HalfPipeError
from halfpipe.ids import RunId
from halfpipe.merge.books import Standing
from halfpipe.pages.pictures import Picture, picture
from halfpipe.run.downlinks_of_run import begun_downlinks
from halfpipe.status.overview import Overview
from halfpipe.status.survey import DownlinkFacts, Survey
from halfpipe.tables import columns
from halfpipe.tables.frames import run_rows, waiting_runs

MOST_PICTURES = 40  # because each reads all events of its run
Row = Mapping[str, Any]


@dataclass
class RunPage:
    """The page of one run.

    Attributes
    ----------
    run
        The run.
    rows
        Rows of the frame `halfpipe.tables.columns.RUNS`, one for each downlink that is handed off.
    wait
        Its row of `halfpipe.tables.columns.WAITING`; None if the run is complete or damaged.
    standing
        Its books now; None if they are counted at no downlink on the board.
    urgent
        Whether a downlink of it needs action.
    picture, problem
        Its picture, or why it cannot be drawn; neither if it is not drawn.
    """

    run: RunId
    rows: list[Row] = field(default_factory=list)
    wait: Row | None = None
    standing: Standing | None = None
    urgent: bool = False
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
    shown, wanting = {one.downlink for one in found.accounts}, {one.downlink for one in found.wanting}
    books = {run: standing for one in found.accounts for run, standing in one.books.items()}
    runs = sorted({*books, *(RunId(row["run"]) for row in parts)})
    pages = {run: RunPage(run, standing=books.get(run)) for run in runs}
    for other in {downlink for run in pages for downlink in begun_downlinks(survey.work, run)} - shown:
        with suppress(HalfPipeError, OSError):
            parts = parts + parts_of(DownlinkFacts(survey, other))
    for row in sorted(parts, key=itemgetter("downlink")):
        if page := pages.get(row["run"]):
            page.rows.append(row)
            page.urgent |= row["downlink"] in wanting
    for run in (run for one in found.wanting for run in one.books):
        pages[run].urgent = True
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
    made = run_rows(facts.last.receipt, facts.submitted) if facts.last else ()
    return [*map(columns.RUNS.row, made)]
