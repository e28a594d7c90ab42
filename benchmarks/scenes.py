"""What the benchmarks work on: SIMULATED runs with records of the size of real ones, built once.

A scene is a directory with a working directory as the workflow leaves it after decoding, and if wanted
the level-0 archive that the same products are decoded from. Records have 1.13 kB on average, as many
as would be in event data of the Large Area Telescope (evt-layout); two EPUs share the sequences, so
the merge takes events now from one and now from the other. Everything is built with the project's own
writers and checked by what checks a decoder's products.
"""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
import yaml
from numpy.typing import NDArray

from halfpipe import paths
from halfpipe.decode.chunk_products import check_products
from halfpipe.files.durable import write_bytes, write_text
from halfpipe.files.json_files import write_json
from halfpipe.files.reading import sha256
from halfpipe.formats import evt, idx, level0, met
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe_simulator.datagrams import (
    CHECKSUM_SIZE,
    DATAGRAM_HEADER,
    EVENT_ROW,
    MAX_SIZE,
    About,
    decode,
    encode,
)
from halfpipe_simulator.events import Events, make_events
from halfpipe_simulator.packets import PACKET_SPACING, packet_count, packets_of

FORM = 2  # counts up when scenes are built in another way: then those of before are built again
APIDS = (956, 957)
CELLS = (18, 64)  # of 16 bytes: with two handlers on average a record has 1.13 kB
RATE = 400.0  # events per second of both EPUs together
START = 702010205  # MET seconds
SCID = 77
GROUND_ID = 0x770100
FIRST_L0KEY = 1081721
CLOSE_DELAY = 50_000  # microseconds from the last event of a datagram to its first packet
BATCH = 500  # datagrams made at a time
PER_DATAGRAM = (MAX_SIZE - DATAGRAM_HEADER.itemsize - CHECKSUM_SIZE) // (
    EVENT_ROW.itemsize
    + 16 * CELLS[1]
    + evt.LPA_INFO.itemsize
    + 4 * evt.LPA_HANDLER.itemsize
    + evt.LPA_KEYS.itemsize
)
MARK = "SIMULATED.txt"


@dataclass(frozen=True)
class Shape:
    """How large a scene is.

    Attributes
    ----------
    events
        Of each run, over all its downlinks.
    chunks
        Of each run in each downlink: one, or an even number, half of them of each EPU.
    downlinks
        Over how many downlinks each run is spread.
    runs
        How many.
    level0
        Whether to write the level-0 archive too.
    """

    events: int
    chunks: int = 12
    downlinks: int = 1
    runs: int = 1
    level0: bool = False

    def __post_init__(self) -> None:
        if self.chunks % len(self.apids):
            raise ValueError(f"{self.chunks} chunks of a run: expected one, or as many of each EPU")

    @property
    def apids(self) -> tuple[int, ...]:
        """The EPUs that the events come from."""
        return APIDS if self.chunks > 1 else APIDS[:1]

    @property
    def name(self) -> str:
        """Name of the scene's directory."""
        archive = "-level0" if self.level0 else ""
        return f"run-{self.events}-{self.chunks}-{self.downlinks}-{self.runs}{archive}"


def downlink_id(number: int) -> DownlinkId:
    """Return the id of downlink `number`, counted from 0."""
    day, rank = divmod(number, 500)
    return DownlinkId(f"2304{day + 1:02d}{rank + 1:03d}")


@dataclass(frozen=True)
class Scene:
    """A scene that was built: its directory and its shape."""

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
        """The downlinks, in the order in which they come."""
        return tuple(downlink_id(number) for number in range(self.shape.downlinks))

    @property
    def runs(self) -> tuple[RunId, ...]:
        """The runs, in the order in which they start."""
        return tuple(_run(self.shape, number) for number in range(self.shape.runs))

    def chunks(self, run: RunId) -> tuple[ChunkId, ...]:
        """Return the chunks that bring `run`, the same in each downlink."""
        first = self.runs.index(run) * self.shape.chunks
        return tuple(ChunkId.of(first + number) for number in range(1, self.shape.chunks + 1))

    def products(self, suffix: str, downlink: DownlinkId | None = None) -> list[Path]:
        """Return the chunk products that end in `suffix` (``.evt`` or ``.idx``), of one downlink or of all."""
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

        Its working directory has the scene's RetDefs, its chunk products too if they are `decoded`; all
        of it by hard links, so nothing of the scene may be changed in place.
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
    """Return the scene of `shape` below `root`; it is built unless it is there and whole."""
    scene = Scene(root / shape.name, shape)
    if not is_whole(scene):
        shutil.rmtree(scene.home, ignore_errors=True)
        part = Scene(scene.home.with_name(f".{scene.home.name}.part"), shape)
        shutil.rmtree(part.home, ignore_errors=True)
        _write(part)
        part.home.rename(scene.home)
    return scene


