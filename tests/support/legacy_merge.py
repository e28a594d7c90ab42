"""The legacy at work, by its rule as `halfpipe compare` replays it: what it writes for Level-1, and what it leaves.

The rule is held against what the legacy itself wrote (tests/takeover); how it writes records is told here alone.
"""

import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from halfpipe.formats import evt, idx
from halfpipe.formats.idx import EVENT
from halfpipe.ids import RunId
from halfpipe.legacy.legacy_replay import Merged, merged
from halfpipe.legacy.legacy_tree import read_spans
from halfpipe.merge.intervals import Interval
from halfpipe.merge.ordering import in_one
from halfpipe.merge.settle import KnownDatagrams
from tests.support.golden_cases import Case, Step

TEXTS = ("delivered_events", "retired_runs", "event_gaps", "moot_keys")


@dataclass(frozen=True)
class Known:
    """What is known of a run, the own downlink's part first; of an event `file` counts into `files`."""

    parts: list[KnownDatagrams]
    events: NDArray[np.void]
    files: list[Path]

    @classmethod
    def of(cls, indexes: Iterable[Sequence[Path]]) -> "Known":
        """Read the chunk indexes of each downlink, the own one's first."""
        parts, events, files = [], [np.empty(0, EVENT)], list[Path]()
        for of_one in indexes:
            read = [(path, idx.read_index(path)) for path in of_one]
            parts.append(KnownDatagrams.of(line for _, index in read for line in index.lines))
            for path, index in read:
                rows = index.events.copy()
                rows["file"] += len(files)
                files += [path.parent / name for name in index.files]
                events.append(rows)
        return cls(parts, in_one(events), files)

    def merged(self, run: int, done: Iterable[Interval]) -> Merged:
        """Merge it."""
        return merged(RunId.from_met(run), self.parts, self.events, done)


def spans_of(found: Merged) -> list[NDArray[np.void]]:
    """Return the events of each span that a merge writes."""
    events = found.events[found.delivered]
    return [
        events[(span.first <= events["sequence"]) & (events["sequence"] <= span.last)]
        for span in found.recorded
    ]


@dataclass
class Legacy:
    """The legacy at work on a case: it remembers, and writes its stage below `stage`."""

    case: Case
    stage: Path
    spans: dict[int, dict[str, list[Interval]]] = field(default_factory=dict)
    brought: dict[int, dict[str, list[Path]]] = field(default_factory=dict)

    def process(self, step: Step) -> None:
        """Process a downlink."""
        home = self.stage / step.downlink
        home.mkdir(parents=True, exist_ok=True)
        texts: dict[str, list[str]] = {name: [] for name in TEXTS}
        for run in step.runs:
            name = f"r{run:010d}"
            self.brought.setdefault(run, {})[step.downlink] = self.case.products(step.downlink, run)
            recorded = self.spans.setdefault(run, {})
            known = self.known(run, step.downlink)
            found = known.merged(
                run, [span for dl in recorded.keys() - {step.downlink} for span in recorded[dl]]
            )
            for text, lines in found.lines(RunId.from_met(run)).items():
                texts[text] += lines
            if run in self.case.moot and run >= 1 << 28:
                texts["moot_keys"].append(f"{name} {self.case.moot[run][0]} {self.case.moot[run][1]}")
            if not found.refused:
                recorded[step.downlink] = found.recorded
            for events in spans_of(found):
                self.write(events, known.files, home / name, name, int(step.downlink))
        for text, lines in texts.items():
            (home / f"{text}_{step.downlink}.txt").write_text("".join(line + "\n" for line in lines))

    def known(self, run: int, downlink: str) -> Known:
        """Return what is known of a run: the own copy of an event goes before others', then the lowest downlink's."""
        brought = self.brought[run]
        return Known.of(brought[dl] for dl in [downlink, *sorted(brought.keys() - {downlink})])

    def write(
        self, events: NDArray[np.void], files: Sequence[Path], home: Path, name: str, downlink: int
    ) -> None:
        """Write the files of a span."""
        rules, rest = self.case.rules, events
        limit = rules.max_events
        before = b""  # the handlers of the event before
        opened: set[Path] = set()
        while len(rest):
            most = limit if limit > 0 else len(rest)
            part, rest = rest[:most], rest[most:]
            small = limit <= rules.chunk_floor * rules.max_events
            limit = rules.max_events if small else int(rules.chunk_scale * limit)
            places = [files[event["file"]] for event in part]
            records = []
            for event, file in zip(part, places, strict=True):
                record, before = self.record(file, int(event["offset"]), before)
                records.append(record)
            key, alias = self.case.moot.get(int(name[1:]), (0, ""))
            opened.add(places[0])  # before the writer, which sets the key of the environment
            for file in dict.fromkeys(places):
                if file not in opened:  # its header overwrites what the writer had
                    chunk = evt.read_header(file)
                    key, alias = int(chunk["moot_key"]), chunk["moot_alias"].decode()
                    opened.add(file)
            data = np.frombuffer(bytes(evt.HEADER_SIZE) + b"".join(records), np.uint8)
            ends = np.array([evt.HEADER_SIZE, len(data) - len(records[-1])])
            begin, end = evt.context_column(data, ends, "current_timeSecs").tolist()
            first, last = int(part["sequence"][0]), int(part["sequence"][-1])
            header = evt.pack_header(
                runid=downlink,
                seconds=(begin, end),
                sequences=(first, last),
                events=len(part),
                moot_key=key,
                moot_alias=alias,
            )
            home.mkdir(parents=True, exist_ok=True)
            signed = (first + (1 << 31)) % (1 << 32) - (1 << 31)
            (home / f"{name}-e{signed:020d}.evt").write_bytes(header + b"".join(records))

    def record(self, file: Path, offset: int, before: bytes) -> tuple[bytes, bytes]:
        """Return a record as it is written, and its handlers."""
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


