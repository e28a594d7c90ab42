"""Runs of a scenario: their datagrams, when each of them arrives, and which are damaged on the way."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from halfpipe.formats import evt, idx
from halfpipe.ids import RunId
from halfpipe_simulator.datagrams import encode
from halfpipe_simulator.events import bodies, contexts
from halfpipe_simulator.packets import PACKET_SPACING, packet_count
from halfpipe_simulator.times import MICROSECONDS, unix_microseconds

SCID = 77
GROUND_ID = 0x770100

# Codes and texts (ground-chain §3.3) that occur in these data; crates are in the order of APIDs (§1).
_CRATES = (3, "siu0"), (0, "epu0"), (1, "epu1"), (2, "epu2")
_OPERATOR = (0, "operator")
_FULL = (4, "full")
# Fields of a record's context with a code and a text, and the fields of the datagram's line with this text.
_TEXTS = {
    "run_platform": "platform",
    "run_origin": "origin",
    "open_action": "oaction",
    "open_reason": "oreason",
    "open_crate": "crate",
    "open_mode": "modename",
    "close_action": "caction",
    "close_reason": "creason",
}
_CLOSE_DELAY = 50_000  # microseconds from the last event of a datagram to its packets


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a scenario, made by `Scenario.lpa_run` and `Scenario.lci_run`.

    Attributes
    ----------
    kind
        LPA or one of the three LCI kinds.
    epus
        The APIDs.
    events
        Number of events, over all EPUs.
    first
        Index of the downlink in which the run begins.
    parts
        Number of consecutive downlinks that contain the run.
    rate
        Events per second.
    first_sequence
        GEM sequence of the first event; 64 bits.
    per_datagram
        Maximum number of events in a datagram.
    cells
        Fewest and most 16-byte cells of an event's EBF.
    late_epu
        Datagrams of this EPU arrive one downlink later than those of the others.
    lost_packets
        Number of datagrams that lose one packet.
    repeated_packets
        Number of packets that are in the archive twice.
    lost_datagrams
        Number of datagrams inside the first EPU's series that never arrive.
    repeated_datagrams
        Number of datagrams at the end of each EPU's first part that arrive again with the next downlink.
    equal_sequences
        Number of pairs of events in two EPUs that share a sequence.
    equal_in_one
        Number of pairs of events of one EPU that share a sequence.
    waiting_head, waiting_tail
        The first (last) datagrams of the last EPU never arrive, so events of the others wait there.
    no_start, no_stop
        The first (last) datagram of every EPU never arrives.
    """

    kind: evt.InfoType
    epus: tuple[int, ...]
    events: int = 1000
    first: int = 0
    parts: int = 1
    rate: float = 10.0
    first_sequence: int = 1000
    per_datagram: int = 60
    cells: tuple[int, int] = (4, 24)
    late_epu: int | None = None
    lost_packets: int = 0
    repeated_packets: int = 0
    lost_datagrams: int = 0
    repeated_datagrams: int = 0
    equal_sequences: int = 0
    equal_in_one: int = 0
    waiting_head: bool = False
    waiting_tail: bool = False
    no_start: bool = False
    no_stop: bool = False

    @property
    def is_lpa(self) -> bool:
        """Whether this is an LPA run."""
        return self.kind == evt.InfoType.LPA


