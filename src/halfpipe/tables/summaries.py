"""Summaries of a run or a downlink: its deliveries, when they were made, and events that still wait."""

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from halfpipe import paths
from halfpipe.downlink.submissions import submissions
from halfpipe.errors import HalfPipeError, MissingInputError
from halfpipe.files.json_files import read_json
from halfpipe.formats import met
from halfpipe.ids import DownlinkId, RunId
from halfpipe.process.failure_record import Failure
from halfpipe.run.deliveries import Deliveries
from halfpipe.run.downlinks_of_run import refuse_unknown
from halfpipe.run.receipt_file import hand_offs, read_receipt
from halfpipe.settings import Settings
from halfpipe.status.account import account
from halfpipe.status.failed_jobs import end_of, failed_jobs
from halfpipe.status.survey import Survey
from halfpipe.tables import frames

PARTS = ["downlink", "handoff", "submitted", "handed_off", "events", "begin", "end", "state"]


def show(work: Path, run: RunId) -> dict[str, Any]:
    """Return a summary of `run`.

    Returns
    -------
    dict
        ``run`` and ``l1_run``: its names here and at Level-1. ``started`` and ``met``: its start, UTC and MET.
        ``parts``: a frame with one row per downlink: the number of the hand-off, if there is a manifest; the number of
        the downlink's hand-off at Level-1, if any; when it was handed off; the number of events; the times of the first
        and the last; the state of the run at that time. ``files``: a frame with the event files.

    Raises
    ------
    MissingInputError
        If the run is unknown.
    """
    refuse_unknown(work, run)
    manifests = {
        DownlinkId(path.parent.name): read_json(path)
        for path in sorted((work / paths.run(run)).glob("*/manifest.json"))
    }
    latest = Deliveries(work, run).latest()
    parts, files = [], []
    for downlink in sorted(manifests.keys() | latest.keys()):
        manifest, delivery = manifests.get(downlink), latest.get(downlink)
        begin, end = map(met.utc_datetime, delivery.times) if delivery and delivery.times else (None, None)
        number = manifest and manifest["handoff"]
        state = manifest and ("complete" if manifest["complete"] else "open")
        events = delivery and delivery.events
        submitted, when = _submitted(work, downlink), None
        with suppress(HalfPipeError):  # the account reports damaged receipts
            when = _times(work, downlink).get(number)
        parts.append((downlink, number, submitted, when, events, begin, end, state))
        if delivery:
            files += [
                (
                    downlink,
                    file.name,
                    file.events,
                    "{}-{}".format(*file.sequences),
                    "{}-{}".format(*file.seconds),
                    file.sha256,
                )
                for file in delivery.files
            ]
    return {
        "run": run,
        "l1_run": run.l1,
        "started": met.utc_datetime(met.met_to_unix(run.met)),
        "met": run.met,
        "parts": pd.DataFrame(parts, columns=PARTS, dtype=object),
        "files": pd.DataFrame(files, columns=["downlink", "file", "events", "sequences", "MET", "sha256"]),
    }


def _submitted(work: Path, downlink: DownlinkId) -> int | str | None:
    """Return the number of a downlink's hand-off at Level-1, if any; ``not known`` if its records are damaged."""
    try:
        return frames.submitted_number(work, downlink)
    except HalfPipeError:
        return "not known"


def _times(work: Path, downlink: DownlinkId) -> dict[int | None, datetime | None]:
    """Return the time of each hand-off of a downlink, by number."""
    made = {handoff.number: handoff.made for handoff in hand_offs(work, downlink)}
    return {number: None if at is None else datetime.fromtimestamp(at, UTC) for number, at in made.items()}


def show_downlink(settings: Settings, downlink: DownlinkId) -> dict[str, Any]:
    """Return a summary of `downlink`.

    Returns
    -------
    dict
        ``account``: its account. ``runs``: a frame with the runs of its receipt. ``handoffs``: the time of each
        hand-off, None if unknown. ``submissions``: the attempts to submit hand-offs to Level-1; an ``outcome`` is empty
        if it is unknown. ``running``: the last line of each log of a job that started and has not ended yet.

    Raises
    ------
    MissingInputError
        If the downlink is unknown.
    """
    work = settings.paths.work
    found = account(Survey(settings), downlink)
    if not found.chunks[1] and not (work / downlink).is_dir():
        where = ", ".join(str(home / downlink) for home in (work, *settings.paths.retdef))
        raise MissingInputError(f"downlink {downlink} is unknown: none of these exist: {where}")
    receipts, attempts, handoffs = [], [], dict[int | None, datetime | None]()
    with suppress(HalfPipeError):  # the account reports damage
        if (work / paths.receipt(downlink)).exists():
            receipts.append(read_receipt(work, downlink))
        handoffs = _times(work, downlink)
    with suppress(HalfPipeError):
        attempts = [
            {
                **{key: getattr(each, key) for key in ("action", "handoff", "when")},
                "outcome": each.word,
            }
            for each in submissions(work, downlink).every
        ]
    begun = [failed.log for failed in failed_jobs(work, downlink) if Failure.read(failed.log) is None]
    return {
        "account": found,
        "runs": frames.runs(receipts)
        .reset_index()
        .drop(columns=["submitted", "started", "started_met", "begin", "end", "begin_met", "end_met"]),
        "handoffs": handoffs,
        "submissions": attempts,
        "running": [f"{log.stem}: {''.join(end_of(log, 1))}" for log in begun],
    }
