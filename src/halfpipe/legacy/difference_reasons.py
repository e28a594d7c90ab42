"""Why events and texts differ: in one table, by the defects of the legacy and by what was decided here.

A reason is sought only where the legacy's rule, replayed, gives what it delivered; nothing else has one. The numbers of
the defects stand in docs/legacy.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from halfpipe.formats import evt
from halfpipe.formats.evt_view import fields
from halfpipe.ids import RunId
from halfpipe.legacy.legacy_replay import Merged
from halfpipe.merge.decision import inside_any
from halfpipe.merge.intervals import Interval


class Reason(NamedTuple):
    """Why something differs: a kind, the number of a defect of the legacy, and words."""

    kind: str
    defect: int | None
    text: str


SHOWN = 80  # characters of a field's value
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
    16: "the legacy's spans begin and end with pieces of an EPU, though the other one lacks nothing there",
    20: "the legacy ends with the EPU whose pieces are used up first: the rest of the other is never delivered",
    22: "to the legacy a piece whose first or last datagram has no events begins or ends at sequence 0",
    24: "the legacy's header has the MOOT key and alias of an input chunk",
    25: "the legacy's header has MOOT key 0 and no alias where it found none",
    26: "the legacy gives an event without handlers those of the event before it",
    27: "the legacy wraps sequences from 2^31 on in the names of files",
    28: "the legacy delivers a file, or a span, of a single event, for which Level-1 refuses the run",
    30: "the legacy does not copy the last two bytes of the info of an LCI_CAL event",
    34: "of several lines of a datagram the legacy takes another one",
    35: "the legacy finds no files of a run that started before MET 268435456",
    39: "the legacy retires a run of which the hand-off has no files",
}


def defect(number: int) -> Reason:
    """Return the reason that is a known defect of the legacy."""
    return Reason("defect", number, DEFECTS[number])


def unexplained(text: str) -> Reason:
    """Return that something has no known reason, with what is known of it."""
    return Reason("unexplained", None, text)


UNEXPLAINED = unexplained("no known reason")
ELSEWHERE_THERE = Reason("elsewhere", None, "the other side delivered it with another downlink")
ELSEWHERE_HERE = Reason(
    "elsewhere", None, "lies in what other downlinks delivered here: delivered with them, or late"
)
RETIRED_ELSEWHERE = Reason("elsewhere", None, "another downlink completes the run on the other side")
NOT_KNOWN = Reason(
    "elsewhere", None, "of a downlink that the other side did not know then, as its other events say"
)
ORPHAN = Reason("orphan", None, "waits here: an EPU may still bring something before it")
HELD = Reason("held", None, "the run is held here, or was refused")
FOLLOWS = Reason("follows", None, "follows from the events that differ")
OUTSIDE = Reason("input", None, "comes from a program of others, which may look at another window of time")
CUT = Reason("cut", None, "the same events lie in other files")


@dataclass(frozen=True)
class Decided:
    """What is known of a run, and what was decided here when the downlink was delivered.

    Attributes
    ----------
    run, known
        The run, and all events that are known of it now, in order.
    replays
        What the legacy's rule gives that comes nearest to the events there, by what it may have known.
    elsewhere
        Events that other downlinks delivered there, in order.
    manifest
        What vouches for the delivery here; empty if nothing does.
    recorded
        Spans that other downlinks delivered here.
    by_itself
        Where the run would be settled if nobody had given it up.
    """

    run: RunId
    known: NDArray[np.void]
    replays: Sequence[Merged]
    elsewhere: NDArray[np.void]
    manifest: Mapping[str, Any]
    recorded: Sequence[Interval] = ()
    by_itself: Sequence[Interval] = ()


_Rule = tuple[Reason, NDArray[np.bool_] | bool]


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


def why(rows: NDArray[np.void], decided: Decided, *, here: bool) -> tuple[NDArray[np.intp], list[Reason]]:
    """Return for each event that is `here` only, or there only, its reason, as a number into a list.

    The first rule that fits counts.
    """
    not_known = unexplained("not among the events that are known here: is a chunk or a downlink missing?")
    rules: list[_Rule] = [(not_known, ~present(rows, decided.known))]
    rules += _only_here(rows, decided) if here else _only_there(rows, decided)
    masks = [np.broadcast_to(mask, rows.shape) for _, mask in rules]
    codes = np.select(masks, [np.intp(n) for n in range(len(rules))], len(rules))
    return codes, [*(reason for reason, _ in rules), UNEXPLAINED]


def _only_here(rows: NDArray[np.void], decided: Decided) -> list[_Rule]:
    """Return why the other side did not deliver events."""
    merged = decided.replays[0]
    elsewhere = (ELSEWHERE_THERE, present(rows, decided.elsewhere))
    if merged.refused:
        return [elsewhere, (defect(merged.defect), True)]
    at, lpa = where_in(rows, merged.events), merged.kind == "LPA"
    delivered, done = (np.append(mask, False)[at] for mask in (merged.delivered, merged.done))
    behind = rows["sequence"] > np.uint64(max((span.last for span in merged.spans), default=0))
    return [
        elsewhere,
        (NOT_KNOWN, at < 0),
        (unexplained("missing there: by its rule it would be delivered"), delivered),
        (defect(4 if lpa else 9), done),
        (
            defect(2),
            bool(decided.manifest.get("given_up")) & ~inside_any(rows["sequence"], decided.by_itself),
        ),
        (defect(merged.defect), behind | (not lpa) | (merged.defect in {22, 34})),
        (defect(16), True),
    ]


def _only_there(rows: NDArray[np.void], decided: Decided) -> list[_Rule]:
    """Return why events were not delivered here."""
    sequences, merged = rows["sequence"], decided.replays[0]
    ours, settled = (
        inside_any(sequences, [Interval(*pair) for pair in decided.manifest.get(key, ())])
        for key in ("spans", "settled")
    )
    held = bool(decided.manifest.get("held"))
    given = present(rows, merged.events[merged.delivered])
    of_rule = merged.kind != "LPA" or merged.defect == 34
    return [
        (unexplained("missing here, though it was delivered"), ours & (not held)),
        (unexplained("delivered there, though the legacy's rule does not give it"), ~given & ~ours),
        (ELSEWHERE_HERE, inside_any(sequences, decided.recorded)),
        (HELD, held),
        (defect(28), settled),
        (defect(merged.defect) if of_rule else ORPHAN, True),
    ]


Fields = dict[tuple[str, str], str]  # the values of a record's fields, by their parts and names


def why_other_bytes(ours: bytes, theirs: bytes, before: bytes) -> Reason:
    """Return why two records of one event differ; `before` is the record before it there, empty for the first."""
    mine, other = _fields(ours), _fields(theirs)
    differ = [key for key in mine | other if mine.get(key) != other.get(key)]
    if [name for _, name in differ] == ["tail"]:
        return defect(30)
    taken, handlers = (_handlers(_fields(record)) if record else {} for record in (theirs, before))
    if set(differ) <= set(taken) and taken == handlers and mine["info", "nhandlers"] == "0":
        return defect(26)
    part, name = differ[0]
    here, there = (side.get(differ[0], "nothing")[:SHOWN] for side in (mine, other))
    return unexplained(f"other bytes: {part} {name} is {here} here, {there} there")


def _fields(record: bytes) -> Fields:
    data = np.frombuffer(bytes(evt.HEADER_SIZE) + record, np.uint8)
    return {(one.part, one.name): str(one.value) for one in fields(data, evt.HEADER_SIZE, "a record")}


def _handlers(of: Fields) -> Fields:
    return {key: value for key, value in of.items() if key[0].startswith("handler") or key[1] == "nhandlers"}


RETIRED = "retired_runs"
Lines = Sequence[str]


def why_text(
    name: str, ours: Lines, theirs: Lines, decided: Decided, *, differs: bool, moved: bool = False
) -> Reason:
    """Return why the lines of one run in a text differ.

    Parameters
    ----------
    name, ours, theirs
        The text, and its lines on both sides.
    decided
        What is known of the run.
    differs, moved
        Whether its events differ; whether another downlink retires it on the side that does not.
    """
    run, first = decided.run, decided.replays[0]
    if name == "moot_keys":
        unset = [f"{run.l1} {evt.MOOT_UNSET_KEY} {evt.MOOT_UNSET_ALIAS}"]
        if ours == unset and theirs in ([], [run.l1], [f"{run.l1} 0"], [f"{run.l1} 0 "]):
            return defect(25)
        return defect(35) if first.defect == 35 and not theirs else UNEXPLAINED
    merged = next((one for one in decided.replays if theirs == one.lines(run)[name]), None)
    if merged is None:
        return UNEXPLAINED
    if moved:
        return RETIRED_ELSEWHERE
    if merged.refused:
        return defect(merged.defect)
    if name == RETIRED and merged is not first:
        return UNEXPLAINED
    if name == RETIRED and theirs and not merged.delivered.any():
        return defect(39)
    if differs:
        return FOLLOWS
    if name == RETIRED:
        return defect(2 if decided.manifest.get("given_up") else 34)
    if name == "event_gaps":
        return defect(10)
    (_, events, _, kind), mine = theirs[0].split(), ours[0].split() if ours else [""] * 4
    return defect(7 if kind != mine[3] else 1 if events != mine[1] else 11)
