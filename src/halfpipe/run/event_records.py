"""Which events are delivered, and their records, read from the chunks' evt files wherever they lie."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from halfpipe.errors import FormatError, StateError
from halfpipe.files.advice import advice
from halfpipe.files.reading import open_regular
from halfpipe.files.system_calls import read_pieces
from halfpipe.formats import evt
from halfpipe.ids import DownlinkId
from halfpipe.merge.decision import Decision, decide
from halfpipe.merge.late import Recorded
from halfpipe.merge.ordering import numbers_in
from halfpipe.run.merged_index import EventTable, damaged
from halfpipe.run.run_state import KnownRun
from halfpipe.settings import Merge

BATCH_BYTES = 2 << 20  # what is read is hashed and written while it lies in the processor's cache


def decided(
    known: KnownRun,
    downlink: DownlinkId,
    tables: Mapping[DownlinkId, EventTable],
    recorded: Mapping[DownlinkId, Recorded],
    limits: Merge,
    *,
    earlier: Mapping[DownlinkId, Sequence[Recorded]] = MappingProxyType({}),
    given_up: bool,
) -> tuple[Decision, "Records"]:
    """Decide what `downlink` delivers of the events in `tables`, and find the records.

    Only records that are delivered have to be there, so these are known after it is decided. If some are gone
    and the config allows to do without, it is decided anew: of another copy of an event the record may be there,
    and of a series too little may be left for a file.

    Parameters
    ----------
    known
        The run.
    downlink, recorded, limits, earlier, given_up
        As for `halfpipe.merge.decision.decide`.
    tables
        The events of each downlink.

    Raises
    ------
    MissingInputError, FormatError
        As `KnownRun.evt_file`.
    """
    gone: set[tuple[DownlinkId, int]] = set()
    while True:
        events = {dl: table.events for dl, table in tables.items()}
        for dl in {dl for dl, _ in gone}:
            events[dl] = events[dl][~np.isin(events[dl]["file"], [file for of, file in gone if of == dl])]
        decision = decide(
            downlink, known.all_datagrams, events, recorded, limits, earlier=earlier, given_up=given_up
        )
        used = evt_files_of(decision)
        places = {(dl, file): known.evt_file(dl, tables[dl].files[file]) for dl, file in used}
        found = {key: path for key, path in places.items() if path is not None}
        if len(found) == len(places):
            return decision, Records(decision, found)
        gone |= places.keys() - found.keys()


def evt_files_of(decision: Decision) -> list[tuple[DownlinkId, int]]:
    """Return in which evt files the delivered events lie: downlinks, and numbers in the files of their tables."""
    sources, files = decision.events["source"], decision.events["file"]
    return [
        (decision.sources[source], file)
        for source in numbers_in(sources)
        for file in numbers_in(files[sources == source])
    ]


class Records:
    """The records of delivered events, wherever they lie.

    Nothing is held of them; any number of threads may read at once.

    Parameters
    ----------
    decision
        What is delivered.
    evt_files
        Where each evt file lies that `evt_files_of` gives, by downlink and its number in the table's files; and
        whether its records have the checksums of the table.
    """

    def __init__(
        self,
        decision: Decision,
        evt_files: Mapping[tuple[DownlinkId, int], tuple[Path, bool]],
    ) -> None:
        self.events = decision.events
        number = {downlink: n for n, downlink in enumerate(decision.sources)}
        self._paths = {(number[downlink], file): path for (downlink, file), (path, _) in evt_files.items()}
        self._checked = {self._paths[number[dl], file] for (dl, file), (_, same) in evt_files.items() if same}

    def batches(self, begin: int, end: int, latc: int | None) -> Iterator[NDArray[np.uint8]]:
        """Yield the records of the events `begin` to `end` (half-open) in order, some MB at a time.

        The bytes lie in memory that the next ones take over.

        Raises
        ------
        StateError
            If a chunk's evt file is not the one that was indexed: no record of the right sequence and
            APID lies where the index says, or it is not what was decoded. If it cannot be read.
        """
        every = self.events["size"][begin:end]
        room = min(int(every.sum(dtype=np.int64)), max(BATCH_BYTES, int(every.max(initial=0))))
        # The room ahead of them makes the records lie as they do in a file.
        buffer = np.empty(evt.HEADER_SIZE + room, np.uint8)
        most = BATCH_BYTES // evt.CONTEXT.itemsize + 1  # a record holds its context at least
        while begin < end:
            events = self.events[begin : min(begin + most, end)]
            edges = np.concatenate([[0], np.cumsum(events["size"], dtype=np.int64)])
            count = max(1, int(np.searchsorted(edges, BATCH_BYTES, side="right")) - 1)
            events, places = events[:count], evt.HEADER_SIZE + edges[:count]
            filled = buffer[: evt.HEADER_SIZE + edges[count]]
            self._gather(events, np.diff(edges[: count + 1]), filled, places)
            if latc is not None:
                try:
                    _override(filled, places, latc)
                except FormatError as error:
                    raise StateError(
                        f"{' or '.join(self._files_of(events))}: a record is not what it was when it was indexed "
                        f"({error}) Process the downlink of that chunk again."
                    ) from error
            yield filled[evt.HEADER_SIZE :]
            begin += count
            most = 2 * count + 1  # the next ones are about as large

    def _gather(
        self,
        events: NDArray[np.void],
        sizes: NDArray[np.int64],
        buffer: NDArray[np.uint8],
        places: NDArray[np.int64],
    ) -> None:
        """Read the records of `events` to their places in `buffer`, and check them there."""
        starts, sources, files = events["offset"], events["source"], events["file"]
        wrong: int | None = None
        checked = np.ones(len(events), dtype=bool)
        for source in numbers_in(sources):
            for file in numbers_in(files[sources == source]):
                which = np.flatnonzero((sources == source) & (files == file))
                path = self._paths[source, file]
                short = _read(path, starts[which], sizes[which], buffer, places[which])
                if short is not None:
                    wrong = int(which[short])
                checked[which] = path in self._checked
        if wrong is None and checked.any():  # of all files together, for their records lie between each other
            changed = np.flatnonzero(checked & (evt.record_checks(buffer, places, sizes) != events["check"]))
            if changed.size:
                event, start = events[changed[0]], starts[changed[0]]
                path = self._paths[int(event["source"]), int(event["file"])]
                what = f"sequence {event['sequence']} at byte {start} has another checksum"
                raise damaged(path, path.stem.rpartition("-")[2], what)
        if wrong is None and not checked.all():
            wrong = _first_other(events, buffer, places)
        if wrong is not None:
            event = events[wrong]
            path = self._paths[int(event["source"]), int(event["file"])]
            raise StateError(
                f"{path} at byte {starts[wrong]}: sequence {event['sequence']} of APID {event['apid']} was there "
                "when it was indexed and is gone now. Process the downlink of that chunk again."
            )

    def _files_of(self, events: NDArray[np.void]) -> list[str]:
        """Return the paths of the evt files in which `events` lie."""
        numbers = sorted(set(zip(events["source"].tolist(), events["file"].tolist(), strict=True)))
        return [str(self._paths[number]) for number in numbers]

    def seconds(self, event: int) -> int:
        """Return `current.timeSecs` of one event."""
        key = self.events[event : event + 1]
        buffer, start = np.zeros(int(key["size"][0]), np.uint8), np.zeros(1, np.int64)
        self._gather(key, key["size"].astype(np.int64), buffer, start)
        return int(evt.context_column(buffer, start, "current_timeSecs")[0])


def _read(
    path: Path,
    starts: NDArray[np.int64],
    sizes: NDArray[np.int64],
    buffer: NDArray[np.uint8],
    places: NDArray[np.int64],
) -> int | None:
    """Read records; return one that does not lie in the file as a whole or cannot be a record, else None."""
    short = (starts < evt.HEADER_SIZE) | (sizes < evt.CONTEXT.itemsize)
    if short.any():
        return int(np.argmax(short))
    try:
        with open_regular(path) as file:
            read_pieces(file.fileno(), starts, sizes, buffer, places)
    except EOFError as error:
        return int(np.argmax(starts > error.args[0] - sizes))
    except OSError as error:
        # Not as it is: it would be told as an error of the file that is being written.
        raise StateError(f"{path}: cannot be read: {error.strerror}. {advice(error)}") from error
    return None


def _first_other(
    events: NDArray[np.void], buffer: NDArray[np.uint8], places: NDArray[np.int64]
) -> int | None:
    """Return the first record whose sequence or APID is not that of its event."""
    sequence = evt.context_column(buffer, places, "scalers_sequence")
    apid = evt.context_column(buffer, places, "ccsds_apid")
    other = (sequence != events["sequence"]) | (apid != events["apid"])
    return int(np.argmax(other)) if other.any() else None


def _override(buffer: NDArray[np.uint8], places: NDArray[np.int64], latc: int) -> None:
    """Write `latc` into LATC_master of the LPA records at `places`."""
    layout = evt.record_layout(buffer, places, "as they are laid together")
    ends = (places + layout.sizes)[layout.infotypes == evt.InfoType.LPA]
    masters = ends - evt.LATC_FROM_END
    buffer[masters[:, None] + np.arange(4)] = np.frombuffer(np.array(latc, "<u4").tobytes(), np.uint8)
