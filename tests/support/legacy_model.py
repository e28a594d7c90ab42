"""What the legacy leaves on disk of a downlink: its merge is that of `legacy_merge`."""

import shutil
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from halfpipe.formats import idx
from tests.support.legacy_merge import Event, Merge, Span, merge


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
