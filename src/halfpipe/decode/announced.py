"""What a RetDef announces, held against the datagrams there are, and what these announce, against the events.

A merge takes a place for settled by what datagrams announce: their first and last sequences, and that they hold
events. So an index that contradicts itself there is refused. Events that are announced and not listed are counted, and
so are the gaps that the datagrams leave in the spans of the RetDef.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfpipe.errors import FormatError
from halfpipe.formats import evt, idx
from halfpipe.formats.retdef import Span

# A span reaches from one datagram to another. Its times may be rounded to seconds, and datagrams come every second.
EDGE_SECONDS = 2.0
MOST_GAPS = 50  # that are kept of a chunk

_HIGHEST = int(np.iinfo(np.uint64).max)


def account(index: idx.Index, uncovered: int, unlisted: int) -> tuple[dict[str, int], str | None]:
    """Hold the datagrams of an index (of one APID) against its events.

    Several lines with one number are one datagram: it announces what the largest of them does, and nothing
    contradicts that any of them allows. A datagram that was decoded twice lists its events twice.

    Parameters
    ----------
    index
        The index.
    uncovered, unlisted
        What its event files hold besides, as `beside` counts it.

    Returns
    -------
    dict of int
        As they stand in a ``{chunk}.json``: ``announced``, events that its datagrams announce, or that its event files
        hold, if these are more; ``missing_events``, those of them that it does not list; ``uncovered_bytes`` of its
        event files that none of its lines covers.
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
    missing = int((most - np.minimum(most, listed)).sum())
    counts = {
        "announced": int(most.sum()) + max(0, unlisted - missing),
        "missing_events": max(missing, unlisted),
        "uncovered_bytes": uncovered,
    }
    return counts, contradiction


def gaps(spans: Sequence[Span], datagrams: Sequence[NDArray[np.void]]) -> list[dict[str, Any]]:
    """Return where datagrams are missing in the spans of a RetDef.

    Parameters
    ----------
    spans
        The spans.
    datagrams
        The datagrams of each index (dtype `halfpipe.formats.idx.DATAGRAM`), which is of one run and one APID.

    Returns
    -------
    list of dict
        The first `MOST_GAPS`, by APID and time: ``apid``, and ``begin`` and ``end`` (Unix seconds) of a time without
        datagrams. ``datagrams`` is how many are missing by their numbers. It is None at an edge of the span, where
        no number is known.
    """
    found: set[tuple[int, float, float, int | None]] = set()
    for span in spans:
        inside = [
            rows[
                (rows["apid"] == span.apid)
                & (rows["utc"] >= span.begin - EDGE_SECONDS)
                & (rows["utc"] <= span.end + EDGE_SECONDS)
            ]
            for rows in datagrams
        ]
        times = [float(time) for rows in inside for time in rows["utc"]]
        first, last = min(times, default=span.end), max(times, default=span.begin)
        if not times or first - span.begin > EDGE_SECONDS:
            found.add((span.apid, span.begin, first, None))
        if times and span.end - last > EDGE_SECONDS:
            found.add((span.apid, last, span.end, None))
        for rows in inside:
            numbers, at = np.unique(rows["datagram"].astype(np.int64), return_index=True)
            for before in np.flatnonzero(np.diff(numbers) > 1).tolist():
                begin, end = sorted(rows["utc"][at[before : before + 2]].tolist())
                found.add((span.apid, begin, end, int(numbers[before + 1] - numbers[before]) - 1))
    keys = ("apid", "begin", "end", "datagrams")
    kept = sorted(found, key=lambda gap: gap[:3])[:MOST_GAPS]
    return [dict(zip(keys, gap, strict=True)) for gap in kept]


def beside(file: Path, offsets: NDArray[np.int64], sizes: NDArray[np.int64]) -> tuple[int, int]:
    """Return how many bytes and records an event file holds besides the records that lines point at.

    Where its records cannot be told apart, only its bytes are counted.

    Parameters
    ----------
    file
        The file.
    offsets, sizes
        Where the records that are listed lie and how long they are, bytes, in any order, repeats allowed.
    """
    listed, at = np.unique(offsets, return_index=True)
    size, records = file.stat().st_size, 0
    uncovered = max(0, size - int(sizes[at].sum()) - (evt.HEADER_SIZE if size >= evt.HEADER_SIZE else 0))
    if uncovered:
        with suppress(FormatError):
            walked = evt.walk(evt.open_evt(file).data, "")
            records = len(np.setdiff1d(walked, listed, assume_unique=True))
    return uncovered, records


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
