"""Writing event files: records copied byte for byte from the chunks' evt files, behind a new header."""

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfpipe import paths
from halfpipe.errors import FormatError, HalfPipeError, StateError
from halfpipe.files import advice, open_regular, replacing, reserve, write_whole
from halfpipe.formats import evt
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.deliver import Decision
from halfpipe.merge.index import EventPart
from halfpipe.merge.journal import EventFile
from halfpipe.moot import Moot
from halfpipe.pieces import read_pieces
from halfpipe.progress import Progress

BATCH_BYTES = 4 << 20  # what is read is hashed and written while it lies in the processor's cache


@dataclass(frozen=True)
class Header:
    """What all headers of a run's event files share; `latc` replaces LATC_master of LPA records."""

    downlink: DownlinkId
    run: RunId
    moot: Moot
    latc: int | None


@dataclass(frozen=True)
class Times:
    """Unix UTC seconds of delivered events: the first and last in order, the earliest and the latest."""

    first: float
    last: float
    earliest: float
    latest: float

    @classmethod
    def of(cls, utc: NDArray[np.float64]) -> "Times":
        """Take those of events in their order."""
        return cls(float(utc[0]), float(utc[-1]), float(utc.min()), float(utc.max()))

    @classmethod
    def together(cls, parts: Sequence["Times"]) -> "Times":
        """Join those of series of events that follow each other."""
        return cls(
            parts[0].first,
            parts[-1].last,
            min(part.earliest for part in parts),
            max(part.latest for part in parts),
        )


@dataclass(frozen=True)
class Batch:
    """Some records that follow each other in an event file: their bytes, and their events' times."""

    content: NDArray[np.uint8]
    times: Times


class Records:
    """The records of delivered events, wherever they lie.

    Nothing is held of them; any number of threads may read at once.

    Parameters
    ----------
    decision
        What is delivered; its events have the fields of `halfpipe.merge.index.KEY`.
    parts
        The event part of each source.
    locate
        Returns the path of an evt file of a downlink, or None: then the records are of no use, and the
        caller decides again without that file.
    """

    def __init__(
        self,
        decision: Decision,
        parts: Mapping[DownlinkId, EventPart],
        locate: Callable[[DownlinkId, str], Path | None],
    ) -> None:
        self.events = decision.events
        # A downlink that brings nothing of the run is a source all the same, and has no part.
        self._parts = {n: parts[dl] for n, dl in enumerate(decision.sources) if dl in parts}
        self._paths: dict[tuple[int, int], Path] = {}
        for source, part in self._parts.items():
            for file in _used(self.events, source):
                path = locate(decision.sources[source], part.files[file])
                if path is not None:
                    evt.read_header(path)
                    self._paths[source, file] = path

    def batches(self, begin: int, end: int, latc: int | None) -> Iterator[Batch]:
        """Yield the records of the events `begin` to `end` (half-open) in order, some megabytes at a time.

        A batch lies in memory that the next one takes over.

        Raises
        ------
        StateError
            If a chunk's evt file is not the one that was indexed: no record of the right sequence and
            APID lies where the index says. If it cannot be read.
        """
        every = self.events["size"][begin:end]
        room = min(int(every.sum(dtype=np.int64)), max(BATCH_BYTES, int(every.max(initial=0))))
        # The room ahead of them makes the records lie as they do in a file.
        buffer = np.empty(evt.HEADER_SIZE + room, np.uint8)
        most = BATCH_BYTES // evt.CONTEXT.itemsize + 1  # a record holds its context at least
        while begin < end:
            events = self.events[begin : min(begin + most, end)]
            edges = np.concatenate([[0], np.cumsum(events["size"], dtype=np.int64)])
            count = max(1, int(np.searchsorted(edges, BATCH_BYTES, side="right")) - 1)
            events, places = events[:count], evt.HEADER_SIZE + edges[:count]
            filled = buffer[: evt.HEADER_SIZE + edges[count]]
            utc = self._gather(events, np.diff(edges[: count + 1]), filled, places)
            if latc is not None:
                try:
                    _override(filled, places, latc)
                except FormatError as error:
                    raise StateError(
                        f"{' or '.join(self._files_of(events))}: a record is not what it was when it was indexed "
                        f"({error}) Process the downlink of that chunk again."
                    ) from error
            yield Batch(filled[evt.HEADER_SIZE :], Times.of(utc))
            begin += count
            most = 2 * count + 1  # the next ones are about as large

    def _gather(
        self,
        events: NDArray[np.void],
        sizes: NDArray[np.int64],
        buffer: NDArray[np.uint8],
        places: NDArray[np.int64],
    ) -> NDArray[np.float64]:
        """Read the records of `events` to their places in `buffer`; return the events' times."""
        utc = np.empty(len(events), np.float64)
        starts = np.empty(len(events), np.int64)
        sources, files = events["source"], events["file"]
        wrong: int | None = None
        for source in _numbers_in(sources):
            part = self._parts[source]
            of_source = np.flatnonzero(sources == source)
            rows = part.rows(events["row"][of_source])
            utc[of_source] = rows["utc"]
            starts[of_source] = rows["offset"]
            for file in _numbers_in(files[of_source]):
                which = of_source[rows["file"] == file]
                short = _read(self._paths[source, file], starts[which], sizes[which], buffer, places[which])
                if short is not None:
                    wrong = int(which[short])
        if wrong is None:
            wrong = _first_other(events, buffer, places)
        if wrong is not None:
            event = events[wrong]
            path = self._paths[int(event["source"]), int(event["file"])]
            raise StateError(
                f"{path} at byte {starts[wrong]}: sequence {event['sequence']} of APID {event['apid']} was there "
                "when it was indexed and is not any more. Process the downlink of that chunk again."
            )
        return utc

    def _files_of(self, events: NDArray[np.void]) -> list[str]:
        """Return the paths of the evt files in which `events` lie."""
        numbers = sorted(set(zip(events["source"].tolist(), events["file"].tolist(), strict=True)))
        return [str(self._paths[number]) for number in numbers]

    def seconds(self, event: int) -> int:
        """Return `current.timeSecs` of one event."""
        size = evt.CONTEXT.itemsize
        buffer = np.zeros(size, np.uint8)
        key = self.events[event : event + 1].copy()
        key["size"] = size
        self._gather(key, np.array([size]), buffer, np.array([0]))
        return int(buffer.view(evt.CONTEXT)["current_timeSecs"][0])


