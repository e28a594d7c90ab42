"""Compare what HalfPipe delivered of a downlink with what another system did: event by event and text by text."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfpipe import paths
from halfpipe.errors import MissingInputError
from halfpipe.files.json_files import read_json
from halfpipe.formats import evt
from halfpipe.ids import DownlinkId, RunId
from halfpipe.legacy.difference_reasons import (
    CUT,
    OUTSIDE,
    RETIRED,
    UNEXPLAINED,
    Decided,
    Reason,
    defect,
    present,
    unexplained,
    where_in,
    why,
    why_other_bytes,
    why_text,
)
from halfpipe.legacy.legacy_replay import EPUS, Merged, merged
from halfpipe.legacy.sides import GONE, MAGIC7, NOTHING, TEXTS, Delivered, File, Side, side_at
from halfpipe.merge.decision import all_known, in_sources
from halfpipe.merge.late import listed
from halfpipe.merge.ordering import in_order
from halfpipe.merge.settle import KnownDatagrams, settled
from halfpipe.run.deliveries import Deliveries
from halfpipe.run.downlinks_of_run import known_downlinks
from halfpipe.run.merged_index import MergedIndex, events_there
from halfpipe.run.receipt_file import read_receipt
from halfpipe.settings import Settings

SAME, OTHER, UNLIKE = 0, 1, 3
EVENTS = "events"
HERE, THERE, BOTH = "here", "there", "both"


@dataclass(frozen=True)
class Finding:
    """Something that differs, for one reason.

    Attributes
    ----------
    what
        ``events``, ``files``, the ``header``, or the ``text``.
    run
        Empty for all of a text.
    kind, defect, text
        The `Reason`.
    where
        On which side events are: ``here`` or ``there`` only, or on ``both`` with other bytes.
    first, last, events
        The first and the last sequence of the events, and how many there are.
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
    """Compare what lies in the stage of a downlink with what lies at `root`.

    Raises
    ------
    MissingInputError
        If it was not handed off on one of the sides.
    HalfPipeError
        If what is recorded here, or indexes there, cannot be read.
    """
    here, there = side_at(settings.paths.stage, downlink), side_at(root, downlink)
    if here is None:
        raise MissingInputError(
            f"downlink {downlink} is not in {settings.paths.stage}, so there is nothing to compare. Process it, or "
            f"process it again if Level-1 has taken it: snakemake dl={downlink}"
        )
    if there is None:
        raise MissingInputError(
            f"{root}: downlink {downlink} was not handed off there. Expected is a stage or an archive of deliveries "
            f"({root}/{downlink}/r…/r…-e….evt, or {root}/{downlink[:4]}/{downlink}/…), or the tree of the legacy "
            f"({root}/{downlink}/<run>/r…-e….idx)"
        )
    counts, found = [], list[Finding]()
    if here.texts[MAGIC7] != there.texts[MAGIC7]:
        one, other = (f"{len([*filter(GONE.__ne__, side.texts[MAGIC7])])} lines" for side in (here, there))
        found.append(Finding(f"text {MAGIC7}", "", *OUTSIDE, here=one, there=other))
    runs: dict[str, RunId | None] = {
        _run_of(line): None for side in (here, there) for name in TEXTS for line in side.texts[name]
    }
    known = [RunId(entry["run"]) for entry in read_receipt(settings.paths.work, downlink)["runs"]]
    runs |= {run.l1: run for run in {*known, *here.reads, *there.reads}}
    for l1, run in sorted(runs.items()):
        pair = _Run(settings, downlink, run, here, there, root) if run else None
        events = list(pair.findings()) if pair else []
        found += events
        counts += [OfRun(pair.run, len(pair.ours.rows), len(pair.theirs.rows), pair.same)] if pair else []
        for name in TEXTS:
            ours, theirs = (
                sorted(line for line in side.texts[name] if _run_of(line) == l1) for side in (here, there)
            )
            if ours != theirs:
                differs = any(one.what == EVENTS for one in events)
                reason = pair.why_text(name, ours, theirs, differs=differs) if pair else UNEXPLAINED
                one, other = (" | ".join(lines) for lines in (ours, theirs))
                found.append(Finding(f"text {name}", l1, *reason, here=one, there=other))
    return Compared(downlink, tuple(counts), tuple(found))


def _run_of(line: str) -> str:
    return line.partition(" ")[0]