def deliver(root: Path, source: Path, downlink: str) -> Mapping[str, Merged]:
    """Process a downlink as the legacy does: leave in `root` what it leaves; return what it delivered, by run."""
    home = root / downlink
    shutil.copytree(source / downlink, home)
    delivered = {}
    texts: dict[str, list[str]] = defaultdict(list)
    for run in sorted({path.name.split("-")[1] for path in home.glob("????????-*.idx")}):
        met, name = int(run, 16), f"r{int(run, 16):010d}"
        found: dict[Path, list[Path]] = {home: []}
        for path in sorted(root.glob(f"*/*-{run}-*.idx")):
            found.setdefault(path.parent, []).append(path)
        known = Known.of(found.values())
        done = [span for path in root.glob(f"*/{met}/{name}-spans.txt") for span in read_spans(path)]
        one = delivered[run] = known.merged(met, done)
        of_run = home / str(met)
        of_run.mkdir()
        (home / f"r0{met}_doMerge.txt").touch()
        every = KnownDatagrams.together(known.parts).lines
        (of_run / f"dgm-{run}.idx").write_bytes(b"".join(line + b"\n" for line in every))
        said = {text: "".join(f"{line}\n" for line in lines) for text, lines in one.lines(RunId(run)).items()}
        if one.complete:
            (of_run / f"{name}-retired.txt").write_text(said["retired_runs"])
        if one.refused:
            continue
        (of_run / f"{name}-delivered.txt").write_text(said["delivered_events"])
        texts["delivered_events"].append(said["delivered_events"])
        (of_run / f"{name}-spans.txt").write_text(written(one.recorded))
        for events in spans_of(one):
            rows = [f"EVT: {met} {event['sequence']} {event['apid']}\n" for event in events]
            (of_run / f"{name}-e{events['sequence'][0]:020d}.idx").write_text("".join(rows))
    for text in TEXTS:
        (home / f"{text}_{downlink}.txt").write_text("".join(texts[text]))
    return delivered


def written(spans: Iterable[Interval]) -> str:
    """Write spans as the pickle that Python 2 made of them."""
    items = "".join(f"(L{first}L\nL{last}L\ntp{n}\na" for n, (first, last) in enumerate(spans, 2))
    return f"(lp1\n{items}."
