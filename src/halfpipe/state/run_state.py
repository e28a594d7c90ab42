"""The state of a run: the merged indexes of all downlinks processed so far, and the deliveries.

Everything here is read under the run's lease. Chunks whose products were cleaned up are decoded again, as context, into
a scratch directory of the merge. The products are never restored to their former place.
"""

import logging
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from types import MappingProxyType
from typing import IO, Self

from halfpipe import paths
from halfpipe.decisions import Decisions
from halfpipe.decode.decode_chunk import decode
from halfpipe.errors import (
    DecoderError,
    FormatError,
    HalfPipeError,
    MissingInputError,
    Remedy,
    StateError,
    rerun,
)
from halfpipe.files import leases
from halfpipe.formats.idx import Events
from halfpipe.formats.retdef import read_retdef
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.merge.late_events import not_all_delivered
from halfpipe.merge.settle import KnownDatagrams
from halfpipe.settings import Settings
from halfpipe.state.deliveries import Deliveries
from halfpipe.state.downlinks_of_run import begun_downlinks
from halfpipe.state.hand_offs import is_handed_off, last_hand_off, runs_of
from halfpipe.state.merged_chunks import MergedChunk, Placed, merged
from halfpipe.state.merged_index import MergedIndex, events_in, merge_chunks, read_published, without_chunks
from halfpipe.words import utc

log = logging.getLogger(__name__)
# Error codes that mean that a chunk can no longer be decoded. Other errors, like a full disk, are temporary.
LOST = frozenset({MissingInputError.code, FormatError.code, DecoderError.code})


@dataclass(frozen=True)
class Context:
    """Decodes chunks of a run again if their products are gone; `output` gets what the decoder prints."""

    settings: Settings
    run: RunId
    output: IO[str]
    _again: dict[tuple[DownlinkId, ChunkId], Placed] = field(default_factory=dict)

    @cached_property
    def decisions(self) -> Decisions:
        """What people decided."""
        return Decisions.read(self.work)

    @property
    def work(self) -> Path:
        """`paths.work`."""
        return self.settings.paths.work

    def place(self, downlink: DownlinkId, chunk: MergedChunk) -> Placed:
        """Return the products of `chunk`, and a directory that has all of them.

        Raises
        ------
        MissingInputError
            If they are gone and the chunk cannot be decoded again. The error names run, downlink and hours.
        """
        place = chunk.place(self.work, downlink) or self._again.get((downlink, chunk.chunk))
        if place is None:
            place = self._again[downlink, chunk.chunk] = self._decoded_again(downlink, chunk)
        return place

    def _decoded_again(self, downlink: DownlinkId, chunk: MergedChunk) -> Placed:
        """Decode a chunk whose products are gone; return them, and their directory in the merge's scratch.

        Another version of the decoder may write other records of the same sizes.
        """
        scratch = self.work / paths.context(self.run) / downlink / chunk.chunk / secrets.token_hex(8)
        retdef_file = self.work / paths.retdef(downlink, chunk.chunk)
        retdef = read_retdef(retdef_file)
        log.info("products of chunk %s of downlink %s are gone: decoding it again", chunk.chunk, downlink)
        try:
            made = decode(self.settings, downlink, retdef_file, retdef, scratch, self.output, again=True)
        except HalfPipeError as error:
            if error.code not in LOST:
                raise
            cause = error.text.rstrip(".")
        else:
            if chunk.are_in(scratch):
                return merged(made, self.run), scratch
            cause = "the decoder's output differs from before"
        hours = "; ".join(f"APID {s.apid} from {utc(s.begin)} to {utc(s.end)}" for s in retdef.spans)
        raise MissingInputError(
            f"run {self.run} needs chunk {chunk.chunk} of downlink {downlink}. Its products are gone, and "
            f"it cannot be decoded again ({cause}).",
            Remedy(
                first=f"Restore the level-0 files of {hours}; or merge without the events of this chunk, in the "
                "config: merge: {without_context: true}"
            ),
        )


