"""Compare what HalfPipe delivered of a downlink with what another system did: event by event and text by text."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from halfpipe.errors import MissingInputError
from halfpipe.formats import evt
from halfpipe.formats.structured import joined
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.decision import listed
from halfpipe.merge.intervals import HIGHEST, Interval, Ranges
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
    File,
    Where,
    difference,
    neighbours,
    present,
    series,
)
from halfpipe.tools.compared_texts import OfRun, TextDifference
from halfpipe.tools.comparison_reasons import UNEXPLAINED, Facts, Reason, defect, why, why_other_bytes
from halfpipe.tools.comparison_sides import Known, Side, Stage, Work, side_of

SAME, OTHER, UNLIKE = 0, 1, 3
VERDICTS = {
    SAME: "the same events",
    OTHER: "other events, all explained",
    UNLIKE: "something unexplained",
}
HEADER_OF_MOOT = ("moot_key", "moot_alias")


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
class HeaderField:
    """A field that differs in the headers of files of one name: in how many, and what the first one has."""

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
        kinds = [
            *(group.kind for group in self.groups),
            *(header.kind for run in self.runs for header in run.headers),
            *(text.reason.kind for text in self.texts),
        ]
        return kinds.count(UNEXPLAINED.kind)

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
    here = Work(settings.paths.work, Stage(settings.paths.stage))
    if not here.has(downlink):
        raise MissingInputError(
            f"downlink {downlink} has no receipt in {settings.paths.work}, so there is nothing to compare. Process it "
            f"first: snakemake dl={downlink}"
        )
    there = side_of(root, downlink)
    found = {
        run.l1: _Pair(here, there, downlink, run).compared()
        for run in sorted(here.runs(downlink) | there.runs(downlink))
    }

    def facts(name: str) -> OfRun | None:
        result = found.get(name)
        return _Pair(here, there, downlink, RunId.from_l1(name)).of_texts(result) if result else None

    texts = compared_texts.differences(here.texts(downlink), there.texts(downlink), facts)
    return Compared(downlink, tuple(found.values()), tuple(texts))


class _Pair:
    """One run of a downlink on both sides; what is needed for reasons is read when something differs."""

    def __init__(self, here: Work, there: Side, downlink: DownlinkId, run: RunId) -> None:
        self.here, self.there, self.downlink, self.run = here, there, downlink, run
        self.legacy = not isinstance(there, Work)

    @cached_property
    def ours(self) -> Delivered:
        return self.here.delivered(self.downlink, self.run)

    @cached_property
    def theirs(self) -> Delivered:
        return self.there.delivered(self.downlink, self.run)

    def compared(self) -> OfRuns:
        ours, theirs = self.ours, self.theirs
        result = OfRuns(self.run, len(ours.rows), len(theirs.rows))
        if ours.gone:
            result.groups = [self._group(theirs.rows, Where.THERE, UNEXPLAINED._replace(text=ours.gone))]
        elif theirs.gone:
            result.groups = [self._group(ours.rows, Where.HERE, Reason("gone", None, theirs.gone))]
        else:
            found = difference(ours.rows, theirs.rows)
            result.same = found.same
            result.groups = [
                *self._alone(found.here, ours.rows, Where.HERE),
                *self._alone(found.there, theirs.rows, Where.THERE),
                *self._others(found.ours, found.theirs),
                *self._faults(ours, Where.HERE, UNEXPLAINED),
                *self._faults(theirs, Where.THERE, defect(31) if self.legacy else UNEXPLAINED),
            ]
            result.headers = list(_headers(ours.files, theirs.files))
        return result

    def _group(self, rows: NDArray[np.void], where: Where, reason: Reason) -> Group:
        first, last = (int(rows["sequence"][0]), int(rows["sequence"][-1])) if len(rows) else (0, 0)
        return Group(self.run, first, last, len(rows), where, *reason)

    def _alone(self, numbers: NDArray[np.intp], rows: NDArray[np.void], where: Where) -> Iterator[Group]:
        """Yield events that are on one side only."""
        if not len(numbers):
            return
        alone = rows[numbers]
        if self.known.gone:
            reason = UNEXPLAINED._replace(text=f"no reason can be sought: {self.known.gone}")
            codes, reasons = np.zeros(len(alone), np.intp), [reason]
        else:
            codes, reasons = why(alone, where, self.facts)
        yield from self._groups(rows, numbers, codes, reasons, where)

    def _others(self, ours: NDArray[np.intp], theirs: NDArray[np.intp]) -> Iterator[Group]:
        """Yield events that have other bytes."""
        numbers: dict[Reason, int] = {}
        codes = np.empty(len(ours), np.intp)
        for n, (one, other) in enumerate(zip(ours.tolist(), theirs.tolist(), strict=True)):
            row = self.ours.rows[one]
            copies = partial(self.known.copies, int(row["sequence"]), int(row["apid"]))
            records = self.ours.record(one), self.theirs.record(other)
            reason = why_other_bytes(*records, copies) if self.legacy else UNEXPLAINED
            codes[n] = numbers.setdefault(reason, len(numbers))
        reasons = [
            reason._replace(text="other bytes") if reason == UNEXPLAINED else reason for reason in numbers
        ]
        yield from self._groups(self.ours.rows, ours, codes, reasons, Where.BOTH)

    def _groups(
        self,
        rows: NDArray[np.void],
        numbers: NDArray[np.intp],
        codes: NDArray[np.intp],
        reasons: Sequence[Reason],
        where: Where,
    ) -> Iterator[Group]:
        """Yield events that follow each other for one reason; what is unexplained only without others between."""
        unknown = np.array([reason.kind == UNEXPLAINED.kind for reason in reasons], bool)
        for part in neighbours(numbers, codes, unknown[codes]):
            yield self._group(rows[numbers[part]], where, reasons[codes[part.start]])

    def _faults(self, side: Delivered, where: Where, unread: Reason) -> Iterator[Group]:
        """Yield what was delivered more than once, and files that cannot be read: their events are missing."""
        if side.twice:
            text = f"{side.twice} events were delivered more than once"
            yield self._group(side.rows[:0], where, UNEXPLAINED._replace(text=text))
        for file in side.files:
            if file.fault:
                yield self._group(side.rows[:0], where, unread._replace(text=file.fault))

    def of_texts(self, result: OfRuns) -> OfRun:
        """Return what the lines of texts follow from."""
        return OfRun(
            bool(result.groups) or self._differed(),
            frozenset(self.datagrams.by_apid()),
            bool(result.here),
            self.legacy,
            (self._retired_elsewhere(self.here), self._retired_elsewhere(self.there)),
        )

    def _retired_elsewhere(self, side: Side) -> frozenset[str]:
        """Return the lines by which a side retires the run with other downlinks."""
        others = (
            side.texts(dl).get(compared_texts.RETIRED, []) for dl in self._others_of_run if side.has(dl)
        )
        return frozenset(line for lines in others for line in lines if line.startswith(f"{self.run.l1} "))

    def _differed(self) -> bool:
        """Tell whether other downlinks delivered other events of the run on the two sides."""
        both = [dl for dl in self._others_of_run if self.there.has(dl)]
        here, there = (self._delivered(side, both) for side in (self.here, self.there))
        return len(here) != len(there) or not present(here, there).all()

    def _delivered(self, side: Side, downlinks: Sequence[DownlinkId]) -> NDArray[np.void]:
        """Return the events that downlinks delivered of the run, in order."""
        parts = [side.delivered(dl, self.run, summed=False).rows for dl in downlinks if side.has(dl)]
        return in_order(joined([np.empty(0, ROW), *parts]))

    @cached_property
    def manifest(self) -> dict[str, list[list[int]]]:
        return self.here.manifest(self.downlink, self.run) or {}

    @cached_property
    def known(self) -> Known:
        return Known(self.here.root, self.run, self.downlink)

    @cached_property
    def _ranges(self) -> Ranges:
        return self.here.datagrams(self.downlink, self.run) or {}

    @cached_property
    def datagrams(self) -> KnownDatagrams:
        """The datagrams that were known when the run was delivered here."""
        known = known_datagrams(self.here.root, self.run)
        which = np.flatnonzero(listed(known.rows, self._ranges))
        return KnownDatagrams(tuple(known.lines[n] for n in which), known.rows[which])

    @cached_property
    def _others_of_run(self) -> list[DownlinkId]:
        return [dl for dl in known_downlinks(self.here.root, self.run) if dl != self.downlink]

    def _bridged(self) -> tuple[Interval, ...]:
        """Return the spans that the legacy recorded for other downlinks, or must have, as far as is known here."""
        spans: list[Interval] = []
        for dl in self._others_of_run:
            ranges = self.here.datagrams(dl, self.run)
            if ranges is not None:
                delivered = self._delivered(self.there if self.there.has(dl) else self.here, [dl])
                known = self.known.then(ranges)
                spans += series(delivered["sequence"], known["sequence"][~present(known, delivered)])
        return tuple(spans)

    @cached_property
    def facts(self) -> Facts:
        deliveries = Deliveries(self.here.root, self.run)
        others = [delivery for dl, delivery in deliveries.latest().items() if dl != self.downlink]
        manifest = self.manifest
        return Facts(
            run=self.run,
            datagrams=self.datagrams,
            known=self.known.then(self._ranges),
            settled=tuple(Interval(a, b) for a, b in manifest.get("settled", ())),
            spans=tuple(Interval(a, b) for a, b in manifest.get("spans", ())),
            recorded=tuple(span for delivery in others for span in delivery.spans),
            here_elsewhere=self._delivered(self.here, [delivery.downlink for delivery in others]),
            there_elsewhere=self._delivered(self.there, self._others_of_run),
            bridged=self._bridged() if self.legacy else (),
            damaged=_damaged(self.theirs),
            there_known=self.there.datagrams(self.downlink, self.run),
            apids_there=frozenset(np.unique(self.theirs.rows["apid"]).tolist()),
            held=bool(manifest.get("held")),
            given_up=bool(manifest.get("given_up")),
            legacy=self.legacy,
        )


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
    named = {(file.name, file.events, file.sequences): file.header for file in ours}
    both = [(named.get((file.name, file.events, file.sequences)), file.header) for file in theirs]
    pairs = [(one, other) for one, other in both if one is not None and other is not None]
    for name in evt.HEADER.names or ():
        differ = [(a[name], b[name]) for a, b in pairs if not np.array_equal(a[name], b[name])]
        if differ:
            kind, number = UNEXPLAINED.kind, None
            if name in HEADER_OF_MOOT:
                empty = all(not b["moot_key"] and not b["moot_alias"] for _, b in pairs)
                kind, number = "defect", 25 if empty else 24
            elif name == "runid":  # where an event file has its downlink
                kind = "downlink"
            here, there = map(_text, differ[0])
            yield HeaderField(name, len(differ), here, there, kind, number)


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
