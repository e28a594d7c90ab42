"""Deliveries that would shrink: they are refused unless a person accepts the loss."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfpipe.decisions import Subject, What, offer
from halfpipe.errors import Remedy, StateError
from halfpipe.formats.idx import Events
from halfpipe.ids import DownlinkId
from halfpipe.merge.decision import LEAST_IN_A_FILE
from halfpipe.merge.intervals import join
from halfpipe.merge.late_events import by_datagram, numbers_inside
from halfpipe.state.deliveries import CountedSpan, Delivery, EventFile
from halfpipe.state.merged_chunks import MergedChunk
from halfpipe.state.run_state import KnownRun
from halfpipe.words import first_names


class ShrunkError(StateError):
    """A downlink would deliver fewer events of a run than Level-1 may have of it."""

    code = "shrunk"


def lost(before: Delivery, delivered: Events, copies: Iterable[Events]) -> dict[str, int]:
    """Count the events of the delivery `before` that would not be delivered again, datagram by datagram.

    So late events hide no loss in another datagram. A delivery of another system has no counts of datagrams: its events
    are counted file by file.

    Parameters
    ----------
    before
        The recorded delivery.
    delivered
        The events that would be delivered now, in order and each once.
    copies
        The known events of each downlink. They show the other datagrams that contain a delivered event.

    Returns
    -------
    dict
        The datagrams, files, or spans without files here, that would lose events, and how many. A span whose number of
        events is unknown is not included. A lone event that is withheld does not count, because Level-1 refuses it.
    """
    if before.counts is None:
        return _lost_of_files(before, np.ascontiguousarray(delivered.sequence))
    recorded = {
        (apid, number): events
        for apid, counts in before.counts.items()
        for number, events in by_datagram(counts).items()
    }
    inside = numbers_inside(delivered.sequence, join(before.spans))
    now = _counted(delivered.apid[inside], delivered.datagram[inside])
    short = {datagram for datagram, events in recorded.items() if now[datagram] < events}
    if short:  # the delivery before may have counted an event in another datagram that contains it
        now = _in_any_copy(short, delivered[inside], _lone(before), copies)
    return {
        f"datagram {number} of EPU {apid}": recorded[apid, number] - now[apid, number]
        for apid, number in sorted(short)
        if now[apid, number] < recorded[apid, number]
    }


def _counted(apids: NDArray[np.integer[Any]], numbers: NDArray[np.integer[Any]]) -> Counter[tuple[int, int]]:
    """Count events by APID and number of their datagram."""
    found = Counter[tuple[int, int]]()
    for apid in np.unique(apids).tolist():
        distinct, events = np.unique(numbers[apids == apid], return_counts=True)
        found.update({(apid, n): of for n, of in zip(distinct.tolist(), events.tolist(), strict=True)})
    return found


def _in_any_copy(
    datagrams: Iterable[tuple[int, int]], again: Events, lone: Sequence[int], copies: Iterable[Events]
) -> Counter[tuple[int, int]]:
    """Count the events of some datagrams, in any copy, that are delivered again, or whose sequence is in `lone`."""
    numbers = dict[int, list[int]]()
    for apid, number in datagrams:
        numbers.setdefault(apid, []).append(number)
    every = list(copies)
    found = Counter[tuple[int, int]]()
    for apid, wanted in numbers.items():
        there = np.concatenate([again.sequence[again.apid == apid], np.array(lone, np.uint64)])
        pairs = []
        for events in every:
            of_apid = events.apid == apid
            is_listed = of_apid & np.isin(events.datagram, wanted) & np.isin(events.sequence, there)
            pairs.append(np.stack([events.datagram[is_listed].astype(np.uint64), events.sequence[is_listed]]))
        distinct = np.unique(np.concatenate(pairs, axis=1), axis=1) if pairs else np.empty((2, 0), np.uint64)
        found += _counted(np.full(distinct.shape[1], apid), distinct[0])
    return found


def _lone(before: Delivery) -> list[int]:
    """Return the sequences of events that were alone in a span."""
    return [piece.sequences[0] for pieces in _by_span(before) if _events(pieces) == 1 for piece in pieces]


def _by_span(before: Delivery) -> Iterator[list[EventFile | CountedSpan]]:
    for span in before.spans:
        yield [piece for piece in before.pieces if span.first <= piece.sequences[0] <= span.last]


def _events(pieces: Iterable[EventFile | CountedSpan]) -> int:
    return sum(piece.events or 0 for piece in pieces)


def _lost_of_files(before: Delivery, sequence: NDArray[np.uint64]) -> dict[str, int]:
    """Count what is lost file by file; `sequence` are those of the events that would be delivered now, in order."""
    found = {}
    for pieces in _by_span(before):
        if _events(pieces) < LEAST_IN_A_FILE:
            continue
        for piece in pieces:
            first, last = piece.sequences
            begin = np.searchsorted(sequence, np.uint64(first), "left")
            now = int(np.searchsorted(sequence, np.uint64(last), "right") - begin)
            if now < (piece.events or 0):
                found[f"sequences {first} to {last}"] = (piece.events or 0) - now
    return found


def smaller_chunks(before: Iterable[MergedChunk], now: Iterable[MergedChunk]) -> list[str]:
    """Return the chunks in `before` whose products are gone or smaller `now`."""
    sizes = {name: file.size for chunk in now for name, file in chunk.files.items()}
    return [
        chunk.chunk
        for chunk in before
        if any(sizes.get(name, 0) < file.size for name, file in chunk.files.items())
    ]


def refuse_loss(
    known: KnownRun, downlink: DownlinkId, before: Delivery, delivered: Events, copies: Iterable[Events]
) -> int:
    """Return how many events of the delivery `before` are lost; arguments as for `lost`.

    Raises
    ------
    ShrunkError
        If some are, and no person accepted the loss.
    """
    run = known.context.run
    places = lost(before, delivered, copies)
    loss = sum(places.values())
    subject = Subject(downlink, run=run)
    if not loss or known.context.decisions.why(What.SHRUNK, subject, loss) is not None:
        return loss
    lacking = first_names([f"{events} in {place}" for place, events in places.items()])
    chunks = smaller_chunks(before.chunks, known.indexes[downlink].chunks)
    where = (
        f"the decoder's output for chunk {', '.join(chunks)} is smaller than before or gone"
        if chunks
        else "no chunk of this downlink has become smaller"
    )
    if known.missing:
        where += f"; not in the merge: {'; '.join(known.missing)}"
    raise ShrunkError(
        f"run {run} ({run.l1}) of downlink {downlink} would lose {loss} of {before.events} delivered events, which "
        f"Level-1 may have: {lacking}; {where}. Refused: records, stage and hand-off were not changed.",
        Remedy(
            f"snakemake dl={downlink} -R decode_chunk",
            first="Restore the input (level-0, RetDefs)",
            hands_off=True,
            accept=[offer(What.SHRUNK, subject, loss)],
        ),
    )
