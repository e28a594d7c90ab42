"""One run of one downlink to the stage: merge, decide, test as Level-1 will, record, write, make visible."""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfpipe import locks, paths, progress
from halfpipe.errors import MissingInputError
from halfpipe.handoff import eventfiles, handoffs, l1, stage
from halfpipe.ids import ChunkId, DownlinkId, RunId, RunKind
from halfpipe.memory import give_back
from halfpipe.merge import index
from halfpipe.merge.deliver import Decision, Policy, decide, in_sources
from halfpipe.merge.index import EventPart
from halfpipe.merge.journal import Delivery, EventFile
from halfpipe.merge.known import Context, KnownRun, context_scratch
from halfpipe.merge.settle import KnownDatagrams
from halfpipe.moot import UNSET, Moot, mapped_moot

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """Which run of which downlink goes to which stage, and how.

    `given_up` says that nobody waits for the run any more, `deliver_orphans` whether then all that is
    known of it is delivered; `threads` event files are written at a time. `moot` is what `moot.file` says;
    if that is `UNSET` and there is `mapped`, this is asked: by the kind of the run, and Unix UTC seconds and
    ground id of its first datagram; None says that nobody knows.
    """

    work: Path
    stage: Path
    downlink: DownlinkId
    run: RunId
    chunks: tuple[ChunkId, ...]
    policy: Policy
    latc: int | None
    moot: Moot
    threads: int = 1
    given_up: bool = False
    deliver_orphans: bool = True
    mapped: Callable[[RunKind, float, int], Moot | None] | None = None


def deliver_run(job: Job, context: Context) -> tuple[dict[str, Any], dict[str, Any]]:
    """Merge the chunk indexes of `job.run`, and deliver what `job.downlink` has to deliver of it now.

    Both happen under one lock of the run: a downlink whose index were known before it delivers would
    have its events delivered by others, in an order that no sequence of downlinks gives. The spans are
    recorded in the run's journal before the first file becomes visible. A run that Level-1 would
    refuse is held: nothing of it is recorded or staged.

    Returns
    -------
    tuple
        What vouches for the merged index, and the manifest.

    Raises
    ------
    HalfPipeError
        If something that is needed is gone, damaged, or cannot be written; then nothing was delivered,
        or giving the same command again delivers the same.
    """
    with locks.run_locked(job.work, job.run, log.info), context_scratch(job.work, job.run):
        merged, own = _merge(job, context)
        give_back()
        known = KnownRun.read(job.work, job.run, context, {job.downlink: own})
        before = known.deliveries().get(job.downlink)
        moot = _moot(job, known)
        decision, records = _decide(job, known)
        files = eventfiles.describe(records, decision.files, job.run)
        others = [file for dl, d in known.deliveries().items() if dl != job.downlink for file in d.files]
        held = l1.refusals([*others, *files]) if files else []
        if held:
            delivery = before or _delivery(job, decision, [])
        else:
            delivery = _stage(job, known, decision, records, files, moot)
    manifest = _manifest(job, decision, delivery, held, _shrunk(before, decision))
    manifest["moot"] = {"key": moot.key, "alias": moot.alias}
    manifest["missing"] = known.missing
    manifest["why"] = _why(manifest)
    for reason in manifest["why"]:
        log.log(
            logging.WARNING if held or manifest["shrunk"] else logging.INFO, "run %s: %s", job.run, reason
        )
    return merged, manifest


def _merge(job: Job, context: Context) -> tuple[dict[str, Any], KnownDatagrams]:
    """Make what the downlink brings of the run known to all downlinks; say what that is."""
    products = [index.chunk_products(job.work, job.downlink, job.run, chunk) for chunk in job.chunks]
    placed = [(chunk, context.products(job.downlink, chunk)) for chunk in products]

    def kept(name: str) -> Path:
        return job.work / paths.kept_index(job.downlink, name)

    merged = index.build(placed, job.threads, job.work / paths.context(job.run), kept)
    events = index.save(merged, job.work, job.run, job.downlink)
    # Of no use any more: from here on the merged index is read.
    for name in chain.from_iterable(chunk.files for chunk in products):
        kept(name).unlink(missing_ok=True)
    with suppress(OSError):
        (job.work / paths.kept_indexes(job.downlink)).rmdir()  # unless other runs are to come
    said = merged.as_json(events) | {"downlink": str(job.downlink), "run": str(job.run)}
    return said, merged.datagrams


def _moot(job: Job, known: KnownRun) -> Moot:
    """Return the key and alias of the run; its kind and its first datagram are by all that is known of it."""
    if job.moot != UNSET or job.mapped is None:
        return job.moot
    return mapped_moot(job.mapped, KnownDatagrams.together(known.datagrams.values()).rows)


def _decide(job: Job, known: KnownRun) -> tuple[Decision, eventfiles.Records]:
    """Decide, and find the records; what cannot be had is left out only if the config allows it."""
    parts = known.events(job.downlink)
    recorded = {dl: delivery.recorded for dl, delivery in known.deliveries().items()}
    numbers = {dl: number for number, dl in enumerate(in_sources(job.downlink, parts))}
    without: set[tuple[DownlinkId, str]] = set()
    while True:
        keys = {dl: _keys(part, numbers[dl], dl, without) for dl, part in parts.items()}
        decision = decide(
            job.downlink,
            known.datagrams,
            keys,
            recorded,
            job.policy,
            given_up=job.given_up and job.deliver_orphans,
        )
        del keys
        gone: list[tuple[DownlinkId, str]] = []
        records = eventfiles.Records(decision, parts, _locator(known, gone))
        if not gone:
            return decision, records
        without.update(gone)


