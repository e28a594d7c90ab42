"""Whether an event file, whoever wrote it, is sound as a whole."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfpipe.formats.evt import EvtFile, context_column, open_evt, walk
from halfpipe.ids import DownlinkId

STAGED_NAME = re.compile(r"r(?P<run>[0-9]{10})-e(?P<sequence>[0-9]{20})\.evt", re.ASCII)
CHUNK_NAME = re.compile(
    r"(?P<ground>[0-9a-f]{8})-(?P<run>[0-9a-f]{8})-(?P<apid>[0-9]{4})-(?P<chunk>[0-9]{5})\.evt", re.ASCII
)


@dataclass(frozen=True)
class Verdict:
    """What `check_evt` found: how many events, and what is wrong, a sentence each; a good file has none."""

    events: int
    faults: tuple[str, ...]


def check_evt(path: Path) -> Verdict:
    """Check an event file as a whole: records, their order, and what header and name say of them.

    Records must be in the order of (sequence, APID). In what the decoder makes of a chunk an event may
    stand twice (the merge takes the first); in any other file it may not.

    Parameters
    ----------
    path
        Name of the file; if it is that of a staged file or of a chunk's, it must fit the events. If one of the two
        directories around it is named as a downlink, the header must name that.

    Raises
    ------
    FormatError, MissingInputError
        If there is no looking at the events at all: as `open_evt` and `walk`.
    """
    evt = open_evt(path)
    offsets = walk(evt.data, str(path))
    sequences = context_column(evt.data, offsets, "scalers_sequence")
    apids = context_column(evt.data, offsets, "ccsds_apid")
    faults = [
        *_header_faults(evt, offsets, sequences),
        *_order_faults(path, offsets, sequences, apids),
        *_name_faults(evt, offsets, sequences, apids),
    ]
    return Verdict(offsets.size, tuple(faults))


def _header_faults(evt: EvtFile, offsets: NDArray[np.int64], sequences: NDArray[np.uint64]) -> Iterator[str]:
    said = {"evtcnt": offsets.size}
    around = [home.name for home in evt.path.absolute().parents[:2] if DownlinkId.matches(home.name)]
    if around:
        said["runid"] = DownlinkId(around[0]).number
    if offsets.size:
        ends = offsets[[0, -1]]
        said["gemseq_beg"], said["gemseq_end"] = sequences[[0, -1]].tolist()
        said["secs_beg"], said["secs_end"] = context_column(evt.data, ends, "current_timeSecs").tolist()
    for field, right in said.items():
        if evt.header[field] != right:
            yield f"the header has {field} {evt.header[field]}, expected {right}"


def _order_faults(
    path: Path, offsets: NDArray[np.int64], sequences: NDArray[np.uint64], apids: NDArray[np.int32]
) -> Iterator[str]:
    same = sequences[1:] == sequences[:-1]
    back = (sequences[1:] < sequences[:-1]) | (same & (apids[1:] < apids[:-1]))
    twice = same & (apids[1:] == apids[:-1])
    kinds = [("out of the order of (sequence, APID)", back)]
    if CHUNK_NAME.fullmatch(path.name) is None:
        kinds.append(("there twice", twice))
    for what, where in kinds:
        if where.any():
            i = int(np.argmax(where)) + 1
            yield (
                f"{np.count_nonzero(where)} events are {what}, first event {i} "
                f"(sequence {sequences[i]}, APID {apids[i]}) at byte {offsets[i]}"
            )


def _name_faults(
    evt: EvtFile, offsets: NDArray[np.int64], sequences: NDArray[np.uint64], apids: NDArray[np.int32]
) -> Iterator[str]:
    runs = context_column(evt.data, offsets, "run_startedAt")
    grounds = context_column(evt.data, offsets, "run_groundId")
    staged, chunk = STAGED_NAME.fullmatch(evt.path.name), CHUNK_NAME.fullmatch(evt.path.name)
    said: list[tuple[str, NDArray[Any], int]] = []
    if staged is not None:
        said = [
            ("run", runs, int(staged["run"])),
            ("first sequence", sequences[:1], int(staged["sequence"])),
        ]
    elif chunk is not None:
        said = [
            ("run", runs, int(chunk["run"], 16)),
            ("ground id", grounds, int(chunk["ground"], 16)),
            ("APID", apids, int(chunk["apid"])),
        ]
    elif offsets.size:
        said = [("run", runs, runs[0])]
    for what, found, right in said:
        other = np.flatnonzero(found != right)
        if other.size:
            i = other[0]
            yield f"event {i} at byte {offsets[i]} has {what} {found[i]}, expected {right}"
