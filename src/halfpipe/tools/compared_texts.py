"""The texts of two deliveries, line by line, with the reasons for what differs."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from halfpipe.formats import evt
from halfpipe.tools.comparison_reasons import LEGACY_EPUS, UNEXPLAINED, Reason, defect, epus_of_legacy

FOLLOWS = Reason("follows", None, "follows from the events that differ")
OUTSIDE = Reason("input", None, "comes from a program of others, by another window of time")
ORDER = Reason(
    "elsewhere", None, "the other side says it with another downlink: they were processed in another order"
)
MAGIC7, RETIRED = "magic7", "retired_runs"
CLOSE = 2e-6  # seconds: times are printed with six digits


@dataclass(frozen=True)
class OfRun:
    """What the lines of one run follow from.

    Attributes
    ----------
    differs
        Whether its events differ, or differed with another downlink.
    apids
        The EPUs that were known.
    delivered
        Whether something of it was delivered here.
    legacy
        Whether the other side can be the legacy.
    retired_elsewhere
        The lines by which other downlinks retire the run, here and there.
    """

    differs: bool
    apids: frozenset[int]
    delivered: bool
    legacy: bool
    retired_elsewhere: tuple[frozenset[str], frozenset[str]]


@dataclass(frozen=True)
class TextDifference:
    """Lines of a text that differ: of one run as Level-1 names it, or of all of it."""

    text: str
    run: str | None
    here: tuple[str, ...]
    there: tuple[str, ...]
    reason: Reason


Texts = Mapping[str, list[str]]  # lines by the names of the texts


def differences(here: Texts, there: Texts, facts: Callable[[str], OfRun | None]) -> Iterator[TextDifference]:
    """Yield what differs, by text and run; `facts` gives what is known of a run, None if neither side has it."""
    for name in sorted(here.keys() | there.keys()):
        ours, theirs = here.get(name, []), there.get(name, [])
        counted = (f"{len(ours)} lines",), (f"{len(theirs)} lines",)
        if name not in here or name not in there:
            if ours or theirs:
                only = Reason("absent", None, f"only {'here' if ours else 'there'}")
                yield TextDifference(name, None, *counted, only)
        elif name == MAGIC7:
            if ours != theirs:
                yield TextDifference(name, None, *counted, OUTSIDE)
        else:
            for run in sorted({line.split()[0] for line in {*ours, *theirs} if line.strip()}):
                one, other = ([line for line in side if line.split()[:1] == [run]] for side in (ours, theirs))
                if one != other and not (name == "event_times" and _same_times(one, other)):
                    known = facts(run)
                    reason = UNEXPLAINED if known is None else _why(name, one, other, known)
                    yield TextDifference(name, run, tuple(one), tuple(other), reason)


def _same_times(ours: list[str], theirs: list[str]) -> bool:
    try:
        one, other = ([float(word) for line in side for word in line.split()[1:]] for side in (ours, theirs))
    except ValueError:
        return False
    return len(one) == len(other) and all(abs(a - b) < CLOSE for a, b in zip(one, other, strict=True))


def _why(name: str, ours: list[str], theirs: list[str], run: OfRun) -> Reason:
    """Return why the lines of one run differ."""
    lpa = epus_of_legacy(run.apids)
    wrong_epus = run.legacy and lpa is not None and len(lpa) != LEGACY_EPUS
    if name in {"delivered_events", RETIRED} and wrong_epus:
        return defect(3)
    if run.differs:
        return FOLLOWS
    here, there = run.retired_elsewhere
    if name == RETIRED and not (set(ours) - there or set(theirs) - here or (ours and theirs)):
        return ORDER
    if not run.legacy:
        return UNEXPLAINED
    if name == RETIRED and theirs and not ours and not run.delivered:
        return defect(39)
    unset = f"{evt.MOOT_UNSET_KEY} {evt.MOOT_UNSET_ALIAS}"
    if name == "moot_keys" and ours and ours[0].endswith(unset) and all(_no_key(line) for line in theirs):
        return defect(25)
    if name == "event_gaps" and not set(theirs) - set(ours):
        return defect(10)
    if name == "delivered_events" and len(ours) == len(theirs) == 1:
        return _counts(ours[0].split(), theirs[0].split())
    return UNEXPLAINED


def _no_key(line: str) -> bool:
    return line.split()[1:] in ([], ["0"])


def _counts(ours: list[str], theirs: list[str]) -> Reason:
    """Return why counts differ: events, orphans, kind. The legacy counts too few events, and too many orphans."""
    if len(ours) != 4 or len(theirs) != 4 or not all(word.isdecimal() for word in (*ours[1:3], *theirs[1:3])):
        return UNEXPLAINED
    if int(theirs[1]) > int(ours[1]):
        return UNEXPLAINED
    if ours[3] != theirs[3]:
        return defect(7)
    return defect(1 if ours[1] != theirs[1] else 11)
