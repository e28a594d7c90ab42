"""The world of a story: simulated downlinks that share runs, the archive, Level-1, and the site that processes them."""

import os
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.formats import archive_hours, evt
from halfpipe.ids import RunId
from halfpipe.ledger.database import Ledger
from halfpipe_simulator.packet_reader import LENGTH_OFFSET
from halfpipe_simulator.packets import PACKET_SPACING
from halfpipe_simulator.runs import SCID, Datagram
from halfpipe_simulator.scenario import START, Chunk, Scenario
from halfpipe_simulator.times import MICROSECONDS
from tests.support import forks
from tests.support.harness import events_of
from tests.support.ledger_files import run_rows
from tests.support.level1 import commands, submit_commands
from tests.support.workflow import LONG_AGO, Ended, Site

HOUR = 3_600_000_000  # microseconds
DOWNLINKS = ("230401001", "230401002", "230401003", "230402001", "230402002")
BEFORE_MIDNIGHT = datetime(2023, 4, 1, 23, 50, tzinfo=UTC)
FURTHER = 2  # most datagrams that a later end adds to a RetDef
Key = tuple[int, int]
"""Sequence and APID of an event; or APID and number of a datagram."""
Of = tuple[str, int, int]
"""Run, APID and number of a datagram."""
Hour = tuple[int, int]
"""Hours since 1970, and an APID."""


def drawn(rng: random.Random) -> Scenario:
    """Draw a scenario."""
    downlinks = rng.choice([2, 2, 3, 3, 4, 5])
    odd: dict[str, object] = rng.choice(
        [
            *[{}] * 3,
            {"parts": downlinks - 1, "late_epu": 957},
            {"repeated_datagrams": 1},
            {"lost_datagrams": 1},
            {"lost_packets": 1, "repeated_packets": 2},
            {"equal_sequences": 4, "equal_in_one": 8},
            {"waiting_tail": True},
        ]
    )
    scenario = Scenario(
        seed=rng.randrange(20),
        downlinks=DOWNLINKS[:downlinks],
        start=rng.choice([START, BEFORE_MIDNIGHT]),
        l0keys=rng.choice([1, 1, 2]),
    )
    epus = rng.choice([(956, 957)] * 4 + [(955, 956, 957)])
    scenario.lpa_run(events=90, rate=0.1, per_datagram=8, epus=epus, **{"parts": downlinks, **odd})
    if rng.random() < 0.6:
        parts = rng.choice([1, 1, 2])
        first = rng.randrange(downlinks - parts + 1)
        scenario.lpa_run(events=30, rate=0.1, per_datagram=8, parts=parts, first=first)
    return scenario


