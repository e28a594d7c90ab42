"""Runs that a downlink had delivered and does not bring any more: a hand-off without them is one that shrinks."""

import logging
from collections.abc import Collection, Mapping
from typing import Any

from halfpipe.files import leases
from halfpipe.files.leases import Lease
from halfpipe.ids import DownlinkId, RunId
from halfpipe.run import stage
from halfpipe.run.deliveries import Deliveries, Delivery
from halfpipe.run.receipt_file import hand_offs
from halfpipe.run.shrinking import ShrunkError, accepted, how_to_go_on
from halfpipe.settings import Settings

log = logging.getLogger(__name__)


def refuse_dropped_runs(
    settings: Settings, of_downlink: Lease, downlink: DownlinkId, runs: Collection[RunId]
) -> None:
    """Refuse a hand-off without a run of the one before, unless the config accepts it; then record that.

    Raises
    ------
    ShrunkError
        If nobody accepts it; names each run, its events, and the chunks that brought it.
    """
    made = hand_offs(settings.paths.work, downlink)
    if not made:
        return
    receipt = made[-1].receipt
    gone = [run for run in receipt["runs"] if run["files"] and run["run"] not in runs]
    reasons = {run["run"]: accepted(settings, downlink, RunId(run["run"])) for run in gone}
    refused = {run["run"]: _refusal(downlink, run, receipt) for run in gone if reasons[run["run"]] is None}
    if refused:
        raise ShrunkError("\n".join(refused.values()), how_to_go_on(min(refused), downlink, "-F"))
    for run in gone:
        log.warning("run %s is no longer delivered, as was accepted: %s", run["run"], reasons[run["run"]])
        _withdraw(settings, of_downlink, downlink, RunId(run["run"]), reasons[run["run"]])


def _refusal(downlink: DownlinkId, run: Mapping[str, Any], receipt: Mapping[str, Any]) -> str:
    chunks = (
        ", ".join(chunk["chunk"] for chunk in receipt["chunks"] if run["run"] in chunk["runs"])
        or "none known"
    )
    return (
        f"run {run['run']} ({run['l1_run']}) of downlink {downlink} would lose all {run['delivered']} "
        f"delivered events, which Level-1 may have: no chunk contains the run now (chunk {chunks} did). Refused: the "
        "downlink is not handed off."
    )


def _withdraw(
    settings: Settings, of_downlink: Lease, downlink: DownlinkId, run: RunId, reason: str | None
) -> None:
    """Record that nothing of the run is delivered, and take out of the stage what is left of it there."""
    work, place = settings.paths.work, settings.paths.stage
    with leases.run_lease(work, run, log.warning) as lease, stage.scratch(place, downlink, run.l1) as scratch:
        recorded = Deliveries(work, run)
        latest = recorded.latest()
        before = latest.pop(downlink, None)
        if before is None:
            return
        others = {file.name for delivery in latest.values() for file in delivery.files}
        new = scratch / "new"
        new.mkdir()
        of_downlink.check()
        recorded.publish(Delivery(downlink, (), before.datagrams, (), None, None, before.handoff, reason))
        for each in (of_downlink, lease):
            each.check()
        stage.place(place, new, downlink, run, (), recorded.names(downlink) - others)
