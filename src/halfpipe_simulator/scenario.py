"""Scenarios: simulated downlinks with what can go wrong with them.

A `Scenario` is told which downlinks and runs there are and writes a level-0 archive, RetDefs, a MOOT
file, a config and `truth.json`::

    scenario = Scenario(seed=1, downlinks=("230401001", "230401002"))
    scenario.lpa_run(events=500, parts=2, late_epu=957)
    simulation = scenario.write(tmp_path / "simulated")

The same scenario gives the same bytes.
"""

import json
import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from halfpipe.errors import ConfigError
from halfpipe.files import write_bytes, write_text
from halfpipe.formats import evt, level0, met, simulated
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe_simulator.events import Events, make_events
from halfpipe_simulator.magic7 import magic7_datagrams
from halfpipe_simulator.packets import PACKET_SIZE, PACKET_SPACING, packet_count, packets_of
from halfpipe_simulator.truth import Carried, RunHistory

SCID = 77
FLIGHT_ARCHIVE = "/nfs/farm/g/glast/u23/ISOC-flight/Archive/level0"
FIRST_L0KEY = 1081721
L0KEYS_PER_DOWNLINK = 10
GROUND_ID = 0x770100
START = datetime(2023, 4, 1, 2, 50, tzinfo=UTC)  # ten minutes before an archive hour ends
MARK = "SIMULATED.txt"
MARK_TEXT = "Everything in this directory is simulated. None of it is flight data.\n"
MADE = ("level0", "downlinks", "moot.txt", "config.yaml", "truth.json")
MAGIC7_MARGIN = 6100  # seconds before the first and after the last event: the hand-off asks for 6000

_CRATE = {0: 3, 1: 0, 2: 1, 3: 2}  # by the APID's place among the four of its kind (ground-chain §1)
_CLOSE = {"stop": 0, "abort": 1, "pause": 2}
_OPERATOR, _FULL = 0, 4
_START, _CONTINUE_OPEN, _CONTINUE_CLOSE = 0, 2, 3
_CLOSE_DELAY = 50_000  # microseconds from the last event of a datagram to its packets
_GAP_BETWEEN_RUNS = 30  # seconds

