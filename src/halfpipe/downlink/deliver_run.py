"""One run of one downlink to the stage: merge, decide, test as Level-1 will, record, write, make visible."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from halfpipe import paths
from halfpipe.errors import StateError
from halfpipe.files import leases
from halfpipe.files.json_files import read_json
from halfpipe.files.lease import Lease
from halfpipe.files.records import TakenError
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.ledger import moot_key
from halfpipe.merge.balance import closed_books, lost_events
from halfpipe.merge.books import Books
from halfpipe.merge.decision import Decision, all_known, decide, in_sources
from halfpipe.merge.late import Events
from halfpipe.merge.undelivered import undelivered
from halfpipe.process.environment import release_memory
from halfpipe.run import event_files, force_list, level1_acceptance, shrinking, stage
from halfpipe.run.books import as_entry, state_of
from halfpipe.run.deliveries import Delivery, DeliveryHistory, EventFile
from halfpipe.run.event_records import Records
from halfpipe.run.merged_index import ChunkProducts, MergedIndex, merge_chunks
from halfpipe.run.moot_keys import Moot
from halfpipe.run.receipt_file import next_number
from halfpipe.run.run_state import Context, KnownRun, context_scratch
from halfpipe.settings import Settings, reason_of

log = logging.getLogger(__name__)


def deliver_run(
    settings: Settings,
    of_downlink: Lease,
    downlink: DownlinkId,
    run: RunId,
    chunks: Sequence[ChunkId],
    *,
    threads: int,
    output: IO[str],
) -> dict[str, Any]:
    """Merge what the chunks bring of `run`, and deliver what `downlink` has to deliver of it now.

    Both happen under one lease of the run: if others knew what the downlink brings before it delivers, they could
    deliver its events, as no order of downlinks would. The delivery is recorded before the first file becomes visible.
    A run that Level-1 would refuse is held: nothing of it is recorded or staged. One that would shrink is refused,
    unless the config accepts it: what the downlink brought before stays known, too.

    Parameters
    ----------
    settings
        The settings.
    of_downlink
        The downlink's lease: whoever has followed may have handed the downlink off, and Level-1 have taken it.
    downlink, run
        Which run of which downlink.
    chunks
        Decoded chunks of the downlink. Their products show which of them contain the run.
    threads
        The rows of so many indexes are read, and so many event files written, at a time.
    output
        Takes what the decoder prints where a chunk is decoded again.

    Returns
    -------
    dict
        The manifest.

    Raises
    ------
    ShrunkError
        If fewer events would be delivered than Level-1 may have; then nothing was changed.
    StateError
        If a record of the run is damaged, or what the legacy recorded of it cannot be read; then nothing was changed.
    HalfPipeError
        If something that is needed is gone, damaged, or cannot be written; then nothing was delivered,
        or re-running the command delivers the same.
    """
    work = settings.paths.work
    with leases.run_lease(settings, run, log.warning) as lease, context_scratch(work, run):
        context = Context(settings, run, output)
        decoded = [read_json(work / paths.chunk(downlink, chunk)) for chunk in chunks]
        products = [ChunkProducts.of(chunk, run) for chunk in decoded if run in chunk["runs"]]
        evt_files: dict[Path, int] = {}
        brought = merge_chunks(
            ((chunk, context.place(downlink, chunk)) for chunk in products), evt_files, threads
        )
        release_memory()
        log.info("run %s: %d events indexed in %d chunks", run, len(brought[1]), len(products))
        while True:
            try:
                return _deliver(context, (of_downlink, lease), downlink, brought, evt_files, threads)
            except TakenError as error:
                lease.check()  # who has followed has removed what is merged here
                log.warning("%s Decided again what is delivered.", error)


def _deliver(
    context: Context,
    under: Sequence[Lease],
    downlink: DownlinkId,
    brought: tuple[MergedIndex, Events],
    evt_files: dict[Path, int],
    threads: int,
) -> dict[str, Any]:
    """Decide what is delivered of what is known now, record it and stage it.

    Raises
    ------
    TakenError
        If another process has recorded a delivery since this one looked; nothing was staged then.
    LeaseLostError
        If another process has followed; nothing was staged then.
    """
    settings, work, run = context.settings, context.work, context.run
    known = KnownRun.read(context, {downlink: brought}, evt_files)
    events = known.events_for(downlink)
    if unreadable := next(iter(known.recorded.unreadable.values()), None):
        raise StateError(
            f"{unreadable.text}. Nothing was delivered.", unreadable.remedy, code="takeover-refused"
        )
    moot = moot_key.of_run(settings, run, known.all_datagrams.rows)
    recorded = known.recorded.latest()
    given_up = run in force_list.read(work).runs
    rows = all_known(in_sources(downlink, events), events)
    decision = decide(
        downlink,
        known.all_datagrams,
        events,
        recorded,
        settings.merge,
        earlier=known.recorded.earlier(),
        given_up=given_up and settings.retire.deliver_orphans,
        known=rows,
        vanished=not brought[0].chunks,
    )
    records = Records(decision, known.files)
    before = recorded.pop(downlink, None)
    loss = _refuse_to_shrink(known, downlink, before, decision)
    files = event_files.describe(records, decision.files, run)
    others = [file for delivery in recorded.values() for file in delivery.files]
    held = level1_acceptance.refusals([*others, *files]) if files else []
    if files and not decision.epus:
        held.append(
            f"no datagram of run {run} is known from any downlink, so no text can name it, and Level-1 fails on it"
        )
    planned = Delivery(
        downlink, decision.spans, decision.datagrams, tuple(files), None, None, counts=decision.counts
    )
    after = known.recorded if held else known.recorded.after(planned)
    books = _books(known, events, rows, after, None if held else downlink, given_up=given_up)
    del rows
    for lease in under:  # else it would replace the index of whoever has followed
        lease.check()
    # From here on all downlinks know what this one brings of the run.
    brought[0].save(work, run, downlink)
    release_memory()  # what deciding and saving took, before records are held
    number = next_number(work, downlink, known.recorded)
    if held:
        delivery = before or Delivery(downlink, (), decision.datagrams, (), None, None)
    else:
        stale = known.recorded.names(downlink) - {file.name for file in (*files, *others)}
        reason = reason_of(settings.shrink.accept, downlink, run, loss) if loss else None
        if before and sum(file.events for file in files) <= before.events:
            reason = reason or before.accepted
        delivery = _stage(
            known, under, downlink, decision, records, files, moot, stale, threads, number, reason
        )
    manifest = {key: value for key, value in delivery.as_json().items() if key != "counts"} | {
        "run": str(run),
        "l1_run": run.l1,
        "chunks": [str(chunk.chunk) for chunk in brought[0].chunks],
        "handoff": number,
        "delivery": known.recorded.seal(downlink),
        "kind": str(decision.kind),
        "epus": list(decision.epus),
        "complete": decision.complete,
        "given_up": given_up and not decision.complete,
        "brought": len(brought[1]),
        **as_entry(books, delivery.events),
        "state": state_of(settings, run, known.recorded, given_up=given_up),
        "shrunk": loss,
        "accepted": delivery.accepted,
        "closed": [list(span) for span in known.recorded.closed(downlink)],
        "held": held,
        "gaps": [list(gap) for gap in decision.gaps],
        "settled": [list(place) for place in decision.settled],
        "moot": {"key": moot.key, "alias": moot.alias},
        "missing": known.missing,
    }
    for reason in held:
        log.warning("run %s is held, because Level-1 would refuse the whole run: %s", run, reason)
    if gone := [str(span.sequences) for span in (before and before.legacy) or () if span.events is None]:
        log.warning(
            "run %s: whether fewer events are delivered than by the legacy cannot be judged, whose merged indexes of "
            "sequences %s are gone",
            run,
            ", ".join(gone),
        )
    return manifest


def _books(
    known: KnownRun,
    events: Mapping[DownlinkId, Events],
    rows: Events,
    after: DeliveryHistory,
    just: DownlinkId | None,
    *,
    given_up: bool,
) -> Books:
    """Close the books of a run as they are `after` a delivery; those of `rows` that `just` covers it has delivered."""
    settings, latest = known.context.settings, after.latest()
    groups = undelivered(
        known.all_datagrams.segments(),
        rows,
        after.all_recorded(),
        settings.merge,
        given_up=given_up and settings.retire.deliver_orphans,
        own=events.get,
        just=just,
    )
    lost = lost_events(rows, groups, latest)
    return closed_books(groups, latest, is_refused=just is None, lost=lost)


def _refuse_to_shrink(
    known: KnownRun, downlink: DownlinkId, before: Delivery | None, decision: Decision
) -> int:
    """Return how many events are lost of the delivery `before`; refuse it if nobody accepts that."""
    run, settings = known.context.run, known.context.settings
    # In one piece, else each search copies it.
    sequence = np.ascontiguousarray(decision.events["sequence"])
    files = shrinking.lost(before, sequence) if before else {}
    loss = sum(files.values())
    if before and files and reason_of(settings.shrink.accept, downlink, run, loss) is None:
        chunks = shrinking.smaller_chunks(settings.paths.work, run, downlink, known.indexes[downlink].chunks)
        said = shrinking.refusal(run, downlink, before, files, chunks, known.missing)
        raise shrinking.ShrunkError(said, shrinking.how_to_go_on(run, downlink, "-R decode_chunk"))
    return loss


def _stage(
    known: KnownRun,
    under: Sequence[Lease],
    downlink: DownlinkId,
    decision: Decision,
    records: Records,
    files: Sequence[EventFile],
    moot: Moot,
    stale: Iterable[str],
    threads: int,
    number: int,
    reason: str | None,
) -> Delivery:
    """Write the event files, record the delivery, and make them visible instead of those that are `stale`."""
    run, settings = known.context.run, known.context.settings
    header = event_files.Header(downlink, moot, settings.merge.latc_override)
    with stage.scratch(settings.paths.stage, downlink, run.l1) as home:
        log.info("run %s: %d event files to be written", run, len(files))
        made = event_files.write_all(records, decision.files, files, header, home, threads)
        utc = decision.events["utc"]
        delivery = Delivery(
            downlink,
            decision.spans,
            decision.datagrams,
            tuple(made),
            (float(utc[0]), float(utc[-1])) if made else None,
            (float(utc.min()), float(utc.max())) if made else None,
            number,
            reason,
            counts=decision.counts,
        )
        for lease in under:
            lease.check()
        known.recorded.publish(delivery)
        # Who has followed since has removed this scratch, so that nothing is placed over what it has staged.
        stage.place(settings.paths.stage, home, downlink, run, delivery.files, stale)
    return delivery
