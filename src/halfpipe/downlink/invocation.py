"""What an invocation of the workflow delivered, in a line."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.files.json_files import read_json
from halfpipe.words import count


class Invocation:
    """What one invocation of the workflow delivers, from `begin` on; it takes part in no decision."""

    def __init__(self, work: Path) -> None:
        self._work = work
        self._begun = 0.0

    def begin(self) -> None:
        """Count the time from now on."""
        self._begun = time.monotonic()

    def delivered(self, outputs: Iterable[str]) -> str:
        """Say in one line what was handed off, how fast runs were merged, and what was merged and not handed off.

        Parameters
        ----------
        outputs
            The outputs of all jobs that ended well, relative to `paths.work`. Manifests and receipts
            count; of those that are gone or damaged nothing is said.
        """
        seconds = max(time.monotonic() - self._begun, 1e-3)
        downlinks, handed, merged = 0, dict[str, Counter[str]](), dict[str, Counter[str]]()
        for name in outputs:
            path = self._work / name
            with suppress(Exception):  # whatever is wrong with one, it must not fail what has ended well
                if name.startswith(paths.receipt("")):
                    downlinks += 1
                    dl = name.removeprefix(paths.receipt(""))
                    for run in read_json(path)["runs"]:
                        handed[paths.manifest(run["run"], dl)] = staged(run)
                elif path.name == Path(paths.manifest()).name:
                    merged[name] = staged(read_json(path))
        if not downlinks and not merged:
            return f"nothing was handed off or merged in {seconds:,.0f} s"
        here = sum(merged.values(), Counter[str]())
        said = f"{count(downlinks, 'downlink')} handed off, {_words(handed.values())} delivered in {seconds:,.0f} s"
        if earlier := [made for name, made in handed.items() if name not in merged]:
            said += f", of these {_words(earlier)} merged before"
        said += f": {here['events'] / seconds:,.0f} events/s, {here['size'] / 1e6 / seconds:,.1f} MB/s"
        if wait := [made for name, made in merged.items() if name not in handed]:
            said += f"; {_words(wait)} merged and not handed off yet"
        return said


def staged(run: Mapping[str, Any]) -> Counter[str]:
    """Count what a manifest or a receipt says was staged of a run, itself too; nothing of one that is held."""
    files = [] if run["held"] else run["files"]
    return Counter(
        runs=1, events=sum(file["events"] for file in files), size=sum(file["size"] for file in files)
    )


def _words(several: Iterable[Counter[str]]) -> str:
    made = sum(several, Counter[str]())
    return (
        f"{count(made['runs'], 'run')} with {count(made['events'], 'event')} in {made['size'] / 1e6:,.0f} MB"
    )
