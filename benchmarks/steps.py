"""Parts of the merge for the benchmarks, called in their process or as `python -m benchmarks.steps`."""

import argparse
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.scenes import Scene, Shape
from halfpipe import paths
from halfpipe.decode.chunk import read_chunk
from halfpipe.deliver.deliver_run import merge_and_deliver
from halfpipe.files import leases
from halfpipe.files.durable import write_whole
from halfpipe.files.records import Record
from halfpipe.formats import evt, idx
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.decision import Decision, decide
from halfpipe.merge.ordering import in_one
from halfpipe.merge.settle import KnownDatagrams
from halfpipe.settings import Merge as Limits
from halfpipe.settings import Paths, Settings
from halfpipe.staging.event_files import Records
from halfpipe.state.merged_chunks import merged
from halfpipe.state.merged_index import merge_chunks

THREADS = 2  # as in the rule


def limits(scene: Scene) -> Limits:
    """Return the limits of the config, with as many EPUs as the scene has."""
    return Limits(min_epus=len(scene.shape.apids))


def settings(scene: Scene, home: Path) -> Settings:
    """Return the settings of the site at `home`."""
    return Settings(Paths(work=home / "work", stage=home / "stage"), merge=limits(scene))


def delivering(
    scene: Scene, home: Path, downlink: DownlinkId, run: RunId, threads: int
) -> Callable[[], Record]:
    """Return `merge_and_deliver` with its arguments for the site at `home`; no chunk is decoded again."""
    found, chunks = settings(scene, home), scene.chunks(run)

    def deliver() -> Record:
        with leases.downlink_job(found, downlink) as lease:
            return merge_and_deliver(found, lease, downlink, run, chunks, threads=threads, output=sys.stderr)

    return deliver


@dataclass
class Merge:
    """Reading the indexes of the scene's first run and downlink, ordering them, and deciding."""

    scene: Scene

    def parse(self, threads: int = THREADS) -> None:
        """Read the indexes, `threads` at a time."""
        with ThreadPoolExecutor(threads) as pool:
            self.indexes = list(pool.map(idx.read_index, self.scene.products(".idx")))

    def order(self) -> None:
        """Put the events in order, each once."""
        self.events = in_one([read.events for read in self.indexes])

    def settle(self) -> None:
        """Find the settled intervals, and decide which events are delivered in which files."""
        downlink = self.scene.downlinks[0]
        known = KnownDatagrams.of([line for read in self.indexes for line in read.lines])
        self.decision: Decision = decide(downlink, known, self.events, {}, limits(self.scene))

    def all(self) -> None:
        """Do all three."""
        self.parse()
        self.order()
        self.settle()


class Copy:
    """Writing the event files of the scene's first run: only copying the records."""

    def __init__(self, scene: Scene) -> None:
        downlink, run = scene.downlinks[0], scene.runs[0]
        home = scene.work / paths.chunks(downlink)
        decoded = [read_chunk(scene.work, downlink, chunk) for chunk in scene.chunks(run)]
        files: dict[Path, int] = {}
        index, events = merge_chunks([(merged(chunk, run), home) for chunk in decoded], files)
        self.decision = decide(downlink, index.datagrams, events, {}, limits(scene))
        self._records = Records(self.decision.events, tuple(files))

    def write(self, out: Path) -> None:
        """Write the files into the directory `out`, without checksums and without flushing them to disk.

        The number of files at a time is that of the workflow's job.
        """
        with ThreadPoolExecutor(2 * THREADS) as pool:
            list(pool.map(lambda number: self._write(out, number), range(len(self.decision.files))))

    def _write(self, out: Path, number: int) -> None:
        with (out / f"{number}.evt").open("wb", buffering=0) as file:
            write_whole(file, bytes(evt.HEADER_SIZE))
            for content in self._records.batches(*self.decision.files[number], None):
                write_whole(file, content.data)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one step, so that its peak memory can be measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=("copy", "merge"))
    parser.add_argument("root", type=Path, help="where the scenes are")
    parser.add_argument("events", type=int)
    parser.add_argument("out", type=Path, help="an empty directory")
    arguments = parser.parse_args(argv)
    shape = Shape(arguments.events)
    scene = Scene(arguments.root / shape.name, shape)
    steps: dict[str, Callable[[], None]] = {
        "copy": lambda: Copy(scene).write(arguments.out),
        "merge": lambda: Merge(scene).all(),
    }
    steps[arguments.step]()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
