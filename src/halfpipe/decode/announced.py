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

_HIGHEST = np.iinfo(np.uint64).max


@dataclass(frozen=True)
class Unlisted:
    """Bytes of records that no index line covers, and how many records that is; None if they cannot be told apart."""

    size: int = 0
    records: int | None = 0


@dataclass(frozen=True)
class Account:
    """The account of one index.

    Attributes
    ----------
    announced
        Events that its datagrams announce, or that its event files hold, if these are more.
    missing
        Those of them that it does not list.
    unannounced
        Events that it lists and no datagram announces.
    uncovered
        Bytes of its event files that none of its lines covers.
    contradiction
        How its sequences contradict each other; None if they do not.
    """

    announced: int
    missing: int
    unannounced: int
    uncovered: int
    contradiction: str | None

    def as_json(self) -> dict[str, int]:
        """Return the numbers as they stand in a ``{chunk}.json``."""
        return {
            "announced": self.announced,
            "missing_events": self.missing,
            "unannounced_events": self.unannounced,
            "uncovered_bytes": self.uncovered,
        }


def account(index: idx.Index, unlisted: Unlisted = Unlisted()) -> Account:
    """Hold the datagrams of an index (of one APID) against its events.

    Several lines with one number are one datagram: it announces what the largest of them does, and nothing
    contradicts that any of them allows. A datagram that was decoded twice lists its events twice.

    Parameters
    ----------
    index
        The index.
    unlisted
        What its event files hold besides.
    """
    datagrams, events = index.datagrams, index.events
    numbers, of_line = np.unique(datagrams["datagram"], return_inverse=True)
    most, all_lines, low, high, lowest_end, highest_begin = (
        np.zeros(len(numbers), np.uint64),
        np.zeros(len(numbers), np.uint64),
        np.full(len(numbers), _HIGHEST),
        np.zeros(len(numbers), np.uint64),
        np.full(len(numbers), _HIGHEST),
        np.zeros(len(numbers), np.uint64),
    )
    np.maximum.at(most, of_line, datagrams["nevts"])
    np.add.at(all_lines, of_line, datagrams["nevts"])
    filled = datagrams["nevts"] > 0
    of_filled, begins, ends = of_line[filled], datagrams["evtseq0"][filled], datagrams["evtseq1"][filled]
    np.minimum.at(low, of_filled, begins)
    np.maximum.at(high, of_filled, ends)
    np.minimum.at(lowest_end, of_filled, ends)
    np.maximum.at(highest_begin, of_filled, begins)

    place = np.searchsorted(numbers, events["datagram"])
    known = place < len(numbers)
    known[known] = numbers[place[known]] == events["datagram"][known]
    place, sequences = place[known], events["sequence"][known]
    listed = np.bincount(place, minlength=len(numbers)).astype(np.uint64)
    first, last = np.full(len(numbers), _HIGHEST), np.zeros(len(numbers), np.uint64)
    np.minimum.at(first, place, sequences)
    np.maximum.at(last, place, sequences)

    missing = int((most - np.minimum(most, listed)).sum())
    announced = int(most.sum())
    found = unlisted.records or 0
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
    return Account(
        announced=announced + max(0, found - missing),
        missing=max(missing, found),
        unannounced=int((~known).sum()) + _surplus(place, sequences, listed, all_lines),
        uncovered=unlisted.size,
        contradiction=contradiction,
    )


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