def is_whole(scene: Scene) -> bool:
    """Tell whether the scene was built to its end, in the present way, and all files have their sizes."""
    try:
        content = json.loads((scene.home / "scene.json").read_bytes())
        sizes = {name: (scene.home / name).stat().st_size for name in content["sizes"]}
    except (OSError, ValueError, KeyError):
        return False
    return bool(content == _described(scene, sizes))


def _described(scene: Scene, sizes: dict[str, int]) -> dict[str, Any]:
    return {"form": FORM, "shape": asdict(scene.shape), "sizes": sizes}


def _write(scene: Scene) -> None:
    write_text(scene.home / MARK, "Everything in this directory is simulated. None of it is flight data.\n")
    for number in range(scene.shape.runs):
        _write_run(scene, number)
    files = [path for path in sorted(scene.home.rglob("*")) if path.is_file()]
    sizes = {str(path.relative_to(scene.home)): path.stat().st_size for path in files}
    write_json(scene.home / "scene.json", _described(scene, sizes))


def _run(shape: Shape, number: int) -> RunId:
    return RunId.from_met(START + number * (int(1.1 * shape.events / RATE) + 60))


@dataclass(frozen=True)
class _Datagram:
    """One datagram; `stamp` is the time of its first packet, MET microseconds."""

    content: bytes
    stamp: int

    @property
    def last_stamp(self) -> int:
        return self.stamp + (packet_count(len(self.content)) - 1) * PACKET_SPACING


