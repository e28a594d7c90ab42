"""The legacy's merge, replayed on arrays of datagrams and events.

`halfpipe compare` checks the legacy's deliveries with this replay. Tests compare the replay with a second model, which
was written from the legacy's scripts, and with the legacy's own records.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from halfpipe.formats import evt
from halfpipe.formats.idx import Datagrams, Events
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.intervals import Interval
from halfpipe.merge.ordering import in_one
from halfpipe.merge.settle import CLOSES, OPENS, KnownDatagrams, consecutive
from halfpipe.settings import Merge

LPA = frozenset({956, 957, 958})  # with any other APID, even 955, the legacy treats a run as LCI
EPUS = 2  # of an LPA run; with one or three the legacy delivers nothing
EIGHT_DIGITS = 0x10000000  # MET; the legacy writes the hex digits of earlier runs without the leading zero


class Piece(NamedTuple):
    """Consecutive datagrams of one EPU, with the first and the last sequence that these datagrams announce."""

    first: int
    last: int
    opens: bool
    closing: bytes


@dataclass(frozen=True)
class Merged:
    """One merge of a run by the legacy.

    Attributes
    ----------
    events
        The known events, in order (sequence, APID), each once.
    delivered, done
        Whether the merge writes each event, and whether the event is inside a span of another downlink.
    kind, complete, refused
        LPA or LCI; whether the run is retired; whether the legacy refuses to deliver any of it.
    spans
        The spans that the legacy finds.
    """

    events: Events
    delivered: NDArray[np.bool_]
    done: NDArray[np.bool_]
    kind: str
    complete: bool
    refused: bool
    spans: tuple[Interval, ...] = ()

    @property
    def series(self) -> list[tuple[int, int]]:
        """The slice of `events` in each index. An index ends only where a known event is skipped."""
        edges = np.flatnonzero(np.diff(self.delivered, prepend=False, append=False)).tolist()
        return list(zip(edges[::2], edges[1::2], strict=True))

    @property
    def recorded(self) -> list[Interval]:
        """The recorded spans, one for each index. Such a span also covers events that may arrive later."""
        sequence = self.events.sequence
        return [Interval(int(sequence[a]), int(sequence[b - 1])) for a, b in self.series]

    def lines(self, run: RunId) -> dict[str, list[str]]:
        """Return the lines of the texts that follow from the merge. Only events of the last span are counted."""
        retired = [f"{run.l1} COMPLETE"] if self.complete else []
        if self.refused:
            return {"delivered_events": [], "event_gaps": [], "retired_runs": retired}
        last = sum(b - a for a, b in self.series[-1:])
        orphans = np.count_nonzero(~(self.delivered | self.done))
        return {
            "delivered_events": [f"{run.l1} {last} {orphans} {self.kind}"],
            "event_gaps": sorted(f"{run.l1} {one.last} {other.first}" for one, other in pairwise(self.spans)),
            "retired_runs": retired,
        }


class Part(NamedTuple):
    """The contents of a run in a downlink; `spans` are the legacy's own if the downlink was taken over."""

    datagrams: KnownDatagrams
    events: Events
    spans: Sequence[Interval] | None = None


def replay(
    run: RunId,
    parts: Mapping[DownlinkId, Part],
    order: Iterable[DownlinkId],
    before: Sequence[tuple[DownlinkId, Merged]] = (),
) -> list[tuple[DownlinkId, Merged]]:
    """Return the legacy's merges of one run, the oldest first.

    Parameters
    ----------
    run, parts
        The run, and its contents in each downlink.
    order
        The downlinks in the order of their merges; a downlink may be merged several times.
    before
        Earlier merges.
    """
    merges = [*before]
    for downlink in order:
        others = {dl: one for dl, one in sorted(dict(merges).items()) if dl != downlink}
        datagrams = [parts[downlink].datagrams, KnownDatagrams.together(parts[dl].datagrams for dl in others)]
        # Each downlink keeps an index of all events it knew. The first index with an event decides on its copy.
        events = in_one([parts[downlink].events, *(other.events for other in others.values())])
        spans = [parts[dl].spans for dl in others]
        done = [one.recorded if of is None else of for of, one in zip(spans, others.values(), strict=True)]
        merges.append((downlink, merged(run, datagrams, events, chain.from_iterable(done))))
    return merges


def merged(run: RunId, parts: Iterable[KnownDatagrams], events: Events, done: Iterable[Interval]) -> Merged:
    """Merge a run as the legacy does.

    Parameters
    ----------
    run
        The run. The legacy finds no files of an early run.
    parts
        The datagrams of the downlink, and those of all others. If a datagram has several lines, the first part counts.
    events
        All known events, in order (sequence, APID), each once.
    done
        The spans recorded for other downlinks.
    """
    lines: dict[tuple[int, int], bytes] = {}
    for part in parts:
        for row, line in zip(part.rows[["apid", "datagram"]].tolist(), part.lines, strict=True):
            lines.setdefault(row, line)
    of = {apid: pieces(rows) for apid, rows in KnownDatagrams.of(lines.values()).by_apid().items()}
    early = run.met < EIGHT_DIGITS
    is_lpa = of.keys() <= LPA
    kind = "LPA" if is_lpa else "LCI"
    nothing = np.zeros(len(events), bool)
    complete = not early and all(len(p) == 1 and p[0].opens and p[0].closing in CLOSES for p in of.values())
    if early or not of or (is_lpa and len(of) != EPUS):
        return Merged(events, nothing, nothing, kind, complete and bool(of), refused=True)
    if is_lpa:
        spans = spans_of_two(*(of[apid] for apid in sorted(of)))
    else:
        # The legacy takes the first APID in a Python 2 dict of 8 slots; if two share one, the APID with a gap.
        first = min(of, key=lambda apid: (apid % 8, len(of[apid]) == 1, apid))
        spans = [Interval(piece.first, piece.last) for piece in of[first]]
    is_done = inside(events.sequence, sorted(done))
    delivered = inside(events.sequence, spans) & ~is_done
    return Merged(events, delivered, is_done, kind, complete, refused=False, spans=tuple(spans))


