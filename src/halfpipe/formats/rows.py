"""The rows of a chunk's index with sizes and checksums of their records: a product of ours beside the index.

An index is text, and taking it apart is a quarter of what merging a run costs. When a chunk is decoded its
index is read to check it, so the rows are written beside it, and merges read these.

A file is a checksum of what follows, a line of JSON, the datagram lines of the index, and its events as they stand.
"""

import json
import zlib
from itertools import islice
from pathlib import Path

import numpy as np

from halfpipe.errors import FormatError
from halfpipe.files.advice import cannot_be_read, put_aside
from halfpipe.files.durable import replacing, write_whole
from halfpipe.files.reading import open_regular
from halfpipe.formats.idx import EVENT, Rows

SUFFIX = ".rows"
CHECKSUM = 4  # bytes, CRC-32


def write_rows(path: Path, rows: Rows) -> None:
    """Write the rows of an index to `path`, whole or not at all."""
    header = [rows.files, str(EVENT.descr), len(rows.lines)]
    head = b"".join(line + b"\n" for line in (json.dumps(header).encode(), *rows.lines))
    events = rows.events.view(np.uint8).data
    with replacing(path, buffering=0) as out:
        write_whole(out, zlib.crc32(events, zlib.crc32(head)).to_bytes(CHECKSUM) + head)
        write_whole(out, events)


def read_rows(path: Path) -> Rows:
    """Read what `write_rows` wrote.

    Raises
    ------
    FormatError
        If it cannot be read, is not whole or not what was written, or is of another version.
    """
    try:
        with open_regular(path) as file:
            checksum, header = file.read(CHECKSUM), file.readline()
            files, fields, count = json.loads(header)
            lines = list(islice(file, count))
            events = np.fromfile(file, EVENT)
            found = zlib.crc32(events.view(np.uint8).data, zlib.crc32(b"".join((header, *lines))))
            # The checksum first: only then is the header what was written.
            if found.to_bytes(CHECKSUM) == checksum and fields == str(EVENT.descr):
                return Rows(tuple(line[:-1] for line in lines), events, tuple(files))
            what = "checksum mismatch, or another version"
    except OSError as error:
        raise FormatError(cannot_be_read(path, error)) from error
    except (ValueError, TypeError, RecursionError) as error:
        what = str(error)
    raise FormatError(
        f"{path}: not the rows of an index as they were written ({what}).",
        put_aside(path),
    )
