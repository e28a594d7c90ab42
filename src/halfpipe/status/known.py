"""What is known of a run now: its datagrams, its events, and what became of them.

It is read from the indexes, rows and records of the run. Nothing is decoded for this.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from halfpipe import paths
from halfpipe.decisions import Decisions
from halfpipe.errors import MissingInputError, rebuild
from halfpipe.files.reading import names_in
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.books import Books
from halfpipe.merge.decision import all_known
from halfpipe.merge.late_events import not_all_delivered
from halfpipe.merge.settle import KnownDatagrams
from halfpipe.merge.undelivered import Group, books_of, undelivered
from halfpipe.settings import Settings
from halfpipe.state.deliveries import Deliveries
from halfpipe.state.downlinks_of_run import begun_downlinks, known_downlinks
from halfpipe.state.merged_index import MergedIndex, events_there, known_indexes


class Known:
    """What is known of one run.

    Attributes
    ----------
    settings, work, run
        The settings, the working directory, and the run.
    is_abandoned
        Whether an operator has abandoned the run.
    downlinks
        The downlinks whose datagrams of the run are known, in order.
    unread
        The downlinks whose events cannot be read, and why, if some of these events may not be delivered.
    datagrams, segments
        The datagrams by downlink without ignored chunks, and the segments of each EPU that was seen.
    events, known, files
        The events by downlink, all of them in order and each once, and the numbers of their files.
    deliveries, recorded
        The records of deliveries, and those of each downlink that Level-1 may have, the oldest first.

    Raises
    ------
    MissingInputError
        If nothing is known of the run, or a merged index is gone.
    HalfPipeError
        If an index, rows or a record of the run are damaged.
    """

    def __init__(self, settings: Settings, decisions: Decisions, run: RunId, deliveries: Deliveries) -> None:
        work = settings.paths.work
        self.settings = settings
        self.work = work
        self.run = run
        self.is_abandoned = decisions.is_abandoned(run)
        self.deliveries = deliveries
        self.downlinks = known_downlinks(work, run)
        for dl in begun_downlinks(work, run):
            if dl not in self.downlinks and deliveries.seal(dl):
                text = f"{work / paths.datagrams(run, dl)}, the merged index of run {run}, is gone."
                raise MissingInputError(text, rebuild(dl))
        if not self.downlinks:
            raise MissingInputError(
                f"nothing is known of run {run} ({run.l1}): no downlink in {work / paths.run(run)} "
                "contains any of it. Process the downlinks that announce it: snakemake"
            )
        indexes = known_indexes(work, decisions, run)
        self.datagrams = {dl: index.datagrams for dl, index in indexes.items()}
        self.segments = KnownDatagrams.together(self.datagrams.values()).segments()
        self.files: dict[Path, int] = {}
        found = {dl: events_there(work, run, dl, index, self.files) for dl, index in indexes.items()}
        self.events = {dl: events for dl, events in found.items() if events is not None}
        self.known = all_known(self.events)
        self.recorded = self.deliveries.all_recorded()
        latest = [*self.deliveries.latest().values()]
        self.unread = {
            dl: _why_unread(work, dl, index)
            for dl, index in indexes.items()
            if dl not in self.events and not_all_delivered(index.datagrams.rows, latest)
        }

    @cached_property
    def undelivered(self) -> Sequence[Group]:
        """The events that are not delivered, by reason."""
        settle_all = self.is_abandoned and self.settings.retire.deliver_waiting
        return undelivered(
            self.segments,
            self.known,
            self.recorded,
            self.settings.merge,
            settle_all=settle_all,
            copies=self.events,
        )

    def books(self, *, is_refused: bool) -> Books:
        """Close the books of the run as it is now. Delivered events whose products are gone count as recorded."""
        latest = self.deliveries.latest()
        return books_of(self.known, self.undelivered, latest, self.events, is_refused=is_refused)


def _why_unread(work: Path, downlink: DownlinkId, index: MergedIndex) -> str:
    names = {name for chunk in index.chunks for name in chunk.files}
    is_there = names <= {*names_in(work / paths.chunks(downlink))}
    again = "were decoded again and differ from the merged ones" if is_there else "are gone"
    return f"chunk products of downlink {downlink} {again}"
