"""The texts of two deliveries, line by line, with the reasons for what differs."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate

from halfpipe.formats import evt
from halfpipe.ids import RunKind
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
        Whether its events differ, or differed with an earlier downlink.
    apids
        The EPUs that were known.
    files
        Events in each file of the other side, in order.
    here
        How many files were delivered here.
    outside
        How many of the known events lie outside the spans of the other side; None if that is not known.
    reached
        The first and last sequence that the other side delivered of the run, with this or another downlink.
    legacy
        Whether the other side can be the legacy.
    retired_elsewhere
        The lines by which other downlinks retire the run, here and there.
    """

    differs: bool
    apids: frozenset[int]
    files: tuple[int, ...]
    here: int
    outside: int | None
    reached: tuple[int, int] | None
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


def of_whole(here: Texts, there: Texts) -> Iterator[TextDifference]:
    """Yield the texts that only one side has, and what does not go by runs."""
    for name in sorted(here.keys() | there.keys()):
        ours, theirs = here.get(name, []), there.get(name, [])
        counted = (f"{len(ours)} lines",), (f"{len(theirs)} lines",)
        if name not in here or name not in there:
            if ours or theirs:
                only = Reason("absent", None, f"only {'here' if ours else 'there'}")
                yield TextDifference(name, None, *counted, only)
        elif name == MAGIC7 and ours != theirs:
            yield TextDifference(name, None, *counted, OUTSIDE)


def named(here: Texts, there: Texts) -> set[str]:
    """Return the runs that texts of both sides name, as Level-1 does."""
    return {_run_of(line) for name in _by_run(here, there) for line in (*here[name], *there[name])}


def of_run(
    here: Texts, there: Texts, run: str, facts: Callable[[], OfRun] | None
) -> Iterator[TextDifference]:
    """Yield the lines of one run that differ; `facts` is asked only then, None if neither side has the run."""
    for name in _by_run(here, there):
        ours, theirs = ([line for line in side[name] if _run_of(line) == run] for side in (here, there))
        if ours != theirs and not _same_times(name, ours, theirs):
            reason = UNEXPLAINED if facts is None else _why(name, ours, theirs, facts())
            yield TextDifference(name, run, tuple(ours), tuple(theirs), reason)


def _by_run(here: Texts, there: Texts) -> list[str]:
    return sorted((here.keys() & there.keys()) - {MAGIC7})


def _run_of(line: str) -> str:
    return (line.split() or [""])[0]


def _same_times(name: str, ours: list[str], theirs: list[str]) -> bool:
    if name != "event_times" or len(ours) != len(theirs):
        return False
    try:
        pairs = [
            (float(a), float(b))
            for one, other in zip(ours, theirs, strict=True)
            for a, b in zip(one.split()[1:], other.split()[1:], strict=True)
        ]
    except ValueError:
        return False
    return all(abs(a - b) < CLOSE for a, b in pairs)


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
    if name == RETIRED and theirs and not ours and not run.here:
        return defect(39)
    unset = f"{evt.MOOT_UNSET_KEY} {evt.MOOT_UNSET_ALIAS}"
    if (
        name == "moot_keys"
        and ours[0:1]
        and ours[0].endswith(unset)
        and all(_no_key(line) for line in theirs)
    ):
        return defect(25)
    if name == "event_gaps":
        return _gaps(ours, theirs, run)
    if name == "delivered_events" and len(ours) == len(theirs) == 1:
        return _counts(ours[0].split(), theirs[0].split(), run)
    return UNEXPLAINED


def _no_key(line: str) -> bool:
    return line.split()[1:] in ([], ["0"])


def _counts(ours: list[str], theirs: list[str], run: OfRun) -> Reason:
    """Return why counts differ: events, orphans, kind."""
    if len(ours) != 4 or len(theirs) != 4:
        return UNEXPLAINED
    other_kind = ours[3] != theirs[3]
    if other_kind and (theirs[3] == RunKind.LPA) != (epus_of_legacy(run.apids) is not None):
        return UNEXPLAINED
    last_files = {str(total) for total in accumulate(reversed(run.files))}
    if ours[1] != theirs[1] and theirs[1] not in last_files:
        return UNEXPLAINED
    if ours[2] != theirs[2] and theirs[2] != str(run.outside):
        return UNEXPLAINED
    return defect(7 if other_kind else 1 if ours[1] != theirs[1] else 11)


def _gaps(ours: list[str], theirs: list[str], run: OfRun) -> Reason:
    """Return why gaps differ: those that only one side reports must be such as the legacy does not report, or again."""
    if set(theirs) - set(ours) or run.reached is None:
        return UNEXPLAINED
    first, last = run.reached
    for line in set(ours) - set(theirs):
        words = line.split()
        if len(words) != 3 or (int(words[1]) >= first and int(words[2]) <= last):
            return UNEXPLAINED
    return defect(10)