def _write_run(scene: Scene, number: int) -> None:
    """Write all chunks of one run: pieces of equal length of the datagrams of each EPU."""
    shape, run = scene.shape, scene.runs[number]
    rng = np.random.default_rng([shape.events, number])
    steps = rng.exponential(met.MICROSECONDS / RATE, shape.events)
    times = run.met * met.MICROSECONDS + 100_000 + np.cumsum(np.maximum(steps, 1)).astype(np.int64)
    # Sequences have holes: the trigger system counts what the filters then reject, too.
    sequences = np.uint64(1000) + np.cumsum(rng.integers(1, 6, shape.events).astype(np.uint64))
    epu = rng.integers(0, len(shape.apids), shape.events)
    for place, apid in enumerate(shape.apids):
        own = np.flatnonzero(epu == place)
        count = -(-own.size // PER_DATAGRAM)
        pieces = shape.downlinks * shape.chunks // len(shape.apids)
        if count < pieces:
            raise ValueError(
                f"{shape.events} events are too few for {shape.chunks} chunks in {shape.downlinks}"
            )
        edges = [count * piece // pieces for piece in range(pieces + 1)]
        archive = _Archive(scene.level0, apid) if shape.level0 else None
        for piece in range(pieces):
            downlink, rank = divmod(piece, pieces // shape.downlinks)
            chunk = scene.chunks(run)[rank * len(shape.apids) + place]
            made = _datagrams(rng, run, number, apid, times[own], sequences[own], edges[piece : piece + 2])
            _write_chunk(scene, scene.downlinks[downlink], chunk, run, number, apid, made, archive)


def _datagrams(
    rng: np.random.Generator,
    run: RunId,
    number: int,
    apid: int,
    times: NDArray[np.int64],
    sequences: NDArray[np.uint64],
    between: Sequence[int],
) -> Iterator[list[_Datagram]]:
    """Make the datagrams of one EPU from one number up to another, some hundred at a time."""
    last_of_all = -(-times.size // PER_DATAGRAM) - 1
    free = 0
    for first in range(between[0], between[1], BATCH):
        numbers = range(first, min(first + BATCH, between[1]))
        part = slice(numbers.start * PER_DATAGRAM, min(numbers.stop * PER_DATAGRAM, times.size))
        events = make_events(
            rng,
            kind=evt.InfoType.LPA,
            times=times[part],
            sequences=sequences[part],
            startedat=run.met,
            hwkey=0x1C00 + number,
            swkey=0x2200 + number,
            cells=CELLS,
        )
        batch = []
        for datagram in numbers:
            begin = (datagram - first) * PER_DATAGRAM
            end = min(begin + PER_DATAGRAM, events.rows.size)
            about = _about(run, number, apid, datagram, datagram == last_of_all)
            stamp = max(free, int(events.met[end - 1]) + CLOSE_DELAY)
            batch.append(_Datagram(_encode(about, events, begin, end), stamp))
            free = batch[-1].last_stamp + PACKET_SPACING
        yield batch


def _about(run: RunId, number: int, apid: int, datagram: int, last: bool) -> About:
    """Say what stands in a datagram's header: the first starts the run, the last stops it."""
    return About(
        startedat=run.met,
        groundid=GROUND_ID + number,
        apid=apid,
        datagram=datagram,
        open_action=2 if datagram else 0,
        open_reason=4 if datagram else 0,
        close_action=0 if last else 3,
        close_reason=0 if last else 4,
        crate=apid - APIDS[0],
        hwkey=0x1C00 + number,
        swkey=0x2200 + number,
    )


def _encode(about: About, events: Events, begin: int, end: int) -> bytes:
    payload = events.payload[events.edges[begin] : events.edges[end]].tobytes()
    return encode(about, events.rows[begin:end], payload)


class _Archive:
    """The hourly files of one APID; packets come in the order of their times."""

    def __init__(self, root: Path, apid: int) -> None:
        self._root, self._apid = root, apid
        self._sequence = 0

    def add(self, batch: Sequence[_Datagram], l0key: int) -> None:
        """Append the packets of datagrams to the files of their hours; `l0key` is that of the delivery."""
        stamps = np.array([datagram.stamp for datagram in batch])
        unix = met.unix_microseconds(*np.divmod(stamps, met.MICROSECONDS))
        hours = (unix // met.MICROSECONDS // met.HOUR).tolist()
        for hour in sorted(set(hours)):
            packets: list[bytes] = []
            here = [datagram for datagram, its in zip(batch, hours, strict=True) if its == hour]
            for datagram in here:
                made = packets_of(datagram.content, apid=self._apid, seq=self._sequence, met=datagram.stamp)
                self._sequence = (self._sequence + len(made)) % level0.COUNTER
                packets += made
            home = level0.hour_path(self._root, SCID, hour * met.HOUR)
            home.mkdir(parents=True, exist_ok=True)
            begun = sorted(home.glob(f"*a{self._apid:04d}t*.{l0key:010d}"))
            first = here[0].stamp // met.MICROSECONDS
            path = begun[-1] if begun else home / level0.file_name(SCID, self._apid, first, l0key)
            with path.open("ab") as out:
                out.write(b"".join(packets))


def _write_chunk(
    scene: Scene,
    downlink: DownlinkId,
    chunk: ChunkId,
    run: RunId,
    number: int,
    apid: int,
    datagrams: Iterator[list[_Datagram]],
    archive: _Archive | None,
) -> None:
    """Write the products of one chunk, its RetDef, what vouches for it, and its packets if wanted."""
    home = scene.work / paths.chunks(downlink)
    scratch = scene.work / paths.chunk_scratch(downlink, chunk)
    scratch.mkdir(parents=True)
    l0key = FIRST_L0KEY + scene.downlinks.index(downlink)
    name = f"{GROUND_ID + number:08x}-{run}-{apid:04d}-{chunk}"
    begin, end = 0, 0
    with ExitStack() as stack:
        products = [stack.enter_context((scratch / f"{name}.{kind}").open("wb")) for kind in ("evt", "idx")]
        growing = _Growing(name, *products)
        for batch in datagrams:
            growing.add(batch)
            if archive is not None:
                archive.add(batch, l0key)
            begin, end = begin or batch[0].stamp, batch[-1].last_stamp
        growing.finish(downlink)
    retdef = _retdef(run, GROUND_ID + number, apid, chunk, l0key, (begin, end))
    write_bytes(scene.work / paths.retdef(downlink, chunk), retdef)
    content = {
        "downlink": downlink,
        "chunk": chunk,
        "retdef": sha256(scene.work / paths.retdef(downlink, chunk)),
        "runs": [run],
        "files": check_products(scratch, chunk, lambda name: scene.work / paths.kept_index(downlink, name)),
        "said": {
            "processing": [f"{GROUND_ID + number:08x}-{run}"],
            "exceptions": {},
            "exceptions_by_run": {},
            "lines": [],
        },
    }
    for path in sorted(scratch.iterdir()):
        path.rename(home / path.name)
    scratch.rmdir()
    write_json(scene.work / paths.chunk(downlink, chunk), content)


class _Growing:
    """Event file and index of one chunk while they grow, as the built-in decoder writes them."""

    def __init__(self, name: str, events: IO[bytes], index: IO[bytes]) -> None:
        self._name, self._events, self._index = name, events, index
        self._size, self._count = evt.HEADER_SIZE, 0
        self._first = self._last = (0, 0)
        events.write(bytes(evt.HEADER_SIZE))

    def add(self, batch: Sequence[_Datagram]) -> None:
        """Append the records, and the lines of each datagram: its events, then itself."""
        stamps = np.array([datagram.stamp for datagram in batch])
        unix = met.unix_microseconds(*np.divmod(stamps, met.MICROSECONDS))
        decoded = decode([datagram.content for datagram in batch], unix, scid=SCID)
        self._events.write(decoded.records.data)
        decoded.lines["offset"] += self._size
        self._size += decoded.records.size
        lines = idx.evt_lines(decoded.lines, f"{self._name}.evt").splitlines(keepends=True)
        at = 0
        of_datagrams = idx.dgm_lines(decoded.datagrams).splitlines(keepends=True)
        for events, line in zip(decoded.datagrams["nevts"].tolist(), of_datagrams, strict=True):
            self._index.writelines([*lines[at : at + events], line])
            at += events
        places = [(int(decoded.seconds[which]), int(decoded.lines["sequence"][which])) for which in (0, -1)]
        self._first, self._last = self._first if self._count else places[0], places[1]
        self._count += decoded.lines.size

    def finish(self, downlink: DownlinkId) -> None:
        """Write the header, which says how many events there are."""
        self._events.seek(0)
        self._events.write(
            evt.pack_header(
                runid=downlink.number,
                seconds=(self._first[0], self._last[0]),
                sequences=(self._first[1], self._last[1]),
                events=self._count,
                moot_key=evt.MOOT_UNSET_KEY,
                moot_alias=evt.MOOT_UNSET_ALIAS,
            )
        )


def _retdef(run: RunId, ground: int, apid: int, chunk: ChunkId, l0key: int, span: tuple[int, int]) -> bytes:
    """Return a RetDef of one span; its edges come as MET microseconds (ground-chain §4)."""
    edges = met.unix_microseconds(*np.divmod(np.array(span), met.MICROSECONDS)).tolist()
    begin, end = (f"{edge // met.MICROSECONDS}.{edge % met.MICROSECONDS:06d}" for edge in edges)
    return (
        '<?xml version="1.0" encoding="US-ASCII" ?>\n'
        '<retdef type="LSEP">\n'
        f'  <arch scid="{SCID}">/simulated/level0</arch>\n'
        f'  <run runid="{run.met}" l0key="{l0key}" chunkid="{chunk.number}" gndid="{ground}" start="{run.met}"/>\n'
        "  <spans>\n"
        f'    <span apid="{apid}" tbeg="{begin}" tend="{end}"/>\n'
        "  </spans>\n"
        "</retdef>\n"
    ).encode()


@dataclass(frozen=True)
class Mission:
    """Downlinks of which there are RetDefs and nothing else, for building their DAG.

    Each has 10 chunks of 3 runs. `home` has them below ``retdefs``, ``config.yaml`` for the workflow and
    ``bare``, a directory with a Snakefile of nothing but rules, inputs and outputs.
    """

    home: Path
    downlinks: int

    CHUNKS = 10
    RUNS = 3

    @property
    def bare(self) -> Path:
        """Where the Snakefile lies that has the same jobs and files."""
        return self.home / "bare"

    @property
    def configfile(self) -> Path:
        """The workflow's config."""
        return self.home / "config.yaml"

    def chunks_of(self, downlink: int) -> dict[RunId, tuple[ChunkId, ...]]:
        """Return which chunks bring which run."""
        runs = [RunId.from_met(START + 6000 * (downlink * self.RUNS + run)) for run in range(self.RUNS)]
        chunks = [ChunkId.of(number) for number in range(1, self.CHUNKS + 1)]
        return {run: tuple(chunks[place :: self.RUNS]) for place, run in enumerate(runs)}


BARE = '''"""The same jobs and files as the workflow has, and nothing besides."""

import json

downlinks = json.load(open("downlinks.json"))


rule all:
    input:
        [f"dl={dl}" for dl in downlinks],


rule stage_retdef:
    output:
        "{dl}/RetDef-{dl}-{chunk}.xml",
    shell:
        "true"


rule decode_chunk:
    input:
        "{dl}/RetDef-{dl}-{chunk}.xml",
    output:
        "{dl}/chunks/{chunk}.json",
    shell:
        "true"


rule deliver_run:
    input:
        lambda w: downlinks[w.dl]["runs"][w.run],
    output:
        index="runs/{run}/{dl}/index.json",
        manifest="runs/{run}/{dl}/manifest.json",
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
    """Return RetDefs of so many downlinks below `root`; they are written unless they are there."""
    mission = Mission(root / f"mission-{downlinks}", downlinks)
    if not (mission.home / "scene.json").exists():
        shutil.rmtree(mission.home, ignore_errors=True)
        _write_mission(mission)
        write_json(mission.home / "scene.json", {"form": FORM, "downlinks": downlinks})
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
                begin = run.met * met.MICROSECONDS + chunk.number * 100 * met.MICROSECONDS
                span = (begin, begin + 90 * met.MICROSECONDS)
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
    write_json(mission.bare / "downlinks.json", bare)
    config = {
        "dl": list(map(str, bare)),
        "paths": {
            "work": str(mission.home / "work"),
            "stage": str(mission.home / "stage"),
            "retdef": [str(mission.home / "retdefs")],
        },
    }
    write_text(mission.configfile, yaml.safe_dump(config))
