"""What an invocation of the workflow handed off, in a line."""

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.files.json_files import read_json
from halfpipe.words import count


def handed_off(work: Path, outputs: Iterable[str], seconds: float) -> str:
    """Say in a line what was handed off in so many seconds, and how fast.

    `outputs` are those of all jobs that ended well, relative to `paths.work`. Receipts count; of those that are gone
    or damaged nothing is said, for it must not fail what has ended well.
    """
    downlinks, made = 0, Counter[str]()
    for name in outputs:
        if name.startswith(paths.receipt("")):
            with suppress(Exception):
                made += sum(map(staged, read_json(work / name)["runs"]), Counter[str]())
                downlinks += 1
    if not downlinks:
        return f"nothing was handed off in {seconds:,.0f} s"
    megabytes, seconds = made["size"] / 1e6, max(seconds, 1e-3)
    return (
        f"{count(downlinks, 'downlink')} handed off, {count(made['runs'], 'run')} with "
        f"{count(made['events'], 'event')} in {megabytes:,.0f} MB delivered in {seconds:,.0f} s: "
        f"{made['events'] / seconds:,.0f} events/s, {megabytes / seconds:,.1f} MB/s"
    )


def staged(run: Mapping[str, Any]) -> Counter[str]:
    """Count what a manifest or a receipt says was staged of a run, itself too; nothing of one that is held."""
    files = [] if run["held"] else run["files"]
    return Counter(
        runs=1, events=sum(file["events"] for file in files), size=sum(file["size"] for file in files)
    )
