"""A small model of the legacy's merge: which spans it finds, what it writes for Level-1, and what it gets wrong.

Written from what is known of how the legacy behaves, and held against spans that the legacy itself wrote
(tests/takeover). Its stage is what `halfpipe compare` is tried on.
"""

import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from halfpipe.formats import evt, idx
from halfpipe.merge.settle import KnownDatagrams
from tests.support.golden_cases import Case, Step

LPA = {956, 957, 958}
CLOSES = {b"stop", b"abort", b"pause"}
Span = tuple[int, int]


@dataclass(frozen=True)
class Piece:
    """Consecutive datagrams of one EPU."""

    first: int
    last: int
    opening: bytes
    closing: bytes


@dataclass(frozen=True)
class Event:
    """An event and where its record lies."""

    sequence: int
    apid: int
    file: Path
    offset: int


@dataclass
class Merge:
    """What a merge gives: its spans with their events, lines for texts; None of `events` where it refuses the run."""

    spans: list[list[Event]] = field(default_factory=list)
    orphans: int = 0
    gaps: list[Span] = field(default_factory=list)
    kind: str = "LPA"
    complete: bool = False
    refused: bool = False

    @property
    def recorded(self) -> list[Span]:
        """The spans as they are recorded."""
        return [(events[0].sequence, events[-1].sequence) for events in self.spans]


def pieces(rows: np.ndarray) -> list[Piece]:
    """Return the pieces of one EPU."""
    jumps = np.flatnonzero(np.diff(rows["datagram"].astype(np.int64)) != 1) + 1
    return [
        Piece(
            int(part["evtseq0"][0]),
            int(part["evtseq1"][-1]),
            bytes(part["oaction"][0]),
            bytes(part["caction"][-1]),
        )
        for part in np.split(rows, jumps)
    ]


def lpa_spans(one: Sequence[Piece], other: Sequence[Piece]) -> list[Span]:
    """Return the spans of two EPUs: their pieces are gone through side by side, until one has no more."""
    spans, i, j = [], 0, 0
    while i < len(one) and j < len(other):
        a, b = one[i], other[j]
        both_start = a.opening == b.opening == b"start"
        both_stop = a.closing == b.closing == b"stop"
        first = min(a.first, b.first) if both_start else max(a.first, b.first)
        last = max(a.last, b.last) if both_stop else min(a.last, b.last)
        if both_start or both_stop or first <= last:
            spans.append((first, last))
        if a.last <= b.last:
            i += 1
        else:
            j += 1
    return spans


def first_of_dict(apids: Mapping[int, Sequence[Piece]]) -> int:
    """Return the key that comes first in a dict of Python 2: those with a gap are put in first."""
    order = sorted(apids, key=lambda apid: (len(apids[apid]) == 1, apid))
    slots: dict[int, int] = {}
    for apid in order:
        i = perturb = apid
        while i & 7 in slots:
            i = 5 * i + perturb + 1
            perturb >>= 5
        slots[i & 7] = apid
    return slots[min(slots)]


def merge(lines: Iterable[bytes], events: Sequence[Event], done: Sequence[Span]) -> Merge:
    """Merge what is known of a run, but for the spans that are done."""
    of = {apid: pieces(rows) for apid, rows in KnownDatagrams.of(lines).by_apid().items()}
    result = Merge(kind="LPA" if set(of) <= LPA else "LCI")
    result.complete = all(
        len(p) == 1 and p[0].opening == b"start" and p[0].closing in CLOSES for p in of.values()
    )
    if result.kind == "LPA" and len(of) != 2:
        result.refused = True
        return result
    if result.kind == "LPA":
        one, other = (of[apid] for apid in sorted(of))
        spans = lpa_spans(one, other)
    else:
        spans = [(piece.first, piece.last) for piece in of[first_of_dict(of)]]
    result.gaps = [(a[1], b[0]) for a, b in pairwise(spans)]
    place, is_open = 0, False
    for event in events:
        while place + 1 < len(spans) and event.sequence > spans[place][1]:
            place += 1
        is_done = any(first <= event.sequence <= last for first, last in done)
        if spans and not is_done and spans[place][0] <= event.sequence <= spans[place][1]:
            if not is_open:
                result.spans.append([])
            result.spans[-1].append(event)
            is_open = True
            continue
        is_open = False
        result.orphans += not is_done
    return result


