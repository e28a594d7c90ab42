"""Hand-offs, books and incomplete runs as rows and frames, with the columns of `halfpipe.tables.columns`.

Reports select, sum and merge the frames. An operator may have to abandon an incomplete run.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from halfpipe import paths
from halfpipe.causes import Cause
from halfpipe.decode.chunk import EVT, Chunk
from halfpipe.deliver.unbalanced import findings
from halfpipe.errors import HalfPipeError, MissingInputError
from halfpipe.files.reading import modified
from halfpipe.formats.met import met_to_unix
from halfpipe.ids import DownlinkId, RunId, RunKind
from halfpipe.merge.books import Books, Standing
from halfpipe.merge.undelivered import missing_of_run
from halfpipe.notify.submissions import submissions
from halfpipe.state.deliveries import Delivery
from halfpipe.state.downlinks_of_run import known_downlinks, refuse_unknown
from halfpipe.state.hand_offs import HandOff, last_hand_off
from halfpipe.state.merged_index import known_datagrams
from halfpipe.state.run_books import state_of
from halfpipe.status.survey import Survey
from halfpipe.tables import columns

if TYPE_CHECKING:
    import pandas as pd

DAY = 86400
NOTHING = "nothing: its next delivery completes it"
Row = tuple[object, ...]  # the values of the columns of a frame, in order
Delivered = tuple[RunId, Delivery]  # what a downlink delivered of a run


def delivered(last: HandOff) -> list[Delivered]:
    """Return what a hand-off delivered of each run."""
    return [(one.run, one.delivery) for one in last.runs]


def downlink_row(last: HandOff, told: int | None, problem: str | None = None) -> Row:
    """Return the values of `halfpipe.tables.columns.DOWNLINKS` for a hand-off; Level-1 has hand-off `told`."""
    receipt = last.receipt
    of_runs = [one.delivery for one in last.runs]
    handed_off = first_handed_off(last.work, receipt.downlink)
    begin, end = times(of_runs)
    return (
        receipt.downlink,
        last.number,
        told,
        handed_off,
        len(receipt.chunks),
        len(of_runs),
        sum([made.events for made in of_runs]),
        sum([made.books.in_texts for made in of_runs]),
        sum([made.books.late for made in of_runs]),
        begin,
        end,
        begin,
        end,
        nan if handed_off is None else handed_off - end,
        receipt.simulated,
        receipt.origin,
        problem,
    )


def first_handed_off(work: Path, downlink: str) -> float | None:
    """Return the time of the first hand-off of a downlink, Unix seconds; None if it is unknown."""
    return modified(f"{work}/{paths.receipts(downlink)}/000001.json")


def runs(
    hand_offs: Iterable[HandOff], submitted: Callable[[DownlinkId], int | None] = lambda _: None
) -> "pd.DataFrame":
    """Return one row for each run and downlink: what the downlink delivered of the run, and its state at that time.

    `submitted` returns the number of the hand-off that Level-1 has.
    """
    return columns.RUNS.frame(
        row for last in hand_offs for row in run_rows(last, submitted(last.receipt.downlink))
    )


def run_rows(last: HandOff, told: int | None) -> Iterator[Row]:
    """Yield the values of `halfpipe.tables.columns.RUNS` for each run of a hand-off; Level-1 has hand-off `told`."""
    return (run_row(run, made, last.number, told) for run, made in delivered(last))


def run_row(run: RunId, made: Delivery, handoff: int, told: int | None) -> Row:
    """Return the values of `halfpipe.tables.columns.RUNS` for a delivery.

    Parameters
    ----------
    run, made
        The run, and what a downlink delivered of it.
    handoff, told
        The hand-off that contains the delivery, and the one that Level-1 has.
    """
    begin, end = times([made])
    return (
        run,
        made.downlink,
        run.l1,
        made.kind,
        handoff,
        told,
        met_to_unix(run.met),
        run.met,
        len(made.files),
        made.events,
        made.books.in_texts,
        made.books.late,
        made.state_word,
        begin,
        end,
        begin,
        end,
    )


def times(of_runs: Iterable[Delivery]) -> tuple[float, float]:
    """Return the first and the last time of delivered events, Unix seconds; NaN without events."""
    known = [made.times for made in of_runs if made.times] or [(nan, nan)]
    return min(first for first, _ in known), max(last for _, last in known)


def event_files(of_runs: Iterable[Delivered]) -> "pd.DataFrame":
    """Return one row for each delivered event file."""
    rows = (
        (
            run,
            made.downlink,
            file.name,
            file.events,
            file.size,
            *file.sequences,
            first,
            last + 1,
            first,
            last + 1,
            file.sha256,
        )
        for run, made in of_runs
        for file in made.files
        for first, last in (file.seconds,)
    )
    return columns.FILES.frame(rows, times="met")


def chunk_row(chunk: Chunk) -> Row:
    """Return the values of `halfpipe.tables.columns.CHUNKS`, without the downlink."""
    indexes = list(chunk.indexes())
    level0 = chunk.level0
    missing = level0.missing if level0 else None  # unknown if the archive was not visible
    # Lists, which are faster than generators: this is called for all chunks of a mission.
    return (
        chunk.chunk,
        " ".join(chunk.runs),
        sum([file.events for file in indexes]),
        sum([file.datagrams for file in indexes]),
        sum([file.missing_events for file in indexes]),
        sum([file.size for file in chunk.files if file.suffix == EVT]),
        sum(chunk.log.by_kind.values()),
        level0.needed if level0 else None,
        None if missing is None else len(missing),
    )


def waiting_runs(
    survey: Survey,
    runs: Iterable[RunId],
    problems: dict[str, HalfPipeError],
) -> Iterator[Row]:
    """Yield the runs among `runs` that are not complete.

    Parameters
    ----------
    survey
        The survey, which has the present time.
    runs
        The runs.
    problems
        Gets the errors of runs that are left out, because they are unknown or damaged.

    Yields
    ------
    tuple
        The values of `halfpipe.tables.columns.WAITING`, with times in MET.
    """
    settings = survey.settings
    work = survey.work
    for run in runs:
        try:
            refuse_unknown(work, run)
            downlinks = known_downlinks(work, run)
            if not downlinks or _recorded_complete(survey, run):  # most runs of a mission
                continue
            segments = known_datagrams(settings.paths.work, survey.decisions, run).segments()
            now = survey.books(run)
            missing = "; ".join(missing_of_run(segments, settings.merge.min_epus))
            if missing or now.books is None or now.books.all_waiting:
                age = (survey.now - met_to_unix(run.met)) / DAY
                yield (
                    run,
                    run.l1,
                    str(RunKind.of(segments)),
                    run.met,
                    run.met,
                    round(age, 1),
                    "abandoned" if survey.decisions.is_abandoned(run) else "open",
                    now.books.all_waiting if now.books else None,
                    now.old or None,
                    len(downlinks),
                    downlinks[-1],
                    missing or NOTHING,
                )
        except HalfPipeError as error:
            problems[run] = error


def _recorded_complete(survey: Survey, run: RunId) -> bool:
    """Tell whether the last merge of a run found it complete, and nothing has changed since."""
    recorded = survey.deliveries(run)
    made = list(recorded.latest().values())
    if any(one.refused for one in made):
        return False
    if not all(one.origin for one in made):
        state = state_of(survey.settings, survey.decisions, run, recorded)
        made = [one for one in made if one.state == state]
    return any(one.complete for one in made)


@dataclass(frozen=True)
class StepByStep:
    """The books of a downlink, or of a run in all its downlinks, as rows.

    Attributes
    ----------
    what
        The downlink or run.
    chunks
        Its chunks, with the columns of `halfpipe.tables.columns.CHUNKS`.
    runs
        For each downlink and run the events that were decoded, merged (each once), delivered, in recorded files, in
        files in the stage now, and in files of runs that the texts name; the last hand-off, and the one that Level-1
        has.
    accounts
        For each run as it stands, its known events by account, null if not known, and why these are old.
    findings, balances
        What does not balance; whether no event is lost, either.
    """

    what: DownlinkId | RunId
    chunks: Sequence[Mapping[str, object]]
    runs: Sequence[Mapping[str, object]]
    accounts: Sequence[Mapping[str, object]]
    findings: Sequence[Cause]
    balances: bool


def books(survey: Survey, what: DownlinkId | RunId) -> StepByStep:
    """Return the books of a downlink, or of a run in all its downlinks.

    Raises
    ------
    MissingInputError
        If nothing is known of it.
    HalfPipeError
        If a record of it is damaged.
    """
    found: list[Cause] = []
    chunks: list[dict[str, object]] = []
    rows: list[dict[str, object]] = []
    runs = {what} if isinstance(what, RunId) else set[RunId]()
    for downlink in [what] if isinstance(what, DownlinkId) else known_downlinks(survey.work, what):
        of = survey.plan.of(downlink)
        last = last_hand_off(survey.work, downlink, only_look=True, read=survey.deliveries)
        if last and of.handed_off is not None and not last.receipt.origin:
            found += findings(downlink, last.receipt.chunks, last.runs)
        chunks += [
            columns.CHUNKS.row((downlink, *chunk_row(chunk)))
            for chunk in of.decoded.values()
            if what in {downlink, *chunk.runs}
        ]
        for run in of.runs:
            made = survey.deliveries(run).latest().get(downlink)
            if made is not None and what in {downlink, run}:
                rows.append(_steps(survey, run, made, list(of.decoded.values()), last))
                runs.add(run)
    if not (chunks or rows):
        raise MissingInputError(f"{what}: nothing is decoded or merged of it yet: halfpipe status")
    standings = {run: survey.books(run) for run in sorted(runs)}
    lost = [standing.books.lost for standing in standings.values() if standing.books]
    accounts = [_account(run, standing) for run, standing in standings.items()]
    return StepByStep(what, chunks, rows, accounts, found, balances=not (found or any(lost)))


def _steps(
    survey: Survey, run: RunId, made: Delivery, decoded: Iterable[Chunk], last: HandOff | None
) -> dict[str, object]:
    """Return the row of a run in `StepByStep.runs`."""
    home = survey.settings.paths.stage / paths.staged_run(made.downlink, run.l1)
    told = submissions(survey.work, made.downlink, only_look=True).last_confirmed
    named = [one.delivery for one in last.runs if one.named and one.run == run] if last else []
    return {
        "downlink": made.downlink,
        "run": run,
        "decoded": sum(chunk.events(run) for chunk in decoded),
        "merged": None if made.origin else made.brought,
        "delivered": made.events,
        "in_files": sum(file.events for file in made.files),
        "in_stage": sum(file.events for file in made.files if (home / file.name).is_file()),
        "named": sum(file.events for one in named for file in one.files),
        "handoff": last.number if last else None,
        "submitted": told.handoff if told else None,
    }


def _account(run: RunId, standing: Standing) -> dict[str, object]:
    """Return the row of a run in `StepByStep.accounts`."""
    numbers = dict.fromkeys((*Books.__struct_fields__, "lost"))
    if standing.books:
        numbers = {**msgspec.structs.asdict(standing.books), "lost": standing.books.lost}
    return {"run": run, **numbers, "old": standing.old}
