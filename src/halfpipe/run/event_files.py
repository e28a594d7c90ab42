"""Writing event files: records copied byte for byte from the chunks' evt files, behind a new header."""

import hashlib
import logging
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from halfpipe import paths
from halfpipe.errors import HalfPipeError, StateError
from halfpipe.files.durable import replacing, write_whole
from halfpipe.files.system_calls import reserve
from halfpipe.formats import evt
from halfpipe.ids import DownlinkId, RunId
from halfpipe.run.deliveries import EventFile
from halfpipe.run.event_records import Records
from halfpipe.run.moot_keys import Moot

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Header:
    """What all headers of a run's event files share; `latc` replaces LATC_master of LPA records."""

    downlink: DownlinkId
    moot: Moot
    latc: int | None


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
    stop: threading.Event | None = None,
) -> EventFile:
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
    stop
        Once it is set, the file is abandoned.

    Raises
    ------
    StateError
        If a record is not where it was when it was indexed, or cannot be read.
    HalfPipeError
        If the file cannot be written, or was abandoned. Nothing is left of it then.
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
    with replacing(home / file.name, buffering=0) as out:
        reserve(out, file.size)
        write_whole(out, packed)
        for content in records.batches(*cut, header.latc):
            write_whole(out, content.data)
            digest.update(content.data)
            size += len(content)
            if stop is not None and stop.is_set():
                raise HalfPipeError(f"{file.name}: abandoned, because the delivery is not made")
    if size != file.size:
        raise StateError(f"{file.name}: {size} bytes were written, {file.size} expected")
    return EventFile(file.name, file.events, file.sequences, file.seconds, size, digest.hexdigest())


def write_all(
    records: Records,
    cuts: Sequence[tuple[int, int]],
    files: Iterable[EventFile],
    header: Header,
    home: Path,
    threads: int = 1,
) -> list[EventFile]:
    """Write event files as `write` does, several at a time to keep `threads` cores at work.

    Reading, hashing and writing let other threads of Python go on; while one file is flushed to disk,
    which is to wait, another is written. At the first error, or when the program is to end, those in work
    are abandoned. The job's log gets a line for each file.

    Raises
    ------
    HalfPipeError
        That of a file that failed before any was abandoned.
    """
    stop = threading.Event()

    def one(cut: tuple[int, int], file: EventFile) -> EventFile:
        made = write(records, cut, file, header, home, stop)
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
