"""Compare what HalfPipe delivered of a downlink with what another system did: event by event and text by text."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from halfpipe.errors import HalfPipeError, MissingInputError
from halfpipe.formats import evt
from halfpipe.formats.evt_view import fields
from halfpipe.ids import DownlinkId
from halfpipe.legacy.compared_run import Candidate, ComparedRun
from halfpipe.legacy.comparison_reasons import (
    EVENTS,
    PUT_IN,
    UNEXPLAINED,
    Finding,
    Reason,
    defect,
    handlers_of,
    info_type,
    put_in,
    runs_named,
    texts_of_run,
    whole_texts,
    why,
    why_other_bytes,
)
from halfpipe.legacy.comparison_sides import (
    EVENT_FILE,
    File,
    Here,
    LegacyTree,
    Stage,
    Where,
    neighbours,
    present,
    side_of,
    subset,
    where_in,
)
from halfpipe.legacy.legacy_replay import EIGHT_DIGITS, WRAPPED, Merged, lines_that_count, number_in_name
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
    def others(self) -> list[Finding]:
        """What differs besides events."""
        return [one for one in self.findings if one.what != EVENTS]

    @property
    def unexplained(self) -> int:
        """How much of what differs has no known reason."""
        return sum(one.kind == UNEXPLAINED.kind for one in self.findings)

    @property
    def status(self) -> int:
        """Return 0 for the same events, 1 if all that differs is explained, 3 if something is not."""
        if self.unexplained:
            return UNLIKE
        return OTHER if self.groups else SAME

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
    here = Here(settings.paths.work, Stage(settings.paths.stage))
    if not here.has(downlink):
        raise MissingInputError(
            f"downlink {downlink} has no receipt in {settings.paths.work}, so there is nothing to compare. Process it "
            f"first: snakemake dl={downlink}"
        )
    there = side_of(root, downlink)
    lines = here.texts(downlink), there.texts(downlink)
    counts, found = [], list(whole_texts(*lines, there, downlink))
    runs = sorted(here.runs(downlink) | there.runs(downlink))
    for run in runs:
        pair = _Run(settings, here, there, downlink, run)
        events = list(pair.findings())
        differs = any(one.what == EVENTS for one in events)
        found += [*events, *texts_of_run(*lines, run.l1, pair, differs=differs)]
        counts.append(OfRun(run, len(pair.ours.rows), len(pair.theirs.rows), pair.same))
        del pair  # before the next run is read
    for name in sorted(runs_named(*lines) - {run.l1 for run in runs}):
        found += texts_of_run(*lines, name, None)
    return Compared(downlink, tuple(counts), tuple(found))


class _Run(ComparedRun):
    """One run of a downlink on both sides, and what differs in its events and files."""

    same = 0

    def findings(self) -> Iterator[Finding]:
        """Yield what differs, and count what is the same."""
        ours, theirs = self.ours, self.theirs
        try:
            mine = ours.records.digests(ours.rows)
        except HalfPipeError as error:
            ours = replace(ours, gone=str(error))
        if ours.gone:
            yield self._group(theirs.rows, Where.THERE, UNEXPLAINED._replace(text=ours.gone))
        elif theirs.gone:
            yield self._group(ours.rows, Where.HERE, Reason("gone", None, theirs.gone))
        else:
            at, digests = where_in(ours.rows, theirs.rows), theirs.records.digests(theirs.rows)
            both = np.flatnonzero(at >= 0)
            other = both[mine[both] != digests[at[both]]]
            self.same = len(both) - len(other)
            yield from self._alone(np.flatnonzero(at < 0), ours.rows, Where.HERE)
            yield from self._alone(np.flatnonzero(~present(theirs.rows, ours.rows)), theirs.rows, Where.THERE)
            yield from self._others(other, theirs.rows[at[other]])
            yield from self._wrong()
            yield from self._cuts()
            yield from self._headers()

    def _group(self, rows: NDArray[np.void], where: Where, reason: Reason) -> Finding:
        first, last = (int(rows["sequence"][0]), int(rows["sequence"][-1])) if len(rows) else (0, 0)
        return Finding(EVENTS, self.run, *reason, where=where, first=first, last=last, events=len(rows))

    def _alone(self, numbers: NDArray[np.intp], rows: NDArray[np.void], where: Where) -> Iterator[Finding]:
        """Yield events that are on one side only; events of both sides part groups."""
        if not len(numbers):
            return
        alone = rows[numbers]
        if self.known.gone:
            reason = UNEXPLAINED._replace(text=f"no reason can be sought: {self.known.gone}")
            codes, reasons = np.zeros(len(alone), np.intp), [reason]
        else:
            codes, reasons = why(alone, where, self.nearest[0], self)
        yield from self._grouped(alone, numbers, where, codes, reasons)

    def _grouped(
        self,
        rows: NDArray[np.void],
        numbers: NDArray[np.intp],
        where: Where,
        codes: NDArray[np.intp],
        reasons: list[Reason],
    ) -> Iterator[Finding]:
        """Yield rows of one reason that follow each other; of what is unexplained nothing may lie between them."""
        unknown = np.array([reason.kind == UNEXPLAINED.kind for reason in reasons], bool)
        for part in neighbours(numbers, codes, unknown[codes]):
            reason = reasons[codes[part.start]]
            if where is Where.BOTH and reason.kind == UNEXPLAINED.kind:
                row = rows[part.start]
                words = "" if reason == UNEXPLAINED else f"{reason.text}; "
                theirs = self.theirs.rows[where_in(rows[part.start : part.start + 1], self.theirs.rows)[0]]
                named = _named(self.ours.records[row], self.theirs.records[theirs])
                reason = reason._replace(text=f"{words}other bytes: {named}")
            yield self._group(rows[part], where, reason)

    def _others(self, numbers: NDArray[np.intp], theirs: NDArray[np.void]) -> Iterator[Finding]:
        """Yield events that have other bytes, with what differs in the first of those that are not explained."""
        reasons: dict[Reason, int] = {}
        rows = self.ours.rows[numbers]
        codes = [
            reasons.setdefault(self._why_bytes(rows[n : n + 1], theirs[n]), len(reasons))
            for n in range(len(rows))
        ]
        yield from self._grouped(rows, numbers, Where.BOTH, np.array(codes, np.intp), list(reasons))

    def _why_bytes(self, row: NDArray[np.void], theirs: np.void) -> Reason:
        for given, merged in self.replayed[:1]:
            if (at := int(where_in(row, given.known)[0])) >= 0:
                ours, other = self.ours.records[row[0]], self.theirs.records[theirs]
                copy, handlers = self.known.records[given.known[at]], self._handlers_before(given, merged, at)
                return why_other_bytes(ours, other, copy, handlers, self._most, lambda: self._good(row))
        return UNEXPLAINED

    def _handlers_before(self, given: Candidate, merged: Merged, at: int) -> bytes:
        """Return the handlers that the legacy's record still has from the events before one in a merged index."""
        written = int(given.delivered[:at].sum())
        begin = next((a for a, b in merged.series if a <= written < b), written)
        for number in range(written - 1, begin - 1, -1):
            if number in self._without_handlers:
                continue
            if handlers := handlers_of(self.known.records[given.written[number]]):
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
            yield put_in(copy, (latc or 0).to_bytes(4, "little")) if lpa else copy

    @cached_property
    def _most(self) -> dict[int, bytes]:
        """What the most of the events there have where the legacy may put something in."""
        found: dict[int, Counter[bytes]] = {kind: Counter() for kind in PUT_IN}
        for row in self.theirs.rows:
            record = self.theirs.records[row]
            if (kind := info_type(record)) in PUT_IN:
                found[kind][record[PUT_IN[kind]]] += 1
        most = {kind: values.most_common(1) for kind, values in found.items()}
        # Of a single event nobody can tell an override from garbage.
        return {kind: best[0][0] for kind, best in most.items() if best and best[0][1] > 1}

    def _wrong(self) -> Iterator[Finding]:
        """Yield what contradicts itself, and events that were delivered more than once."""
        for side, where, other in (
            (self.ours, Where.HERE, self.here_elsewhere),
            (self.theirs, Where.THERE, self.there_elsewhere),
        ):
            texts = [f"{side.twice} events were delivered more than once"] if side.twice else []
            texts += side.wrong
            if where is Where.THERE and isinstance(self.there, LegacyTree) and not self.known.gone:
                texts += self._records(self.there)
            for text in texts:
                yield self._group(side.rows[:0], where, UNEXPLAINED._replace(text=text))
            again = subset(side.rows, present(side.rows, other))
            if len(again):
                twice = UNEXPLAINED._replace(text="delivered with another downlink, too")
                yield self._group(again, where, twice)

    def _records(self, tree: LegacyTree) -> Iterator[str]:
        """Yield what the legacy's tree has beside its merged indexes that its rule does not give."""
        index, name = tree.lines(self.downlink, self.run), self.run.l1
        orders = [lines_that_count(self.inputs.parts(order)).lines for order in self.inputs.orders()]
        if self.run.met >= EIGHT_DIGITS and (index is None or index.lines not in orders):
            yield f"{name}: its index of datagrams is not what the downlinks that are known here give"
        lines = ["apid", "datagram", "oaction", "caction"]
        actions = {line for part in self.inputs.datagrams.values() for line in part.rows[lines].tolist()}
        rows = self.theirs.rows
        at = where_in(rows, self.known.rows)
        strange = (at < 0) | (np.append(self.known.rows["datagram"], 0)[at] != rows["datagram"])
        names = ["apid", "datagram", "opening", "closing", "sequence"]
        said = rows[names].tolist() if len(rows) else []
        for (*action, sequence), wrong in zip(said, strange.tolist(), strict=True):
            if wrong or tuple(action) not in actions:
                yield f"{name}: its merged index has event {sequence} in another datagram than its chunk"
        spans = tree.spans(self.downlink, self.run) or ()
        if self.replayed and all(spans != merged.recorded for _, merged in self.replayed):
            yield f"{name}: recorded are the spans {list(map(tuple, spans))}, not what its rule gives"
        for text, has in tree.records(self.downlink, self.run).items():
            if self.replayed and all(sorted(has) != list(given.lines[text]) for given, _ in self.replayed):
                yield f"{name}: recorded for the text {text} is {' | '.join(has) or 'nothing'}, not what its rule gives"

    def _cuts(self) -> Iterator[Finding]:
        """Yield the files of the other side that hold other events than any file here, or have another name."""
        ours = {(file.sequences, file.events): file.name for file in self.ours.files}
        files = [file for file in self.theirs.files if file.events]
        for file, after in zip(files, [*(each.sequences.first for each in files[1:]), None], strict=False):
            if ours.get((file.sequences, file.events)) != file.name:
                cut = Reason("cut", None, "the same events may lie in other files")
                reason = self._why_cut(file, after) or cut
                name, count = f"file {file.name}", file.events
                yield Finding(name, self.run, *reason, events=count, there=f"{count} events")

    def _why_cut(self, file: File, after: int | None) -> Reason | None:
        """Return by which defect a file is cut so, if the legacy's rule gives it."""
        first, last = file.sequences
        for _, merged in self.replayed:
            if not any(
                one.number in {first, number_in_name(first)} and one.end - one.begin == file.events
                for one in merged.files
            ):
                continue
            if first >= WRAPPED and EVENT_FILE.fullmatch(file.name):
                return defect(27)
            if any(first <= upper and lower <= last for upper, lower in self.manifest.get("gaps", ())):
                return defect(4 if merged.kind == "LPA" else 9)
            return defect(28) if file.events == 1 else defect(13) if last == after else None
        return None

    def _headers(self) -> Iterator[Finding]:
        """Yield the MOOT key and alias of headers that are not those of the run."""
        if not (moot := self.manifest.get("moot")):
            return
        run = (moot["key"], moot["alias"].encode()[: evt.ALIAS_LENGTH])
        for where, side in ((Where.HERE, self.ours), (Where.THERE, self.theirs)):
            chunks = self._moot_of_chunks() if where is Where.THERE else {}
            found = [(file.name, _moot(file.header)) for file in side.files if file.header is not None]
            for n, field in enumerate(HEADER_OF_MOOT):
                by: dict[Reason, list[object]] = {}
                for name, has in found:
                    if has[n] != run[n]:
                        by.setdefault(_why_moot(has, run, chunks.get(name)), []).append(has[n])
                for reason, values in by.items():
                    here, there = map(_text, (values[0], run[n])[:: 1 if where is Where.HERE else -1])
                    header = Finding(f"header {field}", self.run, *reason, where=where, events=len(values))
                    yield replace(header, here=here, there=there)

    def _moot_of_chunks(self) -> dict[str, tuple[int, bytes]]:
        """Return by the name of a file there what the chunk has that the legacy opened last for it."""
        found: dict[str, tuple[int, bytes]] = {}
        files = [file for file in self.theirs.files if file.header is not None]
        for series in [given.written[a:b] for given, merged in self.replayed[:1] for a, b in merged.series]:
            opened: set[int] = set()
            first, last = int(series["sequence"][0]), int(series["sequence"][-1])
            begin = 0
            for file in (one for one in files if first <= one.sequences.first <= last):
                part = series["place"][begin : begin + file.events].tolist()
                opened.update(part[:1])  # before the file, which has the key of the run then
                new = [place for place in dict.fromkeys(part) if place not in opened]
                if new:
                    found[file.name] = _moot(evt.read_header(self.known.records.places[new[-1]]))
                opened.update(new)
                begin += file.events
        return found


def _moot(header: np.void) -> tuple[int, bytes]:
    return int(header["moot_key"]), bytes(header["moot_alias"])


def _why_moot(has: tuple[int, bytes], run: tuple[int, bytes], chunk: tuple[int, bytes] | None) -> Reason:
    """Return why a header has another MOOT key or alias than the run: those of a chunk, or none at all."""
    if chunk is not None:
        return defect(24) if has == chunk else UNEXPLAINED
    return defect(25) if run[0] == evt.MOOT_UNSET_KEY and has == (0, b"") else UNEXPLAINED


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
