"""The rows of a chunk's index, with sizes and checksums of the records: a binary file of HalfPipe next to the index.

An index is text, and parsing it takes a quarter of the time to merge a run. Decoding a chunk reads the index anyway, to
check it, and then writes the rows. Merges read only the rows.

A file has a line of JSON, the datagram lines of the index, and the array of events. The SHA-256 of the file is in the
``{chunk}.json`` of its chunk, and in each merged index that was made of it.
"""

import hashlib
import json
from itertools import islice
from pathlib import Path

import numpy as np

from halfpipe.errors import FormatError
from halfpipe.files.advice import cannot_be_read, put_aside
from halfpipe.files.durable import replacing, write_whole
from halfpipe.files.reading import open_regular
from halfpipe.formats.idx import Events, Rows


def write_rows(path: Path, rows: Rows) -> str:
    """Write the rows of an index to `path`, completely or not at all; return the SHA-256 of the file."""
    header = [rows.files, str(Events.row.descr), len(rows.lines)]
    head = b"".join(line + b"\n" for line in (json.dumps(header).encode(), *rows.lines))
    events = rows.events.view(np.uint8).data
    with replacing(path, buffering=0) as out:
        write_whole(out, head)
        write_whole(out, events)
    digest = hashlib.sha256(head)
    digest.update(events)
    return digest.hexdigest()


def read_rows(path: Path, sha256: str) -> Rows:
    """Read a file that `write_rows` wrote with this SHA-256.

    Raises
    ------
    FormatError
        If the file cannot be read, is damaged, has another version, or is of another decoding.
    """
    try:
        with open_regular(path) as file:
            header = file.readline()
            files, fields, count = json.loads(header)
            lines = list(islice(file, count))
            events = np.fromfile(file, Events.row).view(Events)
        digest = hashlib.sha256(b"".join((header, *lines)))
        digest.update(events.view(np.uint8).data)
        if digest.hexdigest() == sha256 and fields == str(Events.row.descr):
            return Rows(tuple(line[:-1] for line in lines), events, tuple(files))
        what = "another SHA-256 than was recorded when the chunk was decoded"
    except OSError as error:
        raise FormatError(cannot_be_read(path, error)) from error
    except (ValueError, TypeError, RecursionError) as error:
        what = str(error)
    raise FormatError(
        f"{path}: not rows of an index, damaged, or of another decoding ({what}).",
        put_aside(path),
    )