class _Run:
    """One run of a downlink on both sides; what is known of it here is read when it is asked for."""

    same = 0

    def __init__(
        self, settings: Settings, downlink: DownlinkId, run: RunId, here: Side, there: Side, root: Path
    ) -> None:
        self.work, self.stage, self.root = settings.paths.work, settings.paths.stage, root
        self.downlink, self.run = downlink, run
        self.ours, self.theirs = here.delivered(run), there.delivered(run)
        manifest = self.work / paths.manifest(run, downlink)
        self.manifest: Mapping[str, Any] = dict(read_json(manifest)) if manifest.exists() else {}
        self.others = [dl for dl in known_downlinks(self.work, run) if dl != downlink]

    def findings(self) -> Iterator[Finding]:
        """Yield what differs, and count what is the same."""
        ours, theirs = self.ours.rows, self.theirs.rows
        if self.theirs.gone:
            yield self._group(ours, HERE, Reason("gone", None, self.theirs.gone))
            return
        at = where_in(ours, theirs)
        both = np.flatnonzero(at >= 0)
        other = both[ours["sum"][both] != theirs["sum"][at[both]]]
        self.same = len(both) - len(other)
        yield from self._alone(np.flatnonzero(at < 0), ours, HERE)
        yield from self._alone(np.flatnonzero(~present(theirs, ours)), theirs, THERE)
        yield from self._other_bytes(other, at[other])
        for side, where in ((self.ours, HERE), (self.theirs, THERE)):
            yield from (self._group(NOTHING, where, unexplained(text)) for text in side.wrong)
        if len(again := theirs[present(theirs, self.elsewhere)]):
            yield self._group(again, THERE, unexplained("delivered with another downlink, too"))
        yield from self._headers()
        yield from self._cuts()

    def _group(self, rows: NDArray[np.void], where: str, reason: Reason) -> Finding:
        first, last = (int(rows["sequence"][0]), int(rows["sequence"][-1])) if len(rows) else (0, 0)
        return Finding(EVENTS, self.run, *reason, where=where, first=first, last=last, events=len(rows))

    def _alone(self, numbers: NDArray[np.intp], rows: NDArray[np.void], where: str) -> Iterator[Finding]:
        """Yield events that are on one side only."""
        if not len(numbers):
            return
        codes, reasons = why(rows[numbers], self.decided, here=where == HERE)
        for part, reason in _neighbours(numbers, codes, reasons):
            yield self._group(rows[numbers[part]], where, reason)

    def _other_bytes(self, ours: NDArray[np.intp], theirs: NDArray[np.intp]) -> Iterator[Finding]:
        """Yield events that have other bytes; of those that are not explained the first one says what differs."""
        found = [self._why_bytes(*pair) for pair in zip(ours.tolist(), theirs.tolist(), strict=True)]
        kinds = list(dict.fromkeys(reason[:2] for reason in found))
        codes = np.array([kinds.index(reason[:2]) for reason in found], np.intp)
        for part, _ in _neighbours(ours, codes, [Reason(*kind, "") for kind in kinds]):
            yield self._group(self.ours.rows[ours[part]], BOTH, found[part.start])

    def _why_bytes(self, ours: int, theirs: int) -> Reason:
        before = self.theirs.record(theirs - 1) if theirs else b""
        return why_other_bytes(self.ours.record(ours), self.theirs.record(theirs), before)

    def _headers(self) -> Iterator[Finding]:
        """Yield the MOOT keys and aliases of headers there that are not those of the run."""
        moot = self.manifest.get("moot", {"key": 0, "alias": ""})
        run = (moot["key"], moot["alias"].encode()[: evt.ALIAS_LENGTH])
        moots = (_moot(file.header) for file in self.theirs.files if file.header is not None)
        others = Counter(moot for moot in moots if moot != run)
        if not others:
            return
        chunks = {_moot(evt.read_header(path)) for path in self.known[1]}
        for has, files in others.items():
            unset = (run[0], *has) == (evt.MOOT_UNSET_KEY, 0, b"")
            reason = defect(24) if has in chunks else defect(25) if unset else UNEXPLAINED
            here, there = (f"{key} {alias.decode(errors='replace')}" for key, alias in (run, has))
            yield Finding("header", self.run, *reason, events=files, here=here, there=there)

    def _cuts(self) -> Iterator[Finding]:
        """Yield that the same events lie in other files there, by reason."""
        here, there = (f"{len(side.files)} files" for side in (self.ours, self.theirs))
        cut = Counter(self._why_cut(file) for file in self.theirs.files if file not in self.ours.files)
        for reason, files in cut.items():
            yield Finding("files", self.run, *reason, events=files, here=here, there=there)

    def _why_cut(self, file: File) -> Reason:
        first, last = file.sequences
        if file.name != Path(paths.event_file(self.run.l1, first)).name:
            return defect(27)
        if any(first <= upper and lower <= last for upper, lower in self.manifest.get("gaps", ())):
            return defect(4 if self.manifest["kind"] == "LPA" else 9)
        return defect(28) if file.events == 1 else CUT

    def why_text(self, name: str, ours: list[str], theirs: list[str], *, differs: bool) -> Reason:
        """Return why the lines of the run in a text differ; `differs` says whether its events do."""
        moved = name == RETIRED and self._moved(set(ours), set(theirs))
        return why_text(name, ours, theirs, self.decided, differs=differs, moved=moved)

    def _moved(self, ours: set[str], theirs: set[str]) -> bool:
        """Tell whether other downlinks retire the run on the side that does not."""
        here, there = (
            {line for side in sides.values() for line in side.texts[RETIRED]} for sides in self.sides
        )
        return ours - theirs <= there and theirs - ours <= here and not (theirs - ours) & there

    @cached_property
    def indexes(self) -> Mapping[DownlinkId, MergedIndex]:
        """What each downlink has made known here."""
        return {dl: MergedIndex.read(self.work, self.run, dl) for dl in known_downlinks(self.work, self.run)}

    @cached_property
    def known(self) -> tuple[Mapping[DownlinkId, NDArray[np.void]], Collection[Path]]:
        """The events that each downlink brought here, as far as they were not cleaned up, and their evt files."""
        files: dict[Path, int] = {}
        every = {dl: events_there(self.work, dl, index, files) for dl, index in self.indexes.items()}
        return {dl: events for dl, events in every.items() if events is not None}, files

    @cached_property
    def sides(self) -> tuple[Mapping[DownlinkId, Side], Mapping[DownlinkId, Side]]:
        """What lies here, and there, of the run's other downlinks."""
        here, there = (
            {dl: side for dl in self.others if (side := side_at(root, dl))}
            for root in (self.stage, self.root)
        )
        return here, there

    @cached_property
    def there(self) -> dict[DownlinkId, Delivered]:
        """What other downlinks delivered of the run there."""
        return {dl: side.delivered(self.run) for dl, side in self.sides[1].items()}

    @cached_property
    def elsewhere(self) -> NDArray[np.void]:
        """All events of these, in order."""
        return in_order(np.concatenate([NOTHING, *(one.rows for one in self.there.values())]))

    @cached_property
    def decided(self) -> Decided:
        """What is known of the run and was decided here.

        The legacy's rule is replayed on what was known here then, on all that is known now, and on what the downlink
        brought itself.
        """
        parts = {dl: index.datagrams for dl, index in self.indexes.items()}
        ranges = {int(apid): pairs for apid, pairs in self.manifest.get("datagrams", {}).items()}
        then = [dl for dl in self.others if listed(parts[dl].rows, ranges).any()]
        replays = [self._replayed(parts, others) for others in (then, self.others, [])]
        off = [_off(one.events[one.delivered], self.theirs.rows) for one in replays]
        nearest = [one for one, events in zip(replays, off, strict=True) if events == min(off)]
        # After a merge that refused the run the files of an earlier one are left.
        nearest += [one for one in replays if one.refused]
        latest = Deliveries(self.work, self.run).latest()
        recorded = [span for dl in self.others if dl in latest for span in latest[dl].spans]
        by_itself = settled(KnownDatagrams.together(parts.values()).segments(), EPUS)
        known = all_known(list(self.known[0]), self.known[0])
        return Decided(self.run, known, nearest, self.elsewhere, self.manifest, recorded, by_itself)

    def _replayed(self, parts: Mapping[DownlinkId, KnownDatagrams], others: Sequence[DownlinkId]) -> Merged:
        names = in_sources(self.downlink, others)
        done = [file.sequences for dl in others if dl in self.there for file in self.there[dl].files]
        return merged(
            self.run, [parts[dl] for dl in names if dl in parts], all_known(names, self.known[0]), done
        )


def _neighbours(
    numbers: NDArray[np.intp], codes: NDArray[np.intp], reasons: Sequence[Reason]
) -> Iterator[tuple[slice, Reason]]:
    """Yield rows of one reason that follow each other; of what is unexplained nothing may lie between them."""
    if not len(numbers):
        return
    unknown = np.array([reason.kind == UNEXPLAINED.kind for reason in reasons], bool)[codes]
    cut = (codes[1:] != codes[:-1]) | (unknown[1:] & (np.diff(numbers) != 1))
    for a, b in pairwise([0, *(np.flatnonzero(cut) + 1).tolist(), len(numbers)]):
        yield slice(a, b), reasons[codes[a]]


def _off(rows: NDArray[np.void], others: NDArray[np.void]) -> int:
    """Return how many events are on one side only."""
    return int((~present(rows, others)).sum() + (~present(others, rows)).sum())


def _moot(header: np.void) -> tuple[int, bytes]:
    return int(header["moot_key"]), bytes(header["moot_alias"])