@dataclass(frozen=True)
class Version:
    """A version of a RetDef: its bytes, and the datagrams in its span."""

    content: bytes
    datagrams: tuple[Datagram, ...]

    @property
    def hours(self) -> frozenset[Hour]:
        """The hours of level-0 that the RetDef needs."""
        begin = self.datagrams[0].span[0]
        end = self.datagrams[-1].span[1]
        return frozenset((hour, self.datagrams[0].apid) for hour in range(begin // HOUR, end // HOUR + 1))


@dataclass(frozen=True)
class NewInput:
    """One chunk, and the versions of its RetDef with their datagrams.

    `plain` is the simulated RetDef. `comment` adds a comment to it, `less` leaves out the last datagram, `more` ends
    later, and includes datagrams of other chunks, and `early` begins with the previous datagram.
    """

    chunk: Chunk
    versions: Mapping[str, Version]

    @property
    def voucher(self) -> str:
        """The path of its ``{chunk}.json``, which is its name here."""
        return paths.chunk(self.chunk.downlink, self.chunk.number)


def packets_in(content: bytes) -> Iterator[tuple[int, int]]:
    """Yield the end and the time (MET microseconds) of each packet of a level-0 file (ground-chain §1)."""
    begin = 0
    while begin < len(content):
        end = begin + int.from_bytes(content[begin + 4 : begin + 6]) + LENGTH_OFFSET
        seconds, microseconds = (int.from_bytes(content[begin + at : begin + at + 4]) for at in (6, 10))
        yield end, seconds * MICROSECONDS + microseconds
        begin = end


class World:
    """A site below `home`, and its surroundings. The world only acts and reads; the books judge."""

    def __init__(self, home: Path, rng: random.Random) -> None:
        scenario = drawn(rng)
        self.home = home
        self.simulation = scenario.write(home / "simulated")
        self.chunks: dict[str, list[NewInput]] = {str(downlink): [] for downlink in scenario.downlinks}
        by_apid: defaultdict[int, set[Datagram]] = defaultdict(set)
        for chunk in self.simulation.chunks:
            by_apid[chunk.apid].update(chunk.datagrams)
        in_order = {apid: sorted(found, key=lambda d: d.met) for apid, found in by_apid.items()}
        for chunk in self.simulation.chunks:
            self.chunks[chunk.downlink].append(self._brought(chunk, in_order[chunk.apid]))
        self.chunks = {dl: chunks for dl, chunks in self.chunks.items() if chunks}
        self.downlinks = list(self.chunks)
        self.archive = self.simulation.level0
        self.away = home / "away"
        # The packets of each file by its path in the archive: where each packet ends, and its time.
        self.packets = {
            str(path.relative_to(self.archive)): list(packets_in(path.read_bytes()))
            for path in sorted(self.archive.rglob(f"s{SCID:04d}a*"))
        }
        self.streams = home / "server"
        self.max_events = rng.choice([125000, 125000, 9])
        self.site = Site(home)
        self.site.configure(
            paths={"level0": str(self.archive)},
            magic7={"command": None},
            merge={"max_events": self.max_events},
            retire={"report_days": 1e6},
            alarm={"silence_hours": None, "late_hours": 1e6},
            cleanup={"retention_days": 0},
            # HalfPipe waits this long for the effect of a killed command.
            submit={**submit_commands(self.streams), "seconds": 5.0},
        )
        for chunks in self.chunks.values():
            # One RetDef may be held back at first, usually the last one. If it is the first, there is a hole.
            held_back = rng.choice([*[chunks[-1]] * 3, chunks[0]]) if rng.random() < 0.4 else None
            for brought in chunks:
                if brought is not held_back or len(chunks) == 1:
                    drawn_version = rng.choice(["plain"] * 6 + ["more", "early"])
                    self.issue(brought, drawn_version if drawn_version in brought.versions else "plain")

    def _brought(self, chunk: Chunk, of_apid: Sequence[Datagram]) -> NewInput:
        content = self.simulation.retdef(chunk).read_bytes()
        own = tuple(d for d in of_apid if chunk.begin <= d.span[0] and d.span[1] <= chunk.end)
        before = [d for d in of_apid if d.span[1] < chunk.begin][-1:]
        after = [d for d in of_apid if d.span[0] > chunk.end][:FURTHER]
        versions = {
            "plain": Version(content, own),
            "comment": Version(content + b"<!-- issued again -->\n", own),
        }
        if len(own) > 1:
            end = own[-2].span[1]
            versions["less"] = Version(_moved(content, b"tend", chunk.end, end), own[:-1])
        if after:
            end = after[-1].span[1]
            versions["more"] = Version(_moved(content, b"tend", chunk.end, end), (*own, *after))
        if before:
            begin = before[0].span[0]
            versions["early"] = Version(_moved(content, b"tbeg", chunk.begin, begin), (*before, *own))
        return NewInput(chunk, versions)

    def issue(self, chunk: NewInput, version: str) -> None:
        """Put a RetDef on the search path, old enough to be complete."""
        path = self.source(chunk)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(chunk.versions[version].content)
        os.utime(path, (LONG_AGO, LONG_AGO))

    def source(self, chunk: NewInput) -> Path:
        """Return the path of a chunk's RetDef on the search path."""
        return self.site.retdefs / paths.retdef(chunk.chunk.downlink, chunk.chunk.number)

    def version(self, chunk: NewInput, path: Path) -> str | None:
        """Return which version of a chunk's RetDef is at `path`."""
        if not path.exists():
            return None
        content = path.read_bytes()
        return next(name for name, known in chunk.versions.items() if known.content == content)

    def staged_version(self, chunk: NewInput) -> str | None:
        """Return which version of a chunk's RetDef is staged."""
        return self.version(chunk, self.site.work / paths.retdef(chunk.chunk.downlink, chunk.chunk.number))

    def files_of(self, hour: Hour) -> list[str]:
        """Return the files of an hour of an APID, wherever they are."""
        home = archive_hours.hour_path(Path(), SCID, hour[0] * 3600)
        return [name for name in self.packets if name.startswith(f"{home}/s{SCID:04d}a{hour[1]:04d}t")]

    def take_away(self, name: str, packets: int = 0) -> bool:
        """Truncate a file of the archive to `packets` packets, 0 to remove it; False if it was not whole."""
        there = self.archive / name
        away = self.away / name
        if away.exists():
            return False
        away.parent.mkdir(parents=True, exist_ok=True)
        there.rename(away)
        if packets:
            there.write_bytes(away.read_bytes()[: self.packets[name][packets - 1][0]])
        return True

    def bring_back(self, name: str) -> bool:
        """Make a file of the archive whole again; False if it already was."""
        if not (away := self.away / name).exists():
            return False
        away.rename(self.archive / name)
        return True

    def whole(self, datagrams: Sequence[Datagram]) -> list[Datagram]:
        """Return the datagrams that are whole in the archive."""
        by_apid: defaultdict[str, set[int]] = defaultdict(set)  # times of packets, MET microseconds
        for name, packets in self.packets.items():
            path = self.archive / name
            size = path.stat().st_size if path.exists() else 0
            by_apid[name.rpartition("/s")[2][4:9]].update(at for end, at in packets if end <= size)
        return [
            d
            for d in datagrams
            if by_apid[f"a{d.apid:04d}"].issuperset(d.met + n * PACKET_SPACING for n in range(d.packets))
        ]

    def present(self, hour: Hour) -> bool:
        """Tell whether the archive has a file of an hour."""
        return any((self.archive / name).exists() for name in self.files_of(hour))

    def staged(self, downlink: str) -> dict[str, list["StagedFile"]]:
        """Return the staged files by Level-1's name of the run."""
        found: dict[str, list[StagedFile]] = {}
        for path in sorted((self.site.stage / downlink).glob("r*/*.evt")):
            found.setdefault(path.parent.name, []).append(StagedFile.read(path))
        return found

    def in_ledger(self) -> dict[RunId, dict[str, Any]]:
        file = self.site.work / paths.LEDGER
        return run_rows(Ledger(f"sqlite:///{file}")) if file.exists() else {}

    def streams_of(self, downlink: str) -> int:
        """Return how often Level-1 got the command to create the stream of a downlink."""
        return commands(self.streams, downlink).count("createStream")

    def in_a_child(self, *words: str, at: int = -1) -> int:
        """Start Snakemake in a fork, which dies at moment number `at`; return its process id."""

        def act() -> int:
            ended = self.site.snakemake(*words)
            (self.home / f"said-{os.getpid()}").write_text(ended.said)
            return ended.status

        return forks.started(act, self.home, at)

    def wait(self, child: int) -> Ended:
        """Wait for a fork; return its exit status and output."""
        status = forks.ended(child)
        said = self.home / f"said-{child}"
        return Ended(status, said.read_text() if said.exists() else "")


def _moved(retdef: bytes, name: bytes, time: int, to: int) -> bytes:
    """Return a RetDef whose span begins or ends at another time, microseconds since 1970."""
    was, now = (b'%s="%d.%06d"' % (name, at // MICROSECONDS, at % MICROSECONDS) for at in (time, to))
    assert retdef.count(was) == 1
    return retdef.replace(was, now)


@dataclass(frozen=True)
class StagedFile:
    """An event file: the events in its records, and the times in its header, which Level-1 uses."""

    name: str
    keys: tuple[Key, ...]
    sequences: tuple[int, int]
    seconds: tuple[int, int]

    @property
    def events(self) -> int:
        """The number of events."""
        return len(self.keys)

    @classmethod
    def read(cls, path: Path) -> "StagedFile":
        header = evt.read_header(path)
        keys = tuple(events_of(path.read_bytes()))
        seconds = int(header["secs_beg"]), int(header["secs_end"])
        return cls(path.name, keys, (keys[0][0], keys[-1][0]), seconds)
