"""The merged index of a run within a downlink as text, as tools of Level-1 and people read it."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from halfpipe import paths
from halfpipe.errors import MissingInputError, StateError
from halfpipe.formats import idx
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.settle import KnownDatagrams
from halfpipe.run.datagrams import load_datagrams
from halfpipe.run.event_table import load_events

BLOCK = 1 << 16  # events written at a time
UNKNOWN = b"unknown"  # for the actions of a datagram that has no line


def text(work: Path, run: RunId, downlink: DownlinkId) -> Iterator[bytes]:
    """Yield the merged index in pieces of whole lines: the datagrams, then the events, each in order.

    A DGM line is as the decoder wrote it. An EVT line has the 9 fields of the original merged index
    (ground-chain, end of §6): tag, startedAt, sequence, APID, datagram, how that datagram opened and closed,
    and offset and name of the chunk's event file. Events are ordered by (sequence, APID).

    Parameters
    ----------
    work
        `paths.work`.
    run, downlink
        What is shown: what `downlink` brings of `run`, delivered or not.

    Raises
    ------
    MissingInputError
        If there is no merged index, or its events were cleaned up.
    StateError
        If it was rewritten meanwhile, or is damaged.
    """
    file = work / paths.events(run, downlink)
    if not (work / paths.datagrams(run, downlink)).exists():
        raise MissingInputError(
            f"there is no merged index of run {run} ({run.l1}) in downlink {downlink}: no "
            f"{work / paths.datagrams(run, downlink)}. Process the downlink first: snakemake dl={downlink}"
        )
    if not file.exists():
        raise MissingInputError(
            f"{file}: no such file. The events of a merged index can be removed to save space; to have them "
            f"again, process the downlink again: snakemake -F dl={downlink}"
        )
    state = file.stat()
    datagrams = load_datagrams(work, run, downlink)
    events = load_events(work, run, downlink)
    yield b"".join(line + b"\n" for line in datagrams.lines)
    for first in range(0, len(events.events), BLOCK):
        rows = events.events[first : first + BLOCK]
        yield _lines(run.met, rows, events.files, *actions(datagrams, rows))
    now = file.stat() if file.exists() else None
    if now is None or (now.st_ino, now.st_mtime_ns) != (state.st_ino, state.st_mtime_ns):
        raise StateError(f"{file}: was rewritten while it was read. Re-run the command.")


def _lines(
    startedat: int,
    events: NDArray[np.void],
    files: Sequence[str],
    oactions: NDArray[np.bytes_],
    cactions: NDArray[np.bytes_],
) -> bytes:
    columns = [
        *(events[name].tolist() for name in ("sequence", "apid", "datagram")),
        *(actions.astype(str).tolist() for actions in (oactions, cactions)),
        events["offset"].tolist(),
        [files[code] for code in events["file"].tolist()],
    ]
    form = f"EVT: {startedat:10d} %20d %4d %8d %s %s %20d %s\n"
    return "".join(map(form.__mod__, zip(*columns, strict=True))).encode()


def actions(
    datagrams: KnownDatagrams, events: NDArray[np.void]
) -> tuple[NDArray[np.bytes_], NDArray[np.bytes_]]:
    """Return how the datagram of each event opened and closed; `UNKNOWN` if there is no line of it."""
    opened, closed = (np.full(len(events), UNKNOWN, idx.DATAGRAM[name]) for name in ("oaction", "caction"))
    rows = datagrams.rows
    known, wanted = _key(rows), _key(events)  # the known ones ascend: rows are in the order of (APID, number)
    place = np.searchsorted(known, wanted)
    found = place < len(known)
    found[found] = known[place[found]] == wanted[found]
    opened[found], closed[found] = rows["oaction"][place[found]], rows["caction"][place[found]]
    return opened, closed


def _key(rows: NDArray[np.void]) -> NDArray[np.uint64]:
    return rows["apid"].astype(np.uint64) << np.uint64(32) | rows["datagram"].astype(np.uint64)
