"""Receipts, books and incomplete runs as rows and frames, with the columns of `halfpipe.tables.columns`.

Reports select, sum and merge the frames. An operator may have to abandon an incomplete run.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfpipe import paths
from halfpipe.causes import Cause
from halfpipe.downlink.receipt import state_word
from halfpipe.downlink.submissions import submissions
from halfpipe.downlink.unbalanced import decoded_events, findings
from halfpipe.errors import HalfPipeError, MissingInputError
from halfpipe.files.json_files import read_json
from halfpipe.files.reading import modified
from halfpipe.formats.met import met_to_unix
from halfpipe.ids import DownlinkId, RunId, RunKind
from halfpipe.merge.books import Books
from halfpipe.merge.undelivered import missing_of_run
from halfpipe.run.deliveries import Deliveries, Delivery
from halfpipe.run.downlinks_of_run import begun_downlinks, known_downlinks, refuse_unknown
from halfpipe.run.merged_index import known_datagrams
from halfpipe.run.receipt_file import last_hand_off
from halfpipe.status.survey import Survey
from halfpipe.tables import columns

if TYPE_CHECKING:
    import pandas as pd

Receipt = Mapping[str, Any]
NUMBERS = (*(each.name for each in fields(Books)), "lost")
DAY = 86400
NOTHING = "nothing: its next delivery completes it"


def downlink_row(
    work: Path, receipt: Receipt, told: int | None, problem: str | None = None
) -> tuple[Any, ...]:
    """Return the values of `halfpipe.tables.columns.DOWNLINKS` for a receipt; Level-1 has hand-off `told`."""
    downlink, runs, edges = receipt["downlink"], receipt["runs"], times(receipt["runs"])
    handed_off = first_handed_off(work, downlink)
    return (
        downlink,
        receipt["handoff"],
        told,
        handed_off,
        len(receipt["chunks"]),
        len(runs),
        *(sum([run[key] for run in runs]) for key in ("delivered", "waiting", "late")),
        *edges,
        nan if handed_off is None else handed_off - edges[1],
        bool(receipt.get("simulated")),
        bool(receipt.get("taken_over")),
        problem,
    )


def first_handed_off(work: Path, downlink: str) -> float | None:
    """Return the time of the first hand-off of a downlink, Unix seconds; None if it is unknown."""
    return modified(f"{work}/{paths.receipts(downlink)}/000001.json")


def runs(
    receipts: Iterable[Receipt], submitted: Callable[[DownlinkId], int | None] = lambda _: None
) -> "pd.DataFrame":
    """Return one row for each run and downlink: what the downlink delivered of the run, and its state at that time.

    `submitted` returns the number of the hand-off that Level-1 has.
    """
    return columns.RUNS.frame(
        row for receipt in receipts for row in run_rows(receipt, submitted(DownlinkId(receipt["downlink"])))
    )


def run_rows(receipt: Receipt, told: int | None) -> Iterator[tuple[Any, ...]]:
    """Return the values of `halfpipe.tables.columns.RUNS` for each run of a receipt; Level-1 has hand-off `told`."""
    return (
        (
            *(run["run"], receipt["downlink"], run["l1_run"], run["kind"], receipt["handoff"]),
            *(told, met_to_unix(met), met, len(run["files"])),
            *(run["delivered"], run["waiting"], run["late"]),
            *(state_word(run) if "complete" in run else None, *times([run])),
        )
        for run in receipt["runs"]
        for met in (RunId(run["run"]).met,)
    )


def times(runs: Iterable[Receipt]) -> tuple[float, float, float, float]:
    """Return the first and the last time of delivered events, twice (Unix seconds); NaN without events."""
    known = [run["times"] for run in runs if run.get("times")] or [(nan, nan)]
    edges = min(first for first, _ in known), max(last for _, last in known)
    return (*edges, *edges)


def of_run(work: Path, run: RunId) -> Iterator[Receipt]:
    """Yield what each downlink delivered of a run in the form of receipts, also if it is not handed off yet.

    Without a manifest, the number of the hand-off and the state are not known.

    Raises
    ------
    HalfPipeError
        If a record or a manifest of the run is damaged.
    """
    unknown = dict.fromkeys(("kind", "waiting", "late", "refused"))
    latest = Deliveries(work, run, only_look=True).latest()
    for downlink in sorted({*begun_downlinks(work, run), *latest}):
        manifest = read_json(path) if (path := work / paths.manifest(run, downlink)).exists() else {}
        one = latest.get(downlink) or Delivery(downlink, (), {}, (), None, None)
        entry = {
            **unknown,
            **manifest,
            **one.as_json(),
            "delivered": one.events,
            "run": run,
            "l1_run": run.l1,
        }
        if manifest or downlink in latest:
            yield {"downlink": downlink, "handoff": manifest.get("handoff"), "runs": [entry]}


def event_files(receipts: Iterable[Receipt]) -> "pd.DataFrame":
    """Return one row for each delivered event file."""
    rows = (
        (
            *(run["run"], receipt["downlink"], file["name"], file["events"], file["size"]),
            *(*file["sequences"], first, last + 1, first, last + 1, file["sha256"]),
        )
        for receipt in receipts
        for run in receipt["runs"]
        for file in run["files"]
        for first, last in (file["seconds"],)
    )
    return columns.FILES.frame(rows, times="met")


def chunk_row(chunk: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the values of `halfpipe.tables.columns.CHUNKS`, without the downlink, for an entry of a receipt."""
    indexes = [file for file in chunk["files"] if file["kind"] == "idx"]
    # Lists, which are faster than generators: this is called for all chunks of a mission.
    counts = [
        sum([file.get(key, 0) for file in indexes]) for key in ("events", "datagrams", "missing_events")
    ]
    size = sum([file["size"] for file in chunk["files"] if file["kind"] == "evt"])
    level0, exceptions = chunk.get("level0") or {}, (chunk.get("said") or {}).get("exceptions") or {}
    missing = level0.get("missing")  # null if the archive was not visible
    hours = (level0.get("needed"), None if missing is None else len(missing))
    return (chunk["chunk"], " ".join(chunk["runs"]), *counts, size, sum(exceptions.values()), *hours)


