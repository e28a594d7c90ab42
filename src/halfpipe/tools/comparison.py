"""Compare what HalfPipe delivered of a downlink with what another system did: event by event and text by text."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from halfpipe.errors import MissingInputError
from halfpipe.formats import evt
from halfpipe.formats.evt_view import fields
from halfpipe.formats.structured import joined
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.intervals import HIGHEST, Interval, Ranges
from halfpipe.merge.late import listed
from halfpipe.merge.ordering import in_order
from halfpipe.merge.settle import KnownDatagrams
from halfpipe.run.datagrams import known_datagrams
from halfpipe.run.deliveries import Deliveries
from halfpipe.run.downlinks_of_run import known_downlinks
from halfpipe.settings import Settings
from halfpipe.tools import compared_texts
from halfpipe.tools.compared_events import (
    ROW,
    Delivered,
    Difference,
    File,
    Where,
    difference,
    neighbours,
    present,
    series,
)
from halfpipe.tools.compared_texts import OfRun, TextDifference
from halfpipe.tools.comparison_reasons import (
    UNEXPLAINED,
    Facts,
    Reason,
    defect,
    epus_of_legacy,
    why,
    why_other_bytes,
)
from halfpipe.tools.comparison_sides import EVENT_FILE, Here, Known, Side, Stage, Work, side_of

WRAPPED = 2**31  # the first sequence that the legacy could not write into a name
SAME, OTHER, UNLIKE = 0, 1, 3
VERDICTS = {
    SAME: "the same events",
    OTHER: "other events, all explained",
    UNLIKE: "something unexplained",
}
HEADER_OF_MOOT = ("moot_key", "moot_alias")
DOWNLINK_FIELD = "runid"
SHOWN = 80  # characters of a field's value


@dataclass(frozen=True)
class Group:
    """Events that differ for one reason: sequences from `first` to `last`; `where` says on which side they are."""

    run: str
    first: int
    last: int
    events: int
    where: str
    kind: str
    defect: int | None
    text: str


@dataclass(frozen=True)
class Cut:
    """A file of the other side that is none here: the same events may lie in other files."""

    run: str
    file: str
    events: int
    defect: int | None
    text: str


@dataclass(frozen=True)
class HeaderField:
    """A field that is another one in the headers of files of one name: in how many, and what the first one has."""

    field: str
    files: int
    here: str
    there: str
    kind: str
    defect: int | None


@dataclass
class OfRuns:
    """What was found of one run: events on each side and the same on both, and what differs."""

    run: str
    here: int = 0
    there: int = 0
    same: int = 0
    groups: list[Group] = field(default_factory=list)
    cuts: list[Cut] = field(default_factory=list)
    headers: list[HeaderField] = field(default_factory=list)


@dataclass(frozen=True)
class Compared:
    """What was found of a downlink."""

    downlink: str
    runs: tuple[OfRuns, ...]
    texts: tuple[TextDifference, ...]

    @property
    def groups(self) -> list[Group]:
        """All events that differ."""
        return [group for run in self.runs for group in run.groups]

    @property
    def unexplained(self) -> int:
        """How much of what differs has no known reason."""
        kind = UNEXPLAINED.kind
        return (
            sum(group.kind == kind for group in self.groups)
            + sum(one.kind == kind for run in self.runs for one in run.headers)
            + sum(text.reason.kind == kind for text in self.texts)
        )

    @property
    def status(self) -> int:
        """Return 0 for the same events, 1 if all that differs is explained, 3 if something is not."""
        if self.unexplained:
            return UNLIKE
        return OTHER if self.groups else SAME

    @property
    def explained(self) -> int:
        """How many groups of events differ for a known reason."""
        return sum(group.kind != UNEXPLAINED.kind for group in self.groups)

    @property
    def verdict(self) -> str:
        """Say in words how it ended."""
        gone = any(group.kind == "gone" for group in self.groups)
        return "not all can be compared" if gone and not self.unexplained else VERDICTS[self.status]

    def total(self, name: str) -> int:
        """Return how many events of all runs are ``here``, ``there``, or the ``same`` on both sides."""
        return sum(getattr(run, name) for run in self.runs)


def compare(settings: Settings, downlink: DownlinkId, root: Path) -> Compared:
    """Compare a downlink with what lies at `root`.

    Raises
    ------
    MissingInputError
        If nothing of it is found on one of the sides.
    HalfPipeError
        If what is recorded here, or indexes there, cannot be read.
    """
    here = Here(Work(settings.paths.work), Stage(settings.paths.stage))
    if not here.has(downlink):
        raise MissingInputError(
            f"downlink {downlink} has no receipt in {settings.paths.work}, so there is nothing to compare. Process it "
            f"first: snakemake dl={downlink}"
        )
    there = side_of(root, downlink)
    lines = here.texts(downlink), there.texts(downlink)
    found, differing = [], list(compared_texts.of_whole(*lines))
    runs = sorted(here.runs(downlink) | there.runs(downlink))
    for run in runs:
        pair = _Pair(here, there, downlink, run)
        found.append(pair.compared())
        facts = partial(pair.of_texts, bool(found[-1].groups))
        differing += compared_texts.of_run(*lines, run.l1, facts)
        del pair, facts  # before the next run is read
    for name in sorted(compared_texts.named(*lines) - {run.l1 for run in runs}):
        differing += compared_texts.of_run(*lines, name, None)
    return Compared(downlink, tuple(found), tuple(differing))


class _Pair:
    """One run of a downlink on both sides; what is needed for reasons is read when something differs."""

    def __init__(self, here: Here, there: Side, downlink: DownlinkId, run: RunId) -> None:
        self.here, self.there, self.downlink, self.run = here, there, downlink, run
        self.legacy = not isinstance(there, Work)
        self.ours = here.delivered(downlink, run)
        self.theirs = there.delivered(downlink, run)

    def compared(self) -> OfRuns:
        ours, theirs = self.ours, self.theirs
        result = OfRuns(self.run, len(ours.rows), len(theirs.rows))
        if ours.gone or theirs.gone:
            result.groups = [self._gone()]
            return result
        found = difference(ours.rows, theirs.rows)
        result.same = found.same
        result.groups = [
            *self._alone(found.here, ours.rows, Where.HERE),
            *self._alone(found.there, theirs.rows, Where.THERE),
            *self._others(found),
            *self._twice(),
            *self._unread(),
        ]
        result.cuts = list(self._cuts())
        result.headers = list(_headers(ours.files, theirs.files))
        return result

    def _group(self, rows: NDArray[np.void], where: Where, reason: Reason) -> Group:
        first, last = (int(rows["sequence"][0]), int(rows["sequence"][-1])) if len(rows) else (0, 0)
        return Group(self.run, first, last, len(rows), where, *reason)

    def _gone(self) -> Group:
        if self.ours.gone:
            return self._group(self.theirs.rows, Where.THERE, UNEXPLAINED._replace(text=self.ours.gone))
        return self._group(self.ours.rows, Where.HERE, Reason("gone", None, self.theirs.gone))

    def _alone(self, numbers: NDArray[np.intp], rows: NDArray[np.void], where: Where) -> Iterator[Group]:
        """Yield events that are on one side only; events of both sides part groups."""
        if not len(numbers):
            return
        alone = rows[numbers]
        if self.known.gone:
            reason = UNEXPLAINED._replace(text=f"no reason can be sought: {self.known.gone}")
            codes, reasons = np.zeros(len(alone), np.intp), [reason]
        else:
            codes, reasons = why(alone, where, self.facts)
        unknown = np.array([reason.kind == UNEXPLAINED.kind for reason in reasons])
        for part in neighbours(numbers, codes, unknown[codes]):
            yield self._group(alone[part], where, reasons[codes[part.start]])

    def _others(self, found: Difference) -> Iterator[Group]:
        """Yield events that have other bytes, with what differs in the first of those that are not explained."""
        if not len(found.ours):
            return
        numbers: dict[Reason, int] = {}
        codes = np.empty(len(found.ours), np.intp)
        for n, (ours, theirs) in enumerate(zip(found.ours.tolist(), found.theirs.tolist(), strict=True)):
            one, other = self.ours.record(ours), self.theirs.record(theirs)
            copies = partial(self._copies, self.ours.rows[ours])
            reason = why_other_bytes(one, other, copies) if self.legacy else UNEXPLAINED
            codes[n] = numbers.setdefault(reason, len(numbers))
        reasons = list(numbers)
        for part in neighbours(found.ours, codes, codes == numbers.get(UNEXPLAINED, -1)):
            reason = reasons[codes[part.start]]
            if reason == UNEXPLAINED:
                pair = self.ours.record(found.ours[part.start]), self.theirs.record(found.theirs[part.start])
                reason = reason._replace(text=f"other bytes: {_named(*pair)}")
            yield self._group(self.ours.rows[found.ours[part]], Where.BOTH, reason)

    def _copies(self, row: np.void) -> Iterator[bytes]:
        return self.known.copies(int(row["sequence"]), int(row["apid"]))

    def _twice(self) -> Iterator[Group]:
        for side, where in ((self.ours, Where.HERE), (self.theirs, Where.THERE)):
            if side.twice:
                said = UNEXPLAINED._replace(text=f"{side.twice} events were delivered more than once")
                yield self._group(side.rows[:0], where, said)

    def _unread(self) -> Iterator[Group]:
        """Yield files that cannot be read; of the other side's their events are missing there, and that is told."""
        for file in self.ours.files:
            if file.fault:
                yield self._group(self.ours.rows[:0], Where.HERE, UNEXPLAINED._replace(text=file.fault))
        for file in self.theirs.files:
            if file.fault:
                reason = defect(31) if self.legacy else UNEXPLAINED
                yield self._group(self.theirs.rows[:0], Where.THERE, reason._replace(text=file.fault))

    def _cuts(self) -> Iterator[Cut]:
        """Yield the files of the other side that hold other events than any file here, or have another name."""
        ours = {(file.sequences, file.events): file.name for file in self.ours.files}
        files = [file for file in self.theirs.files if not file.fault]
        for number, file in enumerate(files):
            name = ours.get((file.sequences, file.events))
            if name == file.name:
                continue
            after = files[number + 1].sequences.first if number + 1 < len(files) else None
            reason = self._why_cut(file, after) if self.legacy else None
            text = reason.text if reason else "the same events may lie in other files"
            yield Cut(self.run, file.name, file.events, reason.defect if reason else None, text)

    def _why_cut(self, file: File, after: int | None) -> Reason | None:
        first, last = file.sequences
        if first >= WRAPPED and EVENT_FILE.fullmatch(file.name):
            return defect(27)
        if any(first <= upper and lower <= last for upper, lower in self.manifest.get("gaps", ())):
            return defect(4 if epus_of_legacy(self.datagrams.by_apid()) is not None else 9)
        if file.events == 1:
            return defect(28)
        return defect(13) if last == after else None

    def of_texts(self, differs: bool) -> OfRun:
        """Return what the lines of texts follow from."""
        rows = [one for one in (self.theirs.rows, self._there_elsewhere()) if len(one)]
        ends = [int(edge) for part in rows for edge in (part["sequence"].min(), part["sequence"].max())]
        return OfRun(
            differs or self._differed(),
            frozenset(self.datagrams.by_apid()),
            tuple(file.events for file in self.theirs.files),
            len(self.ours.files),
            self._outside(),
            (min(ends), max(ends)) if ends else None,
            self.legacy,
            (self._retired_elsewhere(self.here), self._retired_elsewhere(self.there)),
        )

    def _retired_elsewhere(self, side: Side) -> frozenset[str]:
        """Return the lines by which a side retires the run with other downlinks."""
        others = (
            side.texts(dl).get(compared_texts.RETIRED, []) for dl in self._others_of_run if side.has(dl)
        )
        return frozenset(line for lines in others for line in lines if line.startswith(f"{self.run.l1} "))

    def _outside(self) -> int | None:
        """Return how many known events lie outside all spans of the other side."""
        if self.known.gone:
            return None
        known = self._known_then
        skipped = known["sequence"][~present(known, self.theirs.rows)]
        spans = (*series(self.theirs.rows["sequence"], skipped), *self._bridged())
        inside = np.zeros(len(known), dtype=bool)
        for first, last in spans:
            inside |= (known["sequence"] >= np.uint64(first)) & (known["sequence"] <= np.uint64(last))
        return int((~inside).sum())

    def _differed(self) -> bool:
        """Tell whether other downlinks delivered other events of the run on the two sides."""
        both = [dl for dl in self._others_of_run if self.there.has(dl)]
        here, there = (
            _together([side.delivered(dl, self.run, summed=False).rows for dl in both])
            for side in (self.here, self.there)
        )
        return len(here) != len(there) or not present(here, there).all()

    @cached_property
    def manifest(self) -> dict[str, list[list[int]]]:
        return self.here.work.manifest(self.downlink, self.run) or {}

    @cached_property
    def known(self) -> Known:
        return self.here.work.known(self.run, self.downlink)

    @cached_property
    def _ranges(self) -> Ranges:
        return self.here.datagrams(self.downlink, self.run) or {}

    @cached_property
    def datagrams(self) -> KnownDatagrams:
        """The datagrams that were known when the run was delivered here."""
        return _listed_then(known_datagrams(self.here.work.root, self.run), self._ranges)

    @cached_property
    def _known_then(self) -> NDArray[np.void]:
        return self.known.then(self._ranges)

    @cached_property
    def _others_of_run(self) -> list[DownlinkId]:
        return [dl for dl in known_downlinks(self.here.work.root, self.run) if dl != self.downlink]

    def _there_elsewhere(self) -> NDArray[np.void]:
        return _together(
            [
                self.there.delivered(dl, self.run, summed=False).rows
                for dl in self._others_of_run
                if self.there.has(dl)
            ]
        )

    def _bridged(self) -> tuple[Interval, ...]:
        """Return the spans that the legacy recorded for other downlinks, or must have, as far as is known here."""
        spans: list[Interval] = []
        for dl in self._others_of_run:
            side: Side = self.there if self.there.has(dl) else self.here
            delivered = side.delivered(dl, self.run, summed=False).rows
            ranges = self.here.datagrams(dl, self.run)
            if ranges is not None:
                known = self.known.then(ranges)
                skipped = known["sequence"][~present(known, delivered)]
                spans += series(delivered["sequence"], skipped)
        return tuple(spans)

    @cached_property
    def facts(self) -> Facts:
        deliveries = Deliveries(self.here.work.root, self.run)
        others = [delivery for dl, delivery in deliveries.latest().items() if dl != self.downlink]
        manifest = self.manifest
        return Facts(
            run=self.run,
            datagrams=self.datagrams,
            known=self._known_then,
            settled=tuple(Interval(a, b) for a, b in manifest.get("settled", ())),
            spans=tuple(Interval(a, b) for a, b in manifest.get("spans", ())),
            recorded=tuple(span for delivery in others for span in delivery.spans),
            here_elsewhere=_together(
                [self.here.delivered(delivery.downlink, self.run, summed=False).rows for delivery in others]
            ),
            there_elsewhere=self._there_elsewhere(),
            bridged=self._bridged() if self.legacy else (),
            damaged=_damaged(self.theirs),
            there_known=self.there.datagrams(self.downlink, self.run),
            apids_there=frozenset(np.unique(self.theirs.rows["apid"]).tolist()),
            held=bool(manifest.get("held")),
            given_up=bool(manifest.get("given_up")),
            legacy=self.legacy,
        )


