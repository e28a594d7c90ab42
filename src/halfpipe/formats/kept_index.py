"""The events of a chunk's index with sizes and checksums of their records, as they are kept from decoding to merging.

An index is text, and taking it apart is a quarter of what merging a run costs. When a chunk is decoded its
index is read to check it, so the rows are kept for the merge that follows. It is a cache of ours, not a
product: it may be removed, torn or damaged at any time, and then the index is read.

A file is one line of JSON, the datagram lines of the index, and the rows, of which the line has a checksum.
"""

import json
import os
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from halfpipe.errors import HalfPipeError
from halfpipe.files.durable import replacing, write_whole
from halfpipe.files.reading import open_regular
from halfpipe.formats.idx import EVENT, Rows

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
    lines = b"".join(line + b"\n" for line in index.lines)
    header = {
        "idx": checksums[name],
        "evt": [[file, checksums[file]] for file in index.files],
        "fields": EVENT.descr,
        "lines": len(lines),
        "events": len(index.events),
        "crc32": zlib.crc32(index.events.view(np.uint8).data, zlib.crc32(lines)),
    }
    # A full disk is for others to tell; and a machine that dies leaves what the checksum finds.
    with suppress(HalfPipeError), replacing(path, buffering=0, lasting=False) as out:
        write_whole(out, json.dumps(header).encode() + b"\n" + lines)
        write_whole(out, index.events.view(np.uint8).data)


def kept(path: Path, name: str, checksums: Mapping[str, str]) -> Rows | None:
    """Return what was kept at `path`; None if it is not there, not whole, or of other files.

    Parameters
    ----------
    path
        Where it was kept.
    name, checksums
        As for `keep`: what the files are now; it may have more files.
    """
    with suppress(OSError, ValueError, TypeError, KeyError, RecursionError), open_regular(path) as file:
        header = json.loads(file.readline(MOST_HEADER))
        files = [file for file, _ in header["evt"]]
        if any(checksums[file] != digest for file, digest in [(name, header["idx"]), *header["evt"]]):
            return None
        if header["fields"] != [list(field) for field in EVENT.descr]:
            return None
        length, count = int(header["lines"]), int(header["events"])
        start = file.tell()
        if (
            min(length, count) < 0
            or os.fstat(file.fileno()).st_size != start + length + count * EVENT.itemsize
        ):
            return None
        lines = file.read(length)
        events = np.empty(count, EVENT)
        whole = file.readinto(events.view(np.uint8).data) == events.nbytes
        if whole and zlib.crc32(events.view(np.uint8).data, zlib.crc32(lines)) == header["crc32"]:
            return Rows(tuple(lines.split(b"\n")[:-1]), events, tuple(files))
    return None
