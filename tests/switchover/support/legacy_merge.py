"""A model of the legacy: its tree and its hand-offs to Level-1, event by event and line by line.

It was written from the published scripts (ground-chain §6, legacy-state), and is easy to compare with them. It shares
no rule with `halfpipe_switchover`. Tests compare it with that, and with files of the legacy (../takeover).
"""

import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from halfpipe.formats import evt
from halfpipe.ids import RunId
from tests.support.golden_cases import Case, Step

Span = tuple[int, int]
TEXTS = ("delivered_events", "retired_runs", "event_gaps", "moot_keys", "event_times")
MERGE_APIDS = {956, 957, 958}
EARLIEST = 0x10000000  # MET; the legacy finds no chunks of earlier runs
Magic7 = Callable[[float, float], bytes]  # the lines between two times, Unix UTC seconds


class Dgm(NamedTuple):
    """A datagram's line."""

    apid: int
    number: int
    opening: str
    closing: str
    first: int
    last: int
    times: tuple[float, float]
    text: str

    @classmethod
    def of(cls, text: str) -> "Dgm":
        w = text.split()
        return cls(
            int(w[4]), int(w[5]), w[9], w[11], int(w[17]), int(w[19]), (float(w[16]), float(w[18])), text
        )


class Evt(NamedTuple):
    """An event's line."""

    sequence: int
    apid: int
    utc: float
    offset: int
    file: str
    text: str

    @classmethod
    def of(cls, text: str) -> "Evt":
        w = text.split()
        return cls(int(w[2]), int(w[7]), float(w[5]), int(w[13]), w[14], text)


@dataclass
class Merge:
    """One merge of a run: the events of each index that it writes, and its counts; no events if `refused`."""

    refused: bool = False
    complete: bool = False
    kind: str = "LPA"
    gaps: list[Span] = field(default_factory=list)
    indexes: list[list[Evt]] = field(default_factory=list)
    orphans: int = 0

    @property
    def recorded(self) -> list[Span]:
        return [(events[0].sequence, events[-1].sequence) for events in self.indexes]


def merge(datagrams: Sequence[Dgm], events: Iterable[Evt], done: Iterable[Span]) -> Merge:
    """Merge the unique, sorted datagrams and events of a run; other downlinks delivered the spans `done`."""
    found = Merge()
    segments: dict[int, list[list[Dgm]]] = {}
    for one in datagrams:
        of_apid = segments.setdefault(one.apid, [])
        if of_apid and one.number == of_apid[-1][-1].number + 1:
            of_apid[-1].append(one)
        else:
            of_apid.append([one])
    if not segments:
        return Merge(refused=True)  # the original fails
    found.complete = all(
        len(s) == 1 and s[0][0].opening == "start" and s[0][-1].closing in {"stop", "abort", "pause"}
        for s in segments.values()
    )
    if not segments.keys() <= MERGE_APIDS:
        found.kind = "LCI"
        # Python 2 iterates over a dict of eight slots; an APID with a gap was inserted before the others.
        first = sorted(segments, key=lambda apid: (apid % 8, len(segments[apid]) == 1, apid))[0]
        spans = [(s[0].first, s[-1].last) for s in segments[first]]
    elif len(segments) == 2:
        spans = common(*(segments[apid] for apid in sorted(segments)))
    else:
        found.refused = True
        return found
    found.gaps = [(one[1], other[0]) for one, other in pairwise(spans)]
    left, covered = list(spans), sorted(done)
    span, past, skipped = (-1, -1), (-1, -1), 0
    for event in events:
        while left and span[1] < event.sequence:
            span = left.pop(0)
        while covered and past[1] < event.sequence:
            past = covered.pop(0)
        if past[0] <= event.sequence <= past[1]:
            skipped += 1
        elif not span[0] <= event.sequence <= span[1]:
            skipped += 1
            found.orphans += 1
        else:
            if skipped or not found.indexes:
                found.indexes.append([])
                skipped = 0
            found.indexes[-1].append(event)
    return found


def common(one: list[list[Dgm]], other: list[list[Dgm]]) -> list[Span]:
    """Return the common spans of two EPUs, going through the segments of both side by side."""
    spans = []
    while True:
        (a, *rest_a), (b, *rest_b) = one, other
        starts = a[0].opening == b[0].opening == "start"
        stops = a[-1].closing == b[-1].closing == "stop"
        first = (min if starts else max)(a[0].first, b[0].first)
        last = (max if stops else min)(a[-1].last, b[-1].last)
        if starts or stops or (a[-1].last >= b[0].first and b[-1].last >= a[0].first):
            spans.append((first, last))
        if a[-1].last <= b[-1].last:
            one = rest_a
        else:
            other = rest_b
        if not one or not other:
            return spans


