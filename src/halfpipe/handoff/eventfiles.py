"""Writing event files: records copied byte for byte from the chunks' evt files, behind a new header."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from halfpipe import paths
from halfpipe.errors import StateError
from halfpipe.files import replacing
from halfpipe.formats import evt
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.deliver import Decision
from halfpipe.merge.journal import EventFile
from halfpipe.moot import Moot

BATCH_BYTES = 8 << 20


@dataclass(frozen=True)
class Header:
    """What all headers of a run's event files share; `latc` replaces LATC_master of LPA records."""

    downlink: DownlinkId
    run: RunId
    moot: Moot
    latc: int | None


class Records:
    """The records of delivered events, wherever they lie.

    Parameters
    ----------
    decision
        What is delivered; its events have the fields of `halfpipe.merge.index.PLACED`.
    names
        The evt files that the events of each source count into.
    locate
        Returns the path of an evt file of a downlink, or None: then the records are of no use, and the
        caller decides again without that file.
    """

    def __init__(
        self,
        decision: Decision,
        names: dict[DownlinkId, tuple[str, ...]],
        locate: Callable[[DownlinkId, str], Path | None],
    ) -> None:
        self.events = decision.events
        self._files: list[evt.EvtFile] = []
        self._paths: list[Path] = []
        width = int(self.events["file"].max(initial=0)) + 1
        codes = self.events["source"].astype(np.int64) * width + self.events["file"]
        numbers = np.full(len(decision.sources) * width, -1, np.int64)
        for code in np.flatnonzero(np.bincount(codes)).tolist():
            downlink = decision.sources[code // width]
            path = locate(downlink, names[downlink][code % width])
            if path is not None:
                numbers[code] = len(self._files)
                self._files.append(evt.open_evt(path))
                self._paths.append(path)
        self._file_of: NDArray[np.int64] = numbers[codes]
        self._check()

    def _check(self) -> None:
        """Check that a record of the right sequence lies where each event is said to lie.

        Raises
        ------
        StateError
            If a chunk's evt file is not the one that was indexed.
        """
        for number, file in enumerate(self._files):
            events = self.events[self._file_of == number]
            ends = events["offset"] + events["size"]
            good = (events["offset"] >= evt.HEADER_SIZE) & (ends <= len(file.data))
            if good.all():
                sequence = evt.context_column(file.data, events["offset"], "scalers_sequence")
                apid = evt.context_column(file.data, events["offset"], "ccsds_apid")
                good = (sequence == events["sequence"]) & (apid == events["apid"])
            if not good.all():
                at = events[np.flatnonzero(~good)[0]]
                raise StateError(
                    f"{self._paths[number]} at byte {at['offset']}: sequence {at['sequence']} of APID {at['apid']} "
                    "was there when it was indexed and is not any more. Process the downlink of that chunk again."
                )

    def batches(self, begin: int, end: int, latc: int | None) -> Iterator[bytes | bytearray]:
        """Yield the records of the events `begin` to `end` (half-open) in order, some megabytes at a time."""
        sizes = self.events["size"][begin:end].astype(np.int64)
        edges = np.concatenate([[0], np.cumsum(sizes)])
        first = 0
        while first < len(sizes):
            last = int(np.searchsorted(edges, edges[first] + BATCH_BYTES, side="right")) - 1
            last = max(last, first + 1)
            batch = self._gather(begin + first, begin + last)
            if latc is not None:
                self._override(batch, begin + first, sizes[first:last], latc)
            yield batch
            first = last

    def _gather(self, begin: int, end: int) -> bytearray:
        """Copy records into one buffer; records that follow each other in one file are one piece."""
        events, files = self.events[begin:end], self._file_of[begin:end]
        starts = events["offset"]
        ends = starts + events["size"]
        cut = np.flatnonzero((files[1:] != files[:-1]) | (starts[1:] != ends[:-1])) + 1
        heads = np.concatenate([[0], cut])
        tails = np.concatenate([cut, [len(events)]]) - 1
        views = [file.data.data for file in self._files]
        pieces = zip(files[heads].tolist(), starts[heads].tolist(), ends[tails].tolist(), strict=True)
        return bytearray().join(views[file][a:b] for file, a, b in pieces)

    def _override(self, batch: bytearray, begin: int, sizes: NDArray[np.int64], latc: int) -> None:
        """Write `latc` into LATC_master of the LPA records in `batch`."""
        data = np.frombuffer(batch, np.uint8)
        ends = np.cumsum(sizes)
        masters = ends[self._is_lpa[begin : begin + len(sizes)]] - evt.LATC_FROM_END
        data[masters[:, None] + np.arange(4)] = np.frombuffer(np.array(latc, "<u4").tobytes(), np.uint8)

    @cached_property
    def _is_lpa(self) -> NDArray[np.bool_]:
        """Tell for each event whether its record is an LPA one."""
        found = np.zeros(len(self.events), dtype=bool)
        for number, file in enumerate(self._files):
            here = self._file_of == number
            layout = evt.record_layout(file.data, self.events["offset"][here], str(self._paths[number]))
            found[here] = layout.infotypes == evt.InfoType.LPA
        return found

    def seconds(self, event: int) -> int:
        """Return `current.timeSecs` of one event."""
        file = self._files[self._file_of[event]]
        offset = self.events["offset"][event : event + 1]
        return int(evt.contexts(file.data, offset)["current_timeSecs"][0])


def describe(records: Records, files: tuple[tuple[int, int], ...], run: RunId) -> list[EventFile]:
    """Describe the event files to be written, all but their size and checksum."""
    described = []
    for begin, end in files:
        sequences = records.events["sequence"]
        pair = int(sequences[begin]), int(sequences[end - 1])
        described.append(
            EventFile(
                paths.event_file(run.l1, pair[0]),
                end - begin,
                pair,
                (records.seconds(begin), records.seconds(end - 1)),
                evt.HEADER_SIZE + int(records.events["size"][begin:end].sum(dtype=np.int64)),
                "",
            )
        )
    return described


def write(records: Records, cut: tuple[int, int], file: EventFile, header: Header, home: Path) -> EventFile:
    """Write one event file into the directory `home`; return it with its checksum.

    Parameters
    ----------
    records, cut
        The records and the slice of them that goes into the file.
    file
        The file as `describe` gave it.
    header
        What its header shares with the run's other files.
    home
        Scratch directory on the stage's file system.
    """
    packed = evt.pack_header(
        runid=header.downlink.number,
        seconds=file.seconds,
        sequences=file.sequences,
        events=file.events,
        moot_key=header.moot.key,
        moot_alias=header.moot.alias,
    )
    digest = hashlib.sha256(packed)
    size = len(packed)
    with replacing(home / file.name) as out:
        out.write(packed)
        for batch in records.batches(*cut, header.latc):
            out.write(batch)
            digest.update(batch)
            size += len(batch)
    if size != file.size:
        raise StateError(f"{file.name}: {size} bytes were written, {file.size} expected")
    return EventFile(file.name, file.events, file.sequences, file.seconds, size, digest.hexdigest())
