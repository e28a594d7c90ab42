"""Runs that a downlink had delivered and does not bring any more: a hand-off without them is one that shrinks."""

import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any

from halfpipe.handoff import handoffs, stage
from halfpipe.ids import DownlinkId, RunId
from halfpipe.runs.acceptance import ShrunkError, accepted
from halfpipe.runs.journal import Delivery, Journal
from halfpipe.settings import Settings
from halfpipe.storage import leases, paths
from halfpipe.storage.durable import make_directory, remove_file
from halfpipe.storage.json_files import write_json

log = logging.getLogger(__name__)


def settle(settings: Settings, downlink: DownlinkId, runs: Collection[RunId]) -> None:
    """Refuse a hand-off without a run of the one before, unless the config accepts it; then record that.

    Raises
    ------
    ShrunkError
        If nobody accepts it; names each run, its events, and the chunks that brought it.
    """
    receipt = handoffs.latest_receipt(settings.paths.work, downlink)
    if receipt is None:
        return
    gone = [run for run in receipt["runs"] if run["files"] and run["run"] not in runs]
    reasons = {run["run"]: accepted(settings, downlink, RunId(run["run"])) for run in gone}
    refused = {run["run"]: _refusal(downlink, run, receipt) for run in gone if reasons[run["run"]] is None}
    for run in gone:
        if said := refused.get(run["run"]):
            _keep(settings, downlink, run, said, receipt)
    if refused:
        raise ShrunkError("\n".join(refused.values()))
    for run in gone:
        log.warning("run %s is no longer delivered, as was accepted: %s", run["run"], reasons[run["run"]])
        _withdraw(settings, downlink, RunId(run["run"]), reasons[run["run"]])


def _keep(
    settings: Settings, downlink: DownlinkId, run: dict[str, Any], said: str, receipt: dict[str, Any]
) -> None:
    """Keep a refusal for whoever asks how the downlink stands."""
    work, path = settings.paths.work, Path(paths.refused(run["run"], downlink))
    spans = [edge for span in run["spans"] for edge in span]
    chunks = {chunk["chunk"]: None for chunk in receipt["chunks"] if run["run"] in chunk["runs"]}
    content = {
        "events": run["delivered"],
        "sequences": [min(spans), max(spans)],
        "chunks": chunks,
        "text": said,
    }
    write_json(make_directory(work, str(path.parent)) / path.name, content)


def _refusal(downlink: DownlinkId, run: dict[str, Any], receipt: dict[str, Any]) -> str:
    chunks = (
        ", ".join(chunk["chunk"] for chunk in receipt["chunks"] if run["run"] in chunk["runs"])
        or "none known"
    )
    return (
        f"run {run['run']} ({run['l1_run']}) of downlink {downlink} SHRINKS: {run['delivered']} events that Level-1 "
        f"may have would not be delivered again: no chunk brings the run now (chunk {chunks} did). Refused: it is "
        "not handed off. Bring the input back (RetDefs, level-0, ignore.chunks) and process it again: snakemake "
        f"dl={downlink} -F; or accept the loss in the config, shrink: "
        f'{{accept: [{{dl: "{downlink}", run: "{run["run"]}", reason: "..."}}]}}, then: snakemake dl={downlink}'
    )


def _withdraw(settings: Settings, downlink: DownlinkId, run: RunId, reason: str | None) -> None:
    """Record that nothing of the run is delivered, and take out of the stage what is left of it there."""
    work, place = settings.paths.work, settings.paths.stage
    with leases.run_lease(work, run, log.warning), stage.scratch(place, downlink, run.l1) as scratch:
        remove_file(work / paths.refused(run, downlink))
        journal = Journal(work / paths.journal(run))
        latest = journal.latest()
        before = latest.pop(downlink, None)
        if before is None or not before.files:
            return
        others = {file.name for delivery in latest.values() for file in delivery.files}
        new = scratch / "new"
        new.mkdir()
        journal.record(Delivery(downlink, (), before.datagrams, (), None, None, before.handoff, reason))
        stage.place(place, new, downlink, run, (), journal.names(downlink) - others)
