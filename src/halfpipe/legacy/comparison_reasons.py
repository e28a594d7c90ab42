"""Why events differ: the number of the defect of the legacy by which its rule, replayed, gives what it delivered.

A reason is sought only for what a candidate gives, to the event and to the byte (`halfpipe.legacy.candidates`); nothing
else has one. The numbers of the defects stand in docs/legacy.md.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from halfpipe.formats import evt
from halfpipe.legacy.candidates import Candidate
from halfpipe.legacy.compared_events import Where, present, where_in
from halfpipe.legacy.compared_run import ComparedRun
from halfpipe.legacy.legacy_replay import EIGHT_DIGITS, EPUS, inside_in_turn
from halfpipe.merge.decision import holding
from halfpipe.merge.settle import settled

CAL_TAIL = 18  # the two last bytes of an LCI_CAL info stand so far from a record's end, before the keys
# Where the legacy may put something into a record, by its kind: LATC_master, and these two bytes; the defects.
PUT_IN = {
    int(evt.InfoType.LPA): slice(-evt.LATC_FROM_END, 4 - evt.LATC_FROM_END),
    int(evt.InfoType.LCI_CAL): slice(-CAL_TAIL, 2 - CAL_TAIL),
}
NUMBERS = {int(evt.InfoType.LPA): 29, int(evt.InfoType.LCI_CAL): 30}


class Reason(NamedTuple):
    """Why something differs: a kind, the number of a defect of the legacy, and words."""

    kind: str
    defect: int | None
    text: str


@dataclass(frozen=True)
class Finding:
    """Something that differs, for one reason.

    Attributes
    ----------
    what
        ``events``, or the ``file``, the field of a ``header``, or the ``text``.
    run
        Empty for all of a text.
    kind, defect, text
        The `Reason`.
    where
        On which side events are.
    first, last, events
        The first and the last sequence of the events, and how many there are; of a header, how many files.
    here, there
        What it is of what is no event.
    """

    what: str
    run: str
    kind: str
    defect: int | None
    text: str
    where: str = ""
    first: int = 0
    last: int = 0
    events: int = 0
    here: str = ""
    there: str = ""


EVENTS = "events"
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
    34: "of several copies of an event, or lines of a datagram, the legacy takes another one",
    35: "the legacy finds no files of a run that started before MET 268435456",
    39: "the legacy retires a run of which the hand-off has no files",
    40: "the legacy overwrites a file of one event with the next one, which begins with the same sequence",
}


def defect(number: int) -> Reason:
    """Return the reason that is a known defect of the legacy."""
    return Reason("defect", number, DEFECTS[number])


ELSEWHERE_THERE = Reason("elsewhere", None, "the other side delivered it with another downlink")
ELSEWHERE_HERE = Reason("elsewhere", None, "delivered here with another downlink")
ORDER = Reason("elsewhere", None, "follows from another order of the downlinks there")
LATE = Reason("late", None, "came here after the span that it lies in was delivered")
ORPHAN = Reason("orphan", None, "waits here: an EPU may still bring something before it")
HELD = Reason("held", None, "the run is held here, or was refused")

# What no candidate gives.
MISSING_THERE = UNEXPLAINED._replace(text="missing there: by its rule it would be delivered")
MISSING_HERE = UNEXPLAINED._replace(text="missing here, though it was delivered")
UNKNOWN_HERE = UNEXPLAINED._replace(
    text="not among the events that are known here: is a chunk or a downlink missing?"
)
NOBODYS = UNEXPLAINED._replace(text="delivered there, though no known rule gives it")


_Rule = tuple[Reason, NDArray[np.bool_] | bool]


def why(
    rows: NDArray[np.void], where: Where, given: Candidate, pair: ComparedRun
) -> tuple[NDArray[np.intp], list[Reason]]:
    """Return for each event that is on one side only its reason, as a number into a list.

    Parameters
    ----------
    rows
        The events, with sequence and APID, in order.
    where
        On which side they are.
    given
        What the rule gives that comes nearest to the other side.
    pair
        What is known of the run.
    """
    rules = _only_here(rows, given, pair) if where is Where.HERE else _only_there(rows, given, pair)
    reasons = [reason for reason, _ in rules]
    masks = [np.broadcast_to(mask, rows.shape) for _, mask in rules]
    return np.select(masks, [np.intp(n) for n in range(len(rules))], len(rules)), [*reasons, UNEXPLAINED]


def _only_here(rows: NDArray[np.void], given: Candidate, pair: ComparedRun) -> list[_Rule]:
    """Return why the other side did not deliver events: the first rule that fits counts."""
    rules: list[_Rule] = [
        (MISSING_THERE, present(rows, given.rows)),
        (ELSEWHERE_THERE, present(rows, pair.there_elsewhere)),
    ]
    if given.merged is None:
        return [*rules, (ORDER, given.reordered)]
    merged, at = given.merged, where_in(rows, given.known)
    rules += [
        (ORDER, (at < 0) & given.reordered),
        (defect(35), pair.run.met < EIGHT_DIGITS),
        (defect(3), merged.refused or given.left),
        (defect(40), present(rows, given.overwritten)),
    ]
    if not len(given.known) or merged.refused or given.left:
        return rules
    lpa = merged.kind == "LPA"
    by_itself = settled(merged.datagrams.segments(), EPUS)
    rules += [
        (defect(4 if lpa else 9), merged.done[at]),
        (defect(2), pair.given_up and ~holding(rows["sequence"], by_itself)),
        (defect(34), _by_other_lines(rows, given)),
    ]
    if not lpa:
        return [*rules, (_of_lci(given), True)]
    behind = rows["sequence"] > np.uint64(max((span.last for span in merged.places), default=0))
    assert merged.defect is not None
    return [*rules, (defect(merged.defect), behind | (merged.defect == 22)), (defect(16), True)]


def _only_there(rows: NDArray[np.void], given: Candidate, pair: ComparedRun) -> list[_Rule]:
    """Return why events were not delivered here: the first rule that fits counts."""
    sequences = rows["sequence"]
    is_settled = holding(sequences, pair.settled)
    rules: list[_Rule] = [
        (UNKNOWN_HERE, ~present(rows, given.inputs.everything)),
        (NOBODYS, ~present(rows, given.rows) & ~holding(sequences, pair.spans)),
        (MISSING_HERE, holding(sequences, pair.spans) & (not pair.held)),
        (ELSEWHERE_HERE, present(rows, pair.here_elsewhere)),
        (HELD, pair.held),
        (LATE, holding(sequences, pair.recorded)),
        (ORDER, given.reordered),
    ]
    if given.merged is None:
        return rules
    rules += [(defect(28), is_settled), (defect(34), _by_other_lines(rows, given))]
    if given.merged.kind != "LPA":
        rules.append((_of_lci(given), True))
    return [*rules, (ORPHAN, ~is_settled)]


def _by_other_lines(rows: NDArray[np.void], given: Candidate) -> NDArray[np.bool_]:
    """Tell of which events the legacy's rule says otherwise if of several lines of a datagram another one counts."""
    assert given.merged is not None
    found = np.zeros(len(rows), bool)
    for places in given.places_by_other_lines:
        now, other = (inside_in_turn(rows["sequence"], spans) for spans in (given.merged.places, places))
        found |= now != other
    return found


