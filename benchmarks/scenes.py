"""Input of the benchmarks: SIMULATED runs with records of realistic size, built once.

A scene is a directory with a working directory as the workflow leaves it after decoding, and optionally the level-0
archive of the same products. Records have 1.13 kB on average, like event data of the Large Area Telescope (evt-layout).
Two EPUs share the sequences, so the merge alternates between them. Everything is built with the project's own writers,
and checked like a decoder's products.
"""

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from halfpipe import paths
from halfpipe.decode.chunk import Chunk, DecoderLog
from halfpipe.decode.chunk_products import check_products
from halfpipe.files.durable import write_bytes, write_text
from halfpipe.files.reading import sha256
from halfpipe.files.typed import write_stored
from halfpipe.formats import archive_hours, evt, met
from halfpipe.formats.retdef import RetDef, Span, content_of
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe_simulator import packet_reader
from halfpipe_simulator.datagrams import decode
from halfpipe_simulator.decoder import product
from halfpipe_simulator.packets import packets_of
from halfpipe_simulator.runs import GROUND_ID, Datagram, Run, run_datagrams
from halfpipe_simulator.scenario import MARK, MARK_TEXT
from halfpipe_simulator.times import MICROSECONDS

FORM = 4  # increase this if scenes are built differently, so that old ones are not used
APIDS = (956, 957)
CELLS = (18, 64)  # of 16 bytes: with two handlers on average a record has 1.13 kB
RATE = 400.0  # events per second of both EPUs together
START = 702010205  # MET seconds
SCID = 77
FIRST_L0KEY = 1081721
PER_DATAGRAM = 46


@dataclass(frozen=True)
class Shape:
    """The size of a scene.

    Attributes
    ----------
    events
        Events of each run, over all its downlinks.
    chunks
        Chunks of each run in each downlink: one, or an even number, half of them of each EPU.
    downlinks
        Number of downlinks that contain each run.
    runs
        Number of runs.
    level0
        Whether to write the level-0 archive too.
    """

    events: int
    chunks: int = 12
    downlinks: int = 1
    runs: int = 1
    level0: bool = False

    @property
    def apids(self) -> tuple[int, ...]:
        """The EPUs of the events."""
        return APIDS if self.chunks > 1 else APIDS[:1]

    @property
    def name(self) -> str:
        """Name of the scene's directory."""
        archive = "-level0" if self.level0 else ""
        return f"run{FORM}-{self.events}-{self.chunks}-{self.downlinks}-{self.runs}{archive}"


def downlink_id(number: int) -> DownlinkId:
    """Return the id of downlink `number`, counted from 0."""
    day, rank = divmod(number, 500)
    return DownlinkId(f"2304{day + 1:02d}{rank + 1:03d}")


@dataclass(frozen=True)
class Scene:
    """A built scene: its directory and its shape."""

    home: Path
    shape: Shape

    @property
    def work(self) -> Path:
        """A working directory in which every chunk is decoded."""
        return self.home / "work"

    @property
    def level0(self) -> Path:
        """Root of the simulated archive."""
        return self.home / "level0"

    @property
    def downlinks(self) -> tuple[DownlinkId, ...]:
        """The downlinks, in order of arrival."""
        return tuple(downlink_id(number) for number in range(self.shape.downlinks))

    @property
    def runs(self) -> tuple[RunId, ...]:
        """The runs, in order of their start."""
        return tuple(_run(self.shape, number) for number in range(self.shape.runs))

    def chunks(self, run: RunId) -> tuple[ChunkId, ...]:
        """Return the chunks with `run`, the same in each downlink."""
        first = self.runs.index(run) * self.shape.chunks
        return tuple(ChunkId.of(first + number) for number in range(1, self.shape.chunks + 1))

    def products(self, suffix: str, downlink: DownlinkId | None = None) -> list[Path]:
        """Return the chunk products with `suffix` (``.evt``, ``.idx``, ``.rows``), of one downlink or of all."""
        wanted = [downlink] if downlink else self.downlinks
        return [
            path
            for dl in wanted
            for path in sorted((self.work / paths.chunks(dl)).iterdir())
            if path.suffix == suffix
        ]

    def retdef(self, chunk: ChunkId, downlink: DownlinkId | None = None) -> Path:
        """Return the RetDef of a chunk, by default of the first downlink."""
        return self.work / paths.retdef(downlink or self.downlinks[0], chunk)

    @cached_property
    def packets(self) -> list[Path]:
        """The files of the archive."""
        return sorted(path for path in self.level0.rglob("*") if path.is_file())

    def site(self, home: Path, *, decoded: bool = True) -> Path:
        """Make a site in `home`, which is emptied first; return its config file.

        Its working directory has the scene's RetDefs, and its chunk products if `decoded`. All are hard links, so no
        file may be changed in place.
        """
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        if decoded:
            shutil.copytree(self.work, home / "work", copy_function=os.link)
        retdefs = home / "retdefs"
        for downlink in self.downlinks:
            (retdefs / downlink).mkdir(parents=True)
            for path in sorted((self.work / downlink).glob("RetDef-*.xml")):
                os.link(path, retdefs / downlink / path.name)
        config: dict[str, Any] = {
            "paths": {"work": str(home / "work"), "stage": str(home / "stage"), "retdef": [str(retdefs)]},
            "magic7": {"command": None},
        }
        if self.shape.level0:
            config["paths"]["level0"] = str(self.level0)
        if len(self.shape.apids) == 1:
            config["merge"] = {"min_epus": 1}
        write_text(home / "config.yaml", yaml.safe_dump(config))
        return home / "config.yaml"


