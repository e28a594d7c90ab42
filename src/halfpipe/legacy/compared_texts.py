"""The texts of two deliveries, line by line, with the reasons for what differs."""

from collections.abc import Iterator, Mapping, Sequence

from halfpipe.formats import evt
from halfpipe.ids import DownlinkId
from halfpipe.legacy.compared_run import ComparedRun
from halfpipe.legacy.comparison_reasons import ORDER, UNEXPLAINED, Finding, Reason, defect
from halfpipe.legacy.comparison_sides import Side
from halfpipe.legacy.legacy_replay import EIGHT_DIGITS

FOLLOWS = Reason("follows", None, "follows from the events that differ")
OUTSIDE = Reason("input", None, "comes from a program of others, by another window of time")
ABSENT = Reason("absent", None, "the other side has this text of no downlink")
ROUNDED = Reason("rounded", None, "the last digit is rounded")
MAGIC7, TIMES, MOOT, RETIRED = "magic7", "event_times", "moot_keys", "retired_runs"
KINDS = (" ATT ", " ORB ")  # of the lines of magic-7
CLOSE = 1.5e-6  # seconds: times are printed with six digits
Texts = Mapping[str, Sequence[str]]  # lines by the names of the texts


def of_whole(here: Texts, there: Texts, side: Side, downlink: DownlinkId) -> Iterator[Finding]:
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


def named(here: Texts, there: Texts) -> set[str]:
    """Return the runs that texts of both sides name, as Level-1 does."""
    return {_run_of(line) for name in _by_run(here, there) for line in (*here[name], *there[name])}


def of_run(
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
