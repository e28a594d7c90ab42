"""Why events are on one side only, or differ: rules over arrays, one for each known defect of the legacy.

A rule says where in a run a defect can show, from the datagrams and the events that were known when the downlink was
delivered here. What no rule covers is unexplained. The numbers of the defects stand in docs/legacy.md.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from halfpipe.formats import evt
from halfpipe.ids import RunId, RunKind
from halfpipe.merge.intervals import Interval, Ranges
from halfpipe.merge.late import listed
from halfpipe.merge.settle import OPENS, KnownDatagrams, settled
from halfpipe.tools.compared_events import Where, inside, present

LEGACY_LPA = frozenset({956, 957, 958})  # any other APID made a run LCI to the legacy, 955 too
LEGACY_EPUS = 2  # of an LPA run: with one or three it delivered nothing
FIRST_OF_EIGHT_DIGITS = (
    0x10000000  # MET: the legacy wrote the hex digits of earlier runs without the leading zero
)
HOLLOW = 22  # the defect whose effect may lie anywhere in a run: pieces seem to begin or end at 0
CAL_TAIL = 18  # the two last bytes of an LCI_CAL info stand so far from a record's end, before the keys
LCI_KEYS = evt.LCI_KEYS.itemsize
LPA_KEYS = evt.LPA_KEYS.itemsize


class Reason(NamedTuple):
    """Why something differs: a kind, the number of a defect of the legacy, and words."""

    kind: str
    defect: int | None
    text: str


UNEXPLAINED = Reason("unexplained", None, "no known reason")
DEFECTS: Mapping[int, str] = {
    1: "the legacy counts the events of its last span only",
    2: "the legacy never delivers what waits in a run that was abandoned",
    3: "the legacy delivers nothing of an LPA run without exactly two EPUs, and calls it complete all the same",
    4: "the legacy's span bridges a hole, as nothing was there to skip: what comes later in it is lost",
    5: "after abort or pause the legacy does not deliver what the other EPU brings behind the end of the first",
    6: "one EPU has stopped; the legacy does not deliver the other one's events behind that before it has stopped too",
    7: "the legacy takes the spans of an LCI run from one of its APIDs",
    8: "the legacy takes the spans of an LCI run from one of its APIDs: of 957 and 965 from the one with a gap",
    9: "the legacy's span of an LCI run bridges every gap",
    10: "the legacy reports gaps only between two spans, with delivered events as their edges, in every downlink again",
    11: "the legacy counts as orphans all that is known outside its own spans",
    13: "the legacy cuts a file between two events of one sequence",
    16: "the legacy's spans begin and end with pieces of an EPU, though the other one lacks nothing there",
    20: "the legacy ends with the EPU whose pieces are used up first: the rest of the other is never delivered",
    22: "to the legacy a piece whose first or last datagram has no events begins or ends at sequence 0",
    24: "the legacy's header has the MOOT key and alias of an input chunk",
    25: "the legacy's header has MOOT key 0 and no alias where it found none",
    26: "the legacy gives an event without handlers those of the event before it",
    27: "the legacy wraps sequences from 2^31 on in the names of files",
    28: "the legacy delivers a file, or a span, of a single event, for which Level-1 refuses the run",
    29: "LATC_master was overridden on one side only, or with another value",
    30: "the legacy does not copy the last two bytes of the info of an LCI_CAL event",
    31: "the legacy's file is damaged or was cut, and it did not notice",
    34: "it is another copy of the event, from another chunk",
    35: "the legacy finds no files of a run that started before MET 268435456",
    39: "the legacy retires a run of which the hand-off has no files",
}


def defect(number: int) -> Reason:
    """Return the reason that is a known defect of the legacy."""
    return Reason("defect", number, DEFECTS[number])


ELSEWHERE_THERE = Reason("elsewhere", None, "the other side delivered it with another downlink")
ELSEWHERE_HERE = Reason("elsewhere", None, "delivered here with another downlink")
INPUT_THERE = Reason("input", None, "the other side did not have the datagram")
INPUT_HERE = Reason("input", None, "not among the events that are known here")
LATE = Reason("late", None, "came here after the span that it lies in was delivered")
ORPHAN = Reason("orphan", None, "waits here: an EPU may still bring something before it")
HELD = Reason("held", None, "the run is held here, or was refused")


@dataclass(frozen=True)
class Facts:
    """What is known of a run and a downlink when reasons are sought.

    Attributes
    ----------
    run
        The run.
    datagrams, known
        The datagrams and the events (sequence, APID, datagram) that were known here when it was delivered.
    settled, spans
        Where it was settled then, and what was delivered.
    recorded
        Spans that were recorded here for other downlinks.
    here_elsewhere, there_elsewhere
        Events that other downlinks delivered here and there, in order.
    bridged
        Spans that the legacy recorded, or must have, for other downlinks.
    damaged
        What lies in files of the other side that cannot be read.
    there_known
        Datagrams that the other side knew; None if that cannot be told.
    apids_there
        EPUs of which the other side delivered something.
    held, given_up
        What the manifest says.
    legacy
        Whether the other side can be the legacy: another working directory has none of its defects.
    """

    run: RunId
    datagrams: KnownDatagrams
    known: NDArray[np.void]
    settled: tuple[Interval, ...]
    spans: tuple[Interval, ...]
    recorded: tuple[Interval, ...]
    here_elsewhere: NDArray[np.void]
    there_elsewhere: NDArray[np.void]
    bridged: tuple[Interval, ...]
    damaged: tuple[Interval, ...]
    there_known: Ranges | None
    apids_there: frozenset[int]
    held: bool
    given_up: bool
    legacy: bool


class Piece(NamedTuple):
    """Consecutive datagrams of one EPU as the legacy sees them: `first` and `last` as they stand in its datagrams."""

    first: int
    last: int
    opens: bool
    closing: bytes
    hollow: bool


def pieces(rows: NDArray[np.void]) -> list[Piece]:
    """Return the pieces of one EPU; `rows` are its datagrams in order of their numbers."""
    jumps = np.flatnonzero(np.diff(rows["datagram"].astype(np.int64)) != 1) + 1
    return [
        Piece(
            int(part["evtseq0"][0]),
            int(part["evtseq1"][-1]),
            bytes(part["oaction"][0]) == OPENS,
            bytes(part["caction"][-1]),
            not (part["nevts"][0] and part["nevts"][-1]),
        )
        for part in np.split(rows, jumps)
    ]


def spans_of_two(one: Sequence[Piece], other: Sequence[Piece]) -> tuple[tuple[Interval, ...], int]:
    """Return the spans that the legacy finds in an LPA run, and the defect by which nothing behind them is delivered.

    It goes through the pieces of both EPUs side by side, on with whichever ends first, and is done when that has
    no other piece. A span is where two pieces overlap; from the first of the two if both open the run, to the last if
    both end with stop.
    """
    spans: list[Interval] = []
    i = j = 0
    while True:
        a, b = one[i], other[j]
        opened, stopped = a.opens and b.opens, a.closing == b.closing == b"stop"
        first = (min if opened else max)(a.first, b.first)
        last = (max if stopped else min)(a.last, b.last)
        if opened or stopped or first <= last:
            spans.append(Interval(first, last))
        if a.last <= b.last:
            i += 1
            rest = other[j + 1 :]
        else:
            j += 1
            rest = one[i + 1 :]
        if i == len(one) or j == len(other):
            break
    if any(piece.hollow for piece in (*one, *other)):
        return tuple(spans), HOLLOW
    if rest:
        return tuple(spans), 20
    closed = [piece.closing in {b"stop", b"abort", b"pause"} for piece in (a, b)]
    return tuple(spans), 5 if all(closed) else 6


def epus_of_legacy(apids: Iterable[int]) -> set[int] | None:
    """Return the EPUs that the legacy counts of an LPA run; None if the run is LCI to it."""
    seen = set(apids)
    return seen if seen <= LEGACY_LPA else None


def why(rows: NDArray[np.void], where: Where, facts: Facts) -> tuple[NDArray[np.intp], list[Reason]]:
    """Return for each event that is on one side only its reason, as a number into a list.

    Parameters
    ----------
    rows
        The events, with sequence and APID, in order.
    where
        On which side they are.
    facts
        What is known.
    """
    rules = _only_here(rows, facts) if where is Where.HERE else _only_there(rows, facts)
    reasons = [reason for reason, _ in rules]
    masks = [np.broadcast_to(mask, rows.shape) for _, mask in rules]
    return np.select(masks, [np.intp(n) for n in range(len(rules))], len(rules)), [*reasons, UNEXPLAINED]


_Rule = tuple[Reason, NDArray[np.bool_] | bool]


def _only_here(rows: NDArray[np.void], facts: Facts) -> list[_Rule]:
    """Return why the other side did not deliver events: the first rule that fits counts."""
    sequences = rows["sequence"]
    rules: list[_Rule] = [(ELSEWHERE_THERE, present(rows, facts.there_elsewhere))]
    if facts.there_known is not None:
        rules.append((INPUT_THERE, ~listed(_with_datagrams(rows, facts.known), facts.there_known)))
    if not facts.legacy:
        return rules
    apids = facts.datagrams.by_apid()
    lpa = epus_of_legacy(apids)
    rules += [
        (defect(35), not facts.apids_there and facts.run.met < FIRST_OF_EIGHT_DIGITS),
        # It leaves what it had delivered before an EPU too many turned up.
        (
            defect(3),
            ~np.isin(rows["apid"], list(facts.apids_there)) & (lpa is not None and len(lpa) != LEGACY_EPUS),
        ),
        (defect(4 if lpa is not None else 9), inside(sequences, facts.bridged)),
        (defect(31), inside(sequences, facts.damaged)),
        (defect(2), facts.given_up and ~inside(sequences, _settled_by_itself(facts))),
    ]
    if lpa is None:
        rules.append((_of_lci(apids) if len(apids) > 1 else defect(HOLLOW), _outside_one(sequences, apids)))
    elif len(lpa) == LEGACY_EPUS:
        one, other = (pieces(apids[apid]) for apid in sorted(lpa))
        spans, number = spans_of_two(one, other)
        end = max((span.last for span in spans), default=0)
        outside = ~inside(sequences, spans)
        rules.append((defect(number), outside & ((sequences > np.uint64(end)) | (number == HOLLOW))))
        rules.append((defect(16), outside))
    return rules


def _only_there(rows: NDArray[np.void], facts: Facts) -> list[_Rule]:
    """Return why events were not delivered here: the first rule that fits counts."""
    sequences = rows["sequence"]
    known, is_settled = present(rows, facts.known), inside(sequences, facts.settled)
    rules: list[_Rule] = [
        (ELSEWHERE_HERE, present(rows, facts.here_elsewhere)),
        (INPUT_HERE, ~known),
        (HELD, facts.held),
        (LATE, inside(sequences, facts.recorded)),
        # It was settled and is not delivered: a series too small for a file.
        (defect(28) if facts.legacy else ORPHAN, is_settled & ~inside(sequences, facts.spans)),
    ]
    if facts.legacy and RunKind.of(facts.datagrams.by_apid()) is RunKind.LCI:
        apids = facts.datagrams.by_apid()
        rules.append((_of_lci(apids), len(apids) > 1))
    rules.append((ORPHAN, ~is_settled))
    return rules


def _with_datagrams(rows: NDArray[np.void], known: NDArray[np.void]) -> NDArray[np.void]:
    """Return the rows of `known` for events; of one that is not known, a datagram that nobody has."""
    found = np.zeros(len(rows), known.dtype)
    found["sequence"], found["apid"] = rows["sequence"], rows["apid"]
    at = np.flatnonzero(present(known, rows))
    found["datagram"] = np.iinfo(np.uint32).max
    found["datagram"][present(rows, known)] = known["datagram"][at]
    return found


def _of_lci(apids: Iterable[int]) -> Reason:
    return defect(8 if {957, 965} <= set(apids) else 7)


def _outside_one(sequences: NDArray[np.uint64], apids: Mapping[int, NDArray[np.void]]) -> NDArray[np.bool_]:
    """Tell which sequences lie outside the pieces of one of the APIDs, as the legacy sees them.

    It goes through events and pieces side by side, on to the next piece behind the end of one. So what lies in a piece
    that seems to begin at 0, before the end of the piece before it, is outside too.
    """
    outside = np.zeros(len(sequences), dtype=bool)
    for rows in apids.values():
        found = pieces(rows)
        first, last = (
            np.array([getattr(piece, end) for piece in found], np.uint64) for end in ("first", "last")
        )
        at = np.searchsorted(np.maximum.accumulate(last), sequences).clip(max=len(found) - 1)
        outside |= (sequences < first[at]) | (sequences > last[at])
    return outside


def _settled_by_itself(facts: Facts) -> tuple[Interval, ...]:
    """Return where the run is settled without anybody's giving it up."""
    return settled(facts.datagrams.segments(), LEGACY_EPUS)


