"""The records of delivered events, read from the chunks' evt files and checked."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from halfpipe.errors import StateError
from halfpipe.files.advice import advice, put_aside
from halfpipe.files.reading import open_regular
from halfpipe.files.system_calls import read_pieces
from halfpipe.formats import evt
from halfpipe.merge.decision import Decision
from halfpipe.merge.ordering import numbers_in

BATCH_BYTES = 3 << 19  # small enough to be hashed and written while still in the processor's cache


class Records:
    """The records of delivered events in the chunks' evt files.

    Nothing is cached, so any number of threads may read at the same time.

    Parameters
    ----------
    decision
        The merge decision with the delivered events.
    files
        The evt files to which the `file` numbers of the events refer.
    """

    def __init__(self, decision: Decision, files: Iterable[Path]) -> None:
        self.events = decision.events
        self._files = tuple(files)

    def batches(self, begin: int, end: int, latc: int | None) -> Iterator[NDArray[np.uint8]]:
        """Yield the records of the events `begin` to `end` (half-open) in order, some MB at a time.

        Each batch overwrites the memory of the one before.

        Raises
        ------
        StateError
            If a chunk's evt file cannot be read, or changed after it was decoded.
        """
        every = self.events["size"][begin:end]
        room = min(int(every.sum(dtype=np.int64)), max(BATCH_BYTES, int(every.max(initial=0))))
        # Space for a header in front, so that records have the same alignment as in a file.
        buffer = np.empty(evt.HEADER_SIZE + room, np.uint8)
        most = BATCH_BYTES // evt.CONTEXT.itemsize + 1  # no record is smaller than its context
        while begin < end:
            events = self.events[begin : min(begin + most, end)]
            edges = np.concatenate([[0], np.cumsum(events["size"], dtype=np.int64)])
            count = max(1, int(np.searchsorted(edges, BATCH_BYTES, side="right")) - 1)
            events, places = events[:count], evt.HEADER_SIZE + edges[:count]
            filled = buffer[: evt.HEADER_SIZE + edges[count]]
            self._gather(events, np.diff(edges[: count + 1]), filled, places)
            if latc is not None:
                _override(filled, places, latc)
            yield filled[evt.HEADER_SIZE :]
            begin += count
            most = 2 * count + 1  # the next records have about the same size

    def _gather(
        self,
        events: NDArray[np.void],
        sizes: NDArray[np.int64],
        buffer: NDArray[np.uint8],
        places: NDArray[np.int64],
    ) -> None:
        """Read the records of `events` into their places in `buffer`, and check them there."""
        starts, files = events["offset"], events["file"]
        for file in numbers_in(files):
            which = np.flatnonzero(files == file)
            short = _read_records(self._files[file], starts[which], sizes[which], buffer, places[which])
            if short is not None:
                raise self._damaged(events[which[short]], "is missing")
        # Check all files together, because their records are interleaved.
        changed = np.flatnonzero(evt.record_checks(buffer, places, sizes) != events["check"])
        if changed.size:
            raise self._damaged(events[changed[0]], "has a wrong checksum")

    def _damaged(self, event: np.void, what: str) -> StateError:
        """Return the error for an event's record that changed after decoding; `what` describes the damage."""
        path = self._files[event["file"]]
        return StateError(
            f"{path}: damaged after chunk {path.stem[-5:]} was decoded: sequence {event['sequence']} of APID "
            f"{event['apid']} at byte {event['offset']} {what}. Nothing was delivered from it.",
            put_aside(path),
        )

    def seconds(self, event: int) -> int:
        """Return `current.timeSecs` of one event."""
        key = self.events[event : event + 1]
        buffer, start = np.zeros(int(key["size"][0]), np.uint8), np.zeros(1, np.int64)
        self._gather(key, key["size"].astype(np.int64), buffer, start)
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
