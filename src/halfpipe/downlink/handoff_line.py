"""One JSON line a hand-off, in one file of the site, for whoever indexes logs (`metrics.handoffs`).

It says in brief what the receipt says, and when. Nothing reads it here.
"""

import json
import logging
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import halfpipe
from halfpipe import paths
from halfpipe.downlink.receipt_form import Receipt, Run
from halfpipe.files.advice import advice
from halfpipe.files.durable import flush, write_whole
from halfpipe.ids import DownlinkId
from halfpipe.run.receipt_file import last_number
from halfpipe.settings import Settings

log = logging.getLogger(__name__)

SUMS = ("events", "orphans", "withheld", "late", "held_events", "files", "bytes")
KEPT = {"run", "l1_run", "kind", "handoff", "held", "complete", "given_up", *SUMS}


def write(settings: Settings, content: Receipt) -> None:
    """Append the line of a hand-off, if the config wants it; call it before its receipt is recorded.

    A receipt that is made again has no other line. A job that dies between the two is done again, and writes the line
    again: whoever reads knows by its `id`. A disk that takes no more costs the line, not the hand-off.
    """
    path, downlink, number = settings.metrics.handoffs, content["downlink"], content["handoff"]
    work = settings.paths.work
    if path is None or last_number(work, DownlinkId(downlink)) >= number:
        return
    try:
        _append(path, json.dumps(of(content, time.time())).encode() + b"\n")
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


def _append(path: Path, line: bytes) -> None:
    """Append a line to a file that many processes write: the kernel keeps what one call writes in one piece."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab", buffering=0) as file:
        write_whole(file, line)
        flush(file.fileno())


def of(content: Receipt, at: float) -> dict[str, Any]:
    """Return what stands in the line of a receipt; `at` is when, Unix seconds."""
    runs = [_of_run(run) for run in content["runs"]]
    exceptions = (chunk["said"]["exceptions"].values() for chunk in content["chunks"])
    line = {
        "id": f"{content['downlink']}-{content['handoff']}",
        "time": datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds"),
        "downlink": content["downlink"],
        "handoff": content["handoff"],
        "halfpipe": halfpipe.__version__,
        "chunks": len(content["chunks"]),
        "exceptions": sum(map(sum, exceptions)),
        **{key: sum(run[key] for run in runs) for key in SUMS},
        "runs": runs,
    }
    return line | ({"reason": content["reason"]} if "reason" in content else {})


def _of_run(run: Run) -> dict[str, Any]:
    sizes = [file["size"] for file in run["files"]]
    made = {"events": run["delivered"], "files": len(sizes), "bytes": sum(sizes)}
    return {key: value for key, value in run.items() if key in KEPT} | made
