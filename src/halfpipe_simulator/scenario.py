"""Scenarios: simulated downlinks with the defects that occur in reality.

A `Scenario` collects downlinks and runs, and writes a level-0 archive, RetDefs, a MOOT file, a config, and a Snakemake
profile that uses the config::

    scenario = Scenario(seed=1, downlinks=("230401001", "230401002"))
    scenario.lpa_run(events=500, parts=2, late_epu=957)
    simulation = scenario.write(tmp_path / "simulated")

The same scenario gives the same bytes.
"""

import json
import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from halfpipe import paths
from halfpipe.errors import ConfigError
from halfpipe.files.durable import write_bytes, write_text
from halfpipe.formats import archive_hours, evt, met
from halfpipe.formats.retdef import RetDef, Span, content_of
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe_simulator import packet_reader
from halfpipe_simulator.packets import PACKET_SPACING, packets_of
from halfpipe_simulator.runs import GROUND_ID, SCID, Datagram, Run, deliver, run_datagrams
from halfpipe_simulator.times import MICROSECONDS, unix_microseconds

FLIGHT_ARCHIVE = "/nfs/farm/g/glast/u23/ISOC-flight/Archive/level0"
FIRST_L0KEY = 1081721
L0KEYS_PER_DOWNLINK = 10  # reserved; `Scenario.l0keys` of them are used
START = datetime(2023, 4, 1, 2, 50, tzinfo=UTC)  # ten minutes before an archive hour ends
MARK = "SIMULATED.txt"
MARK_TEXT = "Everything in this directory is simulated. None of it is flight data.\n"
PROFILE = "profile.v9+.yaml"  # Snakemake prefers this name to config.yaml
MADE = ("level0", "downlinks", "moot.txt", "config.yaml", PROFILE)

_GAP_BETWEEN_RUNS = 30  # seconds


@dataclass(frozen=True)
class Chunk:
    """One chunk of a downlink: consecutive `datagrams` of one EPU of one run; times in Unix UTC microseconds."""

    downlink: DownlinkId
    number: ChunkId
    run: RunId
    apid: int
    begin: int
    end: int
    datagrams: tuple[Datagram, ...]

    @property
    def sound(self) -> list[Datagram]:
        """The undamaged datagrams."""
        return [datagram for datagram in self.datagrams if datagram.lost_packet is None]


@dataclass(frozen=True)
class Simulation:
    """The written files: directory, downlinks, runs and chunks."""

    path: Path
    downlinks: tuple[DownlinkId, ...]
    runs: tuple[RunId, ...]
    chunks: tuple[Chunk, ...]

    @property
    def level0(self) -> Path:
        """Root of the simulated archive."""
        return self.path / "level0"

    def retdef(self, chunk: Chunk) -> Path:
        """Return the RetDef of a chunk."""
        return self.path / "downlinks" / paths.retdef(chunk.downlink, chunk.number)

    @property
    def carried(self) -> dict[DownlinkId, dict[RunId, list[tuple[int, int, int]]]]:
        """The events in undamaged datagrams: sequence, APID and datagram, by downlink and run, in order."""
        found: dict[DownlinkId, dict[RunId, list[tuple[int, int, int]]]] = {dl: {} for dl in self.downlinks}
        for chunk in self.chunks:
            rows = ((sequence, d.apid, d.number) for d in chunk.sound for sequence in d.sequences)
            found[chunk.downlink].setdefault(chunk.run, []).extend(rows)
        return {dl: {run: sorted(rows) for run, rows in runs.items()} for dl, runs in found.items()}


