"""A model of the legacy: what it delivers of a run and leaves on disk, its defects in merging included.

Plain Python over the text of indexes, which shares nothing with the library but names of files. Written from the
legacy's known behaviour (docs/legacy.md); its spans are held against those that the legacy's own program wrote.
"""

import shutil
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

LPA = {"956", "957", "958"}
CLOSING = {"stop", "abort", "pause"}
Event = tuple[int, str]  # sequence and APID
Span = tuple[int, int]


@dataclass
class Merged:
    """What one merge of a run gives: files of events, orphans, whether the run was retired, and its kind."""

    files: list[list[Event]] = field(default_factory=list)
    orphans: list[Event] = field(default_factory=list)
    retired: bool = False
    kind: str = "LPA"
    died: bool = False

    @property
    def spans(self) -> list[Span]:
        """First and last sequence of each file."""
        return [(file[0][0], file[-1][0]) for file in self.files]


@dataclass(frozen=True)
class Segment:
    """Consecutive datagrams of one EPU."""

    first: int
    last: int
    opens: bool
    stops: bool
    closes: bool


def merge(datagrams: Iterable[list[str]], events: Iterable[list[str]], done: Iterable[Span]) -> Merged:
    """Merge all that is known of a run: words of DGM and EVT lines, and the spans recorded before."""
    first_of: dict[tuple[str, int], list[str]] = {}
    for words in sorted(datagrams):
        first_of.setdefault((words[4], int(words[5])), words)
    segments = {apid: _segments(first_of, apid) for apid in sorted({apid for apid, _ in first_of})}
    found = Merged(kind="LPA" if segments.keys() <= LPA else "LCI")
    found.retired = bool(segments) and all(
        len(of) == 1 and of[0].opens and of[0].closes for of in segments.values()
    )
    if found.kind == "LPA":
        if len(segments) != 2:
            found.died = True
            return found
        one, other = segments.values()
        spans = [span for a in one for b in other if (span := _common(a, b)) is not None]
    else:
        spans = [(segment.first, segment.last) for segment in next(iter(segments.values()))]
    before, file = list(done), list[Event]()
    for event in sorted({(int(words[2]), words[7]) for words in events}):
        inside = any(first <= event[0] <= last for first, last in spans)
        was_done = any(first <= event[0] <= last for first, last in before)
        if inside and not was_done:
            if not file:
                file = []
                found.files.append(file)
            file.append(event)
            continue
        file = []
        if not was_done:
            found.orphans.append(event)
    return found


def _segments(lines: dict[tuple[str, int], list[str]], apid: str) -> list[Segment]:
    numbers = sorted(number for of, number in lines if of == apid)
    cuts = [0, *(n for n in range(1, len(numbers)) if numbers[n] != numbers[n - 1] + 1), len(numbers)]
    found = []
    for begin, end in pairwise(cuts):
        part = [lines[apid, number] for number in numbers[begin:end]]
        held = [words for words in part if int(words[20]) > 0]
        if held:
            closing = part[-1][11]
            found.append(
                Segment(
                    int(held[0][17]),
                    int(held[-1][19]),
                    part[0][9] == "start",
                    closing == "stop",
                    closing in CLOSING,
                )
            )
    return found


def _common(one: Segment, other: Segment) -> Span | None:
    """Return the stretch in which neither of two EPUs can bring more, as the legacy sees it."""
    first = (min if one.opens and other.opens else max)(one.first, other.first)
    last = (max if one.stops and other.stops else min)(one.last, other.last)
    return (first, last) if first <= last else None


def deliver(root: Path, source: Path, downlink: str) -> dict[str, Merged]:
    """Process a downlink as the legacy does: leave in `root` what it leaves; return what it delivers, by run."""
    home = root / downlink
    home.mkdir(parents=True)
    for path in sorted((source / downlink).iterdir()):
        shutil.copy(path, home / path.name)
    delivered = {}
    texts: dict[str, list[str]] = defaultdict(list)
    for run in sorted({path.name.split("-")[1] for path in home.glob("????????-*.idx")}):
        met = int(run, 16)
        lines = [
            line for path in sorted(root.glob(f"*/*-{run}-*.idx")) for line in path.read_text().splitlines()
        ]
        words = [line.split() for line in lines]
        done = [span for path in root.glob(f"*/{met}/r{met:010d}-spans.txt") for span in read_spans(path)]
        merged = merge([w for w in words if w[0] == "DGM:"], [w for w in words if w[0] == "EVT:"], done)
        delivered[run] = merged
        of_run = home / str(met)
        of_run.mkdir()
        (home / f"r0{met}_doMerge.txt").touch()
        known = sorted({line for line in lines if line.startswith("DGM:")})
        (of_run / f"dgm-{run}.idx").write_text("".join(f"{line}\n" for line in known))
        if merged.retired:
            (of_run / f"r{met:010d}-retired.txt").write_text(f"r{met:010d} COMPLETE\n")
        if merged.died:
            continue
        last = len(merged.files[-1]) if merged.files else 0
        said = f"r{met:010d} {last} {len(merged.orphans)} {merged.kind}\n"
        (of_run / f"r{met:010d}-delivered.txt").write_text(said)
        texts["delivered_events"].append(said)
        (of_run / f"r{met:010d}-spans.txt").write_text(written(merged.spans))
        for file in merged.files:
            lines = [f"EVT: {met} {sequence} {apid}\n" for sequence, apid in file]
            (of_run / f"r{met:010d}-e{file[0][0]:020d}.idx").write_text("".join(lines))
    for name in ("delivered_events", "retired_runs", "event_gaps", "moot_keys"):
        (home / f"{name}_{downlink}.txt").write_text("".join(texts[name]))
    return delivered


def written(spans: Iterable[Span]) -> str:
    """Write spans as the pickle that Python 2 made of them."""
    items = "".join(f"(L{first}L\nL{last}L\ntp{n}\na" for n, (first, last) in enumerate(spans, 2))
    return f"(lp1\n{items}."


def read_spans(path: Path) -> list[Span]:
    """Read what `written` wrote."""
    numbers = [int(line.strip("(aL")) for line in path.read_text().splitlines() if "L" in line]
    return list(zip(numbers[::2], numbers[1::2], strict=True))
