"""Delivered events as arrays, and how two sets of them differ: pure functions, but for the sums of records."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from halfpipe.errors import FormatError
from halfpipe.formats import evt
from halfpipe.merge.intervals import Interval
from halfpipe.merge.ordering import in_order

# What is held of each event of one run: 30 bytes.
ROW = np.dtype(
    [
        ("sequence", "u8"),
        ("apid", "u2"),
        ("datagram", "u4"),  # 0 if nobody says it
        ("place", "u4"),  # counts into the files that hold the records
        ("offset", "i8"),  # bytes, of the record in that file
        ("size", "u4"),  # bytes, of the record
    ]
)


class Where(StrEnum):
    """Where an event is: here only, there only, or on both sides with other bytes."""

    HERE = "here"
    THERE = "there"
    BOTH = "both"


@dataclass(frozen=True)
class File:
    """An event file as it was delivered; without a `header` (dtype `evt.HEADER`) where the file cannot be read."""

    name: str
    events: int
    sequences: Interval
    header: np.void | None = None


class Records:
    """Where records lie: a column ``place`` counts into these files, which are opened when one is asked for."""

    def __init__(self, places: Sequence[Path] = ()) -> None:
        self.places = tuple(places)
        self._opened: dict[int, evt.EvtFile] = {}

    def __getitem__(self, row: np.void) -> bytes:
        """Return the record of a row."""
        begin = int(row["offset"])
        return self._data(int(row["place"]))[begin : begin + int(row["size"])].tobytes()

    def _data(self, place: int) -> NDArray[np.uint8]:
        if place not in self._opened:
            self._opened[place] = evt.open_evt(self.places[place])
        return self._opened[place].data

    def digests(self, rows: NDArray[np.void]) -> NDArray[np.uint64]:
        """Return the sums of the records' bytes, read file by file.

        Raises
        ------
        HalfPipeError
            If a file cannot be read, or is shorter than when it was indexed.
        """
        found = np.zeros(len(rows), np.uint64)
        for place in np.unique(rows["place"]).tolist():
            which, data = np.flatnonzero(rows["place"] == place), self._data(place)
            begins, sizes = rows["offset"][which].tolist(), rows["size"][which].tolist()
            if max(map(sum, zip(begins, sizes, strict=True))) > data.size:
                raise FormatError(
                    f"{self.places[place]}: shorter than when it was indexed. Have its chunk decoded again."
                )
            found[which] = [
                int.from_bytes(
                    hashlib.blake2b(data.data[begin : begin + size], digest_size=8).digest(), "little"
                )
                for begin, size in zip(begins, sizes, strict=True)
            ]
        return found


@dataclass(frozen=True)
class Delivered:
    """What a downlink delivered of a run.

    `rows` (dtype `ROW`, or more) are in order, each event once; `twice` counts events that were delivered more than
    once. `wrong` says what contradicts itself, whatever another side has. `gone` says why the records cannot be had.
    """

    rows: NDArray[np.void] = field(default_factory=lambda: np.empty(0, ROW))
    records: Records = field(default_factory=Records)
    files: tuple[File, ...] = ()
    twice: int = 0
    wrong: Sequence[str] = ()
    gone: str = ""


def in_delivery(
    rows: NDArray[np.void], places: Sequence[Path], files: Sequence[File], wrong: Sequence[str] = ()
) -> Delivered:
    """Put the rows of a delivery in order, and count what is there twice."""
    ordered = in_order(rows)
    return Delivered(ordered, Records(places), tuple(files), len(rows) - len(ordered), wrong)


def where_in(rows: NDArray[np.void], among: NDArray[np.void]) -> NDArray[np.intp]:
    """Return where each event of `rows` is `among`, -1 if it is not there; both in order, by sequence and APID."""
    found = np.full(len(rows), -1, np.intp)
    if not len(among):
        return found
    sequences = np.ascontiguousarray(among["sequence"])
    at = np.searchsorted(sequences, rows["sequence"])
    # As many EPUs share a sequence at the most.
    for step in range(4):
        place = np.minimum(at + step, len(among) - 1)
        equal = (sequences[place] == rows["sequence"]) & (among["apid"][place] == rows["apid"])
        found[equal] = place[equal]
    return found


def present(rows: NDArray[np.void], among: NDArray[np.void]) -> NDArray[np.bool_]:
    """Tell for each event of `rows` whether it is one of `among`; both in order, by sequence and APID."""
    return where_in(rows, among) >= 0


def neighbours(rows: NDArray[np.intp], codes: NDArray[np.intp], apart: NDArray[np.bool_]) -> list[slice]:
    """Return where rows with the same code follow each other; those `apart` only if no other row lies between."""
    if not len(rows):
        return []
    cut = (codes[1:] != codes[:-1]) | (apart[1:] & (np.diff(rows) != 1))
    edges = [0, *(np.flatnonzero(cut) + 1).tolist(), len(rows)]
    return [slice(a, b) for a, b in pairwise(edges)]


def subset(rows: NDArray[np.void], which: NDArray[np.bool_]) -> NDArray[np.void]:
    """Return the rows of a mask."""
    return rows.take(np.flatnonzero(which))
