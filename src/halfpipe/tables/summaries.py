"""Everything that is known of a run, or of a downlink: what was delivered, when, and what is still waiting."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.downlink.submissions import Record
from halfpipe.errors import MissingInputError
from halfpipe.files.json_files import read_json
from halfpipe.formats import met
from halfpipe.ids import DownlinkId, RunId
from halfpipe.process import progress
from halfpipe.run import repipes
from halfpipe.run.deliveries import Deliveries, Delivery, EventFile
from halfpipe.run.receipt_file import hand_offs, read_receipt
from halfpipe.settings import Settings
from halfpipe.status.account import Account, Site, account
from halfpipe.tables.delivered_runs import Delivered, delivered


@dataclass(frozen=True)
class Part:
    """What one downlink delivered of a run.

    Attributes
    ----------
    downlink, handoff
        The downlink, and the number of the hand-off; None if there is no manifest that says it.
    handed_off
        When, which is the time of the receipt's file, for products hold no clock; None if it was not.
    files, times
        The event files, and the times of the first and the last event; None without one.
    state
        How the run stood then: "complete" or "open", None without a manifest.
    why
        Why what was not delivered was not.
    """

    downlink: DownlinkId
    handoff: int | None
    handed_off: datetime | None
    files: tuple[EventFile, ...]
    times: tuple[datetime, datetime] | None
    state: str | None
    why: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """A run: its start (UTC and MET), its parts by downlink, and how many events `deliveries` downlinks delivered.

    `repipes` are the made-up downlinks that processed it once more (`halfpipe.run.repipes`); they do not count.
    """

    run: RunId
    l1_run: str
    started: datetime
    met: int
    parts: tuple[Part, ...]
    events: int
    deliveries: int
    repipes: tuple[Mapping[str, Any], ...] = ()


def show(work: Path, run: RunId) -> Run:
    """Return what is known of `run`.

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
    latest = Deliveries(work, run).latest()
    parts = tuple(
        _part(work, downlink, manifests.get(downlink), latest.get(downlink))
        for downlink in sorted(set(manifests) | set(latest))
    )
    started = met.utc(met.met_to_unix(run.met))
    events = sum(each.events for each in latest.values())
    return Run(run, run.l1, started, run.met, parts, events, len(latest), repipes.done(work, run))


def _part(
    work: Path, downlink: DownlinkId, manifest: Mapping[str, Any] | None, delivery: Delivery | None
) -> Part:
    handed_off = None
    if manifest is not None:
        handed_off = _times(work, downlink).get(manifest["handoff"])
    return Part(
        downlink,
        manifest["handoff"] if manifest else None,
        handed_off,
        delivery.files if delivery else (),
        (met.utc(delivery.times[0]), met.utc(delivery.times[1])) if delivery and delivery.times else None,
        ("complete" if manifest["complete"] else "open") if manifest else None,
        tuple(manifest["why"]) if manifest else (),
    )


def _times(work: Path, downlink: DownlinkId) -> dict[int, datetime | None]:
    """Return when each hand-off of a downlink was made."""
    made = {handoff.number: handoff.made for handoff in hand_offs(work, downlink)}
    return {number: None if at is None else datetime.fromtimestamp(at, UTC) for number, at in made.items()}


@dataclass(frozen=True)
class Submission:
    """One attempt to give Level-1 a hand-off, in the words of its record; `outcome` is empty if nobody knows it."""

    action: str
    handoff: int
    when: str
    outcome: str


@dataclass(frozen=True)
class Downlink:
    """A downlink: how it stands, what its receipt says of its runs, and why what was not delivered was not.

    `handoffs` are its hand-offs with the times of their receipts, None of one that has none; `running` is how far
    each job is that has run for ten seconds.
    """

    account: Account
    runs: tuple[Delivered, ...]
    why: Mapping[str, Sequence[str]]
    handoffs: Mapping[int, datetime | None]
    submissions: tuple[Submission, ...]
    running: tuple[str, ...] = ()


def show_downlink(settings: Settings, downlink: DownlinkId) -> Downlink:
    """Return what is known of `downlink`.

    Raises
    ------
    MissingInputError
        If nothing is known of it.
    """
    work = settings.paths.work
    found = account(Site(settings), downlink)
    if not found.chunks[1] and not (work / downlink).is_dir():
        where = ", ".join(str(home / downlink) for home in (work, *settings.paths.retdef))
        raise MissingInputError(f"nothing is known of downlink {downlink}: there is no {where}")
    receipt = work / paths.receipt(downlink)
    record = Record(work, downlink)
    return Downlink(
        found,
        tuple(delivered(work, [downlink]) if receipt.exists() else ()),
        {run["run"]: run["why"] for run in read_receipt(work, downlink)["runs"]} if receipt.exists() else {},
        _times(work, downlink),
        tuple(
            Submission(each.action, each.handoff, each.when, record.word(each.outcome))
            for each in record.attempts
        ),
        tuple(said for log in _logs(work, downlink) if (said := progress.told_by(log, time.time()))),
    )


def _logs(work: Path, downlink: DownlinkId) -> Sequence[Path]:
    return sorted((work / paths.logs() / downlink).glob("*.log"))