def waiting_runs(
    survey: Survey,
    runs: Iterable[RunId],
    problems: dict[Any, HalfPipeError],
) -> Iterator[tuple[Any, ...]]:
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
    settings, work = survey.settings, survey.work
    for run in runs:
        try:
            refuse_unknown(work, run)
            downlinks = known_downlinks(work, run)
            # Most runs of a mission are complete, which small files show. These may have a chunk that is ignored since.
            manifests = [work / paths.manifest(run, dl) for dl in downlinks]
            is_ignored = any(settings.ignored(dl) for dl in downlinks)
            if not is_ignored and (not downlinks or _recorded_complete(manifests)):
                continue
            segments, now = known_datagrams(settings, run).segments(), survey.books(run)
            missing = "; ".join(missing_of_run(segments, settings.merge.min_epus))
            if missing or now.books is None or now.books.all_waiting:
                age = (survey.now - met_to_unix(run.met)) / DAY
                yield (
                    *(run, run.l1, str(RunKind.of(segments)), run.met, run.met, round(age, 1)),
                    "abandoned" if run in survey.abandoned else "open",
                    *(now.books.all_waiting if now.books else None, now.old or None),
                    *(len(downlinks), downlinks[-1], missing or NOTHING),
                )
        except HalfPipeError as error:
            problems[run] = error


def _recorded_complete(manifests: Sequence[Path]) -> bool:
    """Tell whether a manifest shows the run as complete, and no other one has more datagrams."""
    if not all(path.exists() for path in manifests):
        return False
    read = [read_json(path) for path in manifests]
    if any(one["refused"] for one in read):
        return False  # a refused run: the manifest has the datagrams of the delivery before
    listed = {
        (apid, first, last)
        for one in read
        for apid, ranges in one["datagrams"].items()
        for first, last in ranges
    }
    return any(
        one["complete"]
        and all(
            any(a <= first and last <= b for a, b in one["datagrams"].get(apid, ()))
            for apid, first, last in listed
        )
        for one in read
    )


def books(survey: Survey, what: DownlinkId | RunId) -> dict[str, Any]:
    """Return the books of a downlink, or of a run in all its downlinks.

    Returns
    -------
    dict
        ``what`` it is, and rows: ``chunks`` with the columns of `halfpipe.tables.columns.CHUNKS`; ``runs``, for each
        downlink and run, with the events that were decoded, merged (each once), delivered, in recorded files, in files
        in the stage now, and in files of runs that the texts name, the last hand-off, and the one that Level-1 has;
        ``accounts``, for each run as it stands, with its known events by account, null if not known, and why these are
        old. ``findings`` are causes: what does not balance.

    Raises
    ------
    MissingInputError
        If nothing is known of it.
    HalfPipeError
        If a record of it is damaged.
    """
    work, found = survey.work, list[Cause]()
    chunks, runs, accounts = (list[Mapping[str, Any]]() for _ in range(3))
    for downlink in [what] if isinstance(what, DownlinkId) else known_downlinks(work, what):
        of, last = survey.plan.of(downlink), last_hand_off(work, downlink, only_look=True)
        decoded = [read_json(work / name) for name in of.chunk_files if (work / name).is_file()]
        handed_off = {run["run"]: run for run in last.receipt["runs"]} if last else {}
        if last and of.handed_off is not None and not last.receipt.get("taken_over"):
            found += findings(downlink, last.receipt["chunks"], last.receipt["runs"])
        chunks += [
            columns.CHUNKS.row((downlink, *chunk_row(chunk)))
            for chunk in decoded
            if what in {downlink, *chunk["runs"]}
        ]
        told = submissions(work, downlink, only_look=True).last_confirmed
        for manifest in (read_json(work / name) for name in of.manifests if (work / name).is_file()):
            run, files, entry = manifest["run"], manifest["files"], handed_off.get(manifest["run"], {})
            home = survey.settings.paths.stage / paths.staged_run(downlink, manifest["l1_run"])
            row = {
                "downlink": downlink,
                "run": run,
                "decoded": decoded_events(decoded, run),
                "merged": manifest.get("brought"),
                "delivered": manifest["delivered"],
                "in_files": sum(file["events"] for file in files),
                "in_stage": sum(file["events"] for file in files if (home / file["name"]).is_file()),
                "named": sum(file["events"] for file in entry.get("files", ()) if entry["named"]),
                "handoff": last.number if last else None,
                "submitted": told.handoff if told else None,
            }
            runs += [row] if what in {downlink, run} else []
    if not (chunks or runs):
        raise MissingInputError(f"{what}: nothing is decoded or merged of it yet: halfpipe status")
    for run in sorted({RunId(row["run"]) for row in runs} | ({what} if isinstance(what, RunId) else set())):
        now = survey.books(run)
        numbers = {**now.books.as_json(), "lost": now.books.lost} if now.books else dict.fromkeys(NUMBERS)
        accounts.append({"run": run, **numbers, "old": now.old})
    return {"what": what, "chunks": chunks, "runs": runs, "accounts": accounts, "findings": found}