def _listed_then(datagrams: KnownDatagrams, ranges: Ranges) -> KnownDatagrams:
    which = np.flatnonzero(listed(datagrams.rows, ranges))
    return KnownDatagrams(tuple(datagrams.lines[n] for n in which), datagrams.rows[which])


def _together(parts: Sequence[NDArray[np.void]]) -> NDArray[np.void]:
    return in_order(joined([np.empty(0, ROW), *parts]))


def _damaged(delivered: Delivered) -> tuple[Interval, ...]:
    """Return what files that cannot be read may hold: from the first sequence in their names to the next file's."""
    firsts = [file.sequences.first for file in delivered.files]
    ends = [*(first - 1 for first in firsts[1:]), HIGHEST]
    return tuple(
        Interval(first, end)
        for file, first, end in zip(delivered.files, firsts, ends, strict=False)
        if file.fault
    )


def _headers(ours: Sequence[File], theirs: Sequence[File]) -> Iterator[HeaderField]:
    """Yield the fields in which headers differ, of files with the same name and as many events."""
    named = {file.name: file for file in ours}
    pairs = [
        (one.header, other.header)
        for other in theirs
        if (one := named.get(other.name)) is not None
        and (one.events, one.sequences) == (other.events, other.sequences)
        and one.header is not None
        and other.header is not None
    ]
    for name in evt.HEADER.names or ():
        differ = [(a[name], b[name]) for a, b in pairs if not np.array_equal(a[name], b[name])]
        if differ:
            kind, number = "unexplained", None
            if name in HEADER_OF_MOOT:
                empty = all(not b["moot_key"] and not b["moot_alias"] for _, b in pairs)
                kind, number = "defect", 25 if empty else 24
            elif name == DOWNLINK_FIELD:
                kind = "downlink"
            here, there = map(_text, differ[0])
            yield HeaderField(name, len(differ), here, there, kind, number)


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _named(ours: bytes, theirs: bytes) -> str:
    """Name the fields in which two records differ, with the first one's values."""
    one, other = (
        {
            (each.part, each.name): each.value
            for each in fields(_at_a_files_start(record), evt.HEADER_SIZE, "a record")
        }
        for record in (ours, theirs)
    )
    differ = [key for key in one.keys() | other.keys() if str(one.get(key)) != str(other.get(key))]
    order = [key for key in (*one, *(key for key in other if key not in one)) if key in set(differ)]
    part, name = order[0]
    more = f", and {len(order) - 1} more" if len(order) > 1 else ""
    values = (str(side.get(order[0], "nothing"))[:SHOWN] for side in (one, other))
    return f"{part} {name} is {' here, '.join(values)} there{more}"


def _at_a_files_start(record: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(bytes(evt.HEADER_SIZE) + record, np.uint8)
