"""Writing event files: a new header, then records copied byte for byte from the chunks' evt files, and checked."""

import hashlib
import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from halfpipe import paths
from halfpipe.errors import HalfPipeError, StateError
from halfpipe.files.advice import advice, put_aside
from halfpipe.files.durable import replacing, write_whole
from halfpipe.files.reading import open_regular
from halfpipe.files.system_calls import read_pieces, reserve
from halfpipe.formats import evt
from halfpipe.formats.idx import Events
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.ordering import numbers_in
from halfpipe.state.deliveries import EventFile, MootKey

BATCH_BYTES = 3 << 19  # small enough to be hashed and written while still in the processor's cache

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Records:
    """The records of delivered `events` in the chunks' evt files.

    Nothing is cached, so any number of threads may read at the same time. `files` are the evt files to which the `file`
    numbers of the events refer.
    """

    events: Events
    files: Sequence[Path]

    def batches(self, begin: int, end: int, latc: int | None) -> Iterator[NDArray[np.uint8]]:
        """Yield the records of the events `begin` to `end` (half-open) in order, some MB at a time.

        Each batch overwrites the memory of the one before.

        Raises
        ------
        StateError
            If a chunk's evt file cannot be read, or changed after it was decoded.
        """
        sizes = self.events.length
        every = sizes[begin:end]
        room = min(int(every.sum(dtype=np.int64)), max(BATCH_BYTES, int(every.max(initial=0))))
        # Space for a header in front, so that records have the same alignment as in a file.
        buffer = np.empty(evt.HEADER_SIZE + room, np.uint8)
        most = BATCH_BYTES // evt.CONTEXT.itemsize + 1  # no record is smaller than its context
        while begin < end:
            stop = min(begin + most, end)
            edges = np.concatenate([[0], np.cumsum(sizes[begin:stop], dtype=np.int64)])
            count = max(1, int(np.searchsorted(edges, BATCH_BYTES, side="right")) - 1)
            events = self.events[begin : begin + count]
            places = evt.HEADER_SIZE + edges[:count]
            filled = buffer[: evt.HEADER_SIZE + edges[count]]
            self._gather(events, np.diff(edges[: count + 1]), filled, places)
            if latc is not None:
                _override(filled, places, latc)
            yield filled[evt.HEADER_SIZE :]
            begin += count
            most = 2 * count + 1  # the next records have about the same size

    def _gather(
        self,
        events: Events,
        sizes: NDArray[np.int64],
        buffer: NDArray[np.uint8],
        places: NDArray[np.int64],
    ) -> None:
        """Read the records of `events` into their places in `buffer`, and check them there."""
        starts = events.offset
        files = events.file
        for file in numbers_in(files):
            which = np.flatnonzero(files == file)
            short = _read_records(self.files[file], starts[which], sizes[which], buffer, places[which])
            if short is not None:
                raise self._damaged(events, which[short], "is missing")
        # Check all files together, because their records are interleaved.
        changed = np.flatnonzero(evt.record_checks(buffer, places, sizes) != events.check)
        if changed.size:
            raise self._damaged(events, changed[0], "has a wrong checksum")

    def _damaged(self, events: Events, at: int, what: str) -> StateError:
        """Return the error for an event's record that changed after decoding; `what` describes the damage."""
        path = self.files[events.file[at]]
        return StateError(
            f"{path}: damaged after chunk {path.stem[-5:]} was decoded: sequence {events.sequence[at]} of "
            f"APID {events.apid[at]} at byte {events.offset[at]} {what}. Nothing was delivered from it.",
            put_aside(path),
        )

    def seconds(self, event: int) -> int:
        """Return `current.timeSecs` of one event."""
        key = self.events[event : event + 1]
        size = key.length.astype(np.int64)
        buffer = np.zeros(size, np.uint8)
        start = np.zeros(1, np.int64)
        self._gather(key, size, buffer, start)
        return int(evt.context_column(buffer, start, "current_timeSecs")[0])