@dataclass
class Legacy:
    """The legacy at work on a case: it remembers, and writes its stage below `stage`."""

    case: Case
    stage: Path
    spans: dict[int, dict[str, list[Span]]] = field(default_factory=dict)
    brought: dict[int, dict[str, list[Path]]] = field(default_factory=dict)

    def process(self, step: Step) -> None:
        """Process a downlink."""
        texts: dict[str, list[str]] = {
            name: [] for name in ("delivered_events", "retired_runs", "event_gaps", "moot_keys")
        }
        for run in step.runs:
            if run < 1 << 28:  # its files are not found: the name has seven digits
                continue
            self.brought.setdefault(run, {})[step.downlink] = self.case.products(step.downlink, run)
            recorded = self.spans.setdefault(run, {})
            lines, events = self.known(run, step.downlink)
            done = [span for dl, spans in recorded.items() if dl != step.downlink for span in spans]
            merged = merge(lines, events, done)
            name = f"r{run:010d}"
            if merged.complete:
                texts["retired_runs"].append(f"{name} COMPLETE")
            if run in self.case.moot:
                texts["moot_keys"].append(f"{name} {self.case.moot[run][0]} {self.case.moot[run][1]}")
            if merged.refused:
                continue
            recorded[step.downlink] = merged.recorded
            last = len(merged.spans[-1]) if merged.spans else 0
            texts["delivered_events"].append(f"{name} {last} {merged.orphans} {merged.kind}")
            texts["event_gaps"] += [f"{name} {first} {last}" for first, last in merged.gaps]
            for span in merged.spans:
                self.write(span, self.stage / step.downlink / name, name, int(step.downlink))
        home = self.stage / step.downlink
        home.mkdir(parents=True, exist_ok=True)
        for text, said in texts.items():
            (home / f"{text}_{step.downlink}.txt").write_text("".join(line + "\n" for line in said))

    def known(self, run: int, downlink: str) -> tuple[list[bytes], list[Event]]:
        """Return what is known of a run: the own copy of an event goes before others', then the lowest downlink's."""
        brought = self.brought[run]
        lines: list[bytes] = []
        events: dict[tuple[int, int], Event] = {}
        for dl in [downlink, *sorted(brought.keys() - {downlink})]:
            for path in brought[dl]:
                index = idx.read_index(path)
                lines += index.lines
                for row in index.events:
                    key = int(row["sequence"]), int(row["apid"])
                    file = path.parent / index.files[row["file"]]
                    events.setdefault(key, Event(*key, file, int(row["offset"])))
        return lines, [events[key] for key in sorted(events)]

    def write(self, events: Sequence[Event], home: Path, name: str, downlink: int) -> None:
        """Write the files of a span."""
        limit = self.case.max_events
        rest = list(events)
        before = b""  # the handlers of the event before
        opened: set[Path] = set()
        while rest:
            most = limit if limit > 0 else len(rest)
            part, rest = rest[:most], rest[most:]
            scale, floor = self.case.chunk_scale, self.case.chunk_floor
            limit = self.case.max_events if limit <= floor * self.case.max_events else int(scale * limit)
            records = []
            for event in part:
                record, before = self.record(event, before)
                records.append(record)
            key, alias = self.case.moot.get(int(name[1:]), (0, ""))
            opened.add(part[0].file)  # before the writer, which sets the key of the environment
            for file in dict.fromkeys(event.file for event in part):
                if file not in opened:  # its header overwrites what the writer had
                    chunk = evt.read_header(file)
                    key, alias = int(chunk["moot_key"]), chunk["moot_alias"].decode()
                    opened.add(file)
            data = np.frombuffer(bytes(evt.HEADER_SIZE) + b"".join(records), np.uint8)
            ends = np.array([evt.HEADER_SIZE, len(data) - len(records[-1])])
            first, last = evt.context_column(data, ends, "current_timeSecs").tolist()
            header = evt.pack_header(
                runid=downlink,
                seconds=(first, last),
                sequences=(part[0].sequence, part[-1].sequence),
                events=len(part),
                moot_key=key,
                moot_alias=alias,
            )
            home.mkdir(parents=True, exist_ok=True)
            signed = (part[0].sequence + (1 << 31)) % (1 << 32) - (1 << 31)
            (home / f"{name}-e{signed:020d}.evt").write_bytes(header + b"".join(records))

    def record(self, event: Event, before: bytes) -> tuple[bytes, bytes]:
        """Return a record as it is written, and its handlers."""
        data = evt.open_evt(event.file).data
        layout = evt.record_layout(data, np.array([event.offset]), str(event.file))
        record = data[event.offset : event.offset + int(layout.sizes[0])].tobytes()
        kind = int(layout.infotypes[0])
        if kind == evt.InfoType.LCI_CAL:
            return record[:-18] + bytes(2) + record[-16:], before
        if kind != evt.InfoType.LPA:
            return record, before
        if self.case.latc is not None:
            record = record[:-16] + self.case.latc.to_bytes(4, "little") + record[-12:]
        at = 300 + int.from_bytes(record[296:300], "little") + 36
        handlers = record[at : len(record) - 20]
        if not int.from_bytes(handlers[:4], "little") and before:
            return record[:at] + before + record[-20:], before
        return record, handlers


