"""Deliver one run of one downlink: merge, decide, test as Level-1 will, write to scratch, record, make visible."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from halfpipe import paths
from halfpipe.downlink import halts, stage_look, stage_mark
from halfpipe.errors import StateError
from halfpipe.files import leases
from halfpipe.files.json_files import read_json, write_json
from halfpipe.files.leases import Lease
from halfpipe.files.records import TakenError
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.ledger import moot_key
from halfpipe.merge.books import Books
from halfpipe.merge.decision import Decision, all_known, decide
from halfpipe.merge.late_events import Events
from halfpipe.merge.undelivered import books_of, undelivered
from halfpipe.process.environment import keep_together, release_memory
from halfpipe.run import abandoned_runs, event_files, level1_acceptance, shrinking, stage
from halfpipe.run.deliveries import Delivery, EventFile
from halfpipe.run.manifest_books import as_entry, state_of
from halfpipe.run.merged_index import ChunkProducts, merge_chunks
from halfpipe.run.moot_keys import MootKey
from halfpipe.run.receipt_file import next_number, withdraw
from halfpipe.run.run_state import Context, KnownRun, context_scratch
from halfpipe.settings import Settings, reason_of

log = logging.getLogger(__name__)


def deliver_run(
    settings: Settings,
    downlink: DownlinkId,
    run: RunId,
    chunks: Sequence[ChunkId],
    runs: Sequence[RunId],
    *,
    threads: int,
    output: IO[str],
) -> None:
    """Deliver `run`, and list its staged files in the manifest.

    `runs` are all runs of the downlink. The other parameters and errors are those of `merge_and_deliver`.
    """
    keep_together()
    work = settings.paths.work
    with leases.downlink_job(settings, downlink) as lease:
        halts.refuse(work, halts.Switch.STAGE, downlink)
        stage_look.refuse_foreign(settings, downlink, runs)
        stage_mark.refuse(
            settings, paths.deliveries(run), paths.receipts(downlink), paths.submissions(downlink)
        )
        stage_mark.note(settings, ())  # from now on no other working directory may use the stage
        # Before the first delivery, so that Level-1 retires none of the runs until the hand-off.
        stage.put_halt_cleanup(settings.paths.stage, downlink, runs)
        lease.check()
        withdraw(work, downlink)
        made = merge_and_deliver(settings, lease, downlink, run, chunks, threads=threads, output=output)
        lease.check()
        write_json(work / paths.manifest(run, downlink), made)


def merge_and_deliver(
    settings: Settings,
    downlink_lease: Lease,
    downlink: DownlinkId,
    run: RunId,
    chunks: Sequence[ChunkId],
    *,
    threads: int,
    output: IO[str],
) -> dict[str, Any]:
    """Merge the chunks' indexes of `run`, and deliver the events that `downlink` must deliver now.

    Both happen under one lease of the run. Otherwise other downlinks could see these events before the delivery, and
    deliver them, too. The delivery is recorded before the first file becomes visible. Nothing of a run that Level-1
    would refuse is recorded or staged. A delivery with fewer events than before is refused unless the config accepts
    the loss.

    Parameters
    ----------
    settings
        The settings.
    downlink_lease
        The lease of the downlink. A process that has taken it over may have handed the downlink off.
    downlink, run
        The downlink and one of its runs.
    chunks
        Decoded chunks of the downlink. Their products show which of them contain the run.
    threads
        Number of indexes that are read, and of event files that are written, at a time.
    output
        Gets what the decoder prints if a chunk is decoded again.

    Returns
    -------
    dict
        The manifest.

    Raises
    ------
    ShrunkError
        If fewer events would be delivered than Level-1 may already have. Nothing was changed.
    StateError
        If a record of the run is damaged, or the legacy's record cannot be read. Nothing was changed.
    HalfPipeError
        If an input is missing or damaged, or a file cannot be written. Then nothing was delivered, or rerunning the
        command delivers the same.
    """
    work = settings.paths.work
    with leases.run_lease(settings, run, log.warning) as lease, context_scratch(work, run):
        context = Context(settings, run, output)
        decoded = [read_json(work / paths.chunk(downlink, chunk)) for chunk in chunks]
        products = [ChunkProducts.of(chunk, run) for chunk in decoded if run in chunk["runs"]]
        evt_files: dict[Path, int] = {}
        merged = merge_chunks(
            ((each, context.place(downlink, each)) for each in products), evt_files, threads
        )
        release_memory()
        log.info("run %s: %d events indexed in %d chunks", run, len(merged[1]), len(products))
        while True:
            known = KnownRun.read(context, {downlink: merged}, evt_files)
            try:
                return Attempt(known, downlink, (downlink_lease, lease), threads).deliver()
            except TakenError as error:
                lease.check()  # a process that took the lease over has removed this scratch
                log.warning("%s Deciding again what to deliver.", error)


@dataclass(frozen=True)
class Planned:
    """What an attempt will deliver; nothing is recorded yet.

    Attributes
    ----------
    events, rows
        The events by downlink, and all known events, each once.
    decision, records, files
        The events to deliver, where their records are, and the event files without checksums.
    moot
        The MOOT key of the run and its alias.
    before
        The delivery that this one replaces; None if there is none.
    loss
        Number of events of `before` that are not delivered again.
    accepted
        Why fewer events than before were accepted.
    refused
        Why Level-1 would refuse the run; then nothing is staged.
    abandoned
        Whether an operator has abandoned the run.
    """

    events: Mapping[DownlinkId, Events]
    rows: Events
    decision: Decision
    records: event_files.Records
    files: Sequence[EventFile]
    moot: MootKey
    before: Delivery | None
    loss: int
    accepted: str | None
    refused: Sequence[str]
    abandoned: bool


@dataclass(frozen=True)
class Attempt:
    """One attempt to deliver a run as it is known now. Another one follows if another process records a delivery first.

    `leases` are those of the downlink and of the run.
    """

    known: KnownRun
    downlink: DownlinkId
    leases: Sequence[Lease]
    threads: int

    def deliver(self) -> dict[str, Any]:
        """Decide, record and stage; return the manifest.

        Raises
        ------
        TakenError
            If another process recorded a delivery after `known` was read. Nothing was staged.
        LeaseLostError
            If another process has taken a lease over. Nothing was staged.
        """
        known, downlink, context = self.known, self.downlink, self.known.context
        planned = self.plan()
        self._check_leases()  # a process that took a lease over may have written its own merged index
        # From here on all downlinks know the events of this one.
        known.indexes[downlink].save(context.work, context.run, downlink)
        release_memory()
        number = next_number(context.work, downlink, known.recorded)
        if planned.refused:
            datagrams = planned.decision.datagrams
            delivery = planned.before or Delivery(downlink, (), datagrams, (), None, None)
        else:
            delivery = self.stage(planned, number)
        for reason in planned.refused:
            log.warning(
                "run %s is not staged, because Level-1 would refuse the whole run: %s", context.run, reason
            )
        legacy = planned.before.legacy or () if planned.before else ()
        if gone := [str(span.sequences) for span in legacy if span.events is None]:
            log.warning(
                "run %s: cannot compare with the legacy, because its merged indexes of sequences %s are gone",
                context.run,
                ", ".join(gone),
            )
        books = self.books(planned)
        state = (
            None  # the books will change: some of their events are due
            if books.due
            else state_of(context.settings, context.run, known.recorded, abandoned=planned.abandoned)
        )
        return manifest(known, downlink, planned, delivery, books, number, state)

    def plan(self) -> Planned:
        """Decide what to deliver, and test it as Level-1 will.

        Raises
        ------
        HalfPipeError
            As `merge_and_deliver`. Nothing was changed.
        """
        known, downlink = self.known, self.downlink
        settings, run = known.context.settings, known.context.run
        if unreadable := next(iter(known.recorded.unreadable.values()), None):
            raise StateError(f"{unreadable.text}. Nothing was delivered.", unreadable.remedy, code="takeover")
        events, recorded = known.events_for(downlink), known.recorded.latest()
        abandoned = run in abandoned_runs.read(known.context.work).runs
        rows = all_known(events, downlink)
        decision = decide(
            downlink,
            known.all_datagrams,
            rows,
            recorded,
            settings.merge,
            earlier=known.recorded.earlier(),
            settle_all=abandoned and settings.retire.deliver_waiting,
            vanished=not known.indexes[downlink].chunks,
        )
        records = event_files.Records(decision.events, tuple(known.files))
        before = recorded.pop(downlink, None)
        sequence = np.ascontiguousarray(decision.events["sequence"])  # else each search copies the column
        loss = shrinking.refuse_loss(known, downlink, before, sequence) if before else 0
        files = event_files.name_files(records, decision.files, run)
        refused = list[str]()
        if files:
            others = [file for delivery in recorded.values() for file in delivery.files]
            refused = level1_acceptance.refusals([*others, *files])
            if not decision.epus:
                refused.append(
                    f"no downlink contains a datagram of run {run}, so no text can name the run, and Level-1 fails"
                )
        accepted = reason_of(settings.shrink.accept, downlink, run, loss) if loss else None
        if before and sum(file.events for file in files) <= before.events:
            accepted = accepted or before.accepted
        moot = moot_key.of_run(settings, run, known.all_datagrams.rows)
        return Planned(
            events, rows, decision, records, files, moot, before, loss, accepted, refused, abandoned
        )

    def books(self, planned: Planned) -> Books:
        """Return the books of the run after the delivery was recorded, or refused."""
        known, recorded, settings = self.known, self.known.recorded, self.known.context.settings
        groups = undelivered(
            known.all_datagrams.segments(),
            planned.rows,
            recorded.all_recorded(),
            settings.merge,
            settle_all=planned.abandoned and settings.retire.deliver_waiting,
            own=planned.events.get,
            just=None if planned.refused else self.downlink,
        )
        return books_of(planned.rows, groups, recorded.latest(), is_refused=bool(planned.refused))

    def stage(self, planned: Planned, number: int) -> Delivery:
        """Write the event files, record the delivery, and replace the files in the stage."""
        known, downlink, decision = self.known, self.downlink, planned.decision
        run, settings = known.context.run, known.context.settings
        place = settings.paths.stage
        header = event_files.Header(downlink, planned.moot, settings.merge.latc_override)
        now = {file.name for file in planned.files}
        now |= {
            file.name for dl, each in known.recorded.latest().items() if dl != downlink for file in each.files
        }
        stale = known.recorded.names(downlink) - now
        with stage.scratch(place, downlink, run.l1) as home:
            log.info("run %s: writing %d event files", run, len(planned.files))
            made = event_files.write_all(
                planned.records, decision.files, planned.files, header, home, self.threads
            )
            utc = decision.events["utc"]
            delivery = Delivery(
                downlink,
                decision.spans,
                decision.datagrams,
                tuple(made),
                (float(utc[0]), float(utc[-1])) if made else None,
                (float(utc.min()), float(utc.max())) if made else None,
                number,
                planned.accepted,
                counts=decision.counts,
            )
            self._check_leases()
            known.recorded.publish(delivery)
            # This fails if another process took a lease over and removed this scratch: its files stay.
            stage.place(place, home, downlink, run, delivery.files, stale)
        return delivery

    def _check_leases(self) -> None:
        for lease in self.leases:
            lease.check()


def manifest(
    known: KnownRun,
    downlink: DownlinkId,
    planned: Planned,
    delivery: Delivery,
    books: Books,
    number: int,
    state: str | None,
) -> dict[str, Any]:
    """Return the manifest of a delivery (docs/receipt.md explains its keys).

    Parameters
    ----------
    known
        The run, after the delivery was recorded.
    downlink
        The downlink.
    planned, delivery
        What was planned, and the recorded delivery, or the previous one if Level-1 would refuse the run.
    books
        The books of the run.
    number
        Number of the hand-off in progress.
    state
        Checksum of the state of the run to which the books belong (`halfpipe.run.manifest_books.state_of`); None while
        events are due.
    """
    run, decision = known.context.run, planned.decision
    return {key: value for key, value in delivery.as_json().items() if key != "counts"} | {
        "run": str(run),
        "l1_run": run.l1,
        "chunks": [str(each.chunk) for each in known.indexes[downlink].chunks],
        "handoff": number,
        "delivery": known.recorded.seal(downlink),
        "kind": str(decision.kind),
        "epus": list(decision.epus),
        "complete": decision.complete,
        "abandoned": planned.abandoned and not decision.complete,
        "brought": len(known.new_events[downlink]),
        **as_entry(books, delivery.events),
        "state": state,
        "shrunk": planned.loss,
        "accepted": delivery.accepted,
        "closed": [list(span) for span in known.recorded.closed(downlink)],
        "refused": planned.refused,
        "gaps": [list(gap) for gap in decision.gaps],
        "settled": [list(place) for place in decision.settled],
        "moot": {"key": planned.moot.key, "alias": planned.moot.alias},
        "missing": known.missing,
    }