_DTD = """<?xml version="1.0" encoding="US-ASCII" ?>
<!DOCTYPE retdef [
<!ELEMENT retdef (arch, run, spans)>
<!ATTLIST retdef type (LSEP|LSEC) #REQUIRED>
<!ELEMENT arch (#PCDATA)>
<!ATTLIST arch scid CDATA #REQUIRED>
<!ELEMENT run (#PCDATA)>
<!ATTLIST run runid CDATA #REQUIRED l0key CDATA #REQUIRED chunkid CDATA #REQUIRED gndid CDATA #REQUIRED start CDATA #REQUIRED>
<!ELEMENT spans (span+)>
<!ELEMENT span (#PCDATA)>
<!ATTLIST span apid CDATA #REQUIRED tbeg CDATA #REQUIRED tend CDATA #REQUIRED>
]>
"""  # noqa: E501 - one declaration a line, as real RetDefs have them


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a scenario; `Scenario.lpa_run` and `Scenario.lci_run` make it.

    Attributes
    ----------
    kind
        LPA or one of the three LCI kinds.
    events
        How many, over all EPUs.
    epus
        The APIDs.
    first
        Index of the downlink in which the run begins.
    parts
        Over how many downlinks it is spread, from `first` on.
    rate
        Events per second.
    first_sequence
        GEM sequence of the first event; 64 bits.
    per_datagram
        Most events of a datagram.
    cells
        Fewest and most 16-byte cells of an event's EBF.
    close
        How the run ends: stop, abort or pause.
    late_epu
        This EPU's datagrams arrive one downlink later than the others'.
    eventless_epu
        This EPU has datagrams but no events.
    lost_packets
        So many datagrams lose one packet.
    repeated_packets
        So many packets stand in the archive twice.
    lost_datagrams
        So many datagrams inside the first EPU's series arrive never.
    repeated_datagrams
        So many datagrams at the end of each EPU's first part come with the next downlink again.
    equal_sequences
        So many pairs of events in two EPUs share a sequence.
    equal_in_one
        So many pairs of events of one EPU share a sequence.
    orphaned_head, orphaned_tail
        The last EPU's first (last) datagrams never arrive, so what the others have there is orphaned.
    no_start, no_stop
        Every EPU's first (last) datagram never arrives.
    """

    kind: evt.InfoType
    events: int
    epus: tuple[int, ...]
    first: int = 0
    parts: int = 1
    rate: float = 10.0
    first_sequence: int = 1000
    per_datagram: int = 60
    cells: tuple[int, int] = (4, 24)
    close: str = "stop"
    late_epu: int | None = None
    eventless_epu: int | None = None
    lost_packets: int = 0
    repeated_packets: int = 0
    lost_datagrams: int = 0
    repeated_datagrams: int = 0
    equal_sequences: int = 0
    equal_in_one: int = 0
    orphaned_head: bool = False
    orphaned_tail: bool = False
    no_start: bool = False
    no_stop: bool = False


@dataclass
class _Datagram:
    """One datagram of one EPU and what becomes of it."""

    run: RunId
    apid: int
    number: int
    about: simulated.About
    met: int  # microseconds, of its first packet
    part: int
    sequences: tuple[int, ...]
    utcs: tuple[float, ...]
    content: bytes
    packets: int
    downlinks: list[int] = field(default_factory=list)
    lost_packet: int | None = None
    repeated: list[int] = field(default_factory=list)

    @property
    def span(self) -> tuple[int, int]:
        """Unix UTC microseconds of the first and the last packet."""
        last = self.met + (self.packets - 1) * PACKET_SPACING
        times = np.array([self.met, last])
        begin, end = met.unix_microseconds(times // met.MICROSECONDS, times % met.MICROSECONDS).tolist()
        return begin, end

    def carried(self) -> Carried:
        """Return it as truth sees it."""
        return Carried(
            self.apid,
            self.number,
            simulated.OPEN_ACTIONS[self.about.open_action],
            simulated.CLOSE_ACTIONS[self.about.close_action],
            self.sequences,
            self.utcs,
        )


@dataclass(frozen=True)
class Chunk:
    """One chunk of a downlink: consecutive datagrams of one EPU of one run; times Unix UTC microseconds."""

    downlink: DownlinkId
    number: ChunkId
    run: RunId
    apid: int
    begin: int
    end: int


@dataclass(frozen=True)
class Simulation:
    """What was written: where, which chunks, and the truth as in ``truth.json``."""

    path: Path
    downlinks: tuple[DownlinkId, ...]
    runs: tuple[RunId, ...]
    chunks: tuple[Chunk, ...]
    truth: dict[str, object]

    @property
    def level0(self) -> Path:
        """Root of the simulated archive."""
        return self.path / "level0"

    def retdef(self, chunk: Chunk) -> Path:
        """Return the RetDef of a chunk."""
        return self.path / "downlinks" / chunk.downlink / f"RetDef-{chunk.downlink}-{chunk.number}.xml"


class Scenario:
    """Collects runs, then writes them.

    Parameters
    ----------
    seed
        Of everything random.
    downlinks
        Ids, in the order in which they arrive.
    start
        UTC of the first run's start.
    l0keys
        Over how many files per hour and APID each downlink's packets are spread.
    packet_size
        Bytes of a full packet.
    magic7
        Whether to simulate attitude and orbit too.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        downlinks: Sequence[str] = ("230401001",),
        start: datetime = START,
        l0keys: int = 1,
        packet_size: int = PACKET_SIZE,
        magic7: bool = True,
    ) -> None:
        if not 1 <= l0keys <= L0KEYS_PER_DOWNLINK:
            raise ConfigError(f"l0keys {l0keys}: expected 1 to {L0KEYS_PER_DOWNLINK}")
        self.seed = seed
        self.downlinks = tuple(DownlinkId(text) for text in downlinks)
        self.start = int(met.unix_to_met(start.timestamp()))
        self.l0keys = l0keys
        self.packet_size = packet_size
        self.magic7 = magic7
        self.runs: list[Run] = []

    def lpa_run(
        self, *, events: int = 1000, epus: tuple[int, ...] = (956, 957), **options: object
    ) -> "Scenario":
        """Add an LPA run; `options` are those of `Run`."""
        return self._add(evt.InfoType.LPA, events, epus, options)

    def lci_run(
        self,
        kind: evt.InfoType = evt.InfoType.LCI_CAL,
        *,
        events: int = 1000,
        epus: tuple[int, ...] = (965,),
        **options: object,
    ) -> "Scenario":
        """Add an LCI run of one of its three kinds; `options` are those of `Run`."""
        return self._add(kind, events, epus, options)

    def _add(
        self, kind: evt.InfoType, events: int, epus: tuple[int, ...], options: dict[str, object]
    ) -> "Scenario":
        run = Run(kind=kind, events=events, epus=epus, **options)  # type: ignore[arg-type]
        last = run.first + run.parts
        for name in ("late_epu", "eventless_epu"):
            epu = getattr(run, name)
            if epu is not None and epu not in epus:
                raise ConfigError(f"{name} {epu} is not among the run's EPUs {epus}")
        needed = max(last, last + 1 if run.late_epu else 0, run.first + 2 if run.repeated_datagrams else 0)
        if needed > len(self.downlinks):
            raise ConfigError(
                f"the run needs {needed} downlinks, the scenario has {len(self.downlinks)}: name more of them"
            )
        self.runs.append(run)
        return self

    def write(self, out: Path, *, config_root: Path | None = None) -> Simulation:
        """Write everything below `out`.

        Parameters
        ----------
        out
            A directory that is empty, does not exist, or was made by this method before.
        config_root
            Paths in ``config.yaml`` are relative to it; absolute if None.

        Raises
        ------
        ConfigError
            If `out` holds something else.
        """
        _clear(out)
        datagrams, runs = self._datagrams()
        chunks = self._chunks(datagrams)
        self._write_packets(out / "level0", datagrams)
        if self.magic7:
            self._write_magic7(out / "level0", datagrams)
        for chunk in chunks:
            self._write_retdef(out, chunk, runs)
        lines = [
            f"{run.l1} {2000 + number} {'nomSciOps_simulated' if _is_lpa(spec) else 'calibOps_simulated'}\n"
            for number, (run, spec) in enumerate(runs.items())
        ]
        write_text(out / "moot.txt", "".join(lines))
        truth = self._truth(datagrams, chunks, runs)
        write_text(out / "truth.json", json.dumps(truth, sort_keys=True) + "\n")
        write_text(out / "config.yaml", _config(out.absolute(), config_root))
        return Simulation(out, self.downlinks, tuple(runs), tuple(chunks), truth)

    def _datagrams(self) -> tuple[list[_Datagram], dict[RunId, Run]]:
        """Make the datagrams of all runs."""
        datagrams: list[_Datagram] = []
        runs: dict[RunId, Run] = {}
        startedat = self.start
        for number, spec in enumerate(self.runs):
            run = RunId.from_met(startedat)
            runs[run] = spec
            rng = np.random.default_rng([self.seed, number])
            own = list(_run_datagrams(rng, spec, run, number, self.packet_size))
            _deliver(rng, spec, own)
            datagrams += own
            startedat = max(d.met for d in own) // met.MICROSECONDS + _GAP_BETWEEN_RUNS
        return datagrams, runs

    def _chunks(self, datagrams: list[_Datagram]) -> list[Chunk]:
        """Divide each downlink into chunks, numbered from 1."""
        chunks = []
        for index, downlink in enumerate(self.downlinks):
            number = 0
            series: list[list[_Datagram]] = []
            for datagram in sorted(datagrams, key=lambda d: (d.run, d.apid, d.number)):
                if index not in datagram.downlinks:
                    continue
                last = series[-1][-1] if series else None
                if last is None or (last.run, last.apid, last.number + 1) != (
                    datagram.run,
                    datagram.apid,
                    datagram.number,
                ):
                    series.append([])
                series[-1].append(datagram)
            for number, members in enumerate(series, 1):
                chunks.append(
                    Chunk(
                        downlink,
                        ChunkId.of(number),
                        members[0].run,
                        members[0].apid,
                        members[0].span[0],
                        members[-1].span[1],
                    )
                )
        return chunks

    def _write_packets(self, root: Path, datagrams: list[_Datagram]) -> None:
        """Write the archive: counters run on per APID, over all runs and over what is lost."""
        rng = np.random.default_rng([self.seed, len(self.runs)])
        files: dict[tuple[int, int, int], list[tuple[int, bytes]]] = defaultdict(list)
        counters: dict[int, int] = {}
        for datagram in sorted(datagrams, key=lambda d: (d.apid, d.met)):
            # Close to where the counter wraps, so that it does so in every archive.
            seq = counters.get(datagram.apid, level0.COUNTER - 40)
            packets = packets_of(
                datagram.content, apid=datagram.apid, seq=seq, met=datagram.met, packet_size=self.packet_size
            )
            counters[datagram.apid] = (seq + len(packets)) % level0.COUNTER
            for downlink in datagram.downlinks:
                for place, packet in enumerate(packets):
                    if place == datagram.lost_packet:
                        continue
                    copies = 2 if place in datagram.repeated else 1
                    for _ in range(copies):
                        key = FIRST_L0KEY + L0KEYS_PER_DOWNLINK * downlink + int(rng.integers(self.l0keys))
                        _file_packet(files, datagram.apid, key, packet)
        _write_files(root, files)

    def _write_magic7(self, root: Path, datagrams: list[_Datagram]) -> None:
        files: dict[tuple[int, int, int], list[tuple[int, bytes]]] = defaultdict(list)
        first = min(d.met for d in datagrams) // met.MICROSECONDS - MAGIC7_MARGIN
        last = max(d.met for d in datagrams) // met.MICROSECONDS + MAGIC7_MARGIN
        # A datagram's events are before its packets.
        first = min(first, self.start - MAGIC7_MARGIN)
        for number, (time, content) in enumerate(magic7_datagrams(first, last)):
            for packet in packets_of(
                content, apid=simulated.MAGIC7_APID, seq=number % level0.COUNTER, met=time
            ):
                _file_packet(files, simulated.MAGIC7_APID, FIRST_L0KEY, packet)
        _write_files(root, files)

    def _write_retdef(self, out: Path, chunk: Chunk, runs: dict[RunId, Run]) -> None:
        number = list(runs).index(chunk.run)
        key = FIRST_L0KEY + L0KEYS_PER_DOWNLINK * self.downlinks.index(chunk.downlink)
        text = _DTD + (
            f'<retdef type="{"LSEP" if _is_lpa(runs[chunk.run]) else "LSEC"}">\n'
            f'  <arch scid="{SCID}">{FLIGHT_ARCHIVE}</arch>\n'
            f'  <run runid="{chunk.run.met}" l0key="{key}" chunkid="{chunk.number.number}" '
            f'gndid="{GROUND_ID + number}" start="{chunk.run.met}"/>\n'
            f"  <spans>\n"
            f'    <span apid="{chunk.apid}" tbeg="{_decimal(chunk.begin)}" tend="{_decimal(chunk.end)}"/>\n'
            f"  </spans>\n"
            f"</retdef>\n"
        )
        path = out / "downlinks" / chunk.downlink / f"RetDef-{chunk.downlink}-{chunk.number}.xml"
        write_text(path, text)

    def _truth(
        self, datagrams: list[_Datagram], chunks: list[Chunk], runs: dict[RunId, Run]
    ) -> dict[str, object]:
        carried: dict[str, dict[str, object]] = {downlink: {} for downlink in self.downlinks}
        described = []
        members: dict[tuple[DownlinkId, RunId], list[_Datagram]] = defaultdict(list)
        sound = [d for d in datagrams if d.downlinks and d.lost_packet is None]
        for chunk in chunks:
            own = [
                d
                for d in sound
                if d.apid == chunk.apid and chunk.begin <= d.span[0] and d.span[1] <= chunk.end
            ]
            for datagram in own:
                members[chunk.downlink, datagram.run].append(datagram)
            described.append(
                {
                    "downlink": chunk.downlink,
                    "chunk": chunk.number,
                    "run": chunk.run,
                    "apid": chunk.apid,
                    "datagrams": [d.number for d in own],
                    "events": sum(len(d.sequences) for d in own),
                }
            )
        for (downlink, run), own in members.items():
            carried[downlink][run] = sorted(
                [sequence, d.apid, d.number, utc]
                for d in own
                for sequence, utc in zip(d.sequences, d.utcs, strict=True)
            )
        outcome = {}
        for run, spec in runs.items():
            history = RunHistory()
            for downlink in sorted(self.downlinks):
                if any(chunk.downlink == downlink and chunk.run == run for chunk in chunks):
                    history.take(downlink, [d.carried() for d in members[downlink, run]])
            outcome[run] = {
                "kind": "LPA" if _is_lpa(spec) else "LCI",
                "complete": history.complete(),
                "delivered": sorted(event for events in history.delivered.values() for event in events),
                "delivered_by": history.delivered,
                "orphans": history.orphans,
                "late": history.late(),
            }
        return {
            "note": "SIMULATED: none of these events was recorded by the Large Area Telescope",
            "seed": self.seed,
            "carried_columns": ["sequence", "apid", "datagram", "utc"],
            "carried": carried,
            "chunks": described,
            "runs": outcome,
        }