def build(root: Path, shape: Shape) -> Scene:
    """Return the scene of `shape` below `root`; build it if it does not exist."""
    scene = Scene(root / shape.name, shape)
    if not scene.home.exists():
        part = Scene(root / ".part", shape)
        shutil.rmtree(part.home, ignore_errors=True)
        write_text(part.home / MARK, MARK_TEXT)
        for number in range(shape.runs):
            _write_run(part, number)
        part.home.rename(scene.home)
    return scene


def _run(shape: Shape, number: int) -> RunId:
    return RunId.from_met(START + number * (int(1.1 * shape.events / RATE) + 60))


def _write_run(scene: Scene, number: int) -> None:
    """Write all chunks of one run: for each EPU, pieces with about the same number of datagrams."""
    shape, run = scene.shape, scene.runs[number]
    pieces = shape.downlinks * shape.chunks // len(shape.apids)
    length = shape.events / RATE * MICROSECONDS
    archive = _Archive(scene.level0) if shape.level0 else None
    spec = Run(
        kind=evt.InfoType.LPA,
        events=shape.events,
        epus=shape.apids,
        rate=RATE,
        per_datagram=PER_DATAGRAM,
        cells=CELLS,
    )

    def piece(datagram: Datagram) -> tuple[int, int]:
        since = datagram.met - run.met * MICROSECONDS
        return datagram.apid, min(pieces - 1, int(since / length * pieces))

    rng = np.random.default_rng([shape.events, number])
    made = run_datagrams(rng, spec, run, number)
    for (apid, place), datagrams in groupby(made, piece):
        _write_chunk(scene, number, apid, place, datagrams, archive)


class _Archive:
    """The hourly files of level-0; packets of an APID are in order of time."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._files: dict[tuple[int, int, int], Path] = {}
        self._packets: Counter[int] = Counter()

    def add(self, batch: Sequence[Datagram], l0key: int) -> None:
        """Append the packets of datagrams to the files of their hours; `l0key` is the key of the delivery."""
        for datagram in batch:
            apid, hour = datagram.apid, datagram.span[0] // MICROSECONDS // archive_hours.HOUR
            sequence = self._packets[apid] % packet_reader.COUNTER
            packets = packets_of(datagram.content, apid=apid, seq=sequence, met=datagram.met)
            self._packets[apid] += len(packets)
            if (hour, apid, l0key) not in self._files:
                home = archive_hours.hour_path(self._root, SCID, hour * archive_hours.HOUR)
                home.mkdir(parents=True, exist_ok=True)
                name = packet_reader.file_name(SCID, apid, datagram.met // MICROSECONDS, l0key)
                self._files[hour, apid, l0key] = home / name
            with self._files[hour, apid, l0key].open("ab") as out:
                out.write(b"".join(packets))


def _write_chunk(
    scene: Scene, number: int, apid: int, piece: int, datagrams: Iterator[Datagram], archive: _Archive | None
) -> None:
    """Write the products of one chunk, its RetDef, its ``{chunk}.json``, and optionally its packets."""
    run, apids = scene.runs[number], scene.shape.apids
    downlink, rank = divmod(piece, scene.shape.chunks // len(apids))
    dl = scene.downlinks[downlink]
    chunk = scene.chunks(run)[rank * len(apids) + apids.index(apid)]
    scratch = scene.work / paths.chunk_scratch(dl, chunk)
    scratch.mkdir(parents=True)
    name = f"{GROUND_ID + number:08x}-{run}-{apid:04d}-{chunk}"
    every = list(datagrams)
    stamps = np.array([datagram.span for datagram in every])
    decoded = decode([datagram.content for datagram in every], stamps[:, 0])
    with product(scratch, name, dl.number) as made:
        made.add(decoded)
    begin, end = int(stamps[0, 0]), int(stamps[-1, 1])
    if archive is not None:
        archive.add(every, FIRST_L0KEY + downlink)
    retdef = scene.work / paths.retdef(dl, chunk)
    write_bytes(retdef, _retdef(run, GROUND_ID + number, apid, chunk, FIRST_L0KEY + downlink, (begin, end)))
    log = DecoderLog(processing=(f"{GROUND_ID + number:08x}-{run}",))
    content = Chunk(dl, chunk, sha256(retdef), (run,), tuple(check_products(scratch, chunk)), log)
    for path in sorted(scratch.iterdir()):
        path.rename(scene.work / paths.chunks(dl) / path.name)
    scratch.rmdir()
    write_stored(scene.work / paths.chunk(dl, chunk), content)


def _retdef(run: RunId, ground: int, apid: int, chunk: ChunkId, l0key: int, span: tuple[int, int]) -> bytes:
    """Return a RetDef of one span, Unix microseconds."""
    begin, end = (edge / MICROSECONDS for edge in span)
    return content_of(
        RetDef("LSEP", "/simulated/level0", SCID, run, l0key, chunk, ground, (Span(apid, begin, end),))
    )


@dataclass(frozen=True)
class Mission:
    """Downlinks with only RetDefs, for building their DAG.

    Each has 10 chunks of 3 runs. `home` has the RetDefs in ``retdefs``, ``config.yaml`` for the workflow, and ``bare``,
    a directory with a Snakefile that has only rules, inputs and outputs.
    """

    home: Path
    downlinks: int

    CHUNKS = 10
    RUNS = 3

    @property
    def bare(self) -> Path:
        """Directory of the bare Snakefile with the same jobs and files."""
        return self.home / "bare"

    @property
    def configfile(self) -> Path:
        """The workflow's config."""
        return self.home / "config.yaml"

    def chunks_of(self, downlink: int) -> dict[RunId, tuple[ChunkId, ...]]:
        """Return the chunks of each run."""
        runs = [RunId.from_met(START + 6000 * (downlink * self.RUNS + run)) for run in range(self.RUNS)]
        chunks = [ChunkId.of(number) for number in range(1, self.CHUNKS + 1)]
        return {run: tuple(chunks[place :: self.RUNS]) for place, run in enumerate(runs)}