def _of_lci(given: Candidate) -> Reason:
    assert given.merged is not None
    assert given.merged.defect is not None
    return defect(given.merged.defect if len(given.merged.apids) > 1 else 22)


def why_other_bytes(
    ours: bytes,
    theirs: bytes,
    copy: bytes,
    handlers: bytes,
    there: Mapping[int, bytes],
    good: Callable[[], Iterable[bytes]],
) -> Reason:
    """Return why two records of one event differ: by what the legacy makes of its copy of it.

    Parameters
    ----------
    ours, theirs
        The records, whole.
    copy
        The record in the chunk that the legacy took it from.
    handlers
        Those of the event before it in its merged index that had some, with their number; empty without.
    there
        What the events there have where the legacy may put something in, by their kinds, as far as it can be told.
    good
        Gives what may be delivered here: every known copy, with what overrides a part of it.
    """
    if not any(ours == one for one in good()):
        return UNEXPLAINED._replace(text="here: not as in its chunk")
    made, numbers = copy, []
    kind = info_type(copy)
    if kind == evt.InfoType.LPA and handlers:
        at = handlers_at(copy)
        if not any(copy[at : at + 4]):
            made, numbers = copy[:at] + handlers + copy[at + 4 :], [26]
    if kind in there:
        made = put_in(made, there[kind])
    if theirs != made:
        return UNEXPLAINED
    if kind in PUT_IN and ours[PUT_IN[kind]] != made[PUT_IN[kind]]:
        numbers.append(NUMBERS[kind])
    return defect((numbers or [34])[0])


def put_in(record: bytes, value: bytes) -> bytes:
    """Return a record with something else where the legacy may put it in."""
    place = PUT_IN[info_type(record)]
    return record[: place.start] + value + record[place.stop :]


def _info_at(record: bytes) -> int:
    context = evt.CONTEXT.itemsize
    return context + 4 + int.from_bytes(record[context : context + 4], "little")


def info_type(record: bytes) -> int:
    """Return the type of what a record holds behind its event."""
    at = _info_at(record)
    return int.from_bytes(record[at : at + 4], "little")


def handlers_at(record: bytes) -> int:
    """Return where the number of handlers of an LPA record stands, and behind it the handlers."""
    return _info_at(record) + 4 + evt.LPA_INFO.itemsize


def handlers_of(record: bytes) -> bytes:
    """Return the handlers of a record with their number; empty if it has none."""
    if info_type(record) != evt.InfoType.LPA:
        return b""
    found = record[handlers_at(record) : -evt.LPA_KEYS.itemsize]
    return found if any(found[:4]) else b""
