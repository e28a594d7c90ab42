"""Everything that was delivered of a run: when, by which downlink, and what is still waiting."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.errors import MissingInputError
from halfpipe.files import read_json
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.journal import Delivery, Journal


def show(work: Path, run: RunId) -> str:
    """Return what is known of `run`, as text for people.

    Raises
    ------
    MissingInputError
        If nothing is known of the run.
    """
    home = work / paths.run(run)
    if not home.is_dir():
        raise MissingInputError(f"nothing is known of run {run} ({run.l1}): there is no {home}")
    manifests = {
        DownlinkId(path.parent.name): read_json(path) for path in sorted(home.glob("*/manifest.json"))
    }
    latest = Journal(work / paths.journal(run)).latest()
    lines = [f"run {run}, {run.l1}, started at MET {run.met}"]
    for downlink in sorted(set(manifests) | set(latest)):
        lines += _downlink(work, downlink, manifests.get(downlink), latest.get(downlink))
    delivered = sum(delivery.events for delivery in latest.values())
    lines.append(f"in all {delivered} events delivered by {len(latest)} downlinks")
    return "\n".join(lines)


def _downlink(
    work: Path, downlink: DownlinkId, manifest: dict[str, Any] | None, delivery: Delivery | None
) -> list[str]:
    lines = [f"downlink {downlink}{_when(work, downlink, manifest)}"]
    if delivery is not None:
        for file in delivery.files:
            lines.append(
                f"  {file.name}  {file.events} events  sequences {file.sequences[0]} to {file.sequences[1]}"
                f"  seconds {file.seconds[0]} to {file.seconds[1]}  sha256 {file.sha256[:16]}"
            )
        if delivery.times:
            first, last = (datetime.fromtimestamp(t, UTC).isoformat(" ", "seconds") for t in delivery.times)
            lines.append(f"  events from {first} to {last}")
    else:
        lines.append("  nothing delivered")
    if manifest is not None:
        lines.append(f"  {'complete' if manifest['complete'] else 'open'} when it was delivered")
        lines += [f"  {reason}" for reason in manifest["why"]]
    return lines


def _when(work: Path, downlink: DownlinkId, manifest: dict[str, Any] | None) -> str:
    """Say in which hand-off and when; the time is that of the receipt's file, for products hold no clock."""
    if manifest is None:
        return ", not handed off (no manifest)"
    path = work / paths.receipt_history(downlink, manifest["handoff"])
    if not path.exists():
        return ", not handed off yet"
    when = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(" ", "seconds")
    return f", hand-off {manifest['handoff']}, {when}"