BARE = '''"""The same jobs and files as in the workflow, and nothing else."""

import json

downlinks = json.load(open("downlinks.json"))


rule all:
    input:
        [f"dl={dl}" for dl in downlinks],


rule decode_chunk:
    output:
        "{dl}/chunks/{chunk}.json",
    shell:
        "true"


rule deliver_run:
    input:
        lambda w: downlinks[w.dl]["runs"][w.run],
    output:
        "runs/{run}/{dl}/manifest.json",
    shell:
        "true"


rule receipt:
    input:
        chunks=lambda w: downlinks[w.dl]["chunks"],
        manifests=lambda w: downlinks[w.dl]["manifests"],
    output:
        "dl={dl}",
    shell:
        "true"
'''


def build_mission(root: Path, downlinks: int) -> Mission:
    """Return RetDefs of a number of downlinks below `root`; write them if they do not exist."""
    mission = Mission(root / f"mission-{downlinks}", downlinks)
    if not mission.configfile.exists():  # it is written last
        shutil.rmtree(mission.home, ignore_errors=True)
        _write_mission(mission)
    return mission


def _write_mission(mission: Mission) -> None:
    bare = {}
    for number in range(mission.downlinks):
        downlink = downlink_id(number)
        home = mission.home / "retdefs" / downlink
        home.mkdir(parents=True)
        of_run = mission.chunks_of(number)
        for run, chunks in of_run.items():
            for chunk in chunks:
                begin = round(met.met_to_unix(run.met) + 100 * chunk.number) * MICROSECONDS
                span = (begin, begin + 90 * MICROSECONDS)
                text = _retdef(run, GROUND_ID, APIDS[chunk.number % 2], chunk, FIRST_L0KEY + number, span)
                (home / f"RetDef-{downlink}-{chunk}.xml").write_bytes(text)
        bare[downlink] = {
            "chunks": [paths.chunk(downlink, chunk) for chunk in sorted(sum(of_run.values(), ()))],
            "manifests": [paths.manifest(run, downlink) for run in of_run],
            "runs": {
                run: [paths.chunk(downlink, chunk) for chunk in chunks] for run, chunks in of_run.items()
            },
        }
    write_text(mission.bare / "Snakefile", BARE)
    write_text(mission.bare / "downlinks.json", json.dumps(bare))
    config = {
        "dl": list(map(str, bare)),
        "paths": {
            "work": str(mission.home / "work"),
            "stage": str(mission.home / "stage"),
            "retdef": [str(mission.home / "retdefs")],
        },
    }
    write_text(mission.configfile, yaml.safe_dump(config))
