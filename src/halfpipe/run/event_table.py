"""The events of a run that one downlink brings, as they lie in a file of their own: where each record is.

They are in order by (sequence, APID), each once. The file is large and can be made again from the chunk
products. It is an array of numpy, of one type.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from halfpipe import paths
from halfpipe.errors import StateError, mend
from halfpipe.files.durable import replacing, write_whole
from halfpipe.formats.idx import EVENT
from halfpipe.ids import DownlinkId, RunId
from halfpipe.run.chunk_files import chunk_list


@dataclass(frozen=True, eq=False)
class EventTable:
    """The events of a merged index (dtype `EVENT`), in order, and the evt files they count into.

    They are held, or lie in a file that is mapped.
    """

    events: NDArray[np.void]
    files: tuple[str, ...]


def write_events(path: Path, events: NDArray[np.void]) -> None:
    """Write events (dtype `EVENT`) to `path`."""
    with replacing(path, buffering=0) as out:
        npy.write_array_header_1_0(out, npy.header_data_from_array_1_0(events))
        write_whole(out, events.view(np.uint8).data)


def load_events(work: Path, run: RunId, downlink: DownlinkId) -> EventTable:
    """Return the event part of a merged index: what `write_events` wrote, and nothing else.

    Raises
    ------
    StateError
        If the file is damaged or was written by another version.
    """
    path = work / paths.events(run, downlink)
    again = mend(downlink, "To have it made again")
    try:
        events = npy.open_memmap(path, mode="r")
    except FileNotFoundError:
        raise
    except Exception as error:  # its header is text of Python, and may be wrong in as many ways
        raise StateError(f"{path}: not an event array ({error}).", again) from error
    if events.dtype != EVENT or events.ndim != 1 or events.offset + events.nbytes != path.stat().st_size:
        raise StateError(f"{path}: damaged, or made by another version.", again)
    return EventTable(np.asarray(events), tuple(chunk_list(work, run, downlink)["files"]))
