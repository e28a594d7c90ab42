"""The state of a run: the merged indexes of all downlinks processed so far, and what was delivered.

Everything here is read under the run's lease. Chunk products that were cleaned up are decoded again,
as context, into scratch of the merge; they never come back to where they were.
"""

import logging
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import IO, Self

import numpy as np

from halfpipe import paths
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
from halfpipe.formats.retdef import read_retdef
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.merge.late import Events, listed
from halfpipe.merge.settle import KnownDatagrams
from halfpipe.run.deliveries import Deliveries
from halfpipe.run.downlinks_of_run import begun_downlinks
from halfpipe.run.merged_index import ChunkProducts, MergedIndex, merge_chunks, merge_rows
from halfpipe.run.receipt_file import hand_offs
from halfpipe.settings import Settings
from halfpipe.words import utc

log = logging.getLogger(__name__)
# Codes of errors by which a chunk cannot be decoded any more. Another one, as of a full disk, passes.
LOST = frozenset({MissingInputError.code, FormatError.code, DecoderError.code, "decoder-silent"})


@dataclass(frozen=True)
class Context:
    """Decodes chunks of a run again where their products are gone; `output` takes what the decoder prints."""

    settings: Settings
    run: RunId
    output: IO[str]
    _again: dict[tuple[DownlinkId, ChunkId], Path] = field(default_factory=dict)

    @property
    def work(self) -> Path:
        """`paths.work`."""
        return self.settings.paths.work

    def place(self, downlink: DownlinkId, chunk: ChunkProducts) -> Path:
        """Return a directory in which the products of `chunk` lie, whole.

        Raises
        ------
        MissingInputError
            If they are gone and cannot be made again; names run, downlink and hours.
        """
        place = chunk.place(self.work, downlink) or self._again.get((downlink, chunk.chunk))
        if place is None:
            place = self._again[downlink, chunk.chunk] = self._decoded_again(downlink, chunk)
        return place

    def _decoded_again(self, downlink: DownlinkId, chunk: ChunkProducts) -> Path:
        """Return a directory of the merge's scratch with the products of a chunk, which are gone from its own."""
        scratch = self.work / paths.context(self.run) / downlink / chunk.chunk / secrets.token_hex(8)
        retdef_file = self.work / paths.retdef(downlink, chunk.chunk)
        retdef = read_retdef(retdef_file)
        log.info("products of chunk %s of downlink %s are gone: decoding it again", chunk.chunk, downlink)
        try:
            decode(self.settings, retdef_file, retdef, scratch, self.output, again=True)
        except HalfPipeError as error:
            if error.code not in LOST:
                raise
            cause = error.text.rstrip(".")
        else:
            if chunk.lie_in(scratch):
                return scratch
            cause = "the decoder makes something else of it now than it did before"
        hours = "; ".join(f"APID {s.apid} from {utc(s.begin)} to {utc(s.end)}" for s in retdef.spans)
        raise MissingInputError(
            f"run {self.run} needs chunk {chunk.chunk} of downlink {downlink}, whose products are gone, and "
            f"it cannot be decoded again ({cause}).",
            Remedy(
                first=f"Bring back the level-0 files of {hours}, or set merge.without_context in the config to "
                "merge without it"
            ),
        )


