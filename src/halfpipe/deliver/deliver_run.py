"""Deliver one run of one downlink: merge, decide, test as Level-1 will, write to scratch, record, make visible."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from msgspec.structs import replace

from halfpipe import paths
from halfpipe.decisions import Subject, What
from halfpipe.decode.chunk import read_chunk
from halfpipe.deliver import shrinking
from halfpipe.deliver.earlier import wait_for_earlier
from halfpipe.errors import StateError
from halfpipe.files import leases
from halfpipe.files.leases import Lease
from halfpipe.files.pointers import point
from halfpipe.files.records import Record, TakenError
from halfpipe.formats.idx import Events
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.ledger import moot_key
from halfpipe.merge.decision import Decision, all_known, decide
from halfpipe.merge.settle import contradictions
from halfpipe.merge.undelivered import books_of, undelivered
from halfpipe.process.environment import keep_together, release_memory
from halfpipe.settings import Settings
from halfpipe.staging import event_files, level1_acceptance, stage, stage_look, stage_mark
from halfpipe.state import halts
from halfpipe.state.deliveries import (
    MOST_CONTRADICTIONS,
    Contradiction,
    Delivery,
    EventFile,
    MootKey,
)
from halfpipe.state.hand_offs import next_number, withdraw
from halfpipe.state.merged_chunks import merged
from halfpipe.state.merged_index import merge_chunks
from halfpipe.state.run_books import state_of
from halfpipe.state.run_state import Context, KnownRun, context_scratch

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
    """Deliver `run`; the manifest points to the record of its delivery.

    `runs` are all runs of the downlink. The other parameters and errors are those of `merge_and_deliver`.
    """
    keep_together()
    work = settings.paths.work
    with leases.downlink_job(settings, downlink) as lease:
        wait_for_earlier(settings, downlink, run)
        halts.refuse(work, halts.Switch.STAGE, downlink)
        # First whether this stage is ours: if it is not, nobody should move files away.
        stage_mark.refuse(
            settings, paths.deliveries(run), paths.receipts(downlink), paths.submissions(downlink)
        )
        stage_look.refuse_foreign(settings, downlink, runs)
        stage_mark.note(settings, ())  # from now on no other working directory may use the stage
        # Before the first delivery, so that Level-1 retires none of the runs until the hand-off.
        stage.put_halt_cleanup(settings.paths.stage, downlink, runs)
        lease.check()
        withdraw(work, downlink)
        record = merge_and_deliver(settings, lease, downlink, run, chunks, threads=threads, output=output)
        lease.check()
        point(work / paths.manifest(run, downlink), record)


def merge_and_deliver(
    settings: Settings,
    downlink_lease: Lease,
    downlink: DownlinkId,
    run: RunId,
    chunks: Sequence[ChunkId],
    *,
    threads: int,
    output: IO[str],
) -> Record:
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
    Record
        The record of the downlink's latest delivery of the run.

    Raises
    ------
    ShrunkError
        If fewer events would be delivered than Level-1 may already have. Nothing was changed.
    StateError
        If a record of the run is damaged, or another system's record cannot be read. Nothing was changed.
    HalfPipeError
        If an input is missing or damaged, or a file cannot be written. Then nothing was delivered, or rerunning the
        command delivers the same.
    """
    work = settings.paths.work
    with leases.run_lease(settings, run, log.warning) as lease, context_scratch(work, run):
        context = Context(settings, run, output)
        decoded = [read_chunk(work, downlink, chunk) for chunk in chunks]
        contain = [chunk for chunk in decoded if run in chunk.runs]
        evt_files: dict[Path, int] = {}
        placed = (context.place(downlink, merged(chunk, run)) for chunk in contain)
        new_input = merge_chunks(placed, evt_files, threads)
        release_memory()
        log.info("run %s: %d events indexed in %d chunks", run, len(new_input[1]), len(contain))
        while True:
            known = KnownRun.read(context, {downlink: new_input}, evt_files)
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

    def deliver(self) -> Record:
        """Decide, record and stage; return the record.

        Raises
        ------
        TakenError
            If another process recorded a delivery after `known` was read. Nothing was staged.
        LeaseLostError
            If another process has taken a lease over. Nothing was staged.
        """
        known = self.known
        context = known.context
        planned = self.plan()
        self._check_leases()  # a process that took a lease over may have written its own merged index
        # From here on all downlinks know the events of this one.
        known.indexes[self.downlink].save(context.work, context.run, self.downlink)
        release_memory()
        for reason in planned.refused:
            log.warning(
                "run %s is not staged, because Level-1 would refuse the whole run: %s", context.run, reason
            )
        counted = planned.before.counted if planned.before else ()
        if gone := [str(span.sequences) for span in counted if span.events is None]:
            log.warning(
                "run %s: cannot compare with sequences %s, because the number of their events is unknown",
                context.run,
                ", ".join(gone),
            )
        if planned.refused:
            self._check_leases()
            return known.recorded.publish(self.closed(planned, self.described(planned, ())))
        return self.stage(planned)

    def plan(self) -> Planned:
        """Decide what to deliver, and test it as Level-1 will.

        Raises
        ------
        HalfPipeError
            As `merge_and_deliver`. Nothing was changed.
        """
        known = self.known
        downlink = self.downlink
        settings = known.context.settings
        run = known.context.run
        decisions = known.context.decisions
        if unreadable := next(iter(known.recorded.unreadable.values()), None):
            raise StateError(
                f"{unreadable.text}. Nothing was delivered.", unreadable.remedy, code="other-system"
            )
        events = known.events_for(downlink)
        recorded = known.recorded.latest()
        abandoned = decisions.is_abandoned(run)
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
        loss = 0
        if before:
            loss = shrinking.refuse_loss(known, downlink, before, decision.events, events.values())
        files = event_files.name_files(records, decision.files, run)
        refused = list[str]()
        if files:
            others = [file for delivery in recorded.values() for file in delivery.files]
            refused = level1_acceptance.refusals([*others, *files])
            if not decision.epus:
                refused.append(
                    f"no downlink contains a datagram of run {run}, so no text can name the run, and Level-1 fails"
                )
        accepted = decisions.why(What.SHRUNK, Subject(downlink, run=run), loss) if loss else None
        if before and sum(file.events for file in files) <= before.events:
            accepted = accepted or before.accepted
        moot = moot_key.of_run(settings, run, known.all_datagrams.rows)
        return Planned(
            events, rows, decision, records, files, moot, before, loss, accepted, refused, abandoned
        )

    def described(self, planned: Planned, made: Sequence[EventFile]) -> Delivery:
        """Return the delivery with the event files `made`, without its books.

        If Level-1 would refuse the run, the files of the delivery before stay in force.
        """
        known = self.known
        downlink = self.downlink
        decision = planned.decision
        index = known.indexes[downlink]
        utc = decision.events.utc
        what = Delivery(
            downlink=downlink,
            handoff=next_number(known.context.work, downlink, known.recorded),
            spans=decision.spans,
            files=tuple(made),
            times=(float(utc[0]), float(utc[-1])) if made else None,
            datagrams=decision.datagrams,
            counts=dict(decision.counts),
            chunks=index.chunks,
            index=index.seal,
            brought=len(known.new_events[downlink]),
            kind=str(decision.kind),
            epus=decision.epus,
            complete=decision.complete,
            abandoned=planned.abandoned and not decision.complete,
            gaps=decision.gaps,
            moot=planned.moot,
            loss=planned.loss,
            accepted=planned.accepted,
            refused=tuple(planned.refused),
            missing=tuple(known.missing),
            contradicts=self._contradictions(),
        )
        if not planned.refused:
            return what
        before = planned.before or Delivery(downlink, 0, (), {}, counts={})
        return replace(
            what,
            spans=before.spans,
            counts=before.counts,
            files=before.files,
            times=before.times,
            counted=before.counted,
            accepted=before.accepted,
        )

    def _contradictions(self) -> tuple[Contradiction, ...]:
        """Return the datagrams that other downlinks contain with other sequences."""
        indexes = self.known.indexes
        found = list[Contradiction]()
        for downlink in indexes.keys() - {self.downlink}:
            pairs = contradictions(indexes[self.downlink].datagrams, indexes[downlink].datagrams)
            found += (
                Contradiction(apid, number, downlink, here, there) for apid, number, here, there in pairs
            )
        found.sort(key=lambda one: (one.apid, one.datagram, one.downlink))
        return tuple(found[:MOST_CONTRADICTIONS])

    def closed(self, planned: Planned, delivery: Delivery) -> Delivery:
        """Return the delivery with the books of the run as they are after it."""
        known = self.known
        settings = known.context.settings
        recorded = known.recorded.with_next(delivery)
        groups = undelivered(
            known.all_datagrams.segments(),
            planned.rows,
            recorded.all_recorded(),
            settings.merge,
            settle_all=planned.abandoned and settings.retire.deliver_waiting,
            copies=planned.events,
            just=None if planned.refused else self.downlink,
        )
        books = books_of(
            planned.rows, groups, recorded.latest(), planned.events, is_refused=bool(planned.refused)
        )
        state = None
        if not books.due:  # the next delivery changes them
            state = state_of(settings, known.context.decisions, known.context.run, recorded)
        return replace(delivery, books=books, state=state)

    def stage(self, planned: Planned) -> Record:
        """Write the event files, record the delivery, and replace the files in the stage."""
        known = self.known
        downlink = self.downlink
        run = known.context.run
        settings = known.context.settings
        place = settings.paths.stage
        header = event_files.Header(downlink, planned.moot, settings.merge.latc_override)
        kept = [*planned.files]  # another downlink may deliver a file of the same name
        for other, delivery in known.recorded.latest().items():
            kept += delivery.files if other != downlink else ()
        stale = known.recorded.names(downlink) - {file.name for file in kept}
        with stage.scratch(place, downlink, run.l1) as home:
            log.info("run %s: writing %d event files", run, len(planned.files))
            made = event_files.write_all(
                planned.records, planned.decision.files, planned.files, header, home, self.threads
            )
            delivery = self.closed(planned, self.described(planned, made))
            self._check_leases()
            record = known.recorded.publish(delivery)
            # This fails if another process took a lease over and removed this scratch: its files stay.
            stage.place(place, home, downlink, run, delivery.files, stale)
        return record

    def _check_leases(self) -> None:
        for lease in self.leases:
            lease.check()
