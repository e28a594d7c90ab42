"""The books of a downlink or a run, step by step: from decoded chunks to the stage and Level-1."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from halfpipe import paths
from halfpipe.causes import Cause
from halfpipe.downlink.submissions import submissions
from halfpipe.downlink.unbalanced import decoded_events, findings
from halfpipe.errors import MissingInputError
from halfpipe.files.json_files import read_json
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.books import Books
from halfpipe.run.downlinks_of_run import known_downlinks
from halfpipe.run.receipt_file import last_hand_off
from halfpipe.status.survey import Survey
from halfpipe.tables.columns import CHUNKS
from halfpipe.tables.frames import chunk_row

NUMBERS = (*(each.name for each in fields(Books)), "lost")


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
            CHUNKS.row((downlink, *chunk_row(chunk)))
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
