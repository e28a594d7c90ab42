"""Compare a downlink that HalfPipe delivered with the same downlink from another system, event by event.

A difference is explained only if everything that the other side has of the run is exactly what the legacy's rule gives,
replayed on the datagrams and events that are known here. Everything else needs action.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from io import BytesIO, StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfpipe import paths
from halfpipe.downlink import stage_look
from halfpipe.errors import HalfPipeError, MissingInputError
from halfpipe.formats import evt
from halfpipe.formats.retdef import read_retdef
from halfpipe.ids import DownlinkId, RunId
from halfpipe.legacy.difference_reasons import (
    CUT,
    OTHER_TIMES,
    UNEXPLAINED,
    Decided,
    Reason,
    defect,
    other_bytes,
    present,
    unexplained,
    where_in,
    why,
    why_other_bytes,
    why_text,
)
from halfpipe.legacy.legacy_replay import EPUS, History, is_written
from halfpipe.legacy.replayed import UNMAPPED_KEYS, Expected, Inputs, replayed
from halfpipe.legacy.sides import (
    GONE,
    MAGIC7,
    NOTHING,
    TEXTS,
    TIMES,
    File,
    Side,
    lines_of,
    record_at,
    rows_of,
    side_at,
)
from halfpipe.merge.ordering import in_one
from halfpipe.merge.settle import KnownDatagrams, settled
from halfpipe.run import magic7
from halfpipe.run.receipt_file import read_receipt
from halfpipe.settings import Settings

SAME, OTHER, UNLIKE = 0, 1, 3
EVENTS = "events"
HERE, THERE, BOTH = "here", "there", "both"
MOST_ORDERED = 6  # downlinks of a run whose orders are tried


@dataclass(frozen=True)
class Finding:
    """Something that differs, for one reason.

    Attributes
    ----------
    what
        ``events``, ``files``, ``tokens``, the ``header``, the ``text``, or the ``stage``.
    run
        Empty for all of a text, or of the stage.
    kind, defect, text
        The `Reason`.
    where
        Which side has the events: ``here`` (or the legacy's rule) only, ``there`` only, or ``both`` with other bytes.
    first, last, events
        The first and the last sequence of the events, and how many there are; of files only how many.
    here, there
        The two sides of anything that is not an event.
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
class OfRun:
    """How many events of a run there are here, there, and the same on both sides."""

    run: str
    here: int
    there: int
    same: int


@dataclass(frozen=True)
class Compared:
    """What was found of a downlink."""

    downlink: str
    runs: tuple[OfRun, ...]
    findings: tuple[Finding, ...]

    @property
    def groups(self) -> list[Finding]:
        """All events that differ."""
        return [one for one in self.findings if one.what == EVENTS]

    @property
    def unexplained(self) -> int:
        """How much of what differs has no known reason."""
        return sum(one.kind == UNEXPLAINED.kind for one in self.findings)

    @property
    def status(self) -> int:
        """Return 0 for the same events, 1 if all that differs is explained, 3 if something is not."""
        return UNLIKE if self.unexplained else OTHER if self.groups else SAME


def compare(settings: Settings, downlink: DownlinkId, root: Path) -> Compared:
    """Compare a downlink in the stage with the same downlink below `root`.

    Raises
    ------
    MissingInputError
        If it was not handed off on one of the sides.
    HalfPipeError
        If what is recorded here, or indexes there, cannot be read.
    """
    stage, latc = settings.paths.stage, settings.merge.latc_override
    here, there = side_at(stage, downlink), side_at(root, downlink, latc)
    if here is None:
        raise MissingInputError(
            f"downlink {downlink} is not in {stage}, so there is nothing to compare. Process it, or "
            f"process it again if Level-1 has taken it: snakemake dl={downlink}"
        )
    if there is None:
        raise MissingInputError(
            f"{root}: downlink {downlink} was not handed off there. Expected is a stage or an archive of deliveries "
            f"({root}/{downlink}/r…/r…-e….evt, or {root}/{downlink[:4]}/{downlink}/…), or the tree of the legacy "
            f"({root}/{downlink}/<run>/r…-e….idx)"
        )
    receipt = read_receipt(settings.paths.work, downlink)
    look = stage_look.differences(stage, downlink, receipt, checksums=True, untouched=True)
    wrong = [cause.text for cause in look]
    is_sound = not wrong
    wrong += [f"{path}: not part of a hand-off" for path in _strange(here, there)]
    wrong += [
        f"{path}: this token keeps Level-1 from retiring the run, though the downlink was handed off"
        for side in (here, there)
        for path in (side.stage.glob(paths.halt_cleanup("*", downlink)) if side.stage else ())
    ]
    found = [Finding("stage", "", *unexplained(text)) for text in wrong]
    names = [name for name in TEXTS if there.texts[name] != [GONE]]
    for name in TEXTS:
        if name not in names and not (there.is_tree and name == TIMES):
            found.append(Finding(f"text {name}", "", *unexplained("the text is missing")))
    runs: dict[str, RunId | None] = {
        line.partition(" ")[0]: None for side in (here, there) for name in names for line in side.texts[name]
    }
    known = [RunId(entry["run"]) for entry in receipt["runs"]]
    runs |= {run.l1: run for run in {*known, *here.reads, *there.reads}}
    counts, pairs = [], []
    for l1, run in sorted(runs.items()):
        if run is None:
            lines = [(name, here.lines(name, l1), there.lines(name, l1)) for name in names]
            found += [_of_text(name, l1, UNEXPLAINED, *both) for name, *both in lines if both[0] != both[1]]
            continue
        pair = _Run(settings, Inputs(settings.paths.work, run), downlink, (here, there), root)
        pairs.append(pair)
        found += pair.findings(is_sound=is_sound)
        counts.append(OfRun(run, len(pair.ours.rows), len(pair.theirs.rows), int(pair.same.sum())))
    return Compared(downlink, tuple(counts), (*found, *_magic7(settings, receipt, here, there, pairs)))


def _strange(here: Side, there: Side) -> Iterator[Path]:
    """Yield what is not part of a hand-off there; texts that only HalfPipe writes are, if they are the same here."""
    for name, path in sorted(there.others.items()):
        mine = here.others.get(name)
        if mine is None or not path.is_file() or path.read_bytes() != mine.read_bytes():
            yield path


def _of_text(name: str, l1: str, reason: Reason, ours: Sequence[str], theirs: Sequence[str]) -> Finding:
    return Finding(f"text {name}", l1, *reason, here=" | ".join(ours), there=" | ".join(theirs))


def _magic7(
    settings: Settings, receipt: Mapping[str, Any], here: Side, there: Side, runs: Sequence["_Run"]
) -> Iterator[Finding]:
    """Yield that magic-7 differs. It is explained if the magic-7 command prints it for the times that the legacy takes.

    These are the times of the first known event of the first run, and of the last known event of the last run.
    """
    ours, theirs = here.texts[MAGIC7], there.texts[MAGIC7]
    # HalfPipe makes none if nothing is delivered. The legacy always makes one, and removes it from its tree.
    lacks = theirs == [GONE] and settings.magic7.command and any(pair.chosen.merged for pair in runs)
    if (ours == theirs and not lacks) or (there.is_tree and theirs == [GONE]):
        return
    reason = unexplained("not what the magic-7 command prints for the times that the legacy takes")
    try:
        known = [pair.known["utc"][[0, -1]].tolist() for pair in runs if len(pair.known)]
        chunk = paths.retdef(receipt["downlink"], receipt["chunks"][0]["chunk"])
        retdef = read_retdef(settings.paths.work / chunk)
        words = magic7.command(settings, retdef, (known[0][0], known[-1][1])) if known else []
        with BytesIO() as out:
            if words:
                magic7.write(words, out, StringIO())
                reason = OTHER_TIMES if lines_of(out.getvalue()) == theirs else reason
    except HalfPipeError as error:
        reason = unexplained(f"the magic-7 command, which would show what the legacy had, fails: {error}")
    one, other = (f"{len([*filter(GONE.__ne__, lines)])} lines" for lines in (ours, theirs))
    yield Finding(f"text {MAGIC7}", "", *reason, here=one, there=other)


class _Run:
    """One run of a downlink on both sides."""

    def __init__(
        self, settings: Settings, inputs: Inputs, downlink: DownlinkId, sides: tuple[Side, Side], root: Path
    ) -> None:
        self.settings, self.inputs, self.downlink, self.root = settings, inputs, downlink, root
        self.run, self.sides = inputs.run, sides
        self.here, self.there = sides
        self.ours, self.theirs = (side.delivered(self.run) for side in sides)
        self.chosen = self._as_here()

    def findings(self, *, is_sound: bool) -> Iterator[Finding]:
        """Yield what differs. Nothing is explained unless the files here are as they were delivered."""
        yield from self._unlike_tokens(self.here, self.chosen)
        unlike, cannot = self.unlike(self.chosen), ""
        try:
            for expected in self._replays() if is_sound and (unlike or self.there.is_tree) else ():
                differs = self.unlike(expected)
                first = self.there.is_tree and not self.chosen.merged  # its contents are never ours
                if first or _weight(differs) < _weight(unlike):
                    self.chosen, unlike = expected, differs
                if not unlike:
                    break
        except MissingInputError as error:
            cannot = f"the legacy's rule cannot be replayed, so nothing is explained: {error}"
        if self.theirs.gone:
            yield self._group(self.ours.rows, HERE, Reason("gone", None, self.theirs.gone))
        yield from unlike or self._explained()
        for text in (*self.theirs.wrong, *filter(None, [cannot])):
            yield self._group(NOTHING, THERE, unexplained(text))

    def _group(self, rows: NDArray[np.void], where: str, reason: Reason) -> Finding:
        first, last = (int(rows["sequence"][0]), int(rows["sequence"][-1])) if len(rows) else (0, 0)
        return Finding(EVENTS, self.run, *reason, where=where, first=first, last=last, events=len(rows))

    @cached_property
    def in_ours(self) -> NDArray[np.intp]:
        """Where each event there is among ours, -1 if it is not."""
        return where_in(self.theirs.rows, self.ours.rows)

    @cached_property
    def same(self) -> NDArray[np.bool_]:
        """Which events there are the same here, byte for byte."""
        ours = np.append(self.ours.rows["sum"], 0)[self.in_ours]
        found: NDArray[np.bool_] = (self.in_ours >= 0) & (ours == self.theirs.rows["sum"])
        return found

    @property
    def known(self) -> NDArray[np.void]:
        """The events (dtype `EVENT`) that the legacy knew of the run."""
        merged = self.chosen.merged
        if merged is None and self.downlink in self.inputs.indexes:
            merged = self._as_legacy().merged
        return merged.events if merged else NOTHING

    def _as_here(self) -> Expected:
        """Return what HalfPipe delivered."""
        recorded, rows = self.inputs.recorded, self.ours.rows
        others = {name for dl in recorded.latest() if dl != self.downlink for name in recorded.names(dl)}
        tokens = frozenset(Path(name).stem for name in others)
        lines = {name: [self.here.lines(name, self.run.l1)] for name in TEXTS}
        files = [replace(file, moot=None) if self.there.is_tree else file for file in self.ours.files]
        return Expected(rows, np.zeros(len(rows), bool), files, tokens, lines)

    def _as_legacy(self) -> Expected:
        """Return what the legacy hands off if it processed the downlinks in the same order as HalfPipe."""
        return self.after(History(self.run, self.inputs.parts).after(*self.inputs.order(self.downlink)))

    def after(self, history: History) -> Expected:
        """Return what the legacy hands off of the downlink, which it merged last."""
        return replayed(history, self.downlink, self.inputs, self.there, self.settings.merge)

    def _replays(self) -> Iterator[Expected]:
        """Yield what the legacy hands off: first for the order in which downlinks were processed here.

        Then for other orders, if all downlinks of the run are there. An order counts only if it explains all of them.
        """
        if self.downlink not in self.inputs.indexes:
            return
        yield self._as_legacy()
        new = [dl for dl in self.inputs.indexes if dl not in self.inputs.taken_over]
        sides = {
            dl: side for dl in new if (side := side_at(self.root, dl, self.settings.merge.latc_override))
        }
        if 1 < len(sides) == len(new) <= MOST_ORDERED:
            pairs = {
                dl: _Run(self.settings, self.inputs, dl, (Side({}, {}), side), self.root)
                for dl, side in sides.items()
                if dl != self.downlink
            }
            before = History(self.run, self.inputs.parts).after(*sorted(self.inputs.taken_over))
            yield from self._reordered(before, {**pairs, self.downlink: self})

    def _reordered(
        self, before: History, left: Mapping[DownlinkId, "_Run"], found: Expected | None = None
    ) -> Iterator[Expected]:
        """Yield what the legacy hands off for each order of the downlinks `left` that explains all of them."""
        if found and not left:
            rows = [one.events[one.delivered] for dl, one in before.latest.items() if dl != self.downlink]
            yield replace(found, elsewhere=in_one(rows), reordered=True)
        for downlink, pair in left.items():
            history = before.after(downlink)
            expected = pair.after(history)
            if not pair.unlike(expected):
                rest = {dl: one for dl, one in left.items() if dl != downlink}
                yield from self._reordered(history, rest, expected if pair is self else found)

    def unlike(self, expected: Expected) -> list[Finding]:
        """Return what is there and not as expected."""
        found = [] if self.theirs.gone else [*self._unlike_events(expected)]
        found += [] if found or self.theirs.gone else self._unlike_files(expected)
        if expected.merged and self.theirs.spans not in (None, tuple(expected.merged.recorded)):
            found.append(self._group(NOTHING, THERE, unexplained("the legacy's rule gives other spans")))
        return [*found, *self._unlike_tokens(self.there, expected), *self._unlike_texts(expected)]

    def _unlike_events(self, expected: Expected) -> Iterator[Finding]:
        """Yield events that are missing there, or too many, or have other bytes."""
        rows, theirs = expected.rows, self.theirs.rows
        at = where_in(theirs, rows)
        missing, added = np.flatnonzero(~present(rows, theirs)), np.flatnonzero(at < 0)
        lost = unexplained(f"missing there, though {expected.by} delivers it")
        for part in _stretches(missing, 1):
            yield self._group(rows[missing[part]], HERE, lost)
        for part in _stretches(added, 1):
            yield self._group(theirs[added[part]], THERE, unexplained(f"{expected.by} does not deliver it"))
        changed = np.flatnonzero(self._other_bytes(expected, at))
        for part in _stretches(changed, 1):
            first = int(changed[part.start])
            ours = self.ours.record(int(self.in_ours[first])) if self.in_ours[first] >= 0 else b""
            yield self._group(theirs[changed[part]], BOTH, other_bytes(ours, self.theirs.record(first)))

    def _other_bytes(self, expected: Expected, at: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Tell which events there have other bytes than expected; `at` is their place among the expected ones."""
        found = (at >= 0) & ~self.same
        if expected.merged is None:
            return found
        # The legacy usually copies the same records.
        doubted = np.flatnonzero(found | ((at >= 0) & self.theirs.rows["bare"]))
        known, files, latc = (
            expected.rows[at[doubted]],
            [*self.inputs.files],
            self.settings.merge.latc_override,
        )
        sums = np.zeros(len(known), np.int64)
        for file in np.unique(known["file"]).tolist():
            which = known["file"] == file
            sums[which] = rows_of(files, file, known["offset"][which], latc)["sum"]
        found[doubted] = sums != self.theirs.rows["sum"][doubted]
        for number, row in zip(doubted.tolist(), known, strict=True):
            if found[number] or self.theirs.rows["bare"][number]:
                original = record_at(files[int(row["file"])], int(row["offset"]), latc)
                follows = number and not expected.begins[at[number]] and not self.there.is_tree
                before = self.theirs.record(number - 1) if follows else b""
                found[number] = not is_written(original, before, self.theirs.record(number))
        return found

    def _unlike_files(self, expected: Expected) -> Iterator[Finding]:
        """Yield files, and headers of files, that are not as expected."""
        ours, theirs = ({file.name: file for file in files} for files in (expected.files, self.theirs.files))
        for name in sorted(ours.keys() | theirs.keys()):
            if ours.get(name) != theirs.get(name):
                reason = unexplained(f"{expected.by} gives another file or header")
                yield self._of_files("files", reason, *(_shown(side.get(name)) for side in (ours, theirs)))

    def _of_files(self, what: str, reason: Reason, *sides: str, files: int = 1) -> Finding:
        here, there = sides
        return Finding(what, self.run, *reason, events=files, here=here, there=there)

    def _unlike_tokens(self, side: Side, expected: Expected) -> Iterator[Finding]:
        """Yield tokens of the run that are missing in the stage of a side, and those of no file."""
        if side.stage is None:
            return
        l1, home = self.run.l1, side.stage
        own, every = (Path(paths.tokens(run)) for run in (l1, "*"))
        places = [place for at in (own / "*", every / f"{l1}-*") for place in home.glob(str(at))]
        there = {place.relative_to(home) for place in places}
        needed = {own / Path(file.name).stem for file in expected.files}
        # Other tokens belong to other downlinks: their files are there, or Level-1 took them, or they are in work.
        known = {own / path.stem for path in home.glob(f"*/{l1}/*.evt")} | {
            own / name for name in expected.tokens
        }
        known |= {token for token in there if token.match(paths.halt_cleanup(l1, "*"))}
        wrong = dict.fromkeys(needed - there, "this token is missing")
        wrong |= dict.fromkeys(there - known - needed, "this token belongs to no file of the run")
        for token, what in sorted(wrong.items()):
            yield self._of_files("tokens", unexplained(f"{home / token}: {what}"), "", "")

    def _unlike_texts(self, expected: Expected) -> Iterator[Finding]:
        """Yield the lines of the run that are not as expected, except for missing texts."""
        for name in (name for name in TEXTS if self.there.texts[name] != [GONE]):
            ours, theirs = (side.lines(name, self.run.l1) for side in self.sides)
            if all(sorted(version) != theirs for version in expected.lines[name]):
                reason = unexplained(f"{expected.by} gives other lines")
                yield _of_text(name, self.run.l1, reason, ours, theirs)

    def _explained(self) -> Iterator[Finding]:
        """Yield what is there and not ours. All of it is what the legacy's rule gives."""
        expected, manifest = self.chosen, self.inputs.manifest(self.downlink)
        if expected.merged is None or expected.elsewhere is None:
            return
        latest = self.inputs.recorded.latest()
        datagrams = KnownDatagrams.together(index.datagrams for index in self.inputs.indexes.values())
        decided = Decided(
            expected.merged,
            expected.elsewhere,
            manifest,
            [span for dl, one in latest.items() if dl != self.downlink for span in one.spans],
            settled(datagrams.segments(), EPUS),
            expected.reordered,
        )
        found = (
            [] if self.theirs.gone else [*self._explained_events(decided), *self._explained_files(decided)]
        )
        yield from found
        differs = any(one.what == EVENTS for one in found)
        for name in TEXTS:
            ours, theirs = (side.lines(name, self.run.l1) for side in self.sides)
            if ours != theirs and self.there.texts[name] != [GONE]:
                reason = why_text(name, ours, theirs, decided, differs=differs)
                yield _of_text(name, self.run.l1, reason, ours, theirs)

    def _explained_events(self, decided: Decided) -> Iterator[Finding]:
        ours, theirs = self.ours.rows, self.theirs.rows
        for rows, where in ((ours[~present(ours, theirs)], HERE), (theirs[self.in_ours < 0], THERE)):
            codes, reasons = why(rows, decided, here=where == HERE)
            for part in _stretches(codes, 0):
                yield self._group(rows[part], where, reasons[codes[part.start]])
        other = np.flatnonzero((self.in_ours >= 0) & ~self.same)
        pairs = [(self.ours.record(int(self.in_ours[n])), self.theirs.record(n)) for n in other.tolist()]
        of = [why_other_bytes(*pair) for pair in pairs]
        for part in _stretches(np.array([reason.defect for reason in of]), 0):
            yield self._group(theirs[other[part]], BOTH, of[part.start])

    def _explained_files(self, decided: Decided) -> Iterator[Finding]:
        run = decided.manifest.get("moot", {"key": 0, "alias": ""})
        mine = run["key"], run["alias"].encode()[: evt.ALIAS_LENGTH]
        moots = Counter(file.moot for file in self.theirs.files if file.moot and file.moot != mine)
        for moot, count in moots.items():
            reason = defect(25 if mine[0] == evt.MOOT_UNSET_KEY and moot[0] in UNMAPPED_KEYS else 24)
            here, there = (f"{key} {alias.decode(errors='replace')}" for key, alias in (mine, moot))
            yield self._of_files("header", reason, here, there, files=count)
        known = {(file.name, file.events, file.sequences) for file in self.ours.files}
        other = [f for f in self.theirs.files if (f.name, f.events, f.sequences) not in known]
        here, there = (f"{len(side.files)} files" for side in (self.ours, self.theirs))
        for reason, count in Counter(self._why_cut(file, decided) for file in other).items():
            yield self._of_files("files", reason, here, there, files=count)

    def _why_cut(self, file: File, decided: Decided) -> Reason:
        """Return why the legacy has a file with these events and HalfPipe does not."""
        first, last = file.sequences
        if file.name != paths.event_file(self.run.l1, first):
            return defect(27)
        if any(first <= upper and lower <= last for upper, lower in decided.manifest.get("gaps", ())):
            return defect(4 if decided.merged.kind == "LPA" else 9)
        return defect(28) if file.events == 1 else CUT


def _weight(findings: Sequence[Finding]) -> int:
    """Return how much differs: how many events, files, tokens and lines."""
    return sum(max(1, one.events) for one in findings)


def _shown(file: File | None) -> str:
    return f"{file.name} with {file.events} events, MOOT {file.moot}" if file else ""


def _stretches(values: NDArray[Any], step: int) -> Iterator[slice]:
    """Yield where values follow each other at this distance: 0 for equal codes, 1 for numbers without a hole."""
    cuts = np.flatnonzero(np.diff(values) != step) + 1
    for a, b in pairwise([0, *cuts.tolist(), len(values)]) if len(values) else ():
        yield slice(a, b)
