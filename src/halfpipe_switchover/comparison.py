"""Compare a downlink that HalfPipe delivered with the same downlink from another system, event by event.

A difference is explained only if the other side's whole delivery of the run is exactly what the legacy's rule gives,
replayed on the datagrams and events that are known here. Everything else needs action. A reason is not a proof: it only
names the rule. docs/switch-over/legacy.md has the numbers of the defects.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO, StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from halfpipe import paths
from halfpipe.deliver import magic7
from halfpipe.errors import HalfPipeError, MissingInputError
from halfpipe.formats.idx import Events, Sequenced
from halfpipe.formats.retdef import read_retdef
from halfpipe.ids import DownlinkId
from halfpipe.merge.decision import inside_any
from halfpipe.merge.late_events import listed
from halfpipe.merge.ordering import in_one
from halfpipe.settings import Settings
from halfpipe.staging import stage_look
from halfpipe.state.hand_offs import HandOff, current
from halfpipe_switchover.legacy_replay import EIGHT_DIGITS, Merged, defect_of_copy, is_written, replay
from halfpipe_switchover.replayed import Expected, Inputs, expected_of
from halfpipe_switchover.sides import (
    GONE,
    MAGIC7,
    NOTHING,
    TEXTS,
    TIMES,
    Delivered,
    Side,
    lines_of,
    record_at,
    rows_of,
    side_at,
)

SAME = 0
OTHER = 1
UNLIKE = 3
EVENTS = "events"
HERE = "here"
THERE = "there"
BOTH = "both"


class Reason(NamedTuple):
    """Why something differs: a kind, the number of a defect of the legacy, and a text."""

    kind: str
    defect: int | None
    text: str


DEFECTS: Mapping[int, str] = {
    3: "the legacy delivers nothing of an LPA run without exactly two EPUs",
    4: "the legacy's span bridges a hole, and events that arrive there later are lost",
    7: "the legacy takes the spans of an LCI run from one of its APIDs",
    9: "the legacy's span of an LCI run bridges every gap, and events that arrive there later are lost",
    26: "the legacy gives an event without handlers those of the event before it",
    30: "the legacy does not copy the last two bytes of the info of an LCI_CAL event",
    34: "the legacy takes another copy of the event",
    35: "the legacy finds no files of a run that started before MET 268435456",
}
ELSEWHERE = Reason("elsewhere", None, "delivered with another downlink, or not known there at the time")
SPANS = Reason("spans", None, "outside the spans that the legacy finds (its defects 5, 6, 16, 20, 22, 34)")
WAITS = Reason("waits", None, "not delivered here: halfpipe explain RUN:SEQUENCE shows why")
NOT_OURS = Reason("unexplained", None, "no chunk here has the bytes that are here")
LOST = Reason("unexplained", None, "missing here, though the record of the delivery covers it")
MIXED = Reason(
    "unexplained", None, "HalfPipe's delivery, though other runs are as the legacy's rule gives them"
)
RULE = Reason("rule", None, "what the legacy's rule gives")


def _defect(number: int) -> Reason:
    return Reason("defect", number, DEFECTS[number])


def _unexplained(text: str) -> Reason:
    return Reason("unexplained", None, text)


@dataclass(frozen=True)
class Finding:
    """A difference with one reason.

    Attributes
    ----------
    what
        ``events``, ``files``, ``tokens``, ``text`` with the name of a text, or ``stage``.
    run
        Empty for a whole text, or for the stage.
    kind, defect, text
        The `Reason`.
    where
        Which side has the events: only ``here`` (or the legacy's rule), only ``there``, or ``both`` with other bytes.
    first, last, events
        The first and the last sequence of the events, and how many there are.
    here, there
        What each side has, for anything but events.
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


@dataclass(frozen=True)
class RunCounts:
    """The number of events of a run here, there, and identical on both sides."""

    run: str
    here: int
    there: int
    same: int


@dataclass(frozen=True)
class Compared:
    """The result for one downlink."""

    downlink: str
    runs: tuple[RunCounts, ...]
    findings: tuple[Finding, ...]

    @property
    def groups(self) -> list[Finding]:
        """All events that differ."""
        return [one for one in self.findings if one.what == EVENTS]

    @property
    def unexplained(self) -> int:
        """How many findings have no known reason."""
        return sum(one.kind == "unexplained" for one in self.findings)

    @property
    def status(self) -> int:
        """0 for the same events, 1 if all differences are explained, 3 if something is not explained."""
        return UNLIKE if self.unexplained else OTHER if self.groups else SAME


def compare(settings: Settings, downlink: DownlinkId, root: Path) -> Compared:
    """Compare a downlink in the stage with the same downlink below `root`.

    Raises
    ------
    MissingInputError
        If it was not handed off on one of the sides.
    HalfPipeError
        If records here, or indexes there, cannot be read.
    """
    stage = settings.paths.stage
    if (here := side_at(stage, downlink)) is None:
        raise MissingInputError(
            f"downlink {downlink} is not in {stage}, so there is nothing to compare. Process it, or "
            f"process it again if Level-1 has taken it: snakemake dl={downlink}"
        )
    if (there := side_at(root, downlink, settings.merge.latc_override)) is None:
        raise MissingInputError(
            f"{root}: downlink {downlink} was not handed off there. Expected is a stage or an archive of deliveries "
            f"({root}/{downlink}/r…/r…-e….evt, or {root}/{downlink[:4]}/{downlink}/…), or the tree of the legacy "
            f"({root}/{downlink}/<run>/r…-e….idx)"
        )
    handed = current(settings.paths.work, downlink)
    staged = stage_look.look(stage, downlink, checksums=True)
    tokens = stage_look.tokens_of(stage, handed)
    problems = [cause.text for cause in stage_look.differences(staged, handed, tokens)]
    is_sound = not problems
    problems += [f"{path}: not part of a hand-off" for path in _foreign(here, there)]
    halts = there.stage.glob(paths.halt_cleanup("*", downlink)) if there.stage else ()
    problems += [f"{path}: this token keeps Level-1 from retiring the run" for path in halts]
    names = [name for name in TEXTS if there.texts[name] != [GONE]]
    missing = [name for name in TEXTS if name not in names and not (name == TIMES and there.is_tree)]
    problems += [f"text {name}: missing" for name in missing]
    findings = [Finding("stage", "", *_unexplained(text)) for text in problems]
    keys = {one.run: one.delivery.moot for one in handed.runs}
    known = {*here.runs, *there.runs, *keys}
    inputs = [Inputs(settings.paths.work, run, keys.get(run)) for run in sorted(known)]
    runs = [_Run(settings, of_run, downlink, (here, there), root) for of_run in inputs]
    for run in runs:
        findings += run.findings(is_sound=is_sound)
    if any(run.nearest.merged for run in runs):
        findings += [run.group(NOTHING, BOTH, MIXED) for run in runs if run.is_only_ours()]
    for name in names:
        ours, theirs = (side.lines_but(name, {run.l1 for run in known}) for side in (here, there))
        if ours != theirs:
            findings.append(_of_text(name, "", _unexplained("lines of other runs"), ours, theirs))
    findings += _magic7(settings, handed, here, there, runs)
    counts = (RunCounts(r.run, len(r.ours.rows), len(r.theirs.rows), int(r.same.sum())) for r in runs)
    return Compared(downlink, tuple(counts), tuple(findings))


def _foreign(here: Side, there: Side) -> Iterator[Path]:
    """Yield files that are not part of a hand-off. Texts that only HalfPipe writes are allowed if both sides agree."""
    for name, path in sorted(there.others.items()):
        mine = here.others.get(name)
        if mine is None or not path.is_file() or path.read_bytes() != mine.read_bytes():
            yield path


def _of_text(name: str, run: str, reason: Reason, ours: Sequence[str], theirs: Sequence[str]) -> Finding:
    return Finding(f"text {name}", run, *reason, here=" | ".join(ours), there=" | ".join(theirs))


def _magic7(
    settings: Settings, handed: HandOff, here: Side, there: Side, runs: Sequence["_Run"]
) -> Iterator[Finding]:
    """Yield a difference in the magic-7 text. It is explained if the program prints that text for the legacy's times.

    These are the times of the first known event of the first run, and of the last known event of the last run.
    """
    ours = here.texts[MAGIC7]
    theirs = there.texts[MAGIC7]
    # HalfPipe writes none if nothing is delivered. The legacy writes one, but removes it from its tree.
    needed = ours == [GONE] and any(run.nearest.merged for run in runs)
    if (ours == theirs and not needed) or (there.is_tree and theirs == [GONE]):
        return
    try:
        known = [run.known.utc[[0, -1]].tolist() for run in runs if len(run.known)]
        retdef = paths.retdef(handed.receipt.downlink, handed.receipt.chunks[0].chunk)
        window = (known[0][0], known[-1][1]) if known else (0, 0)
        words = magic7.command(settings, read_retdef(settings.paths.work / retdef), window)
        reason = _unexplained("not what the magic-7 command prints for the times that the legacy takes")
        if known and words:
            out = BytesIO()
            magic7.write(words, out, StringIO())
            reason = RULE if lines_of(out.getvalue()) == theirs else reason
        elif ours == theirs:
            return
    except HalfPipeError as error:
        reason = _unexplained(f"the magic-7 command, which would show what the legacy had, fails: {error}")
    counts = [f"{len([*filter(GONE.__ne__, lines)])} lines" for lines in (ours, theirs)]
    yield Finding(f"text {MAGIC7}", "", *reason, here=counts[0], there=counts[1])


class _Run:
    """One run of a downlink on both sides.

    Attributes
    ----------
    nearest
        The expected hand-off that fits the other side best.
    in_ours
        The index of each event there among ours; -1 if we do not have it.
    same
        Whether each event there is the same here, byte for byte.
    """

    def __init__(
        self, settings: Settings, inputs: Inputs, downlink: DownlinkId, sides: tuple[Side, Side], root: Path
    ) -> None:
        self.settings = settings
        self.inputs = inputs
        self.downlink = downlink
        self.root = root
        self.run = inputs.run
        self.sides = sides
        self.there = sides[1]
        self.ours, self.theirs = (side.runs.get(self.run, Delivered()) for side in sides)
        self.in_ours = where_in(self.theirs.rows, self.ours.rows)
        ours = np.append(self.ours.rows.digest, 0)[self.in_ours]
        self.same = (self.in_ours >= 0) & (ours == self.theirs.rows.digest)
        self.nearest = self._as_here()

    def findings(self, *, is_sound: bool) -> Iterator[Finding]:
        """Yield the differences. None is explained unless the files here are unchanged since their delivery."""
        unlike = self.unlike(self.nearest)
        problems = list(self.theirs.wrong)
        try:
            for merges in self._histories() if is_sound and (unlike or self.there.is_tree) else ():
                expected = expected_of(merges, self.downlink, self.inputs, self.there, self.settings.merge)
                differs = self.unlike(expected)
                first = self.there.is_tree and not self.nearest.merged  # a tree never has HalfPipe's hand-off
                if first or _weight(differs) < _weight(unlike):
                    self.nearest = expected
                    unlike = differs
                if not unlike:
                    break
        except MissingInputError as error:
            problems.append(f"the legacy's rule cannot be replayed, so nothing is explained: {error}")
        if self.theirs.gone:
            yield self.group(self.ours.rows, HERE, Reason("gone", None, self.theirs.gone))
        yield from unlike or self._explained()
        for text in problems:
            yield self.group(NOTHING, THERE, _unexplained(text))

    def is_only_ours(self) -> bool:
        """Return whether the other side has HalfPipe's own hand-off, which the legacy's rule does not give."""
        if self.nearest.merged or self.there.is_tree or self.theirs.gone:
            return False
        try:
            rules = [
                expected_of(merges, self.downlink, self.inputs, self.there, self.settings.merge)
                for merges in self._histories()
            ]
        except MissingInputError:
            return False
        return bool(rules) and all(self.unlike(rule) for rule in rules)

    def group(self, rows: Sequenced, where: str, reason: Reason) -> Finding:
        first, last = (int(rows.sequence[0]), int(rows.sequence[-1])) if len(rows) else (0, 0)
        return Finding(EVENTS, self.run, *reason, where=where, first=first, last=last, events=len(rows))

    @property
    def known(self) -> Events:
        """The events of the run that the legacy knew."""
        merged = self.nearest.merged
        if merged is None and self.downlink in self.inputs.indexes:
            merged = dict(next(self._histories()))[self.downlink]
        return merged.events if merged else Events.zeros(0)

    def _as_here(self) -> Expected:
        """Return HalfPipe's own hand-off."""
        recorded = self.inputs.recorded
        rows = self.ours.rows
        others = {name for dl in recorded.latest() if dl != self.downlink for name in recorded.names(dl)}
        tokens = frozenset(Path(name).stem for name in others)
        lines = {name: [self.sides[0].lines(name, self.run.l1)] for name in TEXTS}
        files = [replace(file, moot=None) if self.there.is_tree else file for file in self.ours.files]
        return Expected(rows, np.zeros(len(rows), bool), files, tokens, lines)

    def _histories(self) -> Iterator[list[tuple[DownlinkId, Merged]]]:
        """Yield possible merges of the other side: in the order of hand-offs here, then in the order there."""
        if self.downlink in self.inputs.indexes:
            for order in (self.inputs.order, self.inputs.order_there(self.root, self.downlink)):
                yield replay(self.run, self.inputs.parts, order)

    def unlike(self, expected: Expected) -> list[Finding]:
        """Return all differences between the other side and the expected hand-off."""
        found = [] if self.theirs.gone else [*self._unlike_events(expected)]
        reason = _unexplained(f"{expected.by} gives another file or header")
        found += [] if found or self.theirs.gone else self._unlike_files(expected, reason)
        if expected.merged and self.theirs.spans not in (None, tuple(expected.merged.recorded)):
            found.append(self.group(NOTHING, THERE, _unexplained("the legacy's rule gives other spans")))
        texts = self._unlike_texts(expected, _unexplained(f"{expected.by} gives other lines"))
        return [*found, *self._unlike_tokens(expected), *texts]

    def _unlike_texts(self, expected: Expected, reason: Reason) -> Iterator[Finding]:
        """Yield texts that the other side has, and whose lines of the run are not as expected."""
        for name in TEXTS:
            ours, theirs = (side.lines(name, self.run.l1) for side in self.sides)
            if self.there.texts[name] != [GONE] and theirs not in map(sorted, expected.lines[name]):
                yield _of_text(name, self.run.l1, reason, ours, theirs)

    def _unlike_events(self, expected: Expected) -> Iterator[Finding]:
        """Yield events that are missing, unexpected, or different."""
        rows = expected.rows
        theirs = self.theirs.rows
        at = where_in(theirs, rows)
        for of, numbers, where, text in (
            (rows, np.flatnonzero(where_in(rows, theirs) < 0), HERE, "missing there, though {} delivers it"),
            (theirs, np.flatnonzero(at < 0), THERE, "{} does not deliver it"),
            (theirs, np.array(self._changed(expected, at), np.intp), BOTH, "other bytes than {} delivers"),
        ):
            for part in _stretches(numbers, 1):
                yield self.group(of[numbers[part]], where, _unexplained(text.format(expected.by)))

    def _changed(self, expected: Expected, at: NDArray[np.intp]) -> list[int]:
        """Return the indices of events there with unexpected bytes; `at` has their places among the expected events."""
        rows = self.theirs.rows
        if not isinstance(expected.rows, Events):
            return np.flatnonzero((at >= 0) & ~self.same).tolist()
        changed: list[int] = []
        files = [*self.inputs.files]
        # Records that equal ours need no check, unless they may have the handlers of another event.
        for number in np.flatnonzero((at >= 0) & (~self.same | rows.bare)).tolist():
            place = files[expected.rows.file[at[number]]]
            original = record_at(
                place, int(expected.rows.offset[at[number]]), self.settings.merge.latc_override
            )
            follows = number and not expected.begins[at[number]] and not self.there.is_tree
            before = self.theirs.record(number - 1) if follows else b""
            if not is_written(original, before, self.theirs.record(number)):
                changed.append(number)
        return changed

    def _unlike_files(self, expected: Expected, reason: Reason) -> Iterator[Finding]:
        """Yield files, and headers of files, that are not as expected."""
        ours, theirs = ({file.name: file for file in files} for files in (expected.files, self.theirs.files))
        for name in sorted(ours.keys() | theirs.keys()):
            if ours.get(name) != theirs.get(name):
                here, there = (str(side.get(name, "")) for side in (ours, theirs))
                yield Finding("files", self.run, *reason, here=here, there=there)

    def _unlike_tokens(self, expected: Expected) -> Iterator[Finding]:
        """Yield tokens of the run that are missing there, and tokens without a file."""
        if (home := self.there.stage) is None:
            return
        l1 = self.run.l1
        own, every = (Path(paths.tokens(run)) for run in (l1, "*"))
        places = [place for at in (own / "*", every / f"{l1}-*") for place in home.glob(str(at))]
        there = {place.relative_to(home) for place in places}
        needed = {own / Path(file.name).stem for file in expected.files}
        # Other tokens belong to other downlinks: files in the stage, files that Level-1 took, downlinks in progress.
        known = needed | {own / path.stem for path in home.glob(f"*/{l1}/*.evt")}
        known |= {own / name for name in expected.tokens}
        known |= {token for token in there if token.match(paths.halt_cleanup(l1, "*"))}
        for token in sorted((needed - there) | (there - known)):
            what = "is missing" if token in needed else "has no file"
            yield Finding("tokens", self.run, *_unexplained(f"{home / token}: this token {what}"))

    def _explained(self) -> Iterator[Finding]:
        """Yield the differences between both sides: the other side is what the legacy's rule gives.

        A difference is the legacy's only if our side is what our own chunks and our own record of the delivery say.
        """
        merged = self.nearest.merged
        elsewhere = self.nearest.elsewhere
        if merged is None or elsewhere is None:
            return
        here = self._as_here()
        if not self.theirs.gone:
            yield from self._explained_events(merged, elsewhere)
            yield from self._unlike_files(here, RULE)
        yield from self._unlike_texts(here, RULE)

    def _explained_events(self, merged: Merged, elsewhere: Events) -> Iterator[Finding]:
        ours = self.ours.rows
        theirs = self.theirs.rows
        only_here = np.flatnonzero(where_in(ours, theirs) < 0)
        is_lpa = merged.kind == "LPA"
        rows = ours[only_here]
        at = where_in(rows, merged.events)
        rules = [
            (NOT_OURS, ~self._as_decoded(only_here)),
            (ELSEWHERE, (at < 0) | (where_in(rows, elsewhere) >= 0)),
            (_defect(35 if self.run.met < EIGHT_DIGITS else 3), np.full(len(rows), merged.refused)),
            (_defect(4 if is_lpa else 9), np.append(merged.done, False)[at]),
        ]
        yield from self._by_rule(rows, HERE, rules, SPANS if is_lpa else _defect(7))
        rows = theirs[self.in_ours < 0]
        latest = self.inputs.recorded.latest()
        spans = [span for dl, one in latest.items() if dl != self.downlink for span in one.spans]
        rules = [(ELSEWHERE, inside_any(rows.sequence, spans)), (LOST, self._recorded_here(rows))]
        yield from self._by_rule(rows, THERE, rules, WAITS)
        other = np.flatnonzero((self.in_ours >= 0) & ~self.same)
        records = [self.ours.record(number) for number in self.in_ours[other].tolist()]
        numbers = np.array([defect_of_copy(record) for record in records], int)
        numbers[~self._as_decoded(self.in_ours[other])] = 0
        for part in _stretches(numbers, 0):
            number = int(numbers[part.start])
            yield self.group(theirs[other[part]], BOTH, _defect(number) if number else NOT_OURS)

    def _as_decoded(self, numbers: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Tell for some of our events whether a chunk here has the same bytes."""
        found = np.zeros(len(self.ours.rows), bool)
        for part in self.inputs.parts.values():
            at = where_in(self.ours.rows[numbers], part.events)
            mine = numbers[at >= 0]
            copies = part.events[at[at >= 0]]
            for file in np.unique(copies.file).tolist():
                of_file = copies.file == file
                offsets = copies.offset[of_file]
                latc = self.settings.merge.latc_override
                sums = rows_of([*self.inputs.files], file, offsets, latc).digest
                found[mine[of_file]] |= sums == self.ours.rows.digest[mine[of_file]]
        return found[numbers]

    def _recorded_here(self, rows: Sequenced) -> NDArray[np.bool_]:
        """Tell for events that we do not have whether our delivery knew them, and covers their sequences."""
        made = self.inputs.recorded.latest().get(self.downlink)
        known = in_one([Events.zeros(0), *(part.events for part in self.inputs.parts.values())])
        at = where_in(rows, known)
        if made is None or not len(known):
            return np.zeros(len(rows), bool)
        return (at >= 0) & listed(known[at], made.datagrams) & inside_any(rows.sequence, made.spans)

    def _by_rule(
        self,
        rows: Sequenced,
        where: str,
        rules: Sequence[tuple[Reason, NDArray[np.bool_]]],
        otherwise: Reason,
    ) -> Iterator[Finding]:
        """Yield events in groups; the first rule that fits is the reason."""
        reasons, masks = zip(*rules, strict=True)
        codes = np.select(masks, range(len(rules)), len(rules))
        for part in _stretches(codes, 0):
            yield self.group(rows[part], where, (*reasons, otherwise)[codes[part.start]])


def where_in(rows: Sequenced, among: Sequenced) -> NDArray[np.intp]:
    """Return the index in `among` of each event of `rows`, or -1; `among` must have each event once."""
    one, other = (pd.DataFrame({"sequence": of.sequence, "apid": of.apid}) for of in (rows, among))
    found = one.merge(other.reset_index(names="at"), how="left")
    return np.array(found["at"].fillna(-1), np.intp)


def _weight(findings: Sequence[Finding]) -> int:
    """Return the number of events, files, tokens and lines that differ."""
    return sum(max(1, one.events) for one in findings)


def _stretches(values: NDArray[Any], step: int) -> Iterator[slice]:
    """Yield slices in which each value is the previous one plus `step`."""
    cuts = np.flatnonzero(np.diff(values) != step) + 1
    for a, b in pairwise([0, *cuts.tolist(), len(values)]) if len(values) else ():
        yield slice(a, b)
