"""The legacy's merge, by the rule that `halfpipe compare` replays: its output for Level-1, and its state files.

The rule is checked against files of the legacy itself (tests/takeover). The form of its records is defined only here.
"""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from halfpipe.formats import evt, idx
from halfpipe.formats.idx import EVENT
from halfpipe.ids import RunId
from halfpipe.legacy.legacy_replay import Merged, merged
from halfpipe.legacy.legacy_tree import read_spans
from halfpipe.legacy.sides import TEXTS
from halfpipe.merge.intervals import Interval
from halfpipe.merge.ordering import in_one
from halfpipe.merge.settle import KnownDatagrams
from tests.support.golden_cases import Case, Step


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


def spans_of(found: Merged) -> list[NDArray[np.void]]:
    """Return the events of each span that a merge writes."""
    events = found.events[found.delivered]
    return [
        events[(span.first <= events["sequence"]) & (events["sequence"] <= span.last)]
        for span in found.recorded
    ]


class Legacy:
    """The legacy at work on a case: what it leaves of each downlink in its `tree`, and for Level-1 in its `stage`."""

    def __init__(self, case: Case, home: Path) -> None:
        self.case, self.tree, self.stage = case, home / "tree", home / "stage"

    def process(self, step: Step) -> Mapping[RunId, Merged]:
        """Process a downlink; return what it makes of each run."""
        home, stage = (root / step.downlink for root in (self.tree, self.stage))
        shutil.copytree(self.case.directory / "in" / step.downlink, home, dirs_exist_ok=True)
        stage.mkdir(parents=True, exist_ok=True)
        texts: dict[str, list[str]] = {name: [] for name in TEXTS}
        found = {}
        for met in step.runs:
            run, known = RunId.from_met(met), self.known(met, step.downlink)
            records = [path for path in self.tree.glob(f"*/{met}/*-spans.txt") if path.parents[1] != home]
            done = [span for path in records for span in read_spans(path)]
            one = found[run] = merged(run, known.parts, known.events, done)
            self.leave(home / str(met), run, known, one)
            for text, lines in one.lines(run).items():
                texts[text] += lines
            if met in self.case.moot and met >= 1 << 28:
                texts["moot_keys"].append(f"{run.l1} {self.case.moot[met][0]} {self.case.moot[met][1]}")
            for events in spans_of(one):
                self.write(events, known.files, stage / run.l1)
        for text, lines in texts.items():
            for root in (home, stage):
                (root / f"{text}_{step.downlink}.txt").write_text("".join(line + "\n" for line in lines))
        return found

    def known(self, met: int, downlink: str) -> Known:
        """Return the known events of a run. The own copy of an event is preferred, then that of the lowest downlink."""
        brought: dict[str, list[Path]] = {downlink: []}
        for path in sorted(self.tree.glob(f"*/*-{met:08x}-*.idx")):
            brought.setdefault(path.parent.name, []).append(path)
        return Known.of(brought.values())

    def leave(self, home: Path, run: RunId, known: Known, one: Merged) -> None:
        """Leave what it remembers of a run in a downlink."""
        home.mkdir(exist_ok=True)
        (home.parent / f"r0{run.met}_doMerge.txt").touch()
        every = KnownDatagrams.together(known.parts).lines
        (home / f"dgm-{run}.idx").write_bytes(b"".join(line + b"\n" for line in every))
        if one.complete:
            (home / f"{run.l1}-retired.txt").touch()
        if one.refused:
            return
        (home / f"{run.l1}-delivered.txt").write_text(f"{one.lines(run)['delivered_events'][0]}\n")
        (home / f"{run.l1}-spans.txt").write_text(written(one.recorded))
        for events in spans_of(one):
            rows = [f"EVT: {run.met} {event['sequence']} {event['apid']}\n" for event in events]
            (home / f"{run.l1}-e{events['sequence'][0]:020d}.idx").write_text("".join(rows))

    def write(self, events: NDArray[np.void], files: Sequence[Path], home: Path) -> None:
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
            key, alias = self.case.moot.get(int(home.name[1:]), (0, ""))
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
                runid=int(home.parent.name),
                seconds=(begin, end),
                sequences=(first, last),
                events=len(part),
                moot_key=key,
                moot_alias=alias,
            )
            home.mkdir(parents=True, exist_ok=True)
            signed = (first + (1 << 31)) % (1 << 32) - (1 << 31)
            (home / f"{home.name}-e{signed:020d}.evt").write_bytes(header + b"".join(records))

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


def written(spans: Iterable[Interval]) -> str:
    """Write spans as the pickle that Python 2 made of them."""
    items = "".join(f"(L{first}L\nL{last}L\ntp{n}\na" for n, (first, last) in enumerate(spans, 2))
    return f"(lp1\n{items}."
