"""The books of a downlink or a run as a table, step by step: from decoded chunks to the stage."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
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
from halfpipe.settings import Settings
from halfpipe.status.survey import Survey

NUMBERS = (*(each.name for each in fields(Books)), "lost")


@dataclass(frozen=True)
class Table:
    """The books of a downlink or a run, step by step.

    Attributes
    ----------
    what
        The downlink or the run.
    chunks
        A row for each chunk and run: events that datagrams announce, events and datagrams that were decoded, and hours
        of level-0 that were needed and missing.
    runs
        A row for each downlink and run: events that were decoded, merged (each once), delivered, in recorded files, and
        in files in the stage now.
    accounts
        A row for each run as it stands: its known events by account, null if not known, and why these are old.
    handoffs
        A row for each downlink: its last hand-off, and the one that Level-1 has.
    findings
        What does not balance.
    """

    what: str
    chunks: Sequence[Mapping[str, Any]]
    runs: Sequence[Mapping[str, Any]]
    accounts: Sequence[Mapping[str, Any]]
    handoffs: Sequence[Mapping[str, Any]]
    findings: Sequence[Cause]


def table(survey: Survey, what: DownlinkId | RunId) -> Table:
    """Return the books of a downlink, or of a run in all its downlinks.

    Raises
    ------
    MissingInputError
        If nothing is known of it.
    HalfPipeError
        If a record of it is damaged.
    """
    work = survey.work
    downlinks = [what] if isinstance(what, DownlinkId) else known_downlinks(work, what)
    chunks, runs, handoffs = list[Mapping[str, Any]](), list[Mapping[str, Any]](), list[Mapping[str, Any]]()
    found, shown = list[Cause](), {what} if isinstance(what, RunId) else set[RunId]()
    for downlink in downlinks:
        of, last = survey.plan.of(downlink), last_hand_off(work, downlink, only_look=True)
        decoded = [read_json(work / name) for name in of.chunk_files if (work / name).is_file()]
        manifests = [read_json(work / name) for name in of.manifests if (work / name).is_file()]
        if last is not None and of.handed_off is not None and not last.receipt.get("taken_over"):
            found += findings(downlink, last.receipt["chunks"], last.receipt["runs"])
        if isinstance(what, RunId):
            manifests = [manifest for manifest in manifests if manifest["run"] == what]
        rows = [row for chunk in decoded for row in _of_chunk(downlink, chunk)]
        chunks += rows if isinstance(what, DownlinkId) else [row for row in rows if row["run"] == what]
        for manifest in manifests:
            shown.add(RunId(manifest["run"]))
            runs.append(_of_run(survey.settings, downlink, decoded, manifest))
        told = submissions(work, downlink, only_look=True).last_confirmed
        handoffs.append(
            {
                "downlink": downlink,
                "handoff": last.number if last and of.handed_off is not None else None,
                "named": sum(f["events"] for r in last.receipt["runs"] if r["named"] for f in r["files"])
                if last
                else 0,
                "submitted": told.handoff if told else None,
            }
        )
    if not (chunks or runs):
        raise MissingInputError(f"{what}: nothing is decoded or merged of it yet: halfpipe status")
    accounts = []
    for run in sorted(shown):
        now = survey.books(run)
        numbers = {**now.books.as_json(), "lost": now.books.lost} if now.books else dict.fromkeys(NUMBERS)
        accounts.append({"run": run, **numbers, "old": now.old})
    return Table(what, chunks, runs, accounts, handoffs, found)


def _of_chunk(downlink: DownlinkId, chunk: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    level0 = chunk.get("level0") or {}
    for run in chunk["runs"]:
        files = [file for file in chunk["files"] if file["run"] == run and file["kind"] == "idx"]
        yield {
            "downlink": downlink,
            "chunk": chunk["chunk"],
            "run": run,
            "hours": level0.get("needed"),
            "hours_missing": None if level0.get("missing") is None else len(level0["missing"]),
            "announced": sum(file.get("announced", 0) for file in files),
            "events": sum(file.get("events", 0) for file in files),
            "datagrams": sum(file.get("datagrams", 0) for file in files),
        }


def _of_run(
    settings: Settings,
    downlink: DownlinkId,
    decoded: Sequence[Mapping[str, Any]],
    manifest: Mapping[str, Any],
) -> Mapping[str, Any]:
    home = settings.paths.stage / paths.staged_run(downlink, manifest["l1_run"])
    return {
        "downlink": downlink,
        "run": manifest["run"],
        "decoded": decoded_events(decoded, manifest["run"]),
        "merged": manifest.get("brought"),
        "delivered": manifest["delivered"],
        "in_files": sum(file["events"] for file in manifest["files"]),
        "in_stage": sum(file["events"] for file in manifest["files"] if (home / file["name"]).is_file()),
    }
