"""Why the legacy's rule gives other events and texts than HalfPipe: by its defects, and by what was decided here.

A reason proves nothing by itself. `halfpipe compare` states one only if the other side has exactly what the legacy's
rule gives. docs/legacy.md has the numbers of the defects.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from halfpipe.formats import evt
from halfpipe.formats.evt_view import fields
from halfpipe.legacy.legacy_replay import Merged, handlers
from halfpipe.legacy.sides import MOOT_KEYS, RETIRED, TIMES
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
OTHER_TIMES = Reason(
    "times", None, "the legacy has the times of all that is known of the run, not of what is delivered"
)
OTHER_WINDOW = Reason(
    "times", None, "the legacy takes the times of all that is known, not of what is delivered"
)
CUT = Reason("cut", None, "the same events lie in other files")


@dataclass(frozen=True)
class Decided:
    """What the legacy makes of a run, and what was decided here.

    Attributes
    ----------
    merged
        What the legacy's rule makes of the run.
    elsewhere
        Events that other downlinks delivered there, in order.
    manifest
        The manifest of the delivery here; empty without one.
    recorded
        Spans that other downlinks delivered here.
    by_itself
        Where the run would be settled if it had not been abandoned.
    reordered
        Whether the other side processed the downlinks in another order.
    """

    merged: Merged
    elsewhere: NDArray[np.void]
    manifest: Mapping[str, Any]
    recorded: Sequence[Interval] = ()
    by_itself: Sequence[Interval] = ()
    reordered: bool = False


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
    """Return the reason for each event that only ours, or only the legacy's rule gives, as a number into a list.

    The first rule that fits counts.
    """
    rules = _only_here(rows, decided) if here else _only_there(rows, decided)
    masks = [np.broadcast_to(mask, rows.shape) for _, mask in rules]
    return np.select(masks, [np.intp(n) for n in range(len(rules))]), [reason for reason, _ in rules]


def _only_here(rows: NDArray[np.void], decided: Decided) -> list[_Rule]:
    """Return why the other side did not deliver events."""
    merged = decided.merged
    elsewhere = (ELSEWHERE_THERE, present(rows, decided.elsewhere))
    if merged.refused:
        return [elsewhere, (defect(merged.defect), True)]
    at, lpa = where_in(rows, merged.events), merged.kind == "LPA"
    done = np.append(merged.done, False)[at]
    behind = rows["sequence"] > np.uint64(max((span.last for span in merged.spans), default=0))
    return [
        elsewhere,
        (NOT_KNOWN, at < 0),
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
    merged = decided.merged
    settled = [Interval(*pair) for pair in decided.manifest.get("settled", ())]
    of_rule = merged.kind != "LPA" or merged.defect == 34
    return [
        (ELSEWHERE_HERE, inside_any(rows["sequence"], decided.recorded)),
        (HELD, bool(decided.manifest.get("held"))),
        (defect(28), inside_any(rows["sequence"], settled)),
        (defect(merged.defect) if of_rule else ORPHAN, True),
    ]


def why_other_bytes(ours: bytes, theirs: bytes) -> Reason:
    """Return why the legacy writes another record of an event than we do."""
    if [name for _, name in _differ(ours, theirs)] == ["tail"]:
        return defect(30)
    return defect(26 if handlers(ours) == bytes(4) != handlers(theirs) else 34)


def other_bytes(ours: bytes, theirs: bytes) -> Reason:
    """Return that two records of an event differ for no known reason, with the first field; ours may be missing."""
    for (part, name), (mine, other) in _differ(ours, theirs).items() if ours else ():
        return unexplained(f"other bytes: {part} {name} is {mine[:SHOWN]} here, {other[:SHOWN]} there")
    return unexplained("other bytes than by the legacy's rule")


def _differ(ours: bytes, theirs: bytes) -> dict[tuple[str, str], tuple[str, str]]:
    """Return the fields of two records that differ, by their parts and names, with their values."""
    mine, other = (
        {
            (one.part, one.name): str(one.value)
            for one in fields(_in_file(record), evt.HEADER_SIZE, "a record")
        }
        for record in (ours, theirs)
    )
    both = {key: (mine.get(key, "nothing"), other.get(key, "nothing")) for key in mine | other}
    return {key: values for key, values in both.items() if values[0] != values[1]}


def _in_file(record: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(bytes(evt.HEADER_SIZE) + record, np.uint8)


def why_text(
    name: str, ours: Sequence[str], theirs: Sequence[str], decided: Decided, *, differs: bool
) -> Reason:
    """Return why the legacy's lines of one run in a text are not ours.

    Parameters
    ----------
    name, ours, theirs
        The text, our lines and the legacy's, which are not the same.
    decided
        What is known of the run.
    differs
        Whether its events differ.
    """
    merged = decided.merged
    if name == TIMES:
        return OTHER_TIMES
    if name == MOOT_KEYS:
        return defect(25)
    if name == RETIRED and decided.reordered:
        return RETIRED_ELSEWHERE
    if merged.refused:
        return defect(merged.defect)
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