def inside(sequence: NDArray[np.uint64], spans: Sequence[Interval]) -> NDArray[np.bool_]:
    """Tell which of the ordered sequences the legacy finds inside `spans`. It reads the unsorted spans only once."""
    if not spans:
        return np.zeros(len(sequence), bool)
    firsts, lasts = (np.array(edge, np.uint64) for edge in zip(*spans, strict=True))
    # At each event, spans were read up to the first one that does not end before the event, or to the last.
    at = np.minimum(np.searchsorted(np.maximum.accumulate(lasts), sequence), len(spans) - 1)
    return (firsts[at] <= sequence) & (sequence <= lasts[at])


def cut(events: int, limits: Merge) -> Iterator[tuple[int, int]]:
    """Yield the half-open slices of one index that become files; a limit of 0 means no limit."""
    begin = 0
    limit = limits.max_events
    while begin < events:
        end = min(begin + limit, events) if limit > 0 else events
        yield begin, end
        small = limit <= limits.chunk_floor * limits.max_events
        begin = end
        limit = limits.max_events if small else int(limits.chunk_scale * limit)


def file_number(sequence: int) -> int:
    """Return the number in a file's name: the sequence as a signed 32-bit number (the legacy's defect 27)."""
    return (sequence + 2**31) % 2**32 - 2**31


def is_written(original: bytes, before: bytes, written: bytes) -> bool:
    """Tell whether the legacy writes the record `original` as `written`.

    An event without handlers gets those of the event `before` it in the same index; `before` is empty for the
    first event. The last two bytes of the info of an LCI_CAL event are not copied.
    """
    kind, _ = _info(original)
    if kind is evt.InfoType.LCI_CAL:
        behind = -evt.LCI_KEYS.itemsize
        original, written = (record[: behind - 2] + record[behind:] for record in (original, written))
    elif handlers(original) == bytes(4) and (taken := handlers(before)):
        keys = len(original) - evt.LPA_KEYS.itemsize
        original = original[: keys - 4] + taken + original[keys:]
    return original == written


def defect_of_copy(original: bytes) -> int:
    """Return the number of the defect that makes the legacy write other bytes than `original`."""
    kind, _ = _info(original)
    return 30 if kind is evt.InfoType.LCI_CAL else 26 if handlers(original) == bytes(4) else 34


def handlers(record: bytes) -> bytes:
    """Return the number of handlers and the handlers of an LPA event, as bytes; empty for other events."""
    kind, begin = _info(record) if record else (None, 0)
    return record[begin : -evt.LPA_KEYS.itemsize] if kind is evt.InfoType.LPA else b""


def _info(record: bytes) -> tuple[evt.InfoType, int]:
    """Return the info type of a record, and the offset of the number of handlers if it is an LPA event."""
    ebf = evt.CONTEXT.itemsize
    at = ebf + 4 + int.from_bytes(record[ebf : ebf + 4], "little")
    kind = evt.InfoType(int.from_bytes(record[at : at + 4], "little"))
    return kind, at + 4 + evt.LPA_INFO.itemsize


def pieces(rows: Datagrams) -> list[Piece]:
    """Return the pieces of one EPU; `rows` are its datagrams in order of their numbers."""
    return [
        Piece(
            int(part.evtseq0[0]),
            int(part.evtseq1[-1]),
            bytes(part.oaction[0]) == OPENS,
            bytes(part.caction[-1]),
        )
        for part in consecutive(rows)
    ]


def spans_of_two(one: Sequence[Piece], other: Sequence[Piece]) -> list[Interval]:
    """Return the spans that the legacy finds in an LPA run.

    The legacy goes through the pieces of both EPUs in parallel. It advances the EPU whose piece ends first, until
    that EPU has no more pieces. A span is the overlap of two pieces. If both open the run, the span begins with the
    piece that begins first; if both end with stop, it ends with the piece that ends last.
    """
    spans: list[Interval] = []
    i = j = 0
    while i < len(one) and j < len(other):
        a = one[i]
        b = other[j]
        opened = a.opens and b.opens
        stopped = a.closing == b.closing == b"stop"
        first = (min if opened else max)(a.first, b.first)
        last = (max if stopped else min)(a.last, b.last)
        if opened or stopped or (a.first <= b.last and b.first <= a.last):
            spans.append(Interval(first, last))
        i, j = (i + 1, j) if a.last <= b.last else (i, j + 1)
    return spans