@dataclass
class KnownRun:
    """The state of a run as one downlink's merge finds it.

    `indexes` are those that each downlink has made known, and that of the downlink in work before it is known to
    others, whose events are `brought`. Events count into `files`, the evt files and their numbers. `missing` says which
    chunks the merge has to do without, as the config allows.
    """

    context: Context
    recorded: Deliveries
    indexes: dict[DownlinkId, MergedIndex]
    brought: Mapping[DownlinkId, Events]
    files: dict[Path, int]
    missing: list[str] = field(default_factory=list)

    @classmethod
    def read(
        cls,
        context: Context,
        brought: Mapping[DownlinkId, tuple[MergedIndex, Events]] = MappingProxyType({}),
        files: dict[Path, int] | None = None,
    ) -> Self:
        """Read the merged indexes and the deliveries of a run; what is `brought` now stands for what was before."""
        work, run = context.work, context.run
        recorded = Deliveries(work, run)
        others = [dl for dl in begun_downlinks(work, run) if dl not in brought]
        known = {dl: index for dl in others if (index := _made_known(context, dl)) is not None}
        known |= {dl: index for dl, (index, _) in brought.items()}
        events = {dl: events for dl, (_, events) in brought.items()}
        return cls(context, recorded, dict(sorted(known.items())), events, {} if files is None else files)

    @cached_property
    def all_datagrams(self) -> KnownDatagrams:
        """What all downlinks have made known."""
        return KnownDatagrams.together(index.datagrams for index in self.indexes.values())

    def events_for(self, downlink: DownlinkId) -> dict[DownlinkId, Events]:
        """Return the events of each downlink that a merge of `downlink` needs.

        What is gone and needed is decoded again; what is gone and has gone to Level-1 by other
        downlinks is not needed.
        """
        return {
            dl: self.events(dl)
            for dl, index in self.indexes.items()
            if dl == downlink
            or all(chunk.place(self.context.work, dl) for chunk in index.chunks)
            or self._is_needed(index.datagrams, downlink)
        }

    def _is_needed(self, datagrams: KnownDatagrams, downlink: DownlinkId) -> bool:
        """Tell whether a datagram may hold an event that is not delivered, or late."""
        rows = datagrams.rows[datagrams.rows["nevts"] > 0]
        delivered = np.zeros(len(rows), dtype=bool)
        earlier = self.recorded.earlier()
        for dl, delivery in self.recorded.latest().items():
            if dl == downlink:
                continue
            for record in (delivery, *earlier.get(dl, ())):
                known_then = listed(rows, record.datagrams)
                for span in record.spans:
                    inside = (rows["evtseq0"] >= span.first) & (rows["evtseq1"] <= span.last)
                    delivered |= inside & known_then
        return not delivered.all()

    def events(self, downlink: DownlinkId) -> Events:
        """Return the events of one downlink, in order, each once; chunks whose products are gone are decoded again."""
        if downlink in self.brought:
            return self.brought[downlink]
        found = ((chunk, self._place(downlink, chunk)) for chunk in self.indexes[downlink].chunks)
        return merge_rows(((chunk, place) for chunk, place in found if place), self.files)[1]

    def _place(self, downlink: DownlinkId, chunk: ChunkProducts) -> Path | None:
        """Return `Context.place` of a chunk, None if the merge has to do without it."""
        try:
            return self.context.place(downlink, chunk)
        except MissingInputError as error:
            if not self.context.settings.merge.without_context:
                raise
            log.warning("%s", error)
            self.missing.append(str(error))
            return None


def _made_known(context: Context, downlink: DownlinkId) -> MergedIndex | None:
    """Return what a downlink has made known; None if it has not come so far.

    If it is damaged or gone since its hand-off it is made again; not while the downlink is in work, for nobody knows
    then what it was made of.

    Raises
    ------
    StateError
        If it is damaged or gone, and cannot be made again.
    """
    work, run = context.work, context.run
    try:
        return MergedIndex.read(work, run, downlink)
    except HalfPipeError as error:
        handed_off = _handed_off(work, run, downlink)
        if not handed_off and isinstance(error, MissingInputError):
            return None
        if not handed_off or not (work / paths.receipt(downlink)).exists():
            raise StateError(error.text, rerun(downlink, "deliver_run", "To have it made again")) from error
        log.warning("%s Made again of the chunks of downlink %s.", error, downlink)
        return _index_again(context, downlink, handed_off)


def _index_again(context: Context, downlink: DownlinkId, chunks: Iterable[ChunkProducts]) -> MergedIndex:
    """Make the merged index of a downlink again of the chunks that it was handed off with."""
    index, _ = merge_chunks(((chunk, context.place(downlink, chunk)) for chunk in chunks), {})
    index.save(context.work, context.run, downlink)
    return index


def mend(settings: Settings, downlink: DownlinkId, output: IO[str]) -> list[RunId]:
    """Make the merged indexes of a downlink again that are damaged or gone; return their runs.

    Nothing is delivered or handed off.

    Raises
    ------
    HalfPipeError
        If its last hand-off, or what an index was made of, cannot be read or decoded again.
    """
    work, mended = settings.paths.work, []
    made = hand_offs(work, downlink)
    if not made or not (work / paths.receipt(downlink)).exists():
        raise MissingInputError(
            f"downlink {downlink} is not handed off, so nobody knows what its merged indexes were made of.",
            rerun(downlink, "deliver_run", "Process it"),
        )
    for run in (RunId(entry["run"]) for entry in made[-1].receipt["runs"]):
        with leases.run_lease(work, run, log.warning), context_scratch(work, run):
            try:
                MergedIndex.read(work, run, downlink)
            except HalfPipeError:
                if chunks := _handed_off(work, run, downlink):
                    _index_again(Context(settings, run, output), downlink, chunks)
                    mended.append(run)
    return mended


def _handed_off(work: Path, run: RunId, downlink: DownlinkId) -> list[ChunkProducts]:
    """Return the chunks of a run that a downlink was handed off with; none of what was taken over."""
    made = hand_offs(work, downlink)
    if not made or made[-1].receipt.get("taken_over"):
        return []
    return [ChunkProducts.of(chunk, run) for chunk in made[-1].receipt["chunks"] if run in chunk["runs"]]


@contextmanager
def context_scratch(work: Path, run: RunId) -> Iterator[None]:
    """Remove scratch of decoding context, before (a killed job's) and after."""
    scratch = work / paths.context(run)
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        yield
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
