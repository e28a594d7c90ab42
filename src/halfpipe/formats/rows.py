"""The rows of a chunk's index, with sizes and checksums of the records: a binary file of HalfPipe next to the index.

An index is text, and parsing it takes a quarter of the time to merge a run. Decoding a chunk reads the index anyway, to
check it, and then writes the rows. Merges read only the rows.

A file has a checksum of the rest, a line of JSON, the datagram lines of the index, and the array of events.
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
    """Write the rows of an index to `path`, completely or not at all."""
    header = [rows.files, str(EVENT.descr), len(rows.lines)]
    head = b"".join(line + b"\n" for line in (json.dumps(header).encode(), *rows.lines))
    events = rows.events.view(np.uint8).data
    with replacing(path, buffering=0) as out:
        write_whole(out, zlib.crc32(events, zlib.crc32(head)).to_bytes(CHECKSUM) + head)
        write_whole(out, events)


def read_rows(path: Path) -> Rows:
    """Read a file that `write_rows` wrote.

    Raises
    ------
    FormatError
        If the file cannot be read, is incomplete or damaged, or has another version.
    """
    try:
        with open_regular(path) as file:
            checksum, header = file.read(CHECKSUM), file.readline()
            files, fields, count = json.loads(header)
            lines = list(islice(file, count))
            events = np.fromfile(file, EVENT)
            found = zlib.crc32(events.view(np.uint8).data, zlib.crc32(b"".join((header, *lines))))
            # The checksum comes first, because it also covers the header.
            if found.to_bytes(CHECKSUM) == checksum and fields == str(EVENT.descr):
                return Rows(tuple(line[:-1] for line in lines), events, tuple(files))
            what = "checksum mismatch, or another version"
    except OSError as error:
        raise FormatError(cannot_be_read(path, error)) from error
    except (ValueError, TypeError, RecursionError) as error:
        what = str(error)
    raise FormatError(
        f"{path}: not rows of an index, or damaged ({what}).",
        put_aside(path),
    )
