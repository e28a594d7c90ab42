"""Facts that are read once: those that all downlinks of a working directory share, and those of one downlink.

`Survey.books` is the only source of the numbers of events on a screen.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path

from halfpipe import paths
from halfpipe.causes import Cause
from halfpipe.decisions import Decisions
from halfpipe.decode.chunk import Chunk, read_chunk
from halfpipe.decode.shortfall import Arrived, arrived_since
from halfpipe.errors import HalfPipeError
from halfpipe.files import leases
from halfpipe.files.pointers import resolves
from halfpipe.files.reading import modified, names_in
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.merge.books import Standing
from halfpipe.notify.handoff_causes import forgotten, overlapping, submissions_of
from halfpipe.notify.submissions import submissions
from halfpipe.plan.plan import Announced, DownlinkPlan, Plan, outstanding_chunks
from halfpipe.settings import Settings
from halfpipe.staging.stage_look import Staged, Tokens, tokens_of
from halfpipe.state import downlinks_of_run, run_books
from halfpipe.state.attempts import Attempt, Attempts
from halfpipe.state.closed import last_change, read_closed
from halfpipe.state.deliveries import Deliveries, DeliveryHistory
from halfpipe.state.hand_offs import HandOff, hand_offs, runs_of
from halfpipe.state.online_record import OnlineRecord, OnlineState
from halfpipe.status import slurm_queue
from halfpipe.status.failed_jobs import FailedJob, failed_jobs
from halfpipe.words import grouped

LEVEL0_SETTLED_SECONDS = 14 * 86400.0  # after a hand-off: then no more level-0 data of its hours arrive
LATEST = 30  # downlinks, by id, that are searched for the youngest RetDef


@dataclass
class Survey:
    """What the accounts of all downlinks of a working directory share, as of `now` (Unix seconds)."""

    settings: Settings
    now: float = field(default_factory=time.time)
    since: float = 0.0  # runs without new data since then are not searched for lost downlinks
    unread: list[Path] = field(default_factory=list)
    _books: dict[RunId, Standing] = field(default_factory=dict)

    @property
    def work(self) -> Path:
        """`paths.work`."""
        return self.settings.paths.work

    @cached_property
    def queue(self) -> Sequence[Cause]:
        """Why jobs have not started in Slurm."""
        return slurm_queue.troubles()

    @cached_property
    def plan(self) -> Plan:
        """The plan of all downlinks."""
        return Plan(self.settings)

    @cached_property
    def names(self) -> frozenset[str]:
        """The names in the working directory: of downlinks, receipts, submissions."""
        return frozenset(names_in(self.work))

    @cached_property
    def announced(self) -> Mapping[RunId, Sequence[Announced]]:
        """The outstanding chunks by run; `unread` has the RetDefs and directories that cannot be read."""
        return grouped((each.retdef.run, each) for each in outstanding_chunks(self.plan, self.unread.append))

    @cached_property
    def past_waits(self) -> Sequence[float]:
        """How long runs waited for their next downlink, in seconds, the shortest first."""
        return downlinks_of_run.past_waits(self.work)

    @cached_property
    def lost(self) -> Mapping[DownlinkId, Sequence[RunId]]:
        """Downlinks that lost their receipts, with the runs that know them."""
        found: dict[DownlinkId, list[RunId]] = {}
        for run in downlinks_of_run.every_run(self.work):
            if self.since and (modified(f"{self.work}/{paths.run(run)}") or 0.0) < self.since:
                continue
            with suppress(HalfPipeError, OSError):  # the accounts of its downlinks report this
                for dl in downlinks_of_run.begun_downlinks(self.work, run):
                    if paths.receipt(dl) not in self.names and _is_gone(self.work, dl):
                        found.setdefault(dl, []).append(run)
        return found

    @cached_property
    def last_retdef(self) -> float:
        """When the newest RetDef of the `LATEST` downlinks arrived, Unix seconds; 0 if unknown."""
        latest = map(self.plan.of, sorted(self.plan.on_search_path)[-LATEST:])
        return max((downlink.came(self.now) for downlink in latest), default=0.0)

    @cached_property
    def closed(self) -> Mapping[DownlinkId, float]:
        """The closed downlinks, each with the time of its last change."""
        return read_closed(self.settings)

    @property
    def decisions(self) -> Decisions:
        """What people decided."""
        return self.plan.decisions

    def books(self, run: RunId) -> Standing:
        """Return the current books of a run.

        Usually the run's last merge closed them. If the run changed later, for example because a job failed between
        merge and delivery, they are closed again here, from the rows of all events. If the rows cannot be read, or the
        run is being merged now, the books are those of the last merge, marked as old.
        """
        if run not in self._books:
            self._books[run] = self._closed_now(run)
        return self._books[run]

    def _closed_now(self, run: RunId) -> Standing:
        recorded = self.deliveries(run)
        state = run_books.state_of(self.settings, self.decisions, run, recorded)
        latest = recorded.latest().values()
        for delivery in latest:
            if delivery.state == state:
                return Standing(delivery.books)
        old = "it is being merged now"
        merging = leases.look(self.work, paths.run_lease(run))
        if merging is None or not merging.lives:
            from halfpipe.status.known import Known  # noqa: PLC0415 - arrays, which most accounts do without

            try:
                known = Known(self.settings, self.decisions, run, recorded)
                if not known.unread:
                    return Standing(known.books(is_refused=any(delivery.refused for delivery in latest)))
                old = "; ".join(known.unread.values())
            except HalfPipeError as error:
                old = error.text.rstrip(".")
        last = recorded.deliveries[-1].books if recorded.deliveries else None
        return Standing(last, old)

    @cached_property
    def is_ledger_down(self) -> bool:
        """Whether the ledger cannot be read now."""
        from halfpipe.ledger.check import site_troubles  # noqa: PLC0415 - the library of the database

        return any(cause.code == "ledger" for cause in site_troubles(self.settings, {}))

    @cached_property
    def deliveries(self) -> Callable[[RunId], Deliveries]:
        """Reads the deliveries of a run, and keeps them, because the run's downlinks follow each other."""
        return lru_cache(partial(Deliveries, self.work, only_look=True))


