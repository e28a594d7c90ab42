"""Compare what RetDefs and datagrams announce with what the decoder wrote.

A merge trusts what datagrams announce: their first and last sequences, and that they contain events. So an index that
contradicts itself is refused. Events that are announced but not listed are counted, and so are gaps between datagrams
in the spans of the RetDef.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from halfpipe.decode.chunk import Gap
from halfpipe.errors import FormatError
from halfpipe.formats import evt, idx
from halfpipe.formats.retdef import Span

# A span begins and ends with a datagram. Its times may be rounded to seconds, so a span may be longer than its
# datagrams by less than this. Datagrams are at least a second long, so a missing one leaves more.
EDGE_SECONDS = 1.0
MOST_GAPS = 50  # the most that are recorded for a chunk

_HIGHEST = int(np.iinfo(np.uint64).max)


def compare_with_events(index: idx.Index, uncovered: int, unlisted: int) -> tuple[dict[str, int], str | None]:
    """Compare the datagrams of an index with its events.

    Several lines with the same number are one datagram. It announces as many events as the largest of these lines, and
    sequences contradict it only if no line allows them. Events with the same sequence count once: a datagram may be
    decoded twice, and of two events that share a sequence a merge keeps one.

    Parameters
    ----------
    index
        The index, of one run and one APID.
    uncovered, unlisted
        The bytes and records of its event files without index lines, from `count_unlisted`.

    Returns
    -------
    dict of int
        The counts for ``{chunk}.json``: ``announced``, the number of events that the datagrams announce or the event
        files contain, whichever is larger; ``missing_events``, how many of them have no index line;
        ``stray_events``, how many index lines belong to a datagram that has no line, so these events wait for ever;
        and ``uncovered_bytes``.
    str or None
        A message if the sequences contradict each other.
    """
    datagrams = index.datagrams
    numbers, of_line = np.unique(datagrams.datagram, return_inverse=True)

    def by_number(
        ufunc: np.ufunc, start: int, at: NDArray[np.intp], values: NDArray[np.uint64]
    ) -> NDArray[np.uint64]:
        found = np.full(len(numbers), start, np.uint64)
        ufunc.at(found, at, values)
        return found

    of_each = datagrams.nevts
    most = by_number(np.maximum, 0, of_line, of_each)
    filled = of_each > 0
    of_filled = of_line[filled]
    begins = datagrams.evtseq0[filled]
    ends = datagrams.evtseq1[filled]
    low = by_number(np.minimum, _HIGHEST, of_filled, begins)
    highest_begin = by_number(np.maximum, 0, of_filled, begins)
    lowest_end = by_number(np.minimum, _HIGHEST, of_filled, ends)
    high = by_number(np.maximum, 0, of_filled, ends)

    events = index.events[np.unique(index.events.sequence, return_index=True)[1]]
    contained = events.datagram
    known = np.isin(contained, numbers)
    of_event = np.searchsorted(numbers, contained[known])
    sequences = events.sequence[known]
    listed = np.bincount(of_event, minlength=len(numbers)).astype(np.uint64)
    first = by_number(np.minimum, _HIGHEST, of_event, sequences)
    last = by_number(np.maximum, 0, of_event, sequences)

    bounded = (most > 0) & (listed > 0)
    outside = bounded & ((first < low) | (last > high))
    agreed = (low == highest_begin) & (high == lowest_end)
    not_reached = bounded & agreed & (listed >= most) & ((first != low) | (last != high))
    wrong = np.flatnonzero(outside | not_reached)
    contradiction = None
    if len(wrong):
        at = int(wrong[0])
        contradiction = (
            f"datagram {numbers[at]} announces {most[at]} events with the sequences {low[at]} to {high[at]}, but its "
            f"{listed[at]} event lines have the sequences {first[at]} to {last[at]}"
        )
    missing = int((most - np.minimum(most, listed)).sum())
    counts = {
        "announced": int(most.sum()) + max(0, unlisted - missing),
        "missing_events": max(missing, unlisted),
        "stray_events": int((~known).sum()),
        "uncovered_bytes": uncovered,
    }
    return counts, contradiction


def gaps(spans: Sequence[Span], datagrams: Sequence[idx.Datagrams]) -> list[Gap]:
    """Return where datagrams are missing in the spans of a RetDef.

    Parameters
    ----------
    spans
        The spans.
    datagrams
        The datagrams of each index, each of one run and one APID.

    Returns
    -------
    list of Gap
        The first `MOST_GAPS` by APID and time.
    """
    found: set[tuple[int, float, float, int | None]] = set()
    for span in spans:
        inside = [
            rows[
                (rows.apid == span.apid)
                & (rows.utc >= span.begin - EDGE_SECONDS)
                & (rows.utc <= span.end + EDGE_SECONDS)
            ]
            for rows in datagrams
        ]
        times = [float(time) for rows in inside for time in rows.utc]
        first = min(times, default=span.end)
        last = max(times, default=span.begin)
        if not times or first - span.begin > EDGE_SECONDS:
            found.add((span.apid, span.begin, first, None))
        if times and span.end - last > EDGE_SECONDS:
            found.add((span.apid, last, span.end, None))
        for rows in inside:
            numbers, at = np.unique(rows.datagram.astype(np.int64), return_index=True)
            for before in np.flatnonzero(np.diff(numbers) > 1).tolist():
                begin, end = sorted(rows.utc[at[before : before + 2]].tolist())
                found.add((span.apid, begin, end, int(numbers[before + 1] - numbers[before]) - 1))
    return [Gap(*each) for each in sorted(found, key=lambda gap: gap[:3])[:MOST_GAPS]]


def count_unlisted(file: Path, offsets: NDArray[np.int64], sizes: NDArray[np.int64]) -> tuple[int, int]:
    """Return how many bytes and records of an event file have no index line.

    If the records cannot be separated, only the bytes are counted.

    Parameters
    ----------
    file
        The file.
    offsets, sizes
        Offsets and sizes of the listed records, bytes, in any order; repeats are allowed.
    """
    listed, at = np.unique(offsets, return_index=True)
    size = file.stat().st_size
    records = 0
    uncovered = max(0, size - int(sizes[at].sum()) - (evt.HEADER_SIZE if size >= evt.HEADER_SIZE else 0))
    if uncovered:
        with suppress(FormatError):
            walked = evt.walk(evt.open_evt(file).data, "")
            records = len(np.setdiff1d(walked, listed, assume_unique=True))
    return uncovered, records
