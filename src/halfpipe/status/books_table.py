"""The books of runs and downlinks now: the one source of every number of events on a screen."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from operator import itemgetter
from pathlib import Path
from typing import Any, Protocol

from halfpipe import paths
from halfpipe.causes import Cause
from halfpipe.downlink.plan import Plan
from halfpipe.downlink.submissions import submissions
from halfpipe.downlink.unbalanced import decoded_events, findings
from halfpipe.errors import HalfPipeError, MissingInputError
from halfpipe.files import lease
from halfpipe.files.json_files import read_json
from halfpipe.files.reading import modified
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.books import Books, Standing
from halfpipe.run.deliveries import DeliveryHistory
from halfpipe.run.downlinks_of_run import begun_downlinks, known_downlinks
from halfpipe.run.manifest_books import of_entry, state_of
from halfpipe.run.receipt_file import last_hand_off
from halfpipe.settings import Settings

NUMBERS = (*(each.name for each in fields(Books)), "lost")


class Site(Protocol):
    """What the tables need of a site that is looked at."""

    @property
    def settings(self) -> Settings:
        """The settings."""

    @property
    def work(self) -> Path:
        """`paths.work`."""

    @property
    def plan(self) -> Plan:
        """The plan of each downlink."""

    def books(self, run: RunId) -> Standing:
        """Return the books of a run as it stands."""


def books_now(
    settings: Settings,
    run: RunId,
    recorded: DeliveryHistory,
    *,
    given_up: bool,
    entries: Iterable[Mapping[str, Any]] = (),
) -> Standing:
    """Return the books of a run as it stands.

    The last merge of the run has closed them. If something has changed since, as after a job that failed between its
    merge and its delivery, they are closed again here, from the rows of all events. If these cannot be read, the books
    are those of the last merge, and marked as old.

    Parameters
    ----------
    settings, run
        The settings and the run.
    recorded
        Its deliveries.
    given_up
        Whether it is abandoned.
    entries
        Entries of the run that were read already, from receipts or manifests.
    """
    work, state = settings.paths.work, state_of(settings, run, recorded, given_up=given_up)
    for entry in entries:
        if entry.get("state") == state:
            return Standing(of_entry(entry))
    manifests = dict(_manifests(work, run))
    for manifest in reversed(manifests.values()):
        if manifest.get("state") == state:
            return Standing(of_entry(manifest))
    whole = manifests.keys() >= {*known_downlinks(work, run)}
    if manifests and whole and all("taken_over" in manifest for manifest in manifests.values()):
        return Standing(of_entry(next(reversed(manifests.values()))))
    old = "it is being merged now"
    if not _is_merged_now(work, run):
        from halfpipe.status.known import Known  # noqa: PLC0415 - arrays, which most accounts do without

        try:
            known = Known(settings, run, is_given_up=given_up)
            if not known.unread:
                held = any(manifest["held"] for manifest in manifests.values())
                return Standing(known.books(is_refused=held))
            old = "; ".join(known.unread.values())
        except HalfPipeError as error:
            old = error.text.rstrip(".")
    last = _closed_last(work, run)
    return Standing(None if last is None else of_entry(last), old)


def _manifests(work: Path, run: RunId) -> Iterator[tuple[DownlinkId, Mapping[str, Any]]]:
    for downlink in known_downlinks(work, run):
        with suppress(HalfPipeError):  # a missing or damaged one is a cause of its own
            yield downlink, read_json(work / paths.manifest(run, downlink))


def _closed_last(work: Path, run: RunId) -> Mapping[str, Any] | None:
    """Return the entry of a run that was written last, from manifests and hand-offs: Snakemake deletes manifests."""
    found = [
        (modified(f"{work}/{paths.manifest(run, downlink)}") or 0.0, manifest)
        for downlink, manifest in _manifests(work, run)
    ]
    for downlink in begun_downlinks(work, run):
        with suppress(HalfPipeError):
            if last := last_hand_off(work, downlink, only_look=True):
                entries = (entry for entry in last.receipt["runs"] if entry["run"] == run)
                found += [(last.made or 0.0, entry) for entry in entries]
    return max(found, key=itemgetter(0))[1] if found else None


def _is_merged_now(work: Path, run: RunId) -> bool:
    found = lease.look(work, paths.run_lease(run))
    return found is not None and found.lives


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


def table(site: Site, what: DownlinkId | RunId) -> Table:
    """Return the books of a downlink, or of a run in all its downlinks.

    Raises
    ------
    MissingInputError
        If nothing is known of it.
    HalfPipeError
        If a record of it is damaged.
    """
    work = site.work
    downlinks = [what] if isinstance(what, DownlinkId) else known_downlinks(work, what)
    chunks, runs, handoffs = list[Mapping[str, Any]](), list[Mapping[str, Any]](), list[Mapping[str, Any]]()
    found, shown = list[Cause](), {what} if isinstance(what, RunId) else set[RunId]()
    for downlink in downlinks:
        of, last = site.plan.of(downlink), last_hand_off(work, downlink, only_look=True)
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
            runs.append(_of_run(site.settings, downlink, decoded, manifest))
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
        now = site.books(run)
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