def _keys(
    part: EventPart, number: int, downlink: DownlinkId, without: set[tuple[DownlinkId, str]]
) -> NDArray[np.void]:
    """Return the keys of the events of a downlink, but for those in evt files that cannot be had."""
    keys = part.keys(number)
    gone = [n for n, name in enumerate(part.files) if (downlink, name) in without]
    return keys[~np.isin(keys["file"], gone)] if gone else keys


def _locator(known: KnownRun, gone: list[tuple[DownlinkId, str]]) -> Callable[[DownlinkId, str], Path | None]:
    def locate(downlink: DownlinkId, name: str) -> Path | None:
        try:
            return known.evt_file(downlink, name)
        except MissingInputError as error:
            if not known.context.without:
                raise
            known.missing.append(str(error))
            gone.append((downlink, name))
            return None

    return locate


def _stage(
    job: Job,
    known: KnownRun,
    decision: Decision,
    records: eventfiles.Records,
    files: Sequence[EventFile],
    moot: Moot,
) -> Delivery:
    header = eventfiles.Header(job.downlink, job.run, moot, job.latc)
    with stage.scratch(job.stage, job.downlink, job.run.l1) as scratch:
        home = scratch / "new"
        home.mkdir()
        with progress.of(f"deliver_run {job.run}", total_bytes=sum(file.size for file in files)) as bar:
            made = eventfiles.write_all(records, decision.files, files, header, home, job.threads, bar)
        written = [file for file, _ in made]
        delivery = _delivery(job, decision, written, [times for _, times in made])
        elsewhere = {
            file.name for dl, d in known.deliveries().items() if dl != job.downlink for file in d.files
        }
        stale = known.journal.names(job.downlink) - {file.name for file in written} - elsewhere
        known.journal.record(delivery)
        stage.place(job.stage, home, job.downlink, job.run, written, stale)
    return delivery


def _delivery(
    job: Job, decision: Decision, files: Sequence[EventFile], times: Sequence[eventfiles.Times] = ()
) -> Delivery:
    all_times = eventfiles.Times.together(times) if times else None
    return Delivery(
        job.downlink,
        decision.spans if files else (),
        decision.datagrams,
        tuple(files),
        (all_times.first, all_times.last) if all_times else None,
        (all_times.earliest, all_times.latest) if all_times else None,
    )


def _shrunk(before: Delivery | None, decision: Decision) -> int:
    """Count the events that were delivered before and are not there any more."""
    if before is None:
        return 0
    sequence = np.ascontiguousarray(decision.events["sequence"])  # else each search copies it
    firsts, lasts = (np.array([span[edge] for span in before.spans], np.uint64) for edge in (0, 1))
    inside = np.searchsorted(sequence, lasts, side="right") - np.searchsorted(sequence, firsts, side="left")
    return max(0, before.events - int(inside.sum()))


def _manifest(
    job: Job, decision: Decision, delivery: Delivery, held: list[str], shrunk: int
) -> dict[str, Any]:
    return delivery.as_json() | {
        "run": str(job.run),
        "l1_run": job.run.l1,
        "handoff": handoffs.next_number(job.work, job.downlink),
        "kind": str(decision.kind),
        "epus": list(decision.epus),
        "complete": decision.complete,
        "given_up": job.given_up and not decision.complete,
        # Of datagrams, which are never cleaned up: events of other downlinks are read only where they are needed.
        "known": decision.announced,
        "delivered": delivery.events,
        "orphans": decision.orphans,
        "withheld": decision.withheld,
        "late": decision.late,
        "shrunk": shrunk,
        "held": held,
        "gaps": [list(gap) for gap in decision.gaps],
        "settled": [list(place) for place in decision.settled],
    }


def _why(manifest: dict[str, Any]) -> list[str]:
    """Say in words why events of the run were not delivered."""
    why = []
    if not manifest["epus"]:
        why.append("no datagram of this run is known from any downlink, so nothing is settled")
    if manifest["held"]:
        why.append(
            "HELD, nothing of it was staged or recorded, because Level-1 would refuse the whole run: "
            + "; ".join(manifest["held"])
        )
    unsettled = manifest["orphans"] - manifest["withheld"]
    if manifest["given_up"]:
        why.append("GIVEN UP by an operator: nobody waits for what is missing of this run")
    if unsettled and manifest["given_up"]:
        why.append(f"{unsettled} orphans of it stay undelivered, as retire.deliver_orphans says")
    elif unsettled:
        why.append(
            f"{unsettled} orphans wait for datagrams that are missing, or for an EPU that was not seen yet "
            f"(seen: {', '.join(map(str, manifest['epus'])) or 'none'})"
        )
    if manifest["withheld"]:
        why.append(
            f"{manifest['withheld']} settled events are withheld: too few beside each other to make a file "
            "that Level-1 takes (merge.min_events)"
        )
    if manifest["late"]:
        why.append(
            f"{manifest['late']} late events lie inside what other downlinks have delivered already; "
            "processing these downlinks again delivers them"
        )
    if manifest["shrunk"]:
        why.append(
            f"SHRUNK: {manifest['shrunk']} events that this downlink had delivered are not in its input any more"
        )
    why += [f"merged without: {missing}" for missing in manifest["missing"]]
    return why
