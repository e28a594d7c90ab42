"""What is known of one run as it stands, read from its indexes, rows and records. Nothing is decoded for it."""

from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path

from halfpipe import paths
from halfpipe.errors import MissingInputError
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.balance import closed_books, lost_events
from halfpipe.merge.books import Books
from halfpipe.merge.decision import all_known
from halfpipe.merge.settle import KnownDatagrams
from halfpipe.merge.undelivered import Group, undelivered
from halfpipe.run.deliveries import Deliveries
from halfpipe.run.downlinks_of_run import known_downlinks
from halfpipe.run.merged_index import ChunkProducts, MergedIndex, events_there, without_chunks
from halfpipe.settings import Settings


class Known:
    """What is known of one run.

    Attributes
    ----------
    downlinks, unread
        The downlinks whose datagrams of the run are known, in order, and those of them whose events were cleaned up.
    datagrams, segments
        The datagrams by downlink without ignored chunks, and the segments of each EPU that was seen.
    events, known
        The events by downlink, and all of them in order and each once.
    recorded
        The deliveries of each downlink that Level-1 may have, the oldest first.

    Raises
    ------
    MissingInputError
        If nothing is known of the run.
    HalfPipeError
        If what is known of it is damaged.
    """

    def __init__(self, settings: Settings, run: RunId, *, is_given_up: bool) -> None:
        work = settings.paths.work
        self.settings, self.run, self.is_given_up = settings, run, is_given_up
        self.downlinks = known_downlinks(work, run)
        if not self.downlinks:
            raise MissingInputError(
                f"nothing is known of run {run} ({run.l1}): no downlink in {work / paths.run(run)} "
                "has brought any of it. Process the downlinks that announce it: snakemake"
            )
        indexes = {}
        for dl in self.downlinks:
            index, ignored = MergedIndex.read(work, run, dl), settings.ignored(dl)
            indexes[dl] = without_chunks(index, ignored, partial(_place, work, dl)) if ignored else index
        self.datagrams = {dl: index.datagrams for dl, index in indexes.items()}
        self.segments = KnownDatagrams.together(self.datagrams.values()).segments()
        found = {dl: events_there(work, dl, index) for dl, index in indexes.items()}
        self.unread = tuple(dl for dl, events in found.items() if events is None)
        self.events = {dl: events for dl, events in found.items() if events is not None}
        self.known = all_known(tuple(self.events), self.events)
        self.deliveries = Deliveries(work, run)
        self.recorded = self.deliveries.all_recorded()

    @cached_property
    def undelivered(self) -> Sequence[Group]:
        """The events that are not delivered, by reason."""
        given_up = self.is_given_up and self.settings.retire.deliver_orphans
        return undelivered(
            self.segments,
            self.known,
            self.recorded,
            self.settings.merge,
            given_up=given_up,
            own=self.events.get,
        )

    def books(self, *, is_refused: bool) -> Books:
        """Close the books of the run as it stands; what was cleaned up counts as it is recorded."""
        latest = self.deliveries.latest()
        lost = lost_events(self.known, self.undelivered, latest)
        return closed_books(self.undelivered, latest, is_refused=is_refused, lost=lost)


def _place(work: Path, downlink: DownlinkId, chunk: ChunkProducts) -> Path | None:
    return chunk.place(work, downlink)