def why_other_bytes(ours: bytes, theirs: bytes, copies: Callable[[], Iterable[bytes]]) -> Reason:
    """Return why two records of one event differ.

    Parameters
    ----------
    ours, theirs
        The records, whole.
    copies
        Gives every copy of the event that is known here.
    """
    if len(ours) == len(theirs):
        differ = np.flatnonzero(np.frombuffer(ours, np.uint8) != np.frombuffer(theirs, np.uint8))
        from_end = len(ours) - differ
        lpa = _info_type(ours) == evt.InfoType.LPA
        if lpa and ((from_end <= evt.LATC_FROM_END) & (from_end > evt.LATC_FROM_END - 4)).all():
            return defect(29)
        cal = _info_type(ours) == evt.InfoType.LCI_CAL
        if cal and ((from_end <= CAL_TAIL) & (from_end > LCI_KEYS)).all():
            return defect(30)
    if _handlers_of_another(ours, theirs):
        return defect(26)
    if any(copy == theirs for copy in copies()):
        return defect(34)
    return UNEXPLAINED


def _info_at(record: bytes) -> int:
    """Return where the info type of a record stands."""
    context = evt.CONTEXT.itemsize
    return context + 4 + int.from_bytes(record[context : context + 4], "little")


def _info_type(record: bytes) -> int:
    at = _info_at(record)
    return int.from_bytes(record[at : at + 4], "little")


def _handlers_of_another(ours: bytes, theirs: bytes) -> bool:
    """Tell whether the other record is this one, which has no handlers, with some put in."""
    if _info_type(ours) != evt.InfoType.LPA:
        return False
    at = _info_at(ours) + 4 + evt.LPA_INFO.itemsize
    count = int.from_bytes(theirs[at : at + 4], "little")
    more = len(theirs) - len(ours)
    return (
        int.from_bytes(ours[at : at + 4], "little") == 0
        and 0 < count == more // evt.LPA_HANDLER.itemsize
        and more % evt.LPA_HANDLER.itemsize == 0
        and ours[:at] == theirs[:at]
        and ours[-LPA_KEYS:] == theirs[-LPA_KEYS:]
    )
