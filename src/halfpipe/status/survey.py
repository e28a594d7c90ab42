"""Facts that are read once: those that all downlinks of a working directory share, and those of one downlink.

`Survey.books` is the only source of the numbers of events on a screen.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from pathlib import Path

from halfpipe import paths
from halfpipe.causes import Cause
from halfpipe.downlink import handoff_causes, stage_look, stage_mark
from halfpipe.downlink.plan import Announced, Plan, outstanding_chunks
from halfpipe.downlink.submissions import submissions
from halfpipe.errors import HalfPipeError
from halfpipe.files import leases
from halfpipe.files.reading import names_in
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.books import Standing
from halfpipe.process.attempts import Attempts
from halfpipe.run import abandoned_runs, downlinks_of_run, run_books
from halfpipe.run.deliveries import Deliveries
from halfpipe.run.hand_offs import HandOff, hand_offs, runs_of
from halfpipe.settings import Settings
from halfpipe.status import slurm_queue
from halfpipe.words import grouped

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
    def stage_trouble(self) -> Cause | None:
        """Why nothing can be delivered to the stage; None if the stage is good."""
        return stage_mark.trouble(self.settings)

    @property
    def sees_stage(self) -> bool:
        """Whether the files in the stage can be seen; False on a bare mount point."""
        return self.stage_trouble is None or self.stage_trouble.code == "restored"

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
        return handoff_causes.lost_downlinks(self.work, self.names, self.since)

    @cached_property
    def last_retdef(self) -> float:
        """When the newest RetDef of the `LATEST` downlinks arrived, Unix seconds; 0 if unknown."""
        latest = map(self.plan.of, sorted(self.plan.on_search_path())[-LATEST:])
        return max((downlink.came(self.now) for downlink in latest), default=0.0)

    @cached_property
    def abandoned(self) -> frozenset[RunId]:
        """The runs that an operator has abandoned."""
        return frozenset(abandoned_runs.read(self.work).runs)

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
        abandoned = run in self.abandoned
        recorded = self.deliveries(run)
        state = run_books.state_of(self.settings, run, recorded, abandoned=abandoned)
        latest = recorded.latest().values()
        for delivery in latest:
            if delivery.state == state:
                return Standing(delivery.books)
        old = "it is being merged now"
        merging = leases.look(self.work, paths.run_lease(run))
        if merging is None or not merging.lives:
            from halfpipe.status.known import Known  # noqa: PLC0415 - arrays, which most accounts do without

            try:
                known = Known(self.settings, run, recorded, is_abandoned=abandoned)
                if not known.unread:
                    return Standing(known.books(is_refused=any(delivery.refused for delivery in latest)))
                old = "; ".join(known.unread.values())
            except HalfPipeError as error:
                old = error.text.rstrip(".")
        last = recorded.deliveries[-1].books if recorded.deliveries else None
        return Standing(last, old)

    @cached_property
    def deliveries(self) -> Callable[[RunId], Deliveries]:
        """Reads the deliveries of a run, and keeps them, because the run's downlinks follow each other."""
        return lru_cache(partial(Deliveries, self.work, only_look=True))


class DownlinkFacts:
    """The content of one downlink's files; each is read once.

    Attributes
    ----------
    survey, id, settings, work
        The survey, and the downlink.
    plan
        Its RetDefs in its directory and on the search path, and its chunks.
    hand_offs, last, damage
        The hand-offs; the last one, None before the first; and why their records cannot be read, None if they can.
    handed_off
        The last hand-off, if the downlink has a receipt now.
    receipt_time
        Time of the receipt, Unix seconds.
    record, confirmed, submitted
        The attempts to submit it, None if a record is damaged; the attempt that gave Level-1 a hand-off, and the
        number of that hand-off. Both are None without one.
    in_progress
        The process that works on the downlink.
    is_submitted
        Whether Level-1 has the hand-off of its receipt.
    decoded
        Without a receipt, the readable ``{chunk}.json`` of its chunks. Damaged ones are decoded again.
    """

    def __init__(self, survey: Survey, downlink: DownlinkId) -> None:
        self.survey, self.id, self.settings, self.work = survey, downlink, survey.settings, survey.work
        self.plan = survey.plan.of(downlink)
        self.receipt_time = self.plan.handed_off  # first, because a receipt appears after its record
        self.hand_offs: Sequence[HandOff] = ()
        self.damage: HalfPipeError | None = None
        try:
            self.hand_offs = hand_offs(self.work, downlink, only_look=True, read=survey.deliveries)
            if self.hand_offs:
                self.hand_offs[-1].runs  # noqa: B018 - reads the deliveries
        except HalfPipeError as error:
            self.damage = error
        self.last = self.hand_offs[-1] if self.hand_offs else None
        self.handed_off = self.last if self.receipt_time is not None and self.damage is None else None
        self.record: Attempts | None = None
        with suppress(HalfPipeError):
            self.record = submissions(self.work, downlink, only_look=True)
        self.confirmed = self.record.last_confirmed if self.record else None
        self.submitted = self.confirmed.handoff if self.confirmed else None
        self.in_progress = leases.in_progress(self.work, downlink)
        self.is_submitted = (
            self.handed_off is not None
            and self.record is not None
            and stage_look.is_submitted(self.handed_off, self.record)
        )
        self.decoded = list(self.plan.decoded.values()) if self.handed_off is None else []

    @cached_property
    def books(self) -> dict[RunId, Standing]:
        """The books of the runs whose waiting events are counted at this downlink.

        If a record of a run cannot be read, its books are not known: another cause names the record.
        """
        found = {}
        for run in runs_of(self.handed_off) or self.plan.runs:
            try:
                if run_books.counted_at(self.work, run) == self.id:
                    found[run] = self.survey.books(run)
            except (HalfPipeError, OSError):
                found[run] = Standing(None)
        return found