def _is_gone(work: Path, downlink: DownlinkId) -> bool:
    """Return whether a downlink has no receipt and no chunks. An interrupted one still has chunks."""
    return not names_in(work / paths.receipts(downlink)) and not (work / paths.chunks(downlink)).is_dir()


@dataclass(frozen=True)
class RunFacts:
    """What is recorded of one run, as far as a downlink needs it.

    Attributes
    ----------
    deliveries, damage
        Its deliveries; none, and why, if they cannot be read.
    downlinks
        The downlinks that have published datagrams of it, in order.
    submissions
        The submissions of the downlinks that overlap or closed spans; None if they cannot be read.
    online
        What Online got of it, or why this cannot be read; None while `halfpipe online` works, or without Online.
    """

    deliveries: DeliveryHistory
    damage: HalfPipeError | None = None
    downlinks: Sequence[DownlinkId] = ()
    submissions: Mapping[DownlinkId, Attempts | None] = field(default_factory=dict)
    online: OnlineRecord | HalfPipeError | None = None


@dataclass(frozen=True)
class DownlinkFacts:
    """The content of one downlink's files; each is read once. Causes are found in these facts alone.

    Attributes
    ----------
    survey, id
        The survey, and the downlink.
    plan, changed
        Its RetDefs in its directory and on the search path, and its chunks; when it last changed (`last_change`).
    receipt_time, resolves
        Time of the receipt, Unix seconds, None without one; whether it points to the last hand-off.
    hand_offs, damage
        The hand-offs; and why their records cannot be read, None if they can.
    record
        The attempts to submit it, or why they cannot be read.
    lease, jobs
        The process that works on it; the jobs that left no product.
    tokens, forgotten
        The tokens of its runs if it is not submitted; why there must be a submission without a record.
    entered
        Whether its rows are in the ledger.
    runs, books
        Its runs, and those whose waiting events are counted here.
    chunks, arrived
        Its decoded chunks, or those of its receipt; and level-0 that arrived after an incomplete one was decoded.
    """

    survey: Survey
    id: DownlinkId
    plan: DownlinkPlan
    changed: float = 0.0
    receipt_time: float | None = None
    resolves: bool = True
    hand_offs: Sequence[HandOff] = ()
    damage: HalfPipeError | None = None
    record: Attempts | HalfPipeError | None = None
    lease: leases.Found | None = None
    jobs: Sequence[FailedJob] = ()
    tokens: Tokens = field(default_factory=dict)
    forgotten: Cause | None = None
    entered: bool = False
    runs: Mapping[RunId, RunFacts] = field(default_factory=dict)
    books: Mapping[RunId, Standing] = field(default_factory=dict)
    chunks: Sequence[Chunk] = ()
    arrived: Mapping[ChunkId, Sequence[Arrived]] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        """The settings."""
        return self.survey.settings

    @property
    def work(self) -> Path:
        """`paths.work`."""
        return self.survey.work

    @property
    def staged(self) -> Staged:
        """What the stage has of it."""
        return self.plan.in_stage

    @property
    def last(self) -> HandOff | None:
        """The last hand-off; None before the first."""
        return self.hand_offs[-1] if self.hand_offs else None

    @property
    def handed_off(self) -> HandOff | None:
        """The last hand-off, if the downlink has a receipt now."""
        return self.last if self.receipt_time is not None and self.damage is None else None

    @property
    def attempts(self) -> Attempts | None:
        """The attempts to submit it; None if they cannot be read."""
        return self.record if isinstance(self.record, Attempts) else None

    @property
    def confirmed(self) -> Attempt | None:
        """The attempt that gave Level-1 a hand-off; None without one."""
        return self.attempts.last_confirmed if self.attempts else None

    @property
    def submitted(self) -> int | None:
        """The number of the hand-off that Level-1 has; None without one."""
        return self.confirmed.handoff if self.confirmed else None

    @property
    def is_submitted(self) -> bool:
        """Whether Level-1 has the hand-off of its receipt."""
        return self.handed_off is not None and self.submitted == self.handed_off.number

    @property
    def is_taken(self) -> bool:
        """Whether Level-1 has taken the hand-off of its receipt."""
        # Level-1 moves the event files away, and deletes the directory at the end (ground-chain §6).
        is_gone = self.survey.plan.sees_stage and not self.staged.is_there
        return is_gone and self.is_submitted and self.last is not None and self.last.names_files

    @property
    def in_progress(self) -> str | None:
        """The other process that works on the downlink."""
        return str(self.lease) if self.lease and self.lease.lives and not self.lease.ours else None