def _numbers_in(column: NDArray[np.integer[Any]]) -> list[int]:
    """Return the different numbers in a column of small ones."""
    return np.flatnonzero(np.bincount(column)).tolist()


def _used(events: NDArray[np.void], source: int) -> list[int]:
    """Return the numbers of the evt files in which events of a source lie."""
    found: NDArray[np.bool_] = np.zeros(np.iinfo(np.uint16).max + 1, dtype=bool)
    for first in range(0, len(events), 1 << 20):
        block = events[first : first + (1 << 20)]
        found[block["file"][block["source"] == source]] = True
    return np.flatnonzero(found).tolist()


def _read(
    path: Path,
    starts: NDArray[np.int64],
    sizes: NDArray[np.int64],
    buffer: NDArray[np.uint8],
    places: NDArray[np.int64],
) -> int | None:
    """Read records; return one that does not lie in the file as a whole or cannot be a record, else None."""
    short = (starts < evt.HEADER_SIZE) | (sizes < evt.CONTEXT.itemsize)
    if short.any():
        return int(np.argmax(short))
    try:
        with open_regular(path) as file:
            read_pieces(file.fileno(), starts, sizes, buffer, places)
    except EOFError as error:
        return int(np.argmax(starts > error.args[0] - sizes))
    except OSError as error:
        # Not as it is: it would be told as an error of the file that is being written.
        raise StateError(f"{path}: cannot be read: {error.strerror}. {advice(error)}") from error
    return None


def _first_other(
    events: NDArray[np.void], buffer: NDArray[np.uint8], places: NDArray[np.int64]
) -> int | None:
    """Return the first record whose sequence or APID is not that of its event."""
    sequence = evt.context_column(buffer, places, "scalers_sequence")
    apid = evt.context_column(buffer, places, "ccsds_apid")
    other = (sequence != events["sequence"]) | (apid != events["apid"])
    return int(np.argmax(other)) if other.any() else None


def _override(buffer: NDArray[np.uint8], places: NDArray[np.int64], latc: int) -> None:
    """Write `latc` into LATC_master of the LPA records at `places`."""
    layout = evt.record_layout(buffer, places, "as they are laid together")
    ends = (places + layout.sizes)[layout.infotypes == evt.InfoType.LPA]
    masters = ends - evt.LATC_FROM_END
    buffer[masters[:, None] + np.arange(4)] = np.frombuffer(np.array(latc, "<u4").tobytes(), np.uint8)


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


def write(
    records: Records,
    cut: tuple[int, int],
    file: EventFile,
    header: Header,
    home: Path,
    bar: Progress | None = None,
    stop: threading.Event | None = None,
) -> tuple[EventFile, Times]:
    """Write one event file into the directory `home`; return it with its checksum, and its events' times.

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
    bar
        Is told how far it is.
    stop
        Once it is set, the file is given up.

    Raises
    ------
    StateError
        If a record is not where it was when it was indexed, or cannot be read.
    HalfPipeError
        If the file cannot be written, or was given up. Nothing is left of it then.
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
    times = []
    with replacing(home / file.name, buffering=0) as out:
        reserve(out, file.size)
        write_whole(out, packed)
        for batch in records.batches(*cut, header.latc):
            write_whole(out, batch.content.data)
            digest.update(batch.content.data)
            size += len(batch.content)
            times.append(batch.times)
            if bar is not None:
                bar.add(size=len(batch.content))
            if stop is not None and stop.is_set():
                raise HalfPipeError(f"{file.name}: given up, because the delivery is not made")
    if bar is not None:
        bar.add(events=file.events)
    if size != file.size:
        raise StateError(f"{file.name}: {size} bytes were written, {file.size} expected")
    written = EventFile(file.name, file.events, file.sequences, file.seconds, size, digest.hexdigest())
    return written, Times.together(times)


def write_all(
    records: Records,
    cuts: Sequence[tuple[int, int]],
    files: Iterable[EventFile],
    header: Header,
    home: Path,
    threads: int = 1,
    bar: Progress | None = None,
) -> list[tuple[EventFile, Times]]:
    """Write event files as `write` does, several at a time to keep `threads` cores at work.

    Reading, hashing and writing let other threads of Python go on; while one file is flushed to disk,
    which is to wait, another is written. At the first error, or when the program is to end, those in work
    are given up.

    Raises
    ------
    HalfPipeError
        That of a file that failed before any was given up.
    """
    stop = threading.Event()
    with ThreadPoolExecutor(2 * threads) as pool:
        try:
            jobs = [
                pool.submit(write, records, cut, file, header, home, bar, stop)
                for cut, file in zip(cuts, files, strict=True)
            ]
            done, _ = wait(jobs, return_when=FIRST_EXCEPTION)
            return [job.result() for job in jobs if job in done]  # all of them, or one that raises
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
