"""SIMULATED random delivery histories on disk, with the files of a golden case: chunk products, RetDefs and knobs.

The record of each event is the one that the original library wrote for its kind, with another sequence, EPU, time and
payload.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml

from halfpipe.formats import evt
from halfpipe.formats.retdef import RetDef, Span, content_of
from halfpipe.ids import ChunkId, RunId
from tests.support.model import dgm_line
from tests.support.original_events import ACD_RECORD, CAL_RECORD, LPA_RECORD, TKR_RECORD

SCID = 77
GROUND = 0x0077014D
UNIX = 978307200 - 5  # seconds from MET to Unix UTC in 2024, exact enough here
START = 741234567  # MET of the first run
EPUS = [(956, 957)] * 8 + [(955, 956, 957), (956, 957, 958), (956,), (965,), (965,), (957, 965)]


@dataclass
class Datagram:
    """A datagram of an EPU, with the sequences and records of its events, if it has any."""

    apid: int
    number: int
    opening: str
    closing: str
    utc: float
    events: list[tuple[int, bytes]] = field(default_factory=list)


@dataclass
class RandomCase:
    """A case under construction in a directory."""

    home: Path
    chosen: random.Random
    downlinks: Sequence[str]
    chunks: dict[str, int] = field(default_factory=dict)
    runs: dict[str, set[int]] = field(default_factory=dict)

    def run(self, met: int) -> None:
        """Add a run: draw its datagrams and the downlinks that contain them, and write the chunks."""
        chosen = self.chosen
        apids = chosen.choice(EPUS)
        whole = len(self.downlinks) == 1 or chosen.random() < 0.2
        brought: dict[tuple[str, int, int], list[Datagram]] = {}
        for of_apid in self.datagrams(met, apids):
            last = len(of_apid) - 1
            # The datagrams of an EPU usually arrive in order; some are lost, and some arrive twice.
            places = sorted(chosen.choice(self.downlinks) for _ in of_apid)
            if whole:
                places = [chosen.choice(self.downlinks)] * len(of_apid)
            if chosen.random() < 0.15:
                chosen.shuffle(places)
            for n, datagram in enumerate(of_apid):
                fate = chosen.random()
                if fate < 0.06 and 0 < n < last:
                    continue
                again = [chosen.choice(self.downlinks)] if fate > 0.88 else []
                for place in (places[n], *again):
                    key = place, datagram.apid, chosen.choice([1, 1, 1, 2])
                    if datagram not in brought.setdefault(key, []):
                        brought[key].append(datagram)
        for (downlink, apid, _), datagrams in sorted(brought.items()):
            self.chunk(downlink, met, apid, datagrams)

    def datagrams(self, met: int, apids: Sequence[int]) -> list[list[Datagram]]:
        """Return the datagrams of each EPU of a run."""
        chosen = self.chosen
        sequence = chosen.choice([1000, 1000, 1000, 1, 2**31 - 20, 2**32 + 5])
        records = LPA_RECORD if max(apids) < 960 else chosen.choice([ACD_RECORD, CAL_RECORD, TKR_RECORD])
        events: dict[int, list[tuple[int, bytes, float]]] = {apid: [] for apid in apids}
        for n in range(chosen.choice([12, 30, 60])):
            sequence += chosen.choice([1, 1, 2, 5])
            apid = chosen.choice(apids)
            record = changed(records, met, sequence, apid, n // 4, chosen)
            events[apid].append((sequence, record, met + UNIX + n / 4))
        made = []
        for apid in apids:
            left = events[apid]
            of_apid = list[Datagram]()
            while left or not of_apid:
                size = chosen.choice([0, 1, 3, 4, 5, 6, 7])
                part = left[:size]
                left = left[size:]
                utc = part[-1][2] if part else met + UNIX
                brought = [(s, r) for s, r, _ in part]
                of_apid.append(Datagram(apid, len(of_apid), "continue", "continue", utc, brought))
            of_apid[0].opening = chosen.choice(["start"] * 9 + ["resume"])
            of_apid[-1].closing = chosen.choice(["stop"] * 8 + ["abort", "continue"])
            made.append(of_apid)
        return made

    def chunk(self, downlink: str, met: int, apid: int, datagrams: Sequence[Datagram]) -> None:
        """Write the products of a chunk, and its RetDef."""
        number = self.chunks[downlink] = self.chunks.get(downlink, 0) + 1
        self.runs.setdefault(downlink, set()).add(met)
        home = self.home / "in" / downlink
        home.mkdir(parents=True, exist_ok=True)
        stem = f"{GROUND:08x}-{met:08x}-{apid:04d}-{number:05d}"
        moot = (evt.MOOT_UNSET_KEY, evt.MOOT_UNSET_ALIAS) if number % 3 else (222 + number, f"CHUNK_{number}")
        offset = evt.HEADER_SIZE
        lines = list[str]()
        records = list[bytes]()
        for one in datagrams:
            for n, (sequence, record) in enumerate(one.events):
                utc = record_utc(record)
                lines.append(
                    f"EVT: {met:10d} {sequence:20d} {16675691:20d} {15341635:20d} {utc:19.6f} {SCID:3d} {apid:4d}"
                    f" {one.number:8d} {n:8d} {one.opening:>16} {one.closing:>16} {one.utc:19.6f} {offset:20d}"
                    f" ../{downlink}/{stem}.evt"
                )
                records.append(record)
                offset += len(record)
            ends = [(record_utc(record), sequence) for sequence, record in one.events] or [(0.0, 0)]
            line = dgm_line(
                apid, one.number, (one.opening, one.closing), (*ends[0], *ends[-1]), len(one.events),
                utc=one.utc, met=met, scid=SCID, ground_id=GROUND, keys=(4423, 8959),
            )  # fmt: skip
            lines.append(line.decode())
        header = evt.pack_header(
            runid=met,
            seconds=(met, met),
            sequences=(0, 0),
            events=len(records),
            moot_key=moot[0],
            moot_alias=moot[1],
        )
        (home / f"{stem}.evt").write_bytes(header + b"".join(records))
        (home / f"{stem}.idx").write_text("".join(f"{line}\n" for line in lines))
        kind = "LSEP" if apid < 960 else "LSEC"
        span = Span(apid, met + UNIX, met + UNIX + 60.0)
        retdef = RetDef(
            kind, "/archive", SCID, RunId.from_met(met), 1081721, ChunkId.of(number), GROUND, (span,)
        )
        (home / f"RetDef-{downlink}-{number:05d}.xml").write_bytes(content_of(retdef))


def record_utc(record: bytes) -> float:
    return float(np.frombuffer(record, evt.CONTEXT, 1)["ccsds_utc"][0])


def changed(record: bytes, met: int, sequence: int, apid: int, second: int, chosen: random.Random) -> bytes:
    """Change a record into that of another event."""
    context = np.frombuffer(record, evt.CONTEXT, 1).copy()
    context["scalers_sequence"] = sequence
    context["ccsds_apid"] = apid
    context["run_startedAt"] = met
    context["current_timeSecs"] = met + second
    context["ccsds_utc"] = met + UNIX + second + chosen.random()
    rest = bytearray(record[evt.CONTEXT.itemsize :])
    rest[12:36] = chosen.randbytes(24)  # the payload of its EBF
    if rest[36:40] == bytes(4) and chosen.random() < 0.1:  # remove the handlers of an LPA event
        rest = rest[:72] + bytes(4) + rest[-evt.LPA_KEYS.itemsize :]
    return context.tobytes() + bytes(rest)


def random_case(home: Path, seed: int) -> Path:
    """Write the random case of `seed`: one or two runs in up to four downlinks; return its directory."""
    chosen = random.Random(seed)
    downlinks = [f"24060100{n}" for n in range(1, chosen.choice([1, 2, 2, 3, 3, 4]) + 1)]
    case = RandomCase(home, chosen, downlinks)
    mets = [START + n * 1000 for n in range(chosen.choice([1, 2]))]
    for met in mets:
        case.run(met)
    order = [dl for dl in downlinks if dl in case.runs]
    if chosen.random() < 0.2:
        chosen.shuffle(order)
    if chosen.random() < 0.25:
        order.append(chosen.choice(order))
    moot = {met: [2959 + n, f"nomSciOps_{n}"] for n, met in enumerate(mets) if chosen.random() < 0.8}
    knobs = {
        "description": f"SIMULATED, random with seed {seed}",
        "max_events": chosen.choice([1000, 1000, 9, 5]),
        "chunk_scale": 0.9,
        "chunk_floor": 0.5,
        "min_events": chosen.choice([1, 2, 2]),
        "min_epus": chosen.choice([2, 2, 2, 1]),
        "latc": chosen.choice([None, None, 4711]),
        "moot": moot,
        "steps": [{"dl": dl, "runs": sorted(case.runs[dl])} for dl in order],
    }
    (home / "case.yaml").write_text(yaml.safe_dump(knobs))
    return home
