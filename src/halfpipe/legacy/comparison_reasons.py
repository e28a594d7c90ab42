"""Why events and texts differ: the defect of the legacy by which its rule, replayed, gives what it delivered.

A reason is sought only for what a candidate gives, to the event and to the byte (`halfpipe.legacy.compared_run`);
nothing else has one. The numbers of the defects stand in docs/legacy.md.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from halfpipe.formats import evt
from halfpipe.ids import DownlinkId
from halfpipe.legacy.compared_run import Candidate, ComparedRun
from halfpipe.legacy.comparison_sides import Side, Where, present, where_in
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


FOLLOWS = Reason("follows", None, "follows from the events that differ")
OUTSIDE = Reason("input", None, "comes from a program of others, by another window of time")
ABSENT = Reason("absent", None, "the other side has this text of no downlink")
ROUNDED = Reason("rounded", None, "the last digit is rounded")
MAGIC7, TIMES, MOOT, RETIRED = "magic7", "event_times", "moot_keys", "retired_runs"
KINDS = (" ATT ", " ORB ")  # of the lines of magic-7
CLOSE = 1.5e-6  # seconds: times are printed with six digits
Texts = Mapping[str, Sequence[str]]  # lines by the names of the texts


def whole_texts(here: Texts, there: Texts, side: Side, downlink: DownlinkId) -> Iterator[Finding]:
    """Yield the texts that only one side has, and what does not go by runs."""
    for name in sorted(here.keys() | there.keys()):
        ours, theirs = here.get(name, ()), there.get(name, ())
        counted = [f"{len(ours)} lines"], [f"{len(theirs)} lines"]
        if name not in there and (ours or side.writes(name, downlink)):
            gone = UNEXPLAINED._replace(text="the text is gone there")
            yield _finding(name, "", *counted, gone if side.writes(name, downlink) else ABSENT)
        elif name not in here:
            yield _finding(name, "", *counted, Reason("absent", None, "only there"))
        elif name == MAGIC7 and ours != theirs:
            yield _finding(name, "", *counted, OUTSIDE if _by_window(ours, theirs) else UNEXPLAINED)


def _finding(name: str, run: str, ours: Sequence[str], theirs: Sequence[str], reason: Reason) -> Finding:
    here, there = (" | ".join(lines) for lines in (ours, theirs))
    return Finding(f"text {name}", run, *reason, here=here, there=there)


def _by_window(ours: Sequence[str], theirs: Sequence[str]) -> bool:
    """Tell whether lines are the same but for those before and behind, where one side reaches farther."""
    for kind in KINDS:
        sides = [[line for line in lines if kind in line] for lines in (ours, theirs)]
        both = set(sides[0]) & set(sides[1])
        if not both:
            return False
        places = [[n for n, line in enumerate(lines) if line in both] for lines in sides]
        (a, b), (c, d) = ((place[0], place[-1] + 1) for place in places)
        if sides[0][a:b] != sides[1][c:d] or min(a, c) or min(len(sides[0]) - b, len(sides[1]) - d):
            return False
    return all(any(kind in line for kind in KINDS) for line in (*ours, *theirs))


def runs_named(here: Texts, there: Texts) -> set[str]:
    """Return the runs that texts of both sides name, as Level-1 does."""
    return {_run_of(line) for name in _by_run(here, there) for line in (*here[name], *there[name])}


def texts_of_run(
    here: Texts, there: Texts, run: str, pair: ComparedRun | None, *, differs: bool = False
) -> Iterator[Finding]:
    """Yield the lines of one run that differ; `pair` is None if neither side has it, its events may have differed."""
    for name in _by_run(here, there):
        ours, theirs = (sorted(line for line in side[name] if _run_of(line) == run) for side in (here, there))
        if ours != theirs:
            reason = UNEXPLAINED if pair is None else _why(name, ours, theirs, pair, differs)
            yield _finding(name, run, ours, theirs, reason)


def _by_run(here: Texts, there: Texts) -> list[str]:
    return sorted((here.keys() & there.keys()) - {MAGIC7})


def _run_of(line: str) -> str:
    return line.partition(" ")[0]


def _why(name: str, ours: list[str], theirs: list[str], pair: ComparedRun, differs: bool) -> Reason:
    """Return why the lines of one run differ."""
    if name == TIMES:
        return _why_times(ours, theirs, pair)
    if name == MOOT:
        return _why_moot(ours, theirs, pair)
    given = next((one for one in pair.nearest if theirs == list(one.lines[name])), None)
    if given is None:
        return UNEXPLAINED
    legacy = given.merged
    if legacy is not None and (legacy.refused or given.left):
        return defect(35 if pair.run.met < EIGHT_DIGITS else 3)
    if legacy is None or given.reordered:
        less, more = set(ours) - set(theirs), set(theirs) - set(ours)
        there = pair.retired_elsewhere(pair.there)
        moved = less <= there and more <= pair.retired_elsewhere(pair.here) and not more & there
        return ORDER if moved or name != RETIRED else UNEXPLAINED
    if name == RETIRED and theirs and not given.delivered.any():
        return defect(39)
    if differs or pair.differed:
        return FOLLOWS
    if name == RETIRED:
        return defect(2 if pair.given_up else 34)
    if name == "event_gaps":
        return defect(10)
    _, events, _, kind = theirs[0].split()
    mine = ours[0].split() if ours else [""] * 4
    if kind != mine[3]:
        return defect(7)
    return defect(1 if events != mine[1] else 11)


def _why_moot(ours: list[str], theirs: list[str], pair: ComparedRun) -> Reason:
    l1 = pair.run.l1
    if not pair.legacy or len(ours) != 1 or theirs not in ([], [l1], [f"{l1} 0"], [f"{l1} 0 "]):
        return UNEXPLAINED
    if ours[0] == f"{l1} {evt.MOOT_UNSET_KEY} {evt.MOOT_UNSET_ALIAS}":
        return defect(25)
    return defect(35) if pair.run.met < EIGHT_DIGITS and not theirs else UNEXPLAINED


def _why_times(ours: list[str], theirs: list[str], pair: ComparedRun) -> Reason:
    """Return why times differ: of the same event they are the same, of a later one they are later."""
    here, there = (
        [(int(rows[n]["sequence"]), int(rows[n]["apid"])) for n in ((0, -1) if len(rows) else ())]
        for rows in (pair.ours.rows, pair.theirs.rows)
    )
    if bool(ours) != bool(here) or bool(theirs) != bool(there) or len(ours) > 1 or len(theirs) > 1:
        return UNEXPLAINED
    if not (ours and theirs):
        return FOLLOWS
    try:
        said = [[float(word) for word in lines[0].split()[1:]] for lines in (ours, theirs)]
    except ValueError:
        return UNEXPLAINED
    for line, times in zip((ours[0], theirs[0]), said, strict=True):
        if line != " ".join([_run_of(line), *(f"{time:f}" for time in times)]) or len(times) != len(here):
            return UNEXPLAINED
    for one, other, time, their_time in zip(here, there, *said, strict=True):
        if one == other:
            if abs(time - their_time) > CLOSE:
                return UNEXPLAINED
        elif (one > other) != (time > their_time):
            return UNEXPLAINED
    return ROUNDED if here == there else FOLLOWS