def read_facts(survey: Survey, downlink: DownlinkId) -> DownlinkFacts:
    """Read all facts of a downlink, in an order in which another process does not make them contradict each other.

    Raises
    ------
    HalfPipeError, OSError
        If its files cannot be read, except for records, which the facts then name.
    """
    settings = survey.settings
    work = survey.work
    receipt = work / paths.receipt(downlink)
    when = last_change(settings, downlink)  # first, so that a later change is noticed
    plan = survey.plan.of(downlink)
    receipt_time = plan.handed_off  # before its record, because it appears after it
    plan.in_stage  # noqa: B018 - read before the records, because jobs may be staging
    made: Sequence[HandOff] = ()
    damage: HalfPipeError | None = None
    try:
        made = hand_offs(work, downlink, only_look=True, read=survey.deliveries)
        if made:
            made[-1].runs  # noqa: B018 - reads the deliveries
    except HalfPipeError as error:
        damage = error
    record: Attempts | HalfPipeError
    try:
        record = submissions(work, downlink, only_look=True)
    except HalfPipeError as error:
        record = error
    lease = leases.look(work, paths.downlink_lease(downlink))
    of = DownlinkFacts(
        survey,
        downlink,
        plan,
        when,
        receipt_time,
        not made or resolves(receipt, made[-1].seal),
        made,
        damage,
        record,
        lease,
        jobs=failed_jobs(work, downlink),
        entered=(work / paths.loaded(downlink)).exists(),
    )
    last = of.handed_off
    counted = runs_of(last) or plan.runs
    runs = {run: _run_facts(of, run) for run in {*survey.lost.get(downlink, ()), *runs_of(of.last), *counted}}
    books = {
        run: _standing(survey, run) for run in counted if downlink == max(runs[run].downlinks, default=None)
    }
    chunks = list(_with_level0(of, last)) if last else [*plan.decoded.values()]
    unsent = last is not None and damage is None and last.names_files and not of.is_submitted
    return replace(
        of,
        runs=runs,
        books=books,
        chunks=chunks,
        arrived={chunk.chunk: arrived_since(settings, chunk) for chunk in chunks if chunk.is_short},
        tokens=tokens_of(settings.paths.stage, last) if last and unsent and survey.plan.sees_stage else {},
        forgotten=forgotten(settings, record) if unsent and isinstance(record, Attempts) else None,
    )


def _run_facts(of: DownlinkFacts, run: RunId) -> RunFacts:
    downlinks = downlinks_of_run.known_downlinks(of.work, run)
    online = _online(of, run) if of.settings.paths.online is not None else None
    try:
        deliveries = of.survey.deliveries(run)
    except HalfPipeError as error:
        return RunFacts(DeliveryHistory(), error, downlinks, online=online)
    closing = {dl: submissions_of(of.work, dl) for dl in deliveries.closing}
    submitted = {**overlapping(of.work, of.id, deliveries), **closing}
    return RunFacts(deliveries, None, downlinks, submitted, online)


def _online(of: DownlinkFacts, run: RunId) -> OnlineRecord | HalfPipeError | None:
    try:
        record = OnlineRecord(of.work, run, only_look=True)
    except HalfPipeError as error:
        return error
    lease = leases.look(of.work, paths.ONLINE_LEASE) if record.state is OnlineState.OPEN else None
    return None if lease is not None and lease.lives else record


def _standing(survey: Survey, run: RunId) -> Standing:
    """Return the books of a run. If its records cannot be read they are not known: another cause names the record."""
    try:
        return survey.books(run)
    except (HalfPipeError, OSError):
        return Standing(None)


def _with_level0(of: DownlinkFacts, last: HandOff) -> Iterator[Chunk]:
    """Yield the chunks of a receipt, with the level-0 files that were read if more packets may still arrive."""
    is_recent = (of.receipt_time or 0.0) >= of.survey.now - LEVEL0_SETTLED_SECONDS
    for chunk in () if last.receipt.origin else last.receipt.chunks:
        if is_recent and chunk.is_short:
            with suppress(HalfPipeError):
                yield read_chunk(of.work, of.id, chunk.chunk)
                continue
        yield chunk
