"""Parts of the merge as the benchmarks call them, in their own process or `python -m benchmarks.steps`."""

import argparse
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import ROOT
from benchmarks.scenes import Scene, Shape
from halfpipe import paths
from halfpipe.decoder import BUILT_IN, Program
from halfpipe.files import write_whole
from halfpipe.formats import evt, idx
from halfpipe.handoff import eventfiles
from halfpipe.handoff.deliver_run import Job
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge import index
from halfpipe.merge.deliver import Decision, Policy, decide, merge_chunks
from halfpipe.merge.known import Context
from halfpipe.merge.settle import KnownDatagrams
from halfpipe.moot import UNSET

THREADS = 2  # as the rule has them


def policy(scene: Scene) -> Policy:
    """Return the limits of the config, with as many EPUs as the scene has."""
    return Policy(min_epus=len(scene.shape.apids))


def job(scene: Scene, home: Path, downlink: DownlinkId, run: RunId, threads: int) -> tuple[Job, Context]:
    """Return what `deliver_run` is called with for the site at `home`; no chunk needs to be decoded again."""
    work, chunks = home / "work", scene.chunks(run)
    what = Job(work, home / "stage", downlink, run, chunks, policy(scene), None, UNSET, threads)
    built_in = Program(BUILT_IN, "simulated_decoder.py", ROOT, None, ())
    return what, Context(work, run, built_in, None, sys.stderr)


@dataclass
class Merge:
    """Reading the indexes of the scene's first run and downlink, ordering them, and deciding."""

    scene: Scene

    def parse(self, threads: int = THREADS) -> None:
        """Read the indexes, so many at a time."""
        with ThreadPoolExecutor(threads) as pool:
            self.indexes = list(pool.map(idx.read_index, self.scene.products(".idx")))

    def order(self) -> None:
        """Put the events in order, each once."""
        self.events: NDArray[np.void] = merge_chunks([(read.path.name, read.events) for read in self.indexes])

    def settle(self) -> None:
        """Find out what is settled, and decide what is delivered in which files."""
        downlink = self.scene.downlinks[0]
        known = KnownDatagrams.of([line for read in self.indexes for line in read.lines])
        self.decision: Decision = decide(
            downlink, {downlink: known}, {downlink: self.events}, {}, policy(self.scene)
        )

    def all(self) -> None:
        """Do all three."""
        self.parse()
        self.order()
        self.settle()


class Copy:
    """Writing the event files of the scene's first run: nothing but the copy of the records.

    `scratch` is a directory that takes the event part of the merged index.
    """

    def __init__(self, scene: Scene, scratch: Path) -> None:
        downlink, run = scene.downlinks[0], scene.runs[0]
        home = scene.work / paths.chunks(downlink)
        products = [index.chunk_products(scene.work, downlink, run, chunk) for chunk in scene.chunks(run)]
        merged = index.build([(chunk, home) for chunk in products])
        index.write_events(merged, scratch / "events.npy")
        part = index.open_events(scratch / "events.npy", merged.files)
        known = {downlink: merged.datagrams}
        self.decision = decide(downlink, known, {downlink: part.keys(0)}, {}, policy(scene))
        self._records = eventfiles.Records(self.decision, {downlink: part}, lambda _, name: home / name)

    def write(self, out: Path) -> None:
        """Write the files into the directory `out`, without checksums and without flushing them to disk.

        As many at a time as the workflow's job writes.
        """
        with ThreadPoolExecutor(2 * THREADS) as pool:
            list(pool.map(lambda number: self._write(out, number), range(len(self.decision.files))))

    def _write(self, out: Path, number: int) -> None:
        with (out / f"{number}.evt").open("wb", buffering=0) as file:
            write_whole(file, bytes(evt.HEADER_SIZE))
            for batch in self._records.batches(*self.decision.files[number], None):
                write_whole(file, batch.content.data)


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
        "copy": lambda: Copy(scene, arguments.out).write(arguments.out),
        "merge": lambda: Merge(scene).all(),
    }
    steps[arguments.step]()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