def deliver(root: Path, source: Path, downlink: str) -> dict[str, Merge]:
    """Process a downlink as the legacy does: leave in `root` what it leaves; return what it delivers, by run."""
    home = root / downlink
    home.mkdir(parents=True)
    for path in sorted((source / downlink).iterdir()):
        shutil.copy(path, home / path.name)
    delivered = {}
    texts: dict[str, list[str]] = defaultdict(list)
    for run in sorted({path.name.split("-")[1] for path in home.glob("????????-*.idx")}):
        met, name = int(run, 16), f"r{int(run, 16):010d}"
        indexes = [idx.read_index(path) for path in sorted(root.glob(f"*/*-{run}-*.idx"))]
        lines = [line for index in indexes for line in index.lines]
        keys = {(int(row["sequence"]), int(row["apid"])) for index in indexes for row in index.events}
        done = [span for path in root.glob(f"*/{met}/{name}-spans.txt") for span in read_spans(path)]
        merged = delivered[run] = merge(lines, [Event(*key, home, 0) for key in sorted(keys)], done)
        of_run = home / str(met)
        of_run.mkdir()
        (home / f"r0{met}_doMerge.txt").touch()
        (of_run / f"dgm-{run}.idx").write_bytes(b"".join(line + b"\n" for line in sorted(set(lines))))
        if merged.complete:
            (of_run / f"{name}-retired.txt").write_text(f"{name} COMPLETE\n")
        if merged.refused:
            continue
        last = len(merged.spans[-1]) if merged.spans else 0
        said = f"{name} {last} {merged.orphans} {merged.kind}\n"
        (of_run / f"{name}-delivered.txt").write_text(said)
        texts["delivered_events"].append(said)
        (of_run / f"{name}-spans.txt").write_text(written(merged.recorded))
        for file in merged.spans:
            rows = [f"EVT: {met} {event.sequence} {event.apid}\n" for event in file]
            (of_run / f"{name}-e{file[0].sequence:020d}.idx").write_text("".join(rows))
    for text in ("delivered_events", "retired_runs", "event_gaps", "moot_keys"):
        (home / f"{text}_{downlink}.txt").write_text("".join(texts[text]))
    return delivered


def written(spans: Iterable[Span]) -> str:
    """Write spans as the pickle that Python 2 made of them."""
    items = "".join(f"(L{first}L\nL{last}L\ntp{n}\na" for n, (first, last) in enumerate(spans, 2))
    return f"(lp1\n{items}."


def read_spans(path: Path) -> list[Span]:
    """Read what `written` wrote."""
    numbers = [int(line.strip("(aL")) for line in path.read_text().splitlines() if "L" in line]
    return list(zip(numbers[::2], numbers[1::2], strict=True))
