"""One JSON line a hand-off, in one file of the site, for whoever indexes logs (`metrics.handoffs`).

It says in brief what the receipt says, and when. Nothing reads it here.
"""

import logging
import time
from datetime import UTC, datetime
from typing import Any

import halfpipe
from halfpipe.handoff.receipt_form import Receipt, Run
from halfpipe.ids import DownlinkId
from halfpipe.runs.receipt_file import last_number
from halfpipe.settings import Settings
from halfpipe.storage import paths
from halfpipe.storage.advice import advice
from halfpipe.storage.json_lines import append_once

log = logging.getLogger(__name__)

CLOCK = "time"


def write(settings: Settings, content: Receipt) -> None:
    """Append the line of a hand-off, if the config wants it; call it before its receipt is recorded.

    A job that dies in between is done again and finds the line there; one that dies before has recorded no receipt. A
    receipt that is made again has no other line. A disk that takes no more costs the line, not the hand-off.
    """
    path, downlink, number = settings.metrics.handoffs, content["downlink"], content["handoff"]
    work = settings.paths.work
    if path is None or last_number(work, DownlinkId(downlink)) >= number:
        return
    try:
        append_once(path, of(content, time.time()), but_for=CLOCK)
    except OSError as error:
        log.warning(
            "%s: the line of hand-off %d of downlink %s cannot be written: %s. It is handed off all the same, and %s "
            "has all that the line lacks. %s",
            path,
            number,
            downlink,
            error.strerror,
            work / paths.receipt(downlink),
            advice(error),
        )


def of(content: Receipt, at: float) -> dict[str, Any]:
    """Return what stands in the line of a receipt; `at` is when, Unix seconds."""
    runs = [_of_run(run) for run in content["runs"]]
    sums = ("events", "orphans", "withheld", "late", "held_events", "files", "bytes")
    exceptions = (chunk["said"]["exceptions"].values() for chunk in content["chunks"])
    line = {
        "id": f"{content['downlink']}-{content['handoff']}",
        CLOCK: datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds"),
        "downlink": content["downlink"],
        "handoff": content["handoff"],
        "halfpipe": halfpipe.__version__,
        "chunks": len(content["chunks"]),
        "exceptions": sum(map(sum, exceptions)),
        **{key: sum(run[key] for run in runs) for key in sums},
        "runs": runs,
    }
    return line | ({"reason": content["reason"]} if "reason" in content else {})


def _of_run(run: Run) -> dict[str, Any]:
    return {
        "run": run["run"],
        "l1_run": run["l1_run"],
        "kind": run["kind"],
        "handoff": run["handoff"],
        "events": run["delivered"],
        "files": len(run["files"]),
        "bytes": sum(file["size"] for file in run["files"]),
        **{key: run[key] for key in ("orphans", "withheld", "late", "held_events", "held", "complete")},
        "given_up": run["given_up"],
    }
