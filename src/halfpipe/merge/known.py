"""What is known of a run: the merged indexes of all downlinks processed so far, and the journal.

Everything here is read under the run's lock. Chunk products that were cleaned up are decoded again,
as context, into scratch of the merge; they never come back to where they were.
"""

import logging
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import IO

import numpy as np

from halfpipe import paths
from halfpipe.decoder import Program, decode
from halfpipe.errors import HalfPipeError, MissingInputError
from halfpipe.formats.retdef import read_retdef
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.merge import index
from halfpipe.merge.deliver import listed
from halfpipe.merge.index import ChunkProducts, EventPart
from halfpipe.merge.journal import Delivery, Journal
from halfpipe.merge.settle import KnownDatagrams

log = logging.getLogger(__name__)

EMPTY: Mapping[DownlinkId, KnownDatagrams] = MappingProxyType({})


@dataclass(frozen=True)
class Context:
    """Decodes a chunk again where its products are gone.

    `without` merges without chunks that cannot be decoded again, instead of failing.
    """

    work: Path
    run: RunId
    program: Program
    latc: str | None
    output: IO[str]
    without: bool = False
    _again: dict[tuple[DownlinkId, ChunkId], Path] = field(default_factory=dict)

    def products(self, downlink: DownlinkId, chunk: ChunkProducts) -> Path:
        """Return a directory in which the products of `chunk` lie, whole.

        Raises
        ------
        MissingInputError
            If they are gone and cannot be made again; names run, downlink and hours.
        """
        home = self.work / paths.chunks(downlink)
        if chunk.lie_in(home):
            return home
        key = (downlink, chunk.chunk)
        if key in self._again:
            return self._again[key]
        scratch = self.work / paths.context(self.run) / downlink / chunk.chunk / secrets.token_hex(8)
        retdef_file = self.work / paths.retdef(downlink, chunk.chunk)
        retdef = read_retdef(retdef_file)
        log.info("chunk %s of downlink %s was cleaned up: decoding it again", chunk.chunk, downlink)
        made: object = None
        try:
            made = decode(self.program, retdef_file, retdef, scratch, self.latc, self.output)
        except HalfPipeError as error:
            cause = str(error)
        else:
            cause = "the decoder makes something else of it now than it did before"
        if made is None or not chunk.lie_in(scratch):
            hours = "; ".join(f"APID {s.apid} from {_utc(s.begin)} to {_utc(s.end)}" for s in retdef.spans)
            raise MissingInputError(
                f"run {self.run} needs chunk {chunk.chunk} of downlink {downlink}, whose products are gone, and "
                f"it cannot be decoded again ({cause}). Bring back the level-0 files of {hours}, or set "
                "merge.without_context in the config to merge without it."
            )
        self._again[key] = scratch
        return scratch


def _utc(unix: float) -> str:
    return str(np.datetime64(int(unix), "s")) + " UTC"


@dataclass
class KnownRun:
    """The state of a run as one downlink's merge finds it.

    `missing` says which chunks the merge has to do without.
    """

    run: RunId
    work: Path
    context: Context
    journal: Journal
    datagrams: dict[DownlinkId, KnownDatagrams]
    missing: list[str] = field(default_factory=list)
    _directories: dict[tuple[DownlinkId, str], Path] = field(default_factory=dict)

    @classmethod
    def read(
        cls, work: Path, run: RunId, context: Context, own: Mapping[DownlinkId, KnownDatagrams] = EMPTY
    ) -> "KnownRun":
        """Read the datagram parts and the journal of `run`; those in `own` need not be read again."""
        home = work / paths.run(run)
        downlinks = sorted(
            DownlinkId(entry.name) for entry in home.iterdir() if DownlinkId.matches(entry.name)
        )
        known = {
            dl: own[dl] if dl in own else index.load_datagrams(work, run, dl)
            for dl in downlinks
            if (work / paths.datagrams(run, dl)).exists()
        }
        manifests = [path for dl in downlinks if (path := work / paths.manifest(run, dl)).exists()]
        return cls(run, work, context, Journal(work / paths.journal(run), manifests), known)

    def deliveries(self) -> dict[DownlinkId, Delivery]:
        """Return the latest recorded delivery of each downlink."""
        return self.journal.latest()

    def events(self, downlink: DownlinkId) -> dict[DownlinkId, EventPart]:
        """Return the events of each downlink that a merge of `downlink` needs.

        What is gone and needed is decoded again; what is gone and has gone to Level-1 by other
        downlinks is not needed.
        """
        found = {}
        for dl, datagrams in self.datagrams.items():
            if (self.work / paths.events(self.run, dl)).exists():
                found[dl] = index.load_events(self.work, self.run, dl)
            elif dl == downlink or self._is_needed(datagrams, downlink):
                found[dl] = self._again(dl)
        return found

    def _is_needed(self, datagrams: KnownDatagrams, downlink: DownlinkId) -> bool:
        """Tell whether a datagram may hold an event that is not delivered, or late."""
        rows = datagrams.rows[datagrams.rows["nevts"] > 0]
        delivered = np.zeros(len(rows), dtype=bool)
        for dl, delivery in self.deliveries().items():
            if dl == downlink:
                continue
            known_then = listed(rows, delivery.datagrams)
            for span in delivery.spans:
                inside = (rows["evtseq0"] >= span.first) & (rows["evtseq1"] <= span.last)
                delivered |= inside & known_then
        return not delivered.all()

    def _again(self, downlink: DownlinkId) -> EventPart:
        there = []
        for chunk in index.load_chunks(self.work, self.run, downlink):
            directory = self._directory_or_none(downlink, chunk)
            if directory is not None:
                there.append((chunk, directory))
        scratch = self.work / paths.context(self.run)
        merged = index.build(there, aside=scratch)
        path = scratch / downlink / "events.npy"
        index.write_events(merged, path)
        return index.open_events(path, merged.files)

    def _directory_or_none(self, downlink: DownlinkId, chunk: ChunkProducts) -> Path | None:
        try:
            return self.context.products(downlink, chunk)
        except MissingInputError as error:
            if not self.context.without:
                raise
            self.missing.append(str(error))
            log.warning("%s", error)
            return None

    def evt_file(self, downlink: DownlinkId, name: str) -> Path:
        """Return where the evt file `name` of `downlink` lies, decoding its chunk again if it is gone."""
        key = (downlink, name)
        if key not in self._directories:
            for chunk in index.load_chunks(self.work, self.run, downlink):
                if name in chunk.files:
                    self._directories[key] = self.context.products(downlink, chunk)
        return self._directories[key] / name


@contextmanager
def context_scratch(work: Path, run: RunId) -> Iterator[None]:
    """Remove scratch of decoding context, before (a killed job's) and after."""
    scratch = work / paths.context(run)
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        yield
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