def unique(lines: Iterable[str], key: Callable[[str], tuple[int, ...]]) -> list[str]:
    """Sort lines by a key, and keep the first one with each key."""
    kept: dict[tuple[int, ...], str] = {}
    for line in lines:
        kept.setdefault(key(line), line)
    return [kept[at] for at in sorted(kept)]


def of_datagram(line: str) -> tuple[int, ...]:
    """Return the sort key of a datagram's line."""
    one = Dgm.of(line)
    return one.apid, one.number


def of_event(line: str) -> tuple[int, ...]:
    """Return the sort key of an event's line."""
    one = Evt.of(line)
    return one.sequence, one.apid


class Legacy:
    """The legacy processing a case: it writes its own records into `tree`, and hand-offs to Level-1 into `stage`."""

    def __init__(self, case: Case, home: Path, magic7: Magic7 | None = None) -> None:
        self.case, self.tree, self.stage, self.magic7 = case, home / "tree", home / "stage", magic7
        # The first and the last time of each index, as in the legacy's database.
        self.times: dict[RunId, dict[str, list[tuple[float, float]]]] = {}

    def process(self, step: Step) -> Mapping[RunId, Merge]:
        """Process a downlink; return the merge of each run."""
        home, stage = (root / step.downlink for root in (self.tree, self.stage))
        shutil.copytree(self.case.directory / "in" / step.downlink, home, dirs_exist_ok=True)
        stage.mkdir(parents=True, exist_ok=True)
        found, texts = {}, dict[str, list[str]]((name, []) for name in TEXTS)
        for met in step.runs:
            run = RunId.from_met(met)
            (home / f"r0{met}_doMerge.txt").touch()
            self.summarise(step.downlink, run, texts)
            found[run] = one = self.merge(home, run)
            texts["retired_runs"] += [f"{run.l1} COMPLETE"] if one.complete else []
            if not one.refused:
                last = len(one.indexes[-1]) if one.indexes else 0
                texts["delivered_events"].append(f"{run.l1} {last} {one.orphans} {one.kind}")
                texts["event_gaps"] += [f"{run.l1} {first} {last}" for first, last in one.gaps]
        for name, lines in texts.items():
            (home / f"{name}_{step.downlink}.txt").write_text("".join(f"{line}\n" for line in lines))
        for run, one in found.items():
            if one.indexes:
                self.hand_off(stage / run.l1, one, texts["moot_keys"])
        known = [lines for path in home.glob("*/evt-*.idx") if (lines := lines_in(path))]
        if self.magic7 and known:
            begin, end = min(lines[0] for lines in known), max(lines[-1] for lines in known)
            window = Evt.of(begin).utc - 6000, Evt.of(end).utc + 6000
            (stage / f"magic7_{step.downlink}.txt").write_bytes(self.magic7(*window))
        for path in home.glob("*.txt"):
            shutil.copy(path, stage)
        return found

    def summarise(self, downlink: str, run: RunId, texts: Mapping[str, list[str]]) -> None:
        """Add the lines that the legacy makes from its database."""
        indexes = (dgms(path) for path in sorted((self.tree / downlink).glob(f"*-{run}-*.idx")))
        mine = [(index[0].times[0], index[-1].times[1]) for index in indexes if index]
        every = self.times.setdefault(run, {})
        every[downlink] = mine
        if not mine:
            return
        begin, end = (pick(t[n] for one in every.values() for t in one) for n, pick in ((0, min), (1, max)))
        texts["event_times"].append(f"{run.l1} {begin:f} {end:f}")
        if run.met in self.case.moot:
            key, alias = self.case.moot[run.met]
            texts["moot_keys"].append(f"{run.l1} {key} {alias}")

    def merge(self, home: Path, run: RunId) -> Merge:
        """Merge a run in a new directory."""
        at = home / str(run.met)
        shutil.rmtree(at, ignore_errors=True)
        at.mkdir()
        if run.met < EARLIEST:
            return Merge(refused=True)
        indexes = sorted(home.glob(f"*-{run}-*.idx"))
        known = {}
        for kind, key, whole in (("dgm", of_datagram, True), ("evt", of_event, False)):
            before = [
                line
                for path in sorted(self.tree.glob(f"*/{run.met}/{kind}-{run}.idx"))
                for line in lines_in(path)
            ]
            own = [line for path in indexes for line in lines_in(path) if line.startswith(kind.upper())]
            if whole:
                before.sort()
                own.sort()
            known[kind] = unique([*unique(own, key), *unique(before, key)], key)
            (at / f"{kind}-{run}.idx").write_text("".join(f"{line}\n" for line in known[kind]))
        done = [
            span for path in sorted(self.tree.glob(f"*/{run.met}/*-spans.txt")) for span in read_spans(path)
        ]
        found = merge([*map(Dgm.of, known["dgm"])], map(Evt.of, known["evt"]), done)
        if found.complete:
            (at / f"{run.l1}-retired.txt").touch()
        if not found.refused:
            last = len(found.indexes[-1]) if found.indexes else 0
            (at / f"{run.l1}-delivered.txt").write_text(f"{run.l1} {last} {found.orphans} {found.kind}\n")
            (at / f"{run.l1}-spans.txt").write_text(written(found.recorded))
        for events in found.indexes:
            (at / f"{run.l1}-e{events[0].sequence:020d}.idx").write_text("".join(map(of_index, events)))
        return found

    def hand_off(self, stage: Path, found: Merge, moot: Sequence[str]) -> None:
        """Write the event files of a run and their tokens."""
        lines = [line.split() for line in moot if str(int(stage.name[1:])) in line]
        environment = int(lines[0][1]) if lines else 0, "\n".join(line[2] for line in lines)
        shutil.rmtree(stage, ignore_errors=True)
        stage.mkdir(parents=True)
        for events in found.indexes:
            self.write(events, stage, environment)
        tokens = self.stage / "chunktokens" / stage.name
        tokens.mkdir(parents=True, exist_ok=True)
        for path in stage.iterdir():
            (tokens / path.stem).touch()

    def write(self, events: Sequence[Evt], home: Path, environment: tuple[int, str]) -> None:
        rules, rest = self.case.rules, events
        limit = rules.max_events
        before = b""  # the handlers of the previous event
        opened: set[str] = set()
        while rest:
            most = limit if limit > 0 else len(rest)
            part, rest = rest[:most], rest[most:]
            small = limit <= rules.chunk_floor * rules.max_events
            limit = rules.max_events if small else int(rules.chunk_scale * limit)
            records = []
            for event in part:
                record, before = self.record(self.place(event.file), event.offset, before)
                records.append(record)
            key, alias = environment
            opened.add(part[0].file)  # opened before the writer sets the key of the environment
            for file in dict.fromkeys(event.file for event in part):
                if file not in opened:  # its header overwrites the writer's key and alias
                    chunk = evt.read_header(self.place(file))
                    key, alias = int(chunk["moot_key"]), chunk["moot_alias"].decode()
                    opened.add(file)
            data = np.frombuffer(bytes(evt.HEADER_SIZE) + b"".join(records), np.uint8)
            ends = np.array([evt.HEADER_SIZE, len(data) - len(records[-1])])
            begin, end = evt.context_column(data, ends, "current_timeSecs").tolist()
            first, last = part[0].sequence, part[-1].sequence
            header = evt.pack_header(
                runid=int(home.parent.name),
                seconds=(begin, end),
                sequences=(first, last),
                events=len(part),
                moot_key=key,
                moot_alias=alias,
            )
            signed = (first + (1 << 31)) % (1 << 32) - (1 << 31)
            (home / f"{home.name}-e{signed:020d}.evt").write_bytes(header + b"".join(records))

    def place(self, file: str) -> Path:
        """Return the path of an event file."""
        return self.tree.joinpath(*file.split("/")[-2:])

    def record(self, file: Path, offset: int, before: bytes) -> tuple[bytes, bytes]:
        """Return a record as the legacy writes it, and the handlers for the next event."""
        data = evt.open_evt(file).data
        layout = evt.record_layout(data, np.array([offset]), str(file))
        record = data[offset : offset + int(layout.sizes[0])].tobytes()
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


def lines_in(path: Path) -> list[str]:
    return path.read_text().splitlines()


def dgms(path: Path) -> list[Dgm]:
    return [Dgm.of(line) for line in lines_in(path) if line.startswith("DGM")]


def of_index(event: Evt) -> str:
    """Return the line of an event in a merged index."""
    w = event.text.split()
    return f"EVT: {w[1]:>10} {w[2]:>20} {w[7]:>4} {w[8]:>8} {w[10]} {w[11]} {w[13]:>20} {w[14]}\n"


def written(spans: Iterable[Span]) -> str:
    """Return spans as a pickle of Python 2."""
    items = "".join(f"(L{first}L\nL{last}L\ntp{n}\na" for n, (first, last) in enumerate(spans, 2))
    return f"(lp1\n{items}."


def read_spans(path: Path) -> list[Span]:
    """Read spans from a file with the text of `written`."""
    numbers = [*map(int, re.findall(r"[IL](\d+)L?$", path.read_text(), re.MULTILINE))]
    return list(zip(numbers[::2], numbers[1::2], strict=True))
