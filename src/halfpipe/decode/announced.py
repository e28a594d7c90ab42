"""What the datagrams of a chunk's index announce, held against the events that it lists and the records there are.

A merge takes a place for settled by what datagrams announce: their first and last sequences, and that they hold
events. So an index that contradicts itself there is refused. Events that are announced and not listed are counted.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfpipe.errors import FormatError
from halfpipe.formats import evt, idx

_HIGHEST = int(np.iinfo(np.uint64).max)


@dataclass(frozen=True)
class Unlisted:
    """Bytes of records that no index line covers, and how many records that is; None if they cannot be told apart."""

    size: int = 0
    records: int | None = 0


def account(index: idx.Index, unlisted: Unlisted = Unlisted()) -> tuple[dict[str, int], str | None]:
    """Hold the datagrams of an index (of one APID) against its events.

    Several lines with one number are one datagram: it announces what the largest of them does, and nothing
    contradicts that any of them allows. A datagram that was decoded twice lists its events twice.

    Parameters
    ----------
    index
        The index.
    unlisted
        What its event files hold besides.

    Returns
    -------
    dict of int
        As they stand in a ``{chunk}.json``: ``announced``, events that its datagrams announce, or that its event files
        hold, if these are more; ``missing_events``, those of them that it does not list; ``unannounced_events``, that
        it lists and no datagram announces; ``uncovered_bytes`` of its event files that none of its lines covers.
    str or None
        How its sequences contradict each other; None if they do not.
    """
    datagrams, events = index.datagrams, index.events
    numbers, of_line = np.unique(datagrams["datagram"], return_inverse=True)

    def each(
        ufunc: np.ufunc, start: int, at: NDArray[np.intp], values: NDArray[np.uint64]
    ) -> NDArray[np.uint64]:
        found = np.full(len(numbers), start, np.uint64)
        ufunc.at(found, at, values)
        return found

    most = each(np.maximum, 0, of_line, datagrams["nevts"])
    all_lines = each(np.add, 0, of_line, datagrams["nevts"])
    filled = datagrams["nevts"] > 0
    of_filled, begins, ends = of_line[filled], datagrams["evtseq0"][filled], datagrams["evtseq1"][filled]
    low, lowest_end = (each(np.minimum, _HIGHEST, of_filled, edges) for edges in (begins, ends))
    highest_begin, high = (each(np.maximum, 0, of_filled, edges) for edges in (begins, ends))

    place = np.searchsorted(numbers, events["datagram"])
    known = place < len(numbers)
    known[known] = numbers[place[known]] == events["datagram"][known]
    place, sequences = place[known], events["sequence"][known]
    listed = np.bincount(place, minlength=len(numbers)).astype(np.uint64)
    first, last = each(np.minimum, _HIGHEST, place, sequences), each(np.maximum, 0, place, sequences)

    bounded = (most > 0) & (listed > 0)
    outside = bounded & ((first < low) | (last > high))
    agreed = (low == highest_begin) & (high == lowest_end)
    not_reached = bounded & agreed & (listed >= most) & ((first != low) | (last != high))
    wrong = np.flatnonzero(outside | not_reached)
    contradiction = None
    if len(wrong):
        at = int(wrong[0])
        contradiction = (
            f"datagram {numbers[at]} of APID {datagrams['apid'][0]} is said to hold {most[at]} events with the "
            f"sequences {low[at]} to {high[at]}, but its {listed[at]} event lines have the sequences {first[at]} "
            f"to {last[at]}"
        )
    missing, found = int((most - np.minimum(most, listed)).sum()), unlisted.records or 0
    counts = {
        "announced": int(most.sum()) + max(0, found - missing),
        "missing_events": max(missing, found),
        "unannounced_events": int((~known).sum()) + _surplus(place, sequences, listed, all_lines),
        "uncovered_bytes": unlisted.size,
    }
    return counts, contradiction


def _surplus(
    place: NDArray[np.int64],
    sequences: NDArray[np.uint64],
    listed: NDArray[np.uint64],
    announced: NDArray[np.uint64],
) -> int:
    """Count the events that are more than their datagrams announce, repeated lines of one sequence left out."""
    surplus = 0
    for number in np.flatnonzero(listed > announced).tolist():
        surplus += max(0, len(np.unique(sequences[place == number])) - int(announced[number]))
    return surplus


def unlisted(data: NDArray[np.uint8], offsets: NDArray[np.int64], sizes: NDArray[np.int64]) -> Unlisted:
    """Return what an event file holds besides the records that lines point at.

    Parameters
    ----------
    data
        The file's bytes, its header included.
    offsets, sizes
        Where the records that are listed lie and how long they are, bytes, in any order, repeats allowed.
    """
    listed, at = np.unique(offsets, return_index=True)
    uncovered = len(data) - evt.HEADER_SIZE - int(sizes[at].sum())
    if uncovered <= 0:
        return Unlisted()
    try:
        return Unlisted(uncovered, len(np.setdiff1d(evt.walk(data, ""), listed, assume_unique=True)))
    except FormatError:
        return Unlisted(uncovered, None)


def together(files: Iterable[Unlisted]) -> Unlisted:
    """Return what several event files hold besides; what cannot be told apart counts by its bytes only."""
    every = list(files)
    return Unlisted(sum(each.size for each in every), sum(each.records or 0 for each in every))


def too_many(files: Sequence[Mapping[str, Any]], most: float | None) -> str | None:
    """Say how many events are missing of a chunk, if that is a larger share than `most`; None allows any."""
    indexes = [file for file in files if file["kind"] == "idx"]
    missing = sum(file["missing_events"] for file in indexes)
    announced = sum(file["announced"] for file in indexes)
    if most is None or not missing or missing <= most * announced:
        return None
    where = "; ".join(
        f"run {file['run']}, APID {file['apid']}: {file['missing_events']} of {file['announced']}"
        for file in indexes
        if file["missing_events"]
    )
    return f"{missing} of {announced} events are missing ({where})"