class Scenario:
    """Collects runs, then writes them.

    Parameters
    ----------
    seed
        Seed of all random numbers.
    downlinks
        Ids, in order of arrival.
    start
        Start of the first run, UTC.
    l0keys
        Number of files per hour and APID for the packets of a downlink.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        downlinks: Sequence[str] = ("230401001",),
        start: datetime = START,
        l0keys: int = 1,
    ) -> None:
        self.seed = seed
        self.downlinks = tuple(DownlinkId(text) for text in downlinks)
        self.start = int(met.unix_to_met(start.timestamp()))
        self.l0keys = l0keys
        self.runs: list[Run] = []

    def lpa_run(self, **options: Any) -> "Scenario":
        """Add an LPA run; `options` are those of `Run`."""
        return self._add(Run(kind=evt.InfoType.LPA, **{"epus": (956, 957), **options}))

    def lci_run(self, kind: evt.InfoType = evt.InfoType.LCI_CAL, **options: Any) -> "Scenario":
        """Add an LCI run of one of its three kinds; `options` are those of `Run`."""
        return self._add(Run(kind=kind, **{"epus": (965,), **options}))

    def _add(self, run: Run) -> "Scenario":
        if run.late_epu is not None and run.late_epu not in run.epus:
            raise ConfigError(f"late_epu {run.late_epu} is not among the run's EPUs {run.epus}")
        waits = run.late_epu is not None  # needs one more downlink
        needed = run.first + max(run.parts + waits, 2 if run.repeated_datagrams else 0)
        if needed > len(self.downlinks):
            raise ConfigError(
                f"the run needs {needed} downlinks, but the scenario has {len(self.downlinks)}: name more of them"
            )
        self.runs.append(run)
        return self

    def write(self, out: Path) -> Simulation:
        """Write everything below `out`.

        Parameters
        ----------
        out
            A directory that is empty, does not exist, or was made by this method before.

        Raises
        ------
        ConfigError
            If `out` contains anything else.
        """
        _clear(out)
        datagrams = self._datagrams()
        runs = dict.fromkeys(datagram.run for datagram in datagrams)
        made = Simulation(out, self.downlinks, tuple(runs), tuple(self._chunks(datagrams)))
        self._write_packets(made.level0, datagrams)
        for chunk in made.chunks:
            write_bytes(made.retdef(chunk), content_of(self._retdef(chunk, made.runs.index(chunk.run))))
        lines = [
            f"{run.l1} {2000 + number} {'nomSciOps_simulated' if spec.is_lpa else 'calibOps_simulated'}\n"
            for number, (run, spec) in enumerate(zip(made.runs, self.runs, strict=True))
        ]
        write_text(out / "moot.txt", "".join(lines))
        write_text(out / "config.yaml", _config(out.absolute()))
        write_text(out / PROFILE, _PROFILE_TEXT)
        return made

    def _datagrams(self) -> list[Datagram]:
        """Make the datagrams of all runs, one run after the other."""
        datagrams: list[Datagram] = []
        startedat = self.start
        for number, spec in enumerate(self.runs):
            rng = np.random.default_rng([self.seed, number])
            own = list(run_datagrams(rng, spec, RunId.from_met(startedat), number))
            deliver(rng, spec, own)
            datagrams += own
            startedat = max(d.met for d in own) // MICROSECONDS + _GAP_BETWEEN_RUNS
        return datagrams

    def _chunks(self, datagrams: list[Datagram]) -> list[Chunk]:
        """Divide each downlink into chunks, numbered from 1."""
        chunks = []
        for index, downlink in enumerate(self.downlinks):
            own = [d for d in datagrams if index in d.downlinks]
            own.sort(key=lambda d: (d.run, d.apid, d.number))
            # For consecutive numbers, the difference between number and index is constant.
            series = groupby(enumerate(own), lambda at: (at[1].run, at[1].apid, at[1].number - at[0]))
            for number, (_, group) in enumerate(series, 1):
                members = tuple(datagram for _, datagram in group)
                first = members[0]
                (begin, _) = members[0].span
                (_, end) = members[-1].span
                chunks.append(Chunk(downlink, ChunkId.of(number), first.run, first.apid, begin, end, members))
        return chunks

    def _write_packets(self, root: Path, datagrams: list[Datagram]) -> None:
        """Write the archive; the counter of an APID continues over all runs and over lost packets."""
        # MET seconds and bytes of packets, by hour, APID and level-0 key of their file.
        files: dict[tuple[int, int, int], list[tuple[int, bytes]]] = defaultdict(list)
        counters: dict[int, int] = {}
        for datagram in sorted(datagrams, key=lambda d: (d.apid, d.met)):
            # Start shortly before the counter wraps, so that it wraps in every archive.
            seq = counters.get(datagram.apid, packet_reader.COUNTER - 40)
            packets = packets_of(datagram.content, apid=datagram.apid, seq=seq, met=datagram.met)
            counters[datagram.apid] = (seq + len(packets)) % packet_reader.COUNTER
            for downlink in datagram.downlinks:
                for place, packet in enumerate(packets):
                    if place == datagram.lost_packet:
                        continue
                    for _ in range(1 + (place in datagram.repeated)):
                        at = divmod(datagram.met + place * PACKET_SPACING, MICROSECONDS)
                        hour = int(unix_microseconds(*at)) // MICROSECONDS // archive_hours.HOUR
                        key = _l0key(downlink) + place % self.l0keys
                        files[hour, datagram.apid, key].append((at[0], packet))
        for (hour, apid, key), of_file in files.items():
            name = packet_reader.file_name(SCID, apid, of_file[0][0], key)
            path = archive_hours.hour_path(root, SCID, hour * archive_hours.HOUR) / name
            write_bytes(path, b"".join(packet for _, packet in of_file))

    def _retdef(self, chunk: Chunk, number: int) -> RetDef:
        """Return the RetDef of a chunk of run `number`."""
        return RetDef(
            kind="LSEP" if self.runs[number].is_lpa else "LSEC",
            arch=FLIGHT_ARCHIVE,
            scid=SCID,
            run=chunk.run,
            l0key=_l0key(self.downlinks.index(chunk.downlink)),
            chunk=chunk.number,
            gndid=GROUND_ID + number,
            spans=(Span(chunk.apid, chunk.begin / MICROSECONDS, chunk.end / MICROSECONDS),),
        )


def _l0key(downlink: int) -> int:
    return FIRST_L0KEY + L0KEYS_PER_DOWNLINK * downlink


def _clear(out: Path) -> None:
    """Create `out`, or remove files written there before."""
    mark = out / MARK
    if out.exists() and not mark.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(
            f"{out}: not empty, and not made by the simulator (no {MARK}). Name another directory."
        )
    for name in MADE:
        path = out / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    write_text(mark, MARK_TEXT)


def _config(place: Path) -> str:
    """Return the workflow's config for this simulation."""
    return (
        "# SIMULATED data: nothing that a workflow makes with this config is flight data.\n"
        "paths:\n"
        f"  work: {json.dumps(str(place / 'work'))}\n"
        f"  stage: {json.dumps(str(place / 'stage'))}\n"
        f"  retdef: [{json.dumps(str(place / 'downlinks'))}]\n"
        f"  level0: {json.dumps(str(place / 'level0'))}\n"
        "moot:\n"
        f"  file: {json.dumps(str(place / 'moot.txt'))}\n"
    )


_PROFILE_TEXT = """# SIMULATED data. With SNAKEMAKE_PROFILE set to this directory, `snakemake dl=<id>` processes them.
configfile: config.yaml # the file next to this one
cores: 2
"""