def _read_records(
    path: Path,
    starts: NDArray[np.int64],
    sizes: NDArray[np.int64],
    buffer: NDArray[np.uint8],
    places: NDArray[np.int64],
) -> int | None:
    """Read records into `buffer`; return the number of one that ends beyond the end of the file, else None."""
    try:
        with open_regular(path) as file:
            read_pieces(file.fileno(), starts, sizes, buffer, places)
    except EOFError as error:
        return int(np.argmax(starts > error.args[0] - sizes))
    except OSError as error:
        # Converted here, because the caller would report an OSError for the file that it is writing.
        raise StateError(f"{path}: cannot be read: {error.strerror}. {advice(error)}") from error
    return None


def _override(buffer: NDArray[np.uint8], places: NDArray[np.int64], latc: int) -> None:
    """Write `latc` into LATC_master of the LPA records at `places`."""
    layout = evt.record_layout(buffer, places, "records to deliver")
    ends = (places + layout.sizes)[layout.infotypes == evt.InfoType.LPA]
    masters = ends - evt.LATC_FROM_END
    buffer[masters[:, None] + np.arange(4)] = np.frombuffer(np.array(latc, "<u4").tobytes(), np.uint8)


@dataclass(frozen=True)
class Header:
    """The part of the header that all event files of a run share; `latc` replaces LATC_master of LPA records."""

    downlink: DownlinkId
    moot: MootKey
    latc: int | None


def name_files(records: Records, files: tuple[tuple[int, int], ...], run: RunId) -> list[EventFile]:
    """Name the event files to write, and describe them; only the checksums are still missing."""
    described = []
    sequences = records.events.sequence
    sizes = records.events.length
    for begin, end in files:
        pair = int(sequences[begin]), int(sequences[end - 1])
        described.append(
            EventFile(
                paths.event_file(run.l1, pair[0]),
                end - begin,
                pair,
                (records.seconds(begin), records.seconds(end - 1)),
                evt.HEADER_SIZE + int(sizes[begin:end].sum(dtype=np.int64)),
                "",
            )
        )
    return described


def write_file(
    records: Records,
    cut: tuple[int, int],
    file: EventFile,
    header: Header,
    home: Path,
    stop: threading.Event | None = None,
) -> EventFile:
    """Write one event file into the directory `home`; return its description with the checksum.

    Parameters
    ----------
    records, cut
        The records, and the slice of them that goes into the file.
    file
        The description that `name_files` returned.
    header
        The part of the header that the run's files share.
    home
        Scratch directory on the stage's file system.
    stop
        Once it is set, writing stops with an error.

    Raises
    ------
    StateError
        If a record cannot be read or is not at its indexed place.
    HalfPipeError
        If the file cannot be written, or `stop` was set. The unfinished file is removed.
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
    with replacing(home / file.name, buffering=0) as out:
        reserve(out, file.size)
        write_whole(out, packed)
        for content in records.batches(*cut, header.latc):
            write_whole(out, content.data)
            digest.update(content.data)
            if stop is not None and stop.is_set():
                raise HalfPipeError(f"{file.name}: stopped, because the delivery failed")
    return msgspec.structs.replace(file, sha256=digest.hexdigest())


def write_all(
    records: Records,
    cuts: Sequence[tuple[int, int]],
    files: Iterable[EventFile],
    header: Header,
    home: Path,
    threads: int = 1,
) -> list[EventFile]:
    """Write event files as `write_file` does, several at a time to keep `threads` cores busy.

    Reading, hashing and writing release Python's global lock. While one file is flushed to disk, another is written.
    At the first error, or when the program is interrupted, unfinished files are removed. The job's log gets a line for
    each file.

    Raises
    ------
    HalfPipeError
        The error of the file that failed first.
    """
    stop = threading.Event()

    def one(cut: tuple[int, int], file: EventFile) -> EventFile:
        made = write_file(records, cut, file, header, home, stop)
        log.info("%s: %d events, %d bytes", file.name, file.events, file.size)
        return made

    with ThreadPoolExecutor(2 * threads) as pool:
        try:
            jobs = [pool.submit(one, cut, file) for cut, file in zip(cuts, files, strict=True)]
            done, _ = wait(jobs, return_when=FIRST_EXCEPTION)
            return [job.result() for job in jobs if job in done]  # all of them, or one that raises
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
