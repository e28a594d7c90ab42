"""Compare what HalfPipe delivered of a downlink with what another system did: event by event and text by text."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfpipe.errors import MissingInputError
from halfpipe.formats import evt
from halfpipe.formats.evt_view import fields
from halfpipe.formats.structured import joined
from halfpipe.ids import DownlinkId, RunId
from halfpipe.legacy import compared_texts
from halfpipe.legacy.candidates import Candidate, Inputs
from halfpipe.legacy.compared_events import (
    ROW,
    Difference,
    File,
    Where,
    difference,
    neighbours,
    present,
    series,
    where_in,
)
from halfpipe.legacy.compared_texts import OfRun, TextDifference
from halfpipe.legacy.comparison_reasons import (
    LATC,
    TAIL,
    UNEXPLAINED,
    Constant,
    Facts,
    Reason,
    defect,
    handlers_of,
    info_type,
    why,
    why_other_bytes,
)
from halfpipe.legacy.comparison_sides import EVENT_FILE, Here, Known, LegacyTree, Side, Stage, Work, side_of
from halfpipe.legacy.legacy_replay import EIGHT_DIGITS, WRAPPED, lines_that_count, number_in_name
from halfpipe.merge.intervals import Interval
from halfpipe.merge.ordering import in_order
from halfpipe.merge.settle import KnownDatagrams
from halfpipe.run.datagrams import load_datagrams
from halfpipe.run.deliveries import Deliveries
from halfpipe.run.downlinks_of_run import known_downlinks
from halfpipe.settings import Settings

SAME, OTHER, UNLIKE = 0, 1, 3
VERDICTS = {
    SAME: "the same events",
    OTHER: "other events, all explained",
    UNLIKE: "something unexplained",
}
HEADER_OF_MOOT = ("moot_key", "moot_alias")
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
        If nothing of it is found on one of the sides, or the legacy has not handed it off.
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
    found, differing = [], list(compared_texts.of_whole(*lines, there, downlink))
    runs = sorted(here.runs(downlink) | there.runs(downlink))
    for run in runs:
        pair = _Pair(settings, here, there, downlink, run)
        found.append(pair.compared())
        differing += compared_texts.of_run(*lines, run.l1, partial(pair.of_texts, bool(found[-1].groups)))
        del pair  # before the next run is read
    for name in sorted(compared_texts.named(*lines) - {run.l1 for run in runs}):
        differing += compared_texts.of_run(*lines, name, None)
    return Compared(downlink, tuple(found), tuple(differing))


class _Pair:
    """One run of a downlink on both sides."""

    def __init__(self, settings: Settings, here: Here, there: Side, downlink: DownlinkId, run: RunId) -> None:
        self.settings, self.here, self.there, self.downlink, self.run = settings, here, there, downlink, run
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
            *self._wrong(),
        ]
        result.cuts = list(self._cuts())
        result.headers = list(self._headers())
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
            codes, reasons = why(alone, where, self.nearest[0], self.facts)
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
            reason = self._why_bytes(self.ours.rows[ours : ours + 1], one, other)
            codes[n] = numbers.setdefault(reason, len(numbers))
        reasons = list(numbers)
        unknown = np.array([reason.kind == UNEXPLAINED.kind for reason in reasons])
        for part in neighbours(found.ours, codes, unknown[codes]):
            reason = reasons[codes[part.start]]
            if reason.kind == UNEXPLAINED.kind:
                pair = self.ours.record(found.ours[part.start]), self.theirs.record(found.theirs[part.start])
                words = "" if reason == UNEXPLAINED else f"{reason.text}; "
                reason = reason._replace(text=f"{words}other bytes: {_named(*pair)}")
            yield self._group(self.ours.rows[found.ours[part]], Where.BOTH, reason)

    def _why_bytes(self, row: NDArray[np.void], ours: bytes, theirs: bytes) -> Reason:
        given = next((one for one in self.nearest if one.merged), None) if not self.known.gone else None
        at = -1 if given is None else int(where_in(row, given.known)[0])
        if given is None or at < 0:
            return UNEXPLAINED
        copy = self.known.record(given.known[at])
        handlers = self._handlers_before(given, at)
        return why_other_bytes(ours, theirs, copy, handlers, self._constant, lambda: self._good(row))

    def _handlers_before(self, given: Candidate, at: int) -> bytes:
        """Return the handlers that the legacy's record still has from the events before one in a merged index."""
        assert given.merged is not None
        written = int(given.delivered[:at].sum())
        begin = next((a for a, b in given.merged.series if a <= written < b), written)
        for number in range(written - 1, begin - 1, -1):
            if number in self._without_handlers:
                continue
            if handlers := handlers_of(self.known.record(given.written[number])):
                return handlers
            self._without_handlers.add(number)
        return b""

    @cached_property
    def _without_handlers(self) -> set[int]:
        return set()

    def _good(self, row: NDArray[np.void]) -> Iterator[bytes]:
        latc = self.settings.merge.latc_override
        for copy in self.known.copies(int(row["sequence"][0]), int(row["apid"][0])):
            lpa = latc is not None and info_type(copy) == evt.InfoType.LPA
            yield copy[: LATC.start] + (latc or 0).to_bytes(4, "little") + copy[LATC.stop :] if lpa else copy

    @cached_property
    def _constant(self) -> Constant:
        """What the most of the events there have where the legacy may put something in."""
        found: dict[int, Counter[bytes]] = {evt.InfoType.LPA: Counter(), evt.InfoType.LCI_CAL: Counter()}
        where = {int(evt.InfoType.LPA): LATC, int(evt.InfoType.LCI_CAL): TAIL}
        for number in range(len(self.theirs.rows)):
            record = self.theirs.record(number)
            if (kind := info_type(record)) in where:
                found[kind][record[where[kind]]] += 1
        most = [values.most_common(1) for values in found.values()]
        # Of a single event nobody can tell an override from garbage.
        return Constant(*(best[0][0] if best and best[0][1] > 1 else None for best in most))

    def _wrong(self) -> Iterator[Group]:
        """Yield what contradicts itself, and events that were delivered more than once."""
        for side, where in ((self.ours, Where.HERE), (self.theirs, Where.THERE)):
            said = [f"{side.twice} events were delivered more than once"] if side.twice else []
            for text in (*said, *side.wrong):
                yield self._group(side.rows[:0], where, UNEXPLAINED._replace(text=text))
            other = self.here_elsewhere if where is Where.HERE else self.there_elsewhere
            again = side.rows.take(np.flatnonzero(present(side.rows, other)))
            if len(again):
                twice = UNEXPLAINED._replace(text="delivered with another downlink, too")
                yield self._group(again, where, twice)
        if isinstance(self.there, LegacyTree) and not self.known.gone:
            for text in self._records(self.there):
                yield self._group(self.theirs.rows[:0], Where.THERE, UNEXPLAINED._replace(text=text))

    def _records(self, tree: LegacyTree) -> Iterator[str]:
        """Yield what the legacy's tree has beside its merged indexes that its rule does not give."""
        index = tree.lines(self.downlink, self.run)
        orders = [lines_that_count(self.inputs.parts(order)).lines for order in self.inputs.orders()]
        if self.run.met >= EIGHT_DIGITS and (index is None or index.lines not in orders):
            yield f"{self.run.l1}: its index of datagrams is not what the downlinks that are known here give"
        actions: dict[tuple[int, int], set[tuple[str, str]]] = {}
        for part in self.inputs.datagrams.values():
            for apid, number, opening, closing in part.rows[
                ["apid", "datagram", "oaction", "caction"]
            ].tolist():
                actions.setdefault((apid, number), set()).add((opening.decode(), closing.decode()))
        known = {row[:2]: row[2] for row in self.known.rows[["sequence", "apid", "datagram"]].tolist()}
        for sequence, apid, datagram, how in tree.said(self.downlink, self.run):
            if known.get((sequence, apid)) != datagram or how not in actions.get((apid, datagram), ()):
                yield f"{self.run.l1}: its merged index has event {sequence} in another datagram than its chunk"
        given = [one for one in self.nearest if one.merged is not None]
        spans = tree.spans(self.downlink, self.run) or ()
        if given and all(spans != one.merged.recorded for one in given if one.merged):
            yield f"{self.run.l1}: recorded are the spans {list(map(tuple, spans))}, not what its rule gives"
        yield from compared_texts.of_records(tree.records(self.downlink, self.run), self.run.l1, self.nearest)

    def _cuts(self) -> Iterator[Cut]:
        """Yield the files of the other side that hold other events than any file here, or have another name."""
        ours = {(file.sequences, file.events): file.name for file in self.ours.files}
        files = [file for file in self.theirs.files if file.events]
        for number, file in enumerate(files):
            if ours.get((file.sequences, file.events)) == file.name:
                continue
            after = files[number + 1].sequences.first if number + 1 < len(files) else None
            reason = self._why_cut(file, after) if self.legacy and not self.known.gone else None
            text = reason.text if reason else "the same events may lie in other files"
            yield Cut(self.run, file.name, file.events, reason.defect if reason else None, text)

    def _why_cut(self, file: File, after: int | None) -> Reason | None:
        """Return by which defect a file is cut so, if the legacy's rule gives it."""
        first, last = file.sequences
        for given in self.nearest:
            if given.merged is None or not any(
                one.number in {first, number_in_name(first)} and one.end - one.begin == file.events
                for one in given.merged.files
            ):
                continue
            if first >= WRAPPED and EVENT_FILE.fullmatch(file.name):
                return defect(27)
            if any(first <= upper and lower <= last for upper, lower in self.manifest.get("gaps", ())):
                return defect(4 if given.merged.kind == "LPA" else 9)
            return defect(28) if file.events == 1 else defect(13) if last == after else None
        return None

    def _headers(self) -> Iterator[HeaderField]:
        """Yield the MOOT key and alias of headers that are not those of the run."""
        moot = self.manifest.get("moot")
        if moot is None:
            return
        right = evt.pack_header(
            runid=0,
            seconds=(0, 0),
            sequences=(0, 0),
            events=0,
            moot_key=moot["key"],
            moot_alias=moot["alias"],
        )
        run = np.frombuffer(right, evt.HEADER)[0]
        for where, side in ((Where.HERE, self.ours), (Where.THERE, self.theirs)):
            chunks = self._moot_of_chunks() if where is Where.THERE and self.legacy else {}
            for name in HEADER_OF_MOOT:
                by: dict[int | None, list[np.void]] = {}
                for file in side.files:
                    if file.header is not None and file.header[name] != run[name]:
                        number = _moot_defect(file.header, run, chunks.get(file.name))
                        by.setdefault(number, []).append(file.header[name])
                for number, found in by.items():
                    here, there = (found[0], run[name]) if where is Where.HERE else (run[name], found[0])
                    kind = "defect" if number else UNEXPLAINED.kind
                    yield HeaderField(name, len(found), _text(here), _text(there), kind, number)

    def _moot_of_chunks(self) -> dict[str, np.void]:
        """Return by the name of a file there the header of the chunk that the legacy opened last for it."""
        given = None if self.known.gone else next((one for one in self.nearest if one.merged), None)
        found: dict[str, np.void] = {}
        if given is None or given.merged is None:
            return found
        files = [file for file in self.theirs.files if file.header is not None]
        for a, b in given.merged.series:
            opened: set[int] = set()
            series = given.written[a:b]
            first, last = int(series["sequence"][0]), int(series["sequence"][-1])
            begin = 0
            for file in (one for one in files if first <= one.sequences.first <= last):
                part = series["place"][begin : begin + file.events].tolist()
                opened.update(part[:1])  # before the file, which has the key of the run then
                new = [place for place in dict.fromkeys(part) if place not in opened]
                if new:
                    found[file.name] = evt.read_header(self.known.places[new[-1]])
                opened.update(new)
                begin += file.events
        return found

    def of_texts(self, differs: bool) -> OfRun:
        """Return what the lines of texts follow from."""
        here, there = (
            tuple((int(rows[n]["sequence"]), int(rows[n]["apid"])) for n in ((0, -1) if len(rows) else ()))
            for rows in (self.ours.rows, self.theirs.rows)
        )
        return OfRun(
            () if self.known.gone else self.nearest,
            differs or self._differed(),
            (here, there),
            (self._retired_elsewhere(self.here), self._retired_elsewhere(self.there)),
            bool(self.manifest.get("given_up")),
            self.legacy,
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
        here, there = (
            _together([side.delivered(dl, self.run, summed=False).rows for dl in both])
            for side in (self.here, self.there)
        )
        return len(here) != len(there) or not present(here, there).all()

    @cached_property
    def manifest(self) -> dict[str, Any]:
        return self.here.work.manifest(self.downlink, self.run) or {}

    @cached_property
    def known(self) -> Known:
        return self.here.work.known(self.run, self.downlink)

    @cached_property
    def _others_of_run(self) -> list[DownlinkId]:
        return [dl for dl in known_downlinks(self.here.work.root, self.run) if dl != self.downlink]

    @cached_property
    def here_elsewhere(self) -> NDArray[np.void]:
        return self._elsewhere(self.here)

    @cached_property
    def there_elsewhere(self) -> NDArray[np.void]:
        return self._elsewhere(self.there)

    def _elsewhere(self, side: Side) -> NDArray[np.void]:
        others = [dl for dl in self._others_of_run if side.has(dl)]
        return _together([side.delivered(dl, self.run, summed=False).rows for dl in others])

    @cached_property
    def inputs(self) -> Inputs:
        """What is known here of the run and could be known there."""
        work = self.here.work.root
        downlinks = known_downlinks(work, self.run)
        return Inputs(
            self.run,
            self.downlink,
            self.known.parts,
            {dl: load_datagrams(work, self.run, dl) for dl in downlinks},
            self.here.datagrams(self.downlink, self.run) or {},
            {dl: self._recorded_there(dl) for dl in self._others_of_run},
            self.settings.merge,
        )

    def _recorded_there(self, dl: DownlinkId) -> tuple[Interval, ...]:
        """Return the spans that another downlink recorded there, or must have, as far as is known here."""
        if isinstance(self.there, LegacyTree) and (spans := self.there.spans(dl, self.run)) is not None:
            return spans
        side: Side = self.there if self.there.has(dl) else self.here
        delivered = side.delivered(dl, self.run, summed=False).rows
        known = self.known.then(self.here.datagrams(dl, self.run) or {})
        return series(delivered["sequence"], known["sequence"][~present(known, delivered)])

    @cached_property
    def nearest(self) -> list[Candidate]:
        """What comes nearest to the events there: what was delivered here, or what a rule gives."""
        spans = tuple(Interval(a, b) for a, b in self.manifest.get("spans", ()))
        lines = self.here.texts(self.downlink)
        of_run = {
            name: sorted(line for line in lines.get(name, ()) if line.startswith(f"{self.run.l1} "))
            for name in ("delivered_events", "event_gaps", "retired_runs")
        }
        found = [self.inputs.delivered_here(spans, of_run)]
        knew = self.there.datagrams(self.downlink, self.run)
        orders = list(self.inputs.orders())
        then = [o for o in orders if knew in (None, KnownDatagrams.together(self.inputs.parts(o)).ranges())]
        then = then or [self.inputs.here]
        if self.legacy:
            merges = {order: self.inputs.candidate(order, legacy=True) for order in orders}
            last = [merges[order] for order in then]
            refused = next((one for one in last if one.merged and one.merged.refused), None)
            found += last
            found += [one.left_by(refused) for one in merges.values() if refused and one.delivered.any()]
        if not isinstance(self.there, LegacyTree):
            found += [self.inputs.candidate(order, legacy=False) for order in then]
        off = [one.off(self.theirs.rows) for one in found]
        return [one for one, events in zip(found, off, strict=True) if events == min(off)]

    @cached_property
    def facts(self) -> Facts:
        deliveries = Deliveries(self.here.work.root, self.run)
        others = [delivery for dl, delivery in deliveries.latest().items() if dl != self.downlink]
        spans, places = (
            [Interval(a, b) for a, b in self.manifest.get(name, ())] for name in ("spans", "settled")
        )
        return Facts(
            run=self.run,
            spans=tuple(spans),
            settled=tuple(places),
            recorded=tuple(span for delivery in others for span in delivery.spans),
            here_elsewhere=self.here_elsewhere,
            there_elsewhere=self.there_elsewhere,
            held=bool(self.manifest.get("held")),
            given_up=bool(self.manifest.get("given_up")),
        )


def _together(parts: Sequence[NDArray[np.void]]) -> NDArray[np.void]:
    return in_order(joined([np.empty(0, ROW), *parts]))


def _moot_defect(header: np.void, run: np.void, chunk: np.void | None) -> int | None:
    """Return the defect by which a header has another MOOT key or alias than the run's; None: there is none."""

    def is_of(other: np.void) -> bool:
        return all(header[name] == other[name] for name in HEADER_OF_MOOT)

    if chunk is not None:
        return 24 if is_of(chunk) else None
    nothing = np.zeros(1, evt.HEADER)[0]
    return 25 if run["moot_key"] == evt.MOOT_UNSET_KEY and is_of(nothing) else None


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