@dataclass(eq=False)
class Datagram:
    """One datagram of one EPU, and the downlinks with which it arrives; `row` is a table of one row."""

    run: RunId
    apid: int
    number: int
    row: idx.Datagrams
    met: int  # microseconds, time of its first packet
    part: int
    sequences: tuple[int, ...]
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
        begin, end = unix_microseconds(times // MICROSECONDS, times % MICROSECONDS).tolist()
        return begin, end


def run_datagrams(rng: np.random.Generator, spec: Run, run: RunId, number: int) -> Iterator[Datagram]:
    """Make the datagrams of one run, EPU by EPU; `deliver` decides whether and when they arrive."""
    times, sequences, epu = _event_times(rng, spec, run)
    cuts = [int(times[len(times) * part // spec.parts]) for part in range(1, spec.parts)]
    hwkey = 0x1C00 + number
    swkey = 0x2200 + number
    for place, apid in enumerate(spec.epus):
        own = epu == place
        heads = contexts(times[own], sequences[own], run.met)
        keys = {"hwkey": hwkey, "swkey": swkey}
        rests = list(bodies(rng, kind=spec.kind, count=heads.size, cells=spec.cells, **keys))
        begins = range(0, len(rests), spec.per_datagram)
        ranges = [(begin, min(begin + spec.per_datagram, len(rests))) for begin in begins]
        free = 0
        for count, (begin, end) in enumerate(ranges):
            stamp = max(int(times[own][end - 1]) + _CLOSE_DELAY, free)
            last = count == len(ranges) - 1
            some = heads[begin:end]
            row = idx.Datagrams.zeros(1)
            some["ccsds_scid"] = row.scid[:] = SCID
            some["ccsds_apid"] = row.apid[:] = apid
            some["open_datagrams"] = row.datagram[:] = count
            some["run_groundId"] = row.groundid[:] = GROUND_ID + number
            row.startedat[:] = run.met
            row.hwkey[:] = hwkey
            row.swkey[:] = swkey
            row.nevts[:] = end - begin
            texts = {
                "run_platform": (2, "host"),
                "run_origin": (1, "montecarlo"),
                "open_action": (2, "continue") if count else (0, "start"),
                "open_reason": _FULL if count else _OPERATOR,
                "open_crate": _CRATES[(apid - 955) % 10],
                "open_mode": (0, "normal") if spec.is_lpa else (6, "calibration"),
                "close_action": (0, "stop") if last else (3, "continue"),
                "close_reason": _OPERATOR if last else _FULL,
            }
            for name, (code, text) in texts.items():
                some[name] = code
                some[f"{name}Txt"] = text
                row[_TEXTS[name]][:] = text
            row.evtutc0[:], row.evtutc1[:] = some["ccsds_utc"][[0, -1]]
            row.evtseq0[:], row.evtseq1[:] = some["scalers_sequence"][[0, -1]]
            records = [head.tobytes() + rest for head, rest in zip(some, rests[begin:end], strict=True)]
            content = encode(row, records)
            packets = packet_count(len(content))
            free = stamp + packets * PACKET_SPACING
            yield Datagram(
                run=run,
                apid=apid,
                number=count,
                row=row,
                met=stamp,
                part=sum(stamp >= cut for cut in cuts),
                sequences=tuple(some["scalers_sequence"].tolist()),
                content=content,
                packets=packets,
            )


def _event_times(
    rng: np.random.Generator, spec: Run, run: RunId
) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.int64]]:
    """Return MET microseconds, sequence and index of the EPU for each event of a run, in order."""
    steps = rng.exponential(MICROSECONDS / spec.rate, spec.events)
    times = run.met * MICROSECONDS + 100_000 + np.cumsum(np.maximum(steps, 1)).astype(np.int64)
    # Sequences have gaps, because the trigger system also counts events that the filters reject.
    increments = rng.integers(1, 6, spec.events).astype(np.uint64)
    increments[0] = 0
    sequences = np.uint64(spec.first_sequence) + np.cumsum(increments, dtype=np.uint64)
    epu = rng.choice(np.arange(len(spec.epus)), spec.events)
    pairs = rng.permutation(np.arange(10, spec.events - 10, 4))
    pairs = pairs[: spec.equal_sequences + spec.equal_in_one]
    for rank, first in enumerate(pairs.tolist()):
        sequences[first + 1] = sequences[first]
        epu[first + 1] = (epu[first] + (rank < spec.equal_sequences)) % len(spec.epus)
    return times, sequences, epu


def deliver(rng: np.random.Generator, spec: Run, datagrams: list[Datagram]) -> None:
    """Decide when each datagram of a run arrives, and which are lost or damaged."""
    by_epu = [[d for d in datagrams if d.apid == apid] for apid in spec.epus]
    lost: set[Datagram] = set()
    for own in by_epu:
        lost.update(own[: int(spec.no_start)])
        lost.update(own[len(own) - int(spec.no_stop) :])
    last_epu = by_epu[-1]
    share = max(1, len(last_epu) // 5)
    lost.update(last_epu[: share * spec.waiting_head])
    lost.update(last_epu[len(last_epu) - share * spec.waiting_tail :])
    inner = [d for d in by_epu[0][1:-1] if d not in lost]
    lost.update(inner[i] for i in rng.permutation(len(inner))[: spec.lost_datagrams])
    arrived = [d for d in datagrams if d not in lost]
    for datagram in arrived:
        datagram.downlinks.append(spec.first + datagram.part + (datagram.apid == spec.late_epu))
    again = spec.first + 1
    for own in by_epu:
        first_part = [d for d in own if d.part == 0 and d not in lost]
        for datagram in first_part[len(first_part) - spec.repeated_datagrams :]:
            if again not in datagram.downlinks:
                datagram.downlinks.append(again)
    order = [arrived[i] for i in rng.permutation(len(arrived))]
    for datagram in [d for d in order if d.packets > 1][: spec.lost_packets]:
        datagram.lost_packet = int(rng.integers(datagram.packets))
    for datagram in order[len(order) - min(len(order), spec.repeated_packets) :]:
        datagram.repeated.append(int(rng.integers(datagram.packets)))
