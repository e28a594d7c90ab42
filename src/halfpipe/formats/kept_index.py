"""The events of a chunk's index with sizes and checksums of their records, as they are kept from decoding to merging.

An index is text, and taking it apart is a quarter of what merging a run costs. When a chunk is decoded its
index is read to check it, so the rows are kept for the merge that follows. It is a cache of ours, not a
product: it may be removed, torn or damaged at any time, and then the index is read.

A file is a checksum of what follows, a line of JSON, the datagram lines of the index, and the rows.
"""

import json
import zlib
from collections.abc import Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path

import numpy as np

from halfpipe.errors import HalfPipeError
from halfpipe.files.durable import replacing, write_whole
from halfpipe.files.reading import open_regular
from halfpipe.formats.idx import EVENT, Rows

CHECKSUM = 4  # bytes, CRC-32
MOST_HEADER = 1 << 16  # bytes; an index names one event file, seldom two


def keep(index: Rows, path: Path, name: str, checksums: Mapping[str, str]) -> None:
    """Keep what was read of an index at `path`, if that can be written; nothing depends on it.

    Parameters
    ----------
    index
        What was read.
    path
        Where; its directory is made.
    name
        That of the index.
    checksums
        SHA-256 of it and of each of its event files.
    """
    header = [{file: checksums[file] for file in (name, *index.files)}, str(EVENT.descr), len(index.lines)]
    head = b"".join(line + b"\n" for line in (json.dumps(header).encode(), *index.lines))
    rows = index.events.view(np.uint8).data
    # A full disk is for others to tell; and a machine that dies leaves what the checksum finds.
    with suppress(HalfPipeError), replacing(path, buffering=0, lasting=False) as out:
        write_whole(out, zlib.crc32(rows, zlib.crc32(head)).to_bytes(CHECKSUM) + head)
        write_whole(out, rows)


def kept(path: Path, checksums: Mapping[str, str]) -> Rows | None:
    """Return what was kept at `path`; None if it is not there, not whole, or of other files.

    Parameters
    ----------
    path
        Where it was kept.
    checksums
        As for `keep`: what the files are now; it may have more files.
    """
    with suppress(OSError, ValueError, TypeError, RecursionError), open_regular(path) as file:
        checksum, header = file.read(CHECKSUM), file.readline(MOST_HEADER)
        known, fields, count = json.loads(header)
        lines = list(islice(file, count))
        events = np.fromfile(file, EVENT)
        found = zlib.crc32(events.view(np.uint8).data, zlib.crc32(b"".join((header, *lines))))
        # The checksum first: only then is the header what was written.
        same = found.to_bytes(CHECKSUM) == checksum and fields == str(EVENT.descr)
        if same and known.items() <= checksums.items():
            return Rows(tuple(line[:-1] for line in lines), events, tuple(known)[1:])
    return None