def _run_datagrams(
    rng: np.random.Generator, spec: Run, run: RunId, number: int, packet_size: int
) -> Iterator[_Datagram]:
    """Make the datagrams of one run, EPU by EPU."""
    times, sequences, epu = _event_times(rng, spec, run)
    cuts = [int(times[len(times) * part // spec.parts]) for part in range(1, spec.parts)]
    hwkey, swkey = 0x1C00 + number, 0x2200 + number
    for place, apid in enumerate(spec.epus):
        own = epu == place
        events = make_events(
            rng,
            kind=spec.kind,
            times=times[own],
            sequences=sequences[own],
            startedat=run.met,
            hwkey=hwkey,
            swkey=swkey,
            cells=spec.cells,
        )
        if spec.eventless_epu == apid:
            ranges = [(0, 0)] * spec.parts
            stamps = [cut - _CLOSE_DELAY for cut in cuts] + [int(times[-1]) + _CLOSE_DELAY]
        else:
            ranges = list(_cut(events, spec.per_datagram))
            stamps = [int(events.met[end - 1]) + _CLOSE_DELAY for _, end in ranges]
        free = 0
        for count, ((begin, end), wanted) in enumerate(zip(ranges, stamps, strict=True)):
            stamp = max(wanted, free)
            last = count == len(ranges) - 1
            about = simulated.About(
                startedat=run.met,
                groundid=GROUND_ID + number,
                apid=apid,
                datagram=count,
                open_action=_CONTINUE_OPEN if count else _START,
                open_reason=_FULL if count else _OPERATOR,
                close_action=_CLOSE[spec.close] if last else _CONTINUE_CLOSE,
                close_reason=_OPERATOR if last else _FULL,
                crate=_CRATE[(apid - 955) % 10],
                mode=0 if spec.kind == evt.InfoType.LPA else 6,
                hwkey=hwkey,
                swkey=swkey,
            )
            rows = events.rows[begin:end]
            content = simulated.encode(
                about, rows, events.payload[events.edges[begin] : events.edges[end]].tobytes()
            )
            unix = met.unix_microseconds(rows["seconds"], rows["microseconds"]) / met.MICROSECONDS
            packets = packet_count(len(content), packet_size)
            free = stamp + packets * PACKET_SPACING
            part = sum(stamp >= cut for cut in cuts)
            yield _Datagram(
                run,
                apid,
                count,
                about,
                stamp,
                part,
                tuple(rows["scalers_sequence"].tolist()),
                tuple(round(value, 6) for value in unix.tolist()),
                content,
                packets,
            )


def _event_times(
    rng: np.random.Generator, spec: Run, run: RunId
) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.int64]]:
    """Return MET microseconds, sequence and place of the EPU of each event of a run, in order."""
    steps = rng.exponential(met.MICROSECONDS / spec.rate, spec.events)
    times = run.met * met.MICROSECONDS + 100_000 + np.cumsum(np.maximum(steps, 1)).astype(np.int64)
    # Sequences have holes: the trigger system counts what the filters then reject, too.
    increments = rng.integers(1, 6, spec.events).astype(np.uint64)
    increments[0] = 0
    sequences = np.uint64(spec.first_sequence) + np.cumsum(increments, dtype=np.uint64)
    busy = [place for place, apid in enumerate(spec.epus) if apid != spec.eventless_epu]
    epu = rng.choice(np.array(busy, np.int64), spec.events)
    pairs = rng.permutation(np.arange(10, spec.events - 10, 4))
    pairs = pairs[: spec.equal_sequences + spec.equal_in_one]
    for rank, first in enumerate(pairs.tolist()):
        sequences[first + 1] = sequences[first]
        other = busy[(busy.index(int(epu[first])) + 1) % len(busy)]
        epu[first + 1] = other if rank < spec.equal_sequences else epu[first]
    return times, sequences, epu


def _cut(events: Events, limit: int) -> Iterator[tuple[int, int]]:
    """Divide events into datagrams of at most `limit` events and 64 KiB: first event, one past the last."""
    room = simulated.MAX_SIZE - simulated.DATAGRAM_HEADER.itemsize - simulated.CHECKSUM_SIZE
    need = events.edges + np.arange(events.edges.size) * simulated.EVENT_ROW.itemsize
    begin = 0
    while begin < events.rows.size:
        fits = int(np.searchsorted(need, need[begin] + room, side="right")) - 1
        end = min(begin + limit, fits, events.rows.size)
        yield begin, end
        begin = end


def _deliver(rng: np.random.Generator, spec: Run, datagrams: list[_Datagram]) -> None:
    """Decide which datagrams arrive when, and which are damaged."""
    by_epu = {apid: [d for d in datagrams if d.apid == apid] for apid in spec.epus}
    lost: set[int] = set()
    for own in by_epu.values():
        lost.update(id(d) for d in own[: int(spec.no_start)])
        lost.update(id(d) for d in own[len(own) - int(spec.no_stop) :])
    last_epu = by_epu[spec.epus[-1]]
    share = max(1, len(last_epu) // 5)
    lost.update(id(d) for d in last_epu[: share * spec.orphaned_head])
    lost.update(id(d) for d in last_epu[len(last_epu) - share * spec.orphaned_tail :])
    inner = [d for d in by_epu[spec.epus[0]][1:-1] if id(d) not in lost]
    lost.update(id(inner[i]) for i in rng.permutation(len(inner))[: spec.lost_datagrams])
    for datagram in datagrams:
        if id(datagram) not in lost:
            late = datagram.apid == spec.late_epu
            datagram.downlinks.append(spec.first + datagram.part + late)
    for own in by_epu.values():
        first_part = [d for d in own if d.part == 0 and d.downlinks]
        for datagram in first_part[len(first_part) - spec.repeated_datagrams :]:
            again = spec.first + 1
            if again not in datagram.downlinks:
                datagram.downlinks.append(again)
    arrived = [d for d in datagrams if d.downlinks]
    order = [arrived[i] for i in rng.permutation(len(arrived))]
    for datagram in [d for d in order if d.packets > 1][: spec.lost_packets]:
        datagram.lost_packet = int(rng.integers(datagram.packets))
    for datagram in order[len(order) - min(len(order), spec.repeated_packets) :]:
        datagram.repeated.append(int(rng.integers(datagram.packets)))


def _file_packet(
    files: dict[tuple[int, int, int], list[tuple[int, bytes]]], apid: int, key: int, packet: bytes
) -> None:
    seconds = int.from_bytes(packet[6:10], "big")
    microseconds = int.from_bytes(packet[10:14], "big")
    hour = int(met.unix_microseconds(seconds, microseconds)) // met.MICROSECONDS // met.HOUR
    files[hour, apid, key].append((seconds, packet))


def _write_files(root: Path, files: dict[tuple[int, int, int], list[tuple[int, bytes]]]) -> None:
    for (hour, apid, key), packets in files.items():
        name = level0.file_name(SCID, apid, packets[0][0], key)
        path = level0.hour_path(root, SCID, hour * met.HOUR) / name
        write_bytes(path, b"".join(packet for _, packet in packets))


def _is_lpa(spec: Run) -> bool:
    return spec.kind == evt.InfoType.LPA


def _decimal(microseconds: int) -> str:
    seconds, rest = divmod(microseconds, met.MICROSECONDS)
    return f"{seconds}.{rest:06d}"


def _clear(out: Path) -> None:
    """Make `out` ready: create it, or remove what was written into it before."""
    mark = out / MARK
    if out.exists() and not mark.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(
            f"{out}: is not empty and not made by the simulator (no {MARK}): name another place"
        )
    for name in MADE:
        path = out / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    write_text(mark, MARK_TEXT)


def _config(out: Path, root: Path | None) -> str:
    """Return the workflow's config for this simulation."""
    place = out if root is None else Path(_relative(out, root.absolute()))
    return (
        "# SIMULATED data: nothing that a workflow makes of this config is flight data.\n"
        "paths:\n"
        f"  work: {json.dumps(str(place / 'work'))}\n"
        f"  stage: {json.dumps(str(place / 'stage'))}\n"
        f"  retdef: [{json.dumps(str(place / 'downlinks'))}]\n"
        f"  level0: {json.dumps(str(place / 'level0'))}\n"
        "moot:\n"
        f"  file: {json.dumps(str(place / 'moot.txt'))}\n"
    )


def _relative(path: Path, root: Path) -> str:
    import os.path  # noqa: PLC0415 - Path cannot walk upwards before Python 3.12

    return os.path.relpath(path, root)