@dataclass
class KnownRun:
    """The state of a run in the merge of one downlink.

    Attributes
    ----------
    context
        Decodes chunks again if their products are gone.
    recorded
        The deliveries of the run.
    indexes
        The merged index of each downlink, including the one in progress, which is not published yet.
    new_events
        The events of the downlinks in progress.
    files
        The evt files, and the numbers by which events refer to them.
    missing
        Messages on the chunks that the merge does without, if the config allows it.
    """

    context: Context
    recorded: Deliveries
    indexes: dict[DownlinkId, MergedIndex]
    new_events: Mapping[DownlinkId, Events]
    files: dict[Path, int]
    missing: list[str] = field(default_factory=list)

    @classmethod
    def read(
        cls,
        context: Context,
        new_input: Mapping[DownlinkId, tuple[MergedIndex, Events]] = MappingProxyType({}),
        files: dict[Path, int] | None = None,
    ) -> Self:
        """Read the merged indexes and the deliveries of a run; `new_input` replaces what its downlinks published."""
        work = context.work
        run = context.run
        recorded = Deliveries(work, run)
        # A downlink whose directory in the run is lost still has its records.
        others = {*begun_downlinks(work, run), *recorded.latest()} - new_input.keys()
        known = {
            # No merge uses chunks that are left out, or needs them decoded again.
            dl: without_chunks(index, context.decisions.left_out(dl), partial(context.place, dl))
            for dl in others
            if (index := _published(context, dl, recorded)) is not None
        }
        known |= {dl: index for dl, (index, _) in new_input.items()}
        events = {dl: events for dl, (_, events) in new_input.items()}
        return cls(context, recorded, dict(sorted(known.items())), events, {} if files is None else files)

    @cached_property
    def all_datagrams(self) -> KnownDatagrams:
        """The datagrams of all downlinks."""
        return KnownDatagrams.together(index.datagrams for index in self.indexes.values())

    def events_for(self, downlink: DownlinkId) -> dict[DownlinkId, Events]:
        """Return the events of each downlink that a merge of `downlink` needs.

        Chunks whose products are gone are decoded again, except where other downlinks have delivered all their events.
        """
        return {
            dl: self.events(dl)
            for dl, index in self.indexes.items()
            if dl == downlink
            or all(chunk.place(self.context.work, dl) for chunk in index.chunks)
            or self._is_needed(index.datagrams, downlink)
        }

    def _is_needed(self, datagrams: KnownDatagrams, downlink: DownlinkId) -> bool:
        """Tell whether a datagram may hold an event that is late or not delivered."""
        recorded = self.recorded.all_recorded()
        of_others = [each for dl, records in recorded.items() if dl != downlink for each in records]
        return not_all_delivered(datagrams.rows, of_others)

    def events(self, downlink: DownlinkId) -> Events:
        """Return the events of one downlink in order, each once; chunks whose products are gone are decoded again."""
        if downlink in self.new_events:
            return self.new_events[downlink]
        return events_in(
            self.indexes[downlink], self.context.run, downlink, partial(self._place, downlink), self.files
        )

    def _place(self, downlink: DownlinkId, chunk: MergedChunk) -> Placed | None:
        """Return `Context.place` of a chunk; None if the merge does without it."""
        try:
            return self.context.place(downlink, chunk)
        except MissingInputError as error:
            if not self.context.settings.merge.without_context:
                raise
            log.warning("%s", error.text)
            self.missing.append(error.text.rstrip("."))
            return None


def _published(context: Context, downlink: DownlinkId, recorded: Deliveries) -> MergedIndex | None:
    """Return the merged index that a downlink published; None if it has not published one yet.

    An index that is damaged or missing after its hand-off is rebuilt. This is impossible while the downlink is in
    progress, because its chunks may have changed.

    Raises
    ------
    StateError
        If the index is damaged or missing, and cannot be rebuilt.
    """
    work = context.work
    run = context.run
    try:
        return read_published(work, run, downlink, recorded)
    except HalfPipeError as error:
        delivered = recorded.latest().get(downlink)
        chunks = delivered.chunks if delivered else ()
        if not chunks and isinstance(error, MissingInputError):
            return None
        if not chunks or not is_handed_off(work, downlink):
            raise StateError(error.text, rerun(downlink, "deliver_run", "Rebuild it")) from error
        log.warning("%s; rebuilt from the chunks of downlink %s", error.text.rstrip("."), downlink)
        return _rebuilt(context, downlink, chunks)


def _rebuilt(context: Context, downlink: DownlinkId, chunks: Iterable[MergedChunk]) -> MergedIndex:
    """Rebuild the merged index of a downlink from the chunks that its latest delivery was made of."""
    index, _ = merge_chunks((context.place(downlink, chunk) for chunk in chunks), {})
    index.save(context.work, context.run, downlink)
    return index


def rebuild_indexes(settings: Settings, downlink: DownlinkId, output: IO[str]) -> list[RunId]:
    """Rebuild damaged or missing merged indexes of a downlink; return their runs.

    Nothing is delivered or handed off.

    Raises
    ------
    HalfPipeError
        If the last hand-off cannot be read, or a chunk of it can be neither read nor decoded again.
    """
    work = settings.paths.work
    rebuilt = []
    last = last_hand_off(work, downlink)
    if last is None or not is_handed_off(work, downlink):
        raise MissingInputError(
            f"downlink {downlink} is not handed off, so the chunks of its merged indexes are unknown.",
            rerun(downlink, "deliver_run", "Process it"),
        )
    for run in runs_of(last):
        with leases.run_lease(settings, run, log.warning), context_scratch(work, run):
            recorded = Deliveries(work, run)
            try:
                read_published(work, run, downlink, recorded)
            except HalfPipeError:
                delivered = recorded.latest().get(downlink)
                if delivered and delivered.chunks:
                    _rebuilt(Context(settings, run, output), downlink, delivered.chunks)
                    rebuilt.append(run)
    return rebuilt


@contextmanager
def context_scratch(work: Path, run: RunId) -> Iterator[None]:
    """Remove the scratch of decoded context: first leftovers of a killed job, and at the end that of this one."""
    scratch = work / paths.context(run)
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        yield
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
