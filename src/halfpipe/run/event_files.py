"""Writing event files: a new header, then records copied byte for byte from the chunks' evt files."""

import hashlib
import logging
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from halfpipe import paths
from halfpipe.errors import HalfPipeError
from halfpipe.files.durable import replacing, write_whole
from halfpipe.files.system_calls import reserve
from halfpipe.formats import evt
from halfpipe.ids import DownlinkId, RunId
from halfpipe.run.deliveries import EventFile
from halfpipe.run.event_records import Records
from halfpipe.run.moot_keys import MootKey

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Header:
    """The part of the header that all event files of a run share; `latc` replaces LATC_master of LPA records."""

    downlink: DownlinkId
    moot: MootKey
    latc: int | None


def name_files(records: Records, files: tuple[tuple[int, int], ...], run: RunId) -> list[EventFile]:
    """Name the event files to write, and describe them; only the checksums are still missing."""
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
    return replace(file, sha256=digest.hexdigest())


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
